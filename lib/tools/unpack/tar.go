package unpack

import (
	"errors"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tarball"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// toTar writes a tar archive.
func toTar(env *tool.Env, o options, src source, b base) error {
	stdout, err := env.Records()
	if err != nil {
		return err
	}
	t := &tarrer{base: b}
	// The archive begins when the snapshot, which names the owners, has come.
	t.begin = func(s *snap.Snapshot) { t.out = tarball.NewWriter(stdout, s.Users, s.Groups) }
	err = walk.InOrder(t, wholeFiles, func(sink walk.Sink) error {
		return src.walk(walk.Options{Want: o.want, Partial: o.partial, Choose: b.choose.chooser()}, sink)
	})
	switch {
	case t.out == nil:
		return err
	case err != nil:
		_ = t.out.Abandon() // the error at hand matters more
		return err
	}
	if t.full > 0 {
		env.Notice("%d files have holes in the snapshot and none in the archive: they are too large to know all of them beforehand", t.full)
	}
	return t.out.Close()
}

type tarrer struct {
	base
	begin func(*snap.Snapshot)
	out   *tarball.Writer
	skip  bool // the file at hand is left out
	large bool // it comes in several pieces
	holes bool // and has holes
	full  int  // such files
}

func (t *tarrer) Snapshot(i id.ID, s *snap.Snapshot) error {
	t.begin(s)
	return t.base.Snapshot(i, s)
}

func (t *tarrer) Entry(e *rec.Entry) error {
	t.skip, t.large, t.holes = false, e.More, false
	if e.Type == rec.File && e.Err != "" {
		t.env.Warn("%s: was stored without content (%s) and is left out", rec.Quote(e.Path), e.Err)
		t.skip = true
		return nil
	}
	if e.Type == rec.Dir {
		t.flawed(e)
	}
	err := t.out.Entry(e)
	switch {
	case errors.Is(err, tarball.ErrLeader):
		t.env.Warn("%s: left out: it is a hard link to %s, which is not in the archive", rec.Quote(e.Path), rec.Quote(e.Leader))
		return nil
	case errors.Is(err, tarball.ErrSocket):
		t.env.Warn("%s: left out: %s", rec.Quote(e.Path), err)
		return nil
	}
	return err
}

func (t *tarrer) Data(_ int64, b []byte) error { return t.out.Data(b) }

func (t *tarrer) Hole(_, n int64) error {
	t.holes = true
	return t.out.Hole(n)
}

func (t *tarrer) Done(e *rec.Entry) error {
	if t.skip {
		return nil
	}
	t.flawed(e)
	if t.large && t.holes {
		t.full++
	}
	short, err := t.out.Done()
	if short > 0 && err == nil {
		t.env.Warn("%s: became shorter while it was backed up: it ends with %d zeros in the archive", rec.Quote(e.Path), short)
	}
	return err
}

func (t *tarrer) Lost(e *rec.Entry, l walk.Loss, begun bool) error {
	if begun {
		return cutShort(e, l)
	}
	t.env.Warn("%s: left out: data blob %s %s", rec.Quote(e.Path), l.ID.Short(), l)
	return nil
}

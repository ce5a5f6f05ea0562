package tar

import (
	"errors"
	"fmt"

	"preserve/lib/content"
	"preserve/lib/id"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tarball"
	"preserve/lib/tool"
)

// toTar writes a tar archive of a content stream.
func toTar(src reading.Source, b reading.Base) error {
	env := b.Env
	stdout, err := env.Records()
	if err != nil {
		return err
	}
	t := &tarrer{Base: b}
	// The archive begins when the snapshot, which names the owners, has come.
	t.begin = func(s *snap.Snapshot) { t.out = tarball.NewWriter(stdout, s.Users, s.Groups) }
	err = content.InOrder(t, reading.Whole, func(sink content.Sink) error {
		return src.Walk(false, b.Choose.Active(), sink)
	})
	if err != nil {
		if t.out == nil { // many take an empty archive for a whole one
			t.out = tarball.NewWriter(stdout, nil, nil)
		}
		_ = t.out.Abandon() // the error at hand matters more
		return err
	}
	if t.full > 0 {
		env.Notice("%d files have holes in the snapshot and none in the archive: they are too large to know all of them beforehand", t.full)
	}
	return t.out.Close()
}

type tarrer struct {
	reading.Base
	begin func(*snap.Snapshot)
	out   *tarball.Writer
	skip  bool // the file at hand is left out
	large bool // it comes in several pieces
	holes bool // and has holes
	full  int  // such files
}

func (t *tarrer) Snapshot(i id.ID, s *snap.Snapshot) error {
	t.begin(s)
	return t.Base.Snapshot(i, s)
}

func (t *tarrer) Entry(e *rec.Entry) error {
	t.skip, t.large, t.holes = false, e.More, false
	if e.Type == rec.File && e.Err != "" {
		t.Env.Warn("%s: was stored without content (%s) and is left out", rec.Quote(e.Path), e.Err)
		t.skip = true
		return nil
	}
	if e.Type == rec.Dir {
		t.Flawed(e)
	}
	err := t.out.Entry(e)
	switch {
	case errors.Is(err, tarball.ErrLeader):
		t.Env.Warn("%s: left out: it is a hard link to %s, which is not in the archive", rec.Quote(e.Path), rec.Quote(e.Leader))
		return nil
	case errors.Is(err, tarball.ErrSocket):
		t.Env.Warn("%s: left out: %s", rec.Quote(e.Path), err)
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
	t.Flawed(e)
	if t.large && t.holes {
		t.full++
	}
	short, err := t.out.Done()
	if short > 0 && err == nil {
		t.Env.Warn("%s: became shorter while it was backed up: it ends with %d zeros in the archive", rec.Quote(e.Path), short)
	}
	return err
}

func (t *tarrer) Lost(e *rec.Entry, l content.Loss, begun bool) error {
	if begun {
		return cutShort(e)
	}
	t.Env.Warn("%s: left out: data blob %s %s", rec.Quote(e.Path), l.ID.Short(), l)
	return nil
}

// cutShort ends an archive in the middle of a file.
func cutShort(e *rec.Entry) error {
	return &tool.Hint{
		Err:  fmt.Errorf("%s: its content is lost, and the beginning of the file is written already", rec.Quote(e.Path)),
		Text: "leave the file out: pv-open --exclude",
	}
}

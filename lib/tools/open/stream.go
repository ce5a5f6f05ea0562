package open

import (
	"errors"
	"fmt"

	"preserve/lib/content"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// stream writes a content stream, or with meta a tree stream.
func stream(b reading.Base, src reading.Source, meta bool) error {
	stdout, err := b.Env.Records()
	if err != nil {
		return err
	}
	s := &streamer{Base: b, kind: rec.Content, out: rec.NewWriter(stdout)}
	if meta {
		s.kind = rec.Tree
		t := &namer{streamer: s}
		if err = src.Walk(true, b.Choose.Active(), t); err == nil {
			err = t.last()
		}
	} else {
		err = content.InOrder(s, reading.Whole, func(sink content.Sink) error {
			return src.Walk(false, b.Choose.Active(), sink)
		})
	}
	if err == nil {
		b.Choose.End()
		err = s.w.Finish(b.Env.Warned())
	}
	return s.out.Close(b.Env.Name, err)
}

// A streamer is the content.Ordered that writes a content stream.
type streamer struct {
	reading.Base
	kind rec.Kind
	out  *rec.Writer
	w    *content.Writer // once the snapshot has come
	lost bool            // the rest of the file at hand is not written
}

func (s *streamer) Snapshot(i id.ID, sn *snap.Snapshot) (err error) {
	if err = s.Base.Snapshot(i, sn); err != nil {
		return err
	}
	head := rec.Head{Kind: s.kind, Host: sn.Host, User: sn.User, Time: sn.Time, Roots: sn.Roots}
	if s.w, err = content.NewWriter(s.out, head); err != nil {
		return err
	}
	if err = s.w.Names(sn.Users, sn.Groups); err != nil {
		return err
	}
	s.w.Warned(sn.Warnings, sn.Warned)
	s.out.Tick(nil, s.w.Progress)
	return nil
}

func (s *streamer) Entry(e *rec.Entry) error {
	s.lost = false
	if e.Type == rec.File { // Done ends it, with its verdict
		s.w.Begin(e)
		return nil
	}
	return s.w.Entry(e)
}

func (s *streamer) Data(_ int64, b []byte) error {
	if s.lost {
		return nil
	}
	return s.w.Data(b)
}

func (s *streamer) Hole(_, n int64) error {
	if s.lost {
		return nil
	}
	return s.w.Hole(n)
}

func (s *streamer) Done(e *rec.Entry) error {
	if s.lost {
		return nil
	}
	return s.w.Done(e.Size, e.Inconsistent)
}

// Lost keeps the name of a file that has lost its content: without it, the file
// would look deleted.
func (s *streamer) Lost(e *rec.Entry, l content.Loss, begun bool) error {
	if s.lost && begun {
		return nil
	}
	text := fmt.Sprintf("%s: data blob %s %s: the content is left out", rec.Quote(e.Path), l.ID.Short(), l)
	s.Env.Warn("%s", text)
	s.w.Warn(text)
	if begun {
		s.lost = true
		return s.w.Lose(l.ID)
	}
	named := *e
	named.Extents, named.More, named.Inconsistent = nil, false, false
	named.Err = fmt.Sprintf("lost: data blob %s %s", l.ID.Short(), l)
	return s.w.Entry(&named)
}

// Gap says in the stream, too, that entries are lost here.
func (s *streamer) Gap(first page.Key, next *page.Key, l content.Loss) error {
	if !errors.Is(l.Why, content.ErrPartial) {
		s.w.Warn(fmt.Sprintf("page %s %s, from %s on", l.ID.Short(), l, first))
	}
	if err := s.w.Missing(l.ID); err != nil {
		return err
	}
	return s.Base.Gap(first, next, l)
}

// A namer is the content.Sink that writes a tree stream.
type namer struct {
	*streamer
	file *rec.Entry // the first piece of a file whose last one must come
}

func (t *namer) Page(p *content.Page) error {
	for _, e := range p.Entries {
		switch {
		case e.Off > 0 && t.file == nil:
			continue // its beginning was lost
		case e.Off > 0:
			// The last piece of a file has the size and verdict that count.
			t.file.Size, t.file.Inconsistent = e.Size, e.Inconsistent
			if e.More {
				continue
			}
			e, t.file = t.file, nil
		case e.More:
			c := *e
			t.file = &c
			continue
		}
		if err := t.entry(e); err != nil {
			return err
		}
	}
	return nil
}

func (t *namer) entry(e *rec.Entry) error {
	c := *e
	c.Extents, c.More = nil, false
	return t.w.Entry(&c)
}

// last writes a file whose last piece did not come.
func (t *namer) last() error {
	e := t.file
	if t.file = nil; e == nil {
		return nil
	}
	return t.entry(e)
}

func (t *namer) Gap(first page.Key, next *page.Key, l content.Loss) error {
	if err := t.last(); err != nil {
		return err
	}
	return t.streamer.Gap(first, next, l)
}

func (t *namer) Data(*content.Page, int, []byte) error          { return nil }
func (t *namer) Missing(*content.Page, int, content.Loss) error { return nil }

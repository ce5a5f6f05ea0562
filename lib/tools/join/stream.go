package join

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"preserve/lib/content"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
)

// A joiner writes one stream of several.
type joiner struct {
	env     *tool.Env
	out     *rec.Writer
	w       *content.Writer
	tree    bool
	streams []*stream
	check   page.Checker
	written string // the path of the last entry, if there was any
	any     bool
	quit    chan struct{} // closed when nothing more is wanted
}

// A stream is read by a goroutine of its own. It says which entry it has, and waits until it may
// write: then it writes that, and its content, until it says which is the next.
type stream struct {
	j     *joiner
	name  string
	in    *rec.Reader
	next  chan *rec.Entry // closed at the end
	grant chan struct{}
	err   error // once next is closed

	// Of merge.
	at   *rec.Entry // that waits
	skip bool       // it was written by another stream

	// Of the goroutine.
	may    bool // it may write
	lost   bool // the rest of the file at hand is not written
	gap    *id.ID
	end    rec.End
	users  []rec.Name
	groups []rec.Name
}

var errQuit = errors.New("nobody wants the rest")

// named says which stream an error is of. What another stage has told stays as it is.
func (s *stream) named(err error) error {
	var told *rec.FailError
	if errors.As(err, &told) || errors.Is(err, errQuit) {
		return err
	}
	return fmt.Errorf("%s: %w", s.name, err)
}

func (s *stream) run() {
	defer close(s.next)
	s.err = content.InOrder(s, 0, func(sink content.Sink) error {
		late := func(users, groups []rec.Name) {
			s.users, s.groups = append(s.users, users...), append(s.groups, groups...)
		}
		return content.Read(s.in, content.ReadOptions{Trees: true, Late: late}, sink)
	})
}

func (s *stream) Snapshot(_ id.ID, sn *snap.Snapshot) error {
	s.users, s.groups = append(s.users, sn.Users...), append(s.groups, sn.Groups...)
	return nil
}

func (s *stream) Entry(e *rec.Entry) error {
	s.may, s.lost = false, false
	select {
	case s.next <- e:
	case <-s.j.quit:
		return errQuit
	}
	select {
	case <-s.grant:
	case <-s.j.quit:
		return errQuit
	}
	s.may = true
	if s.gap != nil {
		if err := s.j.w.Missing(*s.gap); err != nil {
			return err
		}
		s.gap = nil
	}
	if s.skip {
		return nil
	}
	if e.Type == rec.File { // Done ends it
		s.j.w.Begin(e)
		return nil
	}
	return s.j.w.Entry(s.at)
}

func (s *stream) Data(_ int64, b []byte) error {
	if s.lost {
		return nil
	}
	return s.j.w.Data(b)
}

func (s *stream) Hole(_, n int64) error {
	if s.lost {
		return nil
	}
	return s.j.w.Hole(n)
}

func (s *stream) Done(e *rec.Entry) error {
	if s.lost {
		return nil
	}
	return s.j.w.Done(e.Size, e.Inconsistent)
}

// Lost implements content.Ordered. The stream's end has the status.
func (s *stream) Lost(_ *rec.Entry, l content.Loss, _ bool) error {
	if s.lost {
		return nil
	}
	s.lost = true
	return s.j.w.Lose(l.ID)
}

func (s *stream) Gap(_ page.Key, _ *page.Key, l content.Loss) error {
	if s.may {
		return s.j.w.Missing(l.ID)
	}
	s.gap = &l.ID
	return nil
}

func (s *stream) Orphan(e *rec.Entry) error {
	s.j.env.Warn("%s: %s: %s", s.name, rec.Quote(e.Path), page.ErrOrphan)
	return nil
}

func (s *stream) End(e *rec.End) error {
	s.end = *e
	return nil
}

// names is a table of owners.
type names map[uint32]string

// add adds rows. Two names of one number are an error: they are of different systems.
func (n names) add(rows []rec.Name, what string) error {
	for _, r := range rows {
		if was, has := n[r.ID]; has && was != r.Name {
			return fmt.Errorf("%s %d is %s here and %s in a stream before it: they are of different systems", what, r.ID, rec.Quote(r.Name), rec.Quote(was))
		}
		n[r.ID] = r.Name
	}
	return nil
}

func (n names) rows() (rows []rec.Name) {
	for _, i := range slices.SortedFunc(maps.Keys(n), cmp.Compare[uint32]) {
		rows = append(rows, rec.Name{ID: i, Name: n[i]})
	}
	return rows
}

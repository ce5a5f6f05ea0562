package ls

import (
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"preserve/lib/content"
	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
)

// listBuffer is how many bytes of lines are gathered before they are written.
const listBuffer = 64 << 10

type lister struct {
	reading.Base
	listing
	out           io.Writer
	buf           []byte // lines to be written
	users, groups map[uint32]string
	rawUsers      map[uint32]string // for programs: unmasked
	rawGroups     map[uint32]string
	tree          *ncdu
	file          *rec.Entry // the first piece of a file whose last one must come
}

func (l *lister) Snapshot(i id.ID, s *snap.Snapshot) error {
	l.rawUsers, l.rawGroups = nameTable(s.Users), nameTable(s.Groups)
	l.users, l.groups = masked(l.rawUsers), masked(l.rawGroups)
	return l.Base.Snapshot(i, s)
}

func nameTable(names []rec.Name) map[uint32]string {
	t := map[uint32]string{}
	for _, n := range names {
		t[n.ID] = n.Name
	}
	return t
}

func masked(names map[uint32]string) map[uint32]string {
	t := map[uint32]string{}
	for i, n := range names {
		t[i] = tool.Mask(n)
	}
	return t
}

func (l *lister) Page(p *content.Page) error {
	for _, e := range p.Entries {
		switch {
		case e.Off > 0 && l.file == nil:
			continue // its beginning was lost
		case e.Off > 0:
			// The last piece of a file has the size and verdict that count.
			c := *l.file
			c.Size, c.Inconsistent = e.Size, e.Inconsistent
			if l.file = nil; e.More {
				l.file = &c
				continue
			}
			e = &c
		case e.More:
			l.file = e
			continue
		}
		if err := l.line(e); err != nil {
			return err
		}
	}
	return nil
}

// last prints a file whose last piece did not come.
func (l *lister) last() error {
	e := l.file
	if l.file = nil; e == nil {
		return nil
	}
	return l.line(e)
}

func (l *lister) Gap(first page.Key, next *page.Key, lost content.Loss) error {
	if err := l.last(); err != nil {
		return err
	}
	return l.Base.Gap(first, next, lost)
}

func (l *lister) line(e *rec.Entry) error {
	switch {
	case l.tree != nil:
		l.buf = l.tree.add(l.buf, e)
	case l.nul:
		l.buf = append(append(l.buf, pathOf(e)...), 0)
	case l.json:
		l.buf = l.object(l.buf, e)
		l.buf = append(l.buf, '\n')
	default:
		if l.long {
			l.columns(e)
		}
		l.buf = append(l.buf, rec.Quote(pathOf(e))...)
		if l.long {
			l.behind(e)
		}
		l.buf = append(l.buf, '\n')
	}
	if len(l.buf) < listBuffer {
		return nil
	}
	_, err := l.out.Write(l.buf)
	l.buf = l.buf[:0]
	return err
}

// pathOf is an entry's path, and "." for the root.
func pathOf(e *rec.Entry) string {
	if e.Path == "" {
		return "."
	}
	return e.Path
}

// behind prints what -l has behind the path.
func (l *lister) behind(e *rec.Entry) {
	switch {
	case e.Type == rec.Symlink:
		l.buf = append(append(l.buf, " -> "...), rec.Quote(e.Target)...)
	case e.Type == rec.HardLink:
		l.buf = append(append(l.buf, " link to "...), rec.Quote(e.Leader)...)
	case e.Err != "":
		l.buf = append(append(append(l.buf, " (no content: "...), tool.Mask(e.Err)...), ')')
	}
}

// columns prints mode, owner, group, size and time as ls -l does.
func (l *lister) columns(e *rec.Entry) {
	if e.Type == rec.HardLink {
		l.buf = fmt.Appendf(l.buf, "%-10s %-8s %-8s %12s %19s ", "h", "", "", "", "")
		return
	}
	l.buf = append(l.buf, modeString(e)...)
	l.buf = column(l.buf, owner(l.users, e.UID), -8)
	l.buf = column(l.buf, owner(l.groups, e.GID), -8)
	size := strconv.FormatUint(e.Size, 10)
	if e.Type == rec.Char || e.Type == rec.Block {
		size = fmt.Sprintf("%d,%d", e.Major, e.Minor)
	}
	l.buf = column(l.buf, size, 12)
	l.buf = append(l.buf, ' ')
	l.buf = e.MTime.Std().Local().AppendFormat(l.buf, time.DateTime)
	l.buf = append(l.buf, ' ')
}

// column appends a space and a text that is filled up to a width with spaces: in
// front of it, or behind it if the width is negative.
func column(b []byte, text string, width int) []byte {
	fill := max(0, max(width, -width)-utf8.RuneCountInString(text))
	b = append(b, ' ')
	if width < 0 {
		b = append(b, text...)
	}
	for ; fill > 0; fill-- {
		b = append(b, ' ')
	}
	if width > 0 {
		b = append(b, text...)
	}
	return b
}

func owner(names map[uint32]string, n uint32) string {
	if s, ok := names[n]; ok {
		return s
	}
	return strconv.FormatUint(uint64(n), 10)
}

// modeString writes a mode as ls does.
func modeString(e *rec.Entry) string {
	b := [...]byte{"?-dlpscbh"[e.Type], 'r', 'w', 'x', 'r', 'w', 'x', 'r', 'w', 'x'}
	for i := range 9 {
		if e.Mode>>(8-i)&1 == 0 {
			b[1+i] = '-'
		}
	}
	for _, s := range []struct {
		bit  uint32
		at   int
		with byte
	}{{0o4000, 3, 's'}, {0o2000, 6, 's'}, {0o1000, 9, 't'}} {
		if e.Mode&s.bit != 0 {
			if b[s.at] == '-' {
				s.with -= 'a' - 'A'
			}
			b[s.at] = s.with
		}
	}
	return string(b[:])
}

func (l *lister) Data(*content.Page, int, []byte) error          { return nil }
func (l *lister) Missing(*content.Page, int, content.Loss) error { return nil }

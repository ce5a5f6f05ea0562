package unpack

import (
	"bufio"
	"fmt"
	"strconv"
	"time"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// list prints the snapshot's paths.
func list(env *tool.Env, o options, src source, b base) error {
	l := &lister{base: b, long: o.long, out: bufio.NewWriterSize(env.Stdout, 64<<10)}
	err := src.walk(walk.Options{Want: o.want, Choose: b.choose.chooser(), MetaOnly: true}, l)
	if ferr := l.out.Flush(); err == nil {
		err = ferr
	}
	return err
}

type lister struct {
	base
	long          bool
	out           *bufio.Writer
	users, groups map[uint32]string
}

func (l *lister) Snapshot(i id.ID, s *snap.Snapshot) error {
	l.users, l.groups = nameTable(s.Users), nameTable(s.Groups)
	return l.base.Snapshot(i, s)
}

func nameTable(names []rec.Name) map[uint32]string {
	t := map[uint32]string{}
	for _, n := range names {
		t[n.ID] = tool.Mask(n.Name)
	}
	return t
}

func (l *lister) Page(p *walk.Page) error {
	for _, e := range p.Entries {
		if e.Off > 0 { // further pieces of a file
			continue
		}
		if l.long {
			l.columns(e)
		}
		name := rec.Quote(e.Path)
		if e.Path == "" {
			name = "."
		}
		_, _ = l.out.WriteString(name) // the error comes with the line's end
		if l.long {
			switch {
			case e.Type == rec.Symlink:
				_, _ = l.out.WriteString(" -> " + rec.Quote(e.Target))
			case e.Type == rec.HardLink:
				_, _ = l.out.WriteString(" link to " + rec.Quote(e.Leader))
			case e.Err != "":
				_, _ = l.out.WriteString(" (no content: " + tool.Mask(e.Err) + ")")
			}
		}
		if err := l.out.WriteByte('\n'); err != nil {
			return err
		}
	}
	return nil
}

// columns prints mode, owner, group, size and time as ls -l does.
func (l *lister) columns(e *rec.Entry) {
	if e.Type == rec.HardLink {
		fmt.Fprintf(l.out, "%-10s %-8s %-8s %12s %19s ", "h", "", "", "", "")
		return
	}
	size := strconv.FormatUint(e.Size, 10)
	if e.Type == rec.Char || e.Type == rec.Block {
		size = fmt.Sprintf("%d,%d", e.Major, e.Minor)
	}
	fmt.Fprintf(l.out, "%s %-8s %-8s %12s %s ", modeString(e), owner(l.users, e.UID), owner(l.groups, e.GID), size, e.MTime.Std().Local().Format(time.DateTime))
}

func owner(names map[uint32]string, n uint32) string {
	if s, ok := names[n]; ok {
		return s
	}
	return strconv.FormatUint(uint64(n), 10)
}

// modeString writes a mode as ls does.
func modeString(e *rec.Entry) string {
	b := []byte("?rwxrwxrwx")
	b[0] = map[rec.Type]byte{rec.File: '-', rec.Dir: 'd', rec.Symlink: 'l', rec.Fifo: 'p', rec.Socket: 's', rec.Char: 'c', rec.Block: 'b'}[e.Type]
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
	return string(b)
}

func (l *lister) Data(*walk.Page, int, []byte) error   { return nil }
func (l *lister) Missing(*walk.Page, int, id.ID) error { return nil }

func stamp(t rec.Time) string { return t.Std().Format(time.RFC3339Nano) }

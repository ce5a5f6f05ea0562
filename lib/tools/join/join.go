// Package join is pv-join: it makes one stream of several, in path order.
package join

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"preserve/lib/confine"
	"preserve/lib/content"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

const usage = `usage: pv-join STREAM… >stream

    pv-join <(pv-scan /etc | pv-chunk --plain) <(pv-scan --stdin db.sql -- pg_dump db) |
      pv-chunk --no-files -k KEY | pv-seal -k KEY | pv-put REPO

Makes one stream of several, in path order: all tree streams, or all content streams. Each
STREAM is a file, a pipe or - (stdin). A path that is in two of them is an error, but for
directories that are the same, or only on the way to something. It needs no key.

  -v, -q     say more, say only errors and warnings
`

// Run is pv-join.
func Run(env *tool.Env) (err error) {
	env.DropKey()
	defer env.Refuse(&err, rec.Refused)
	words, err := env.Parse(env.Flags(), usage)
	if err != nil {
		return err
	}
	if len(words) == 0 {
		return tool.Usagef("streams are needed: files, pipes or -")
	}
	if at := slices.Index(words, "-"); at >= 0 && slices.Contains(words[at+1:], "-") {
		return tool.Usagef("stdin can be read once")
	}
	stdout, err := env.Records()
	if err != nil {
		return err
	}
	out := rec.NewWriter(stdout)
	return out.Close(env.Name, join(env, out, words))
}

func join(env *tool.Env, out *rec.Writer, words []string) error {
	j := &joiner{env: env, out: out, quit: make(chan struct{})}
	for _, word := range words {
		in, name, err := open(env, word)
		if err != nil {
			return err
		}
		if f, ok := in.(io.Closer); ok && word != "-" {
			defer f.Close()
		}
		r := rec.NewReader(in, rec.Content)
		r.Or(rec.Tree)
		r.SetStall(reading.Stall)
		j.streams = append(j.streams, &stream{j: j, name: name, in: r, next: make(chan *rec.Entry), grant: make(chan struct{})})
	}
	env.Confine(confine.Limits{ReadAll: true, Write: []string{os.TempDir()}})
	if err := j.begin(); err != nil {
		return err
	}
	err := j.merge()
	close(j.quit)
	if err != nil {
		return err
	}
	return j.end()
}

// open opens a stream, and returns what messages call it.
func open(env *tool.Env, word string) (in io.Reader, name string, err error) {
	if word == "-" {
		in, err = env.Input()
		return in, "stdin", err
	}
	f, err := os.Open(word)
	if err != nil {
		return nil, "", fmt.Errorf("open stream: %w", err)
	}
	tool.Widen(f)
	return f, rec.Quote(word), nil
}

// begin reads all heads, and writes one.
func (j *joiner) begin() error {
	var head rec.Head
	for i, s := range j.streams {
		h, err := s.in.Head()
		if err != nil {
			return s.named(err)
		}
		switch {
		case i == 0:
			head = rec.Head{Kind: h.Kind, Host: h.Host, User: h.User, Time: h.Time}
		case h.Kind != head.Kind:
			return &tool.Hint{Err: fmt.Errorf("%s is a %s stream, %s is a %s stream: they make no stream together", j.streams[0].name, head.Kind, s.name, h.Kind),
				Text: "pv-chunk --plain makes a content stream of a tree stream"}
		}
		head.Follow = head.Follow || h.Follow
		for _, r := range h.Roots {
			if !slices.Contains(head.Roots, r) {
				head.Roots = append(head.Roots, r)
			}
		}
	}
	j.tree = head.Kind == rec.Tree
	if j.tree {
		j.check.Skip()
	}
	var err error
	if j.w, err = content.NewWriter(j.out, head); err != nil {
		return err
	}
	j.out.Tick(nil, j.w.Progress)
	for _, s := range j.streams {
		go s.run()
	}
	return nil
}

// merge lets the stream with the first path write, until all have ended.
func (j *joiner) merge() error {
	var waiting []*stream
	for _, s := range j.streams {
		if e, ok := <-s.next; ok {
			s.at = e
			waiting = append(waiting, s)
		} else if s.err != nil {
			return s.named(s.err)
		}
	}
	for len(waiting) > 0 {
		first := waiting[0]
		for _, s := range waiting[1:] {
			if rec.ComparePaths(s.at.Path, first.at.Path) < 0 {
				first = s
			}
		}
		if err := j.clash(first, waiting); err != nil {
			return err
		}
		first.grant <- struct{}{}
		e, ok := <-first.next
		if first.at = e; !ok {
			waiting = slices.DeleteFunc(waiting, func(s *stream) bool { return s == first })
			if first.err != nil {
				return first.named(first.err)
			}
		}
	}
	return nil
}

// ErrClash is a path that two streams have.
var ErrClash = errors.New("it is in another stream, too")

// clash looks at other streams with the path that comes next. Of a directory one entry is written: one
// that is not only on the way to something, if there is one.
func (j *joiner) clash(first *stream, waiting []*stream) error {
	e := first.at
	first.skip = e.Type == rec.Dir && j.written == e.Path && j.any
	if first.skip {
		return nil
	}
	best := e
	for _, s := range waiting {
		o := s.at
		if s == first || o.Path != e.Path {
			continue
		}
		if e.Type != rec.Dir || o.Type != rec.Dir || !best.Way && !o.Way && !same(best, o) {
			return fmt.Errorf("%s: %s: %w: %s", first.name, rec.Quote(e.Path), ErrClash, s.name)
		}
		if best.Way && !o.Way {
			best = o
		}
	}
	first.at, j.written, j.any = best, best.Path, true
	judged := best
	if j.tree { // its size is that of content which does not come
		c := *best
		c.Size = 0
		judged = &c
	} else if best.Type == rec.File && best.Err == "" { // its content is judged when it was read
		c := *best
		c.Extents, c.More, c.Size = nil, false, 0
		judged = &c
	}
	if err := j.check.Next(judged); err != nil {
		return fmt.Errorf("%s: %w", first.name, err)
	}
	return nil
}

// same reports whether two entries of a directory say the same.
func same(a, b *rec.Entry) bool {
	if a.Mode != b.Mode || a.UID != b.UID || a.GID != b.GID || a.MTime != b.MTime || a.Flags != b.Flags || a.Err != b.Err || a.Skipped != b.Skipped || a.Unread != b.Unread {
		return false
	}
	return slices.EqualFunc(a.XAttrs, b.XAttrs, func(x, y rec.XAttr) bool { return x.Name == y.Name && string(x.Value) == string(y.Value) })
}

// end writes the names of owners, and the end.
func (j *joiner) end() error {
	partial := false
	users, groups := names{}, names{}
	for _, s := range j.streams {
		for _, t := range []struct {
			what string
			all  names
			rows []rec.Name
		}{{"user", users, s.users}, {"group", groups, s.groups}} {
			if err := t.all.add(t.rows, t.what); err != nil {
				return s.named(err)
			}
		}
		j.w.Warned(s.end.Warnings, s.end.Warned)
		partial = partial || s.end.Status != 0
	}
	if partial {
		j.env.SetWarned()
	}
	if err := j.w.EndNames(users.rows(), groups.rows()); err != nil {
		return err
	}
	return j.w.Finish(partial)
}

package unpack

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"preserve/lib/content"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/spool"
	"preserve/lib/tool"
)

// cutShort ends an output in the middle of a file.
func cutShort(e *rec.Entry, l content.Loss) error {
	return &tool.Hint{
		Err:  fmt.Errorf("%s: %s %s, and the beginning of the file is written already", rec.Quote(e.Path), l.ID.Short(), l),
		Text: "leave the file out with --exclude",
	}
}

// cat writes the contents of files to stdout, in path order.
func cat(o options, src reading.Source, b reading.Base) error {
	env := b.Env
	c := &catter{Base: b, out: bufio.NewWriterSize(env.Stdout, 64<<10), kept: spool.New(8 << 20), contents: map[string][]stretch{}}
	defer c.kept.Close()
	err := content.InOrder(c, reading.Whole, func(sink content.Sink) error {
		return src.Walk(false, b.Choose.Active(), sink)
	})
	if ferr := c.out.Flush(); err == nil {
		err = ferr
	}
	if err == nil && !c.written && !env.Warned() {
		err = fmt.Errorf("no file in the snapshot matches %s", rec.Quote(strings.Join(o.choice.Patterns, " ")))
	}
	return err
}

type catter struct {
	reading.Base
	out     *bufio.Writer
	written bool

	// What has further names may be asked for again by one of them.
	keep     string // the path of the file at hand, if it has
	kept     *spool.Spool
	contents map[string][]stretch
}

// A stretch of a file's content is in the spool, or it is a hole.
type stretch struct {
	hole   bool
	off, n int64
}

func (c *catter) Entry(e *rec.Entry) error {
	switch e.Type {
	case rec.File:
		if e.Err != "" {
			c.Env.Warn("%s: was stored without content (%s): it is left out", rec.Quote(e.Path), e.Err)
			return nil
		}
		if c.keep = ""; e.Links > 1 {
			c.keep = e.Path
			c.contents[e.Path] = nil
		}
		c.written = true
		return nil
	case rec.HardLink:
		return c.again(e)
	case rec.Symlink:
		return &tool.Hint{Err: fmt.Errorf("%s is a symbolic link to %s: it has no content", rec.Quote(e.Path), rec.Quote(e.Target)), Text: "choose what it leads to"}
	case rec.Dir:
		return &tool.Hint{Err: fmt.Errorf("%s is a directory: it has no content", rec.Quote(e.Path)), Text: "choose files: pv-ls prints their paths"}
	}
	return fmt.Errorf("%s is a %s: it has no content", rec.Quote(e.Path), e.Type)
}

// again writes the content of a file that came under its first name.
func (c *catter) again(e *rec.Entry) error {
	content, ok := c.contents[e.Leader]
	if !ok {
		c.Env.Warn("%s: left out: it is a hard link to %s, whose content was not written", rec.Quote(e.Path), rec.Quote(e.Leader))
		return nil
	}
	c.written = true
	for _, s := range content {
		var err error
		if s.hole {
			err = c.zeros(s.n)
		} else {
			_, err = io.Copy(c.out, io.NewSectionReader(c.kept, s.off, s.n))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// note keeps in mind a stretch of the file at hand.
func (c *catter) note(s stretch) {
	if c.keep == "" {
		return
	}
	if all := c.contents[c.keep]; len(all) > 0 && all[len(all)-1].hole == s.hole {
		all[len(all)-1].n += s.n // the spool holds one behind the other
	} else {
		c.contents[c.keep] = append(all, s)
	}
}

func (c *catter) Data(_ int64, b []byte) error {
	if c.keep != "" {
		off, err := c.kept.Append(b)
		if err != nil {
			return err
		}
		c.note(stretch{off: off, n: int64(len(b))})
	}
	_, err := c.out.Write(b)
	return err
}

func (c *catter) Hole(_, n int64) error {
	c.note(stretch{hole: true, n: n})
	return c.zeros(n)
}

// zeros writes what a hole reads as.
func (c *catter) zeros(n int64) error {
	return zeros(n, func(b []byte) error {
		_, err := c.out.Write(b)
		return err
	})
}

func (c *catter) Done(e *rec.Entry) error {
	if e.Err == "" {
		c.Flawed(e)
	}
	return nil
}

func (c *catter) Lost(e *rec.Entry, l content.Loss, begun bool) error {
	if begun {
		return cutShort(e, l)
	}
	c.Env.Warn("%s: left out: data blob %s %s", rec.Quote(e.Path), l.ID.Short(), l)
	return nil
}

var zeroBlock [64 << 10]byte

// zeros calls write with n zeros in all.
func zeros(n int64, write func(b []byte) error) error {
	for ; n > 0; n -= int64(len(zeroBlock)) {
		if err := write(zeroBlock[:min(n, int64(len(zeroBlock)))]); err != nil {
			return err
		}
	}
	return nil
}

package diff

import (
	"bytes"
	"fmt"
	"io"

	"preserve/lib/content"
	"preserve/lib/inode"
	"preserve/lib/rec"
)

func (c *comparer) closeFile() {
	if c.open != nil {
		_ = c.open.Close() // it was only read
	}
	c.open, c.path, c.differ = nil, "", false
}

// reads opens the file whose content comes, unless it is open. It reports whether
// there is anything to compare.
func (c *comparer) reads() (bool, error) {
	if c.path == "" || c.differ || c.open != nil {
		return c.open != nil && !c.differ, nil
	}
	f, err := c.files.Open(c.path)
	if err == nil {
		c.open = f
		if c.stat, err = f.Stat(); err == nil && c.stat.Type != rec.File {
			err = inode.ErrReplaced
		}
	}
	if err != nil {
		e := &rec.Entry{Path: c.path, Type: rec.File}
		c.closeFile()
		return false, c.vanished(e, err)
	}
	return true, nil
}

func (c *comparer) Data(at int64, b []byte) error {
	ok, err := c.reads()
	if !ok || err != nil {
		return err
	}
	if c.buf == nil {
		c.buf = make([]byte, 256<<10)
	}
	for len(b) > 0 && !c.differ {
		p := c.buf[:min(len(b), len(c.buf))]
		if err := c.read(p, at); err != nil {
			return err
		}
		if c.path == "" {
			return nil
		}
		c.differ = c.differ || !bytes.Equal(p, b[:len(p)])
		b, at = b[len(p):], at+int64(len(p))
	}
	return nil
}

// read reads the live file. One that ends too early differs; another error gives
// it up.
func (c *comparer) read(p []byte, at int64) error {
	switch _, err := c.open.ReadAt(p, at); {
	case err == io.EOF:
		c.differ = true
	case err != nil:
		e := &rec.Entry{Path: c.path, Type: rec.File}
		c.closeFile()
		return c.vanished(e, err)
	}
	return nil
}

// Hole compares with what is not there: zeros, or a hole.
func (c *comparer) Hole(at, n int64) error {
	ok, err := c.reads()
	if !ok || err != nil {
		return err
	}
	for end := at + n; at < end && !c.differ; {
		from, to, err := c.open.NextSegment(&c.stat, at)
		if err == io.EOF || err == nil && from >= end {
			return nil
		}
		if err != nil {
			e := &rec.Entry{Path: c.path, Type: rec.File}
			c.closeFile()
			return c.vanished(e, err)
		}
		to = min(to, end)
		for ; from < to && !c.differ && c.path != ""; from += int64(len(zeroBlock)) {
			if err := c.Data(from, zeroBlock[:min(to-from, int64(len(zeroBlock)))]); err != nil {
				return err
			}
		}
		if c.path == "" {
			return nil
		}
		at = to
	}
	return nil
}

// Done has the size that counts.
func (c *comparer) Done(e *rec.Entry) error {
	if e.Off > 0 && e.Inconsistent {
		c.Flawed(e)
	}
	if c.path == "" {
		return nil
	}
	_, err := c.reads() // of an empty file too: it may be another by now
	if err != nil || c.path == "" {
		return err
	}
	if c.stat.Size != e.Size {
		c.differs("size", c.path, fmt.Sprint(e.Size), fmt.Sprint(c.stat.Size))
	} else if c.differ {
		c.differs("content", c.path)
	}
	c.closeFile()
	return nil
}

func (c *comparer) Lost(e *rec.Entry, l content.Loss, _ bool) error {
	c.Env.Warn("%s: its content cannot be compared: %s %s", rec.Quote(e.Path), l.ID.Short(), l)
	c.closeFile()
	return nil
}

var zeroBlock [64 << 10]byte

package tar

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"sync/atomic"
	"time"

	"preserve/lib/content"
	"preserve/lib/rec"
	"preserve/lib/tarball"
	"preserve/lib/tool"
)

// block is how much of a member is read at a time.
const block = 1 << 20

// fromTar writes the content stream of the archive on stdin.
func fromTar(env *tool.Env) error {
	in, err := env.Input()
	if err != nil {
		return err
	}
	stdout, err := env.Records()
	if err != nil {
		return err
	}
	out := rec.NewWriter(stdout)
	return out.Close(env.Name, convert(env, in, out))
}

func convert(env *tool.Env, in io.Reader, out *rec.Writer) error {
	w, err := content.NewWriter(out, head())
	if err != nil {
		return err
	}
	read := &counted{}
	out.Tick(nil, func() (uint64, uint64) {
		files, bytes := w.Progress()
		return files, max(bytes, read.n.Load())
	})
	if f, ok := in.(*os.File); !ok || !isRegular(f) {
		read.in, in = in, read
	}
	a, err := tarball.Read(in, tarball.Options{
		Warn: func(path string, err error) {
			text := rec.Quote(path) + ": " + err.Error()
			env.Warn("%s", text)
			w.Warn(text)
		},
		Notice: func(text string) { env.Notice("%s", text) },
		LookUp: lookUp,
	})
	if err != nil {
		return fmt.Errorf("read tar archive: %w", err)
	}
	defer a.Close()
	if err := w.Names(a.Names()); err != nil {
		return err
	}
	buf := make([]byte, block)
	for {
		f, err := a.Next()
		if err == io.EOF {
			break
		}
		if err == nil && f.Entry.Type == rec.File {
			err = member(w, f, buf)
		} else if err == nil {
			err = w.Entry(f.Entry)
		}
		if err != nil {
			return err
		}
	}
	return w.Finish(env.Warned())
}

// member writes a file of the archive.
func member(w *content.Writer, f *tarball.File, buf []byte) error {
	w.Begin(f.Entry)
	size, pos := int64(f.Entry.Size), int64(0)
	for {
		start, end, err := f.Segment(pos)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if start > pos {
			if err := w.Hole(start - pos); err != nil {
				return err
			}
		}
		for pos = start; pos < end; {
			b := buf[:min(end-pos, int64(len(buf)))]
			if _, err := f.ReadAt(b, pos); err != nil {
				return err
			}
			if err := w.Data(b); err != nil {
				return err
			}
			pos += int64(len(b))
		}
	}
	if pos < size {
		if err := w.Hole(size - pos); err != nil {
			return err
		}
	}
	return w.Done(f.Entry.Size, f.Entry.Inconsistent)
}

// head says where and when the archive is read, and by whom.
func head() rec.Head {
	h := rec.Head{Kind: rec.Content, Time: rec.TimeOf(time.Now())}
	// A machine without a name, a user without one: the stream goes on.
	h.Host, _ = os.Hostname()
	if u, err := user.Current(); err == nil {
		h.User = u.Username
	} else {
		h.User = strconv.Itoa(os.Getuid())
	}
	return h
}

func isRegular(f *os.File) bool {
	st, err := f.Stat()
	return err == nil && st.Mode().IsRegular()
}

// counted counts what is read, for ticks.
type counted struct {
	in io.Reader
	n  atomic.Uint64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.in.Read(p)
	c.n.Add(uint64(n))
	return n, err
}

// lookUp asks the system for the id of a name in an access control list.
func lookUp(name string, isUser bool) (uint32, bool) {
	var text string
	if isUser {
		u, err := user.Lookup(name)
		if err != nil {
			return 0, false
		}
		text = u.Uid
	} else {
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, false
		}
		text = g.Gid
	}
	id, err := strconv.ParseUint(text, 10, 32)
	return uint32(id), err == nil
}

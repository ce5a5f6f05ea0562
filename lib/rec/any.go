package rec

import (
	"errors"
	"io"

	"preserve/lib/wire"
)

// ReadAny returns a Reader of a stream of whatever kind its head says, with the
// head read already: Head returns it again, Next goes on behind it. The errors
// are those of Head. The Reader is never nil.
func ReadAny(src io.Reader) (*Reader, error) {
	r := NewReader(src, Tree)
	r.err = r.anyHead()
	return r, r.err
}

func (r *Reader) anyHead() error {
	if err := r.checkMagic(); err != nil {
		return err
	}
	r.n = 1
	raw, err := r.s.Next(nil, MaxSmall)
	r.buf.free()
	r.buf = nil
	switch {
	case err == io.EOF, errors.Is(err, io.ErrUnexpectedEOF):
		return ErrCut
	case err != nil:
		return r.Wrap(err)
	}
	r.kind = kindOf(r.c, raw)
	v, err := r.decode(raw, "head")
	if err != nil {
		return r.Wrap(err)
	}
	if f, ok := v.(*Fail); ok {
		return &FailError{f.Tool, f.Text}
	}
	r.head = v.(*Head)
	return nil
}

// kindOf finds a head's "kind", wherever it stands; decoding the head says what
// is wrong with it if it is none.
func kindOf(c *wire.Cursor, raw []byte) Kind {
	c.Reset(raw, false)
	for n := c.Map(1024); n > 0 && c.Err() == nil; n-- {
		if string(c.Str(256)) == "kind" {
			return Kind(c.Str(MaxText))
		}
		c.Raw()
	}
	return ""
}

// Append encodes v as a Writer would, and appends it to w.
func Append(w *wire.Writer, v Record) error {
	payload, err := encode(w, v)
	if err != nil {
		return err
	}
	w.Raw(payload)
	return nil
}

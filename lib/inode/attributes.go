package inode

import (
	"errors"
	"fmt"

	"preserve/lib/rec"
)

// Attributes is what statx does not tell of a file. Of what was left out, or could not be read, Omitted has the
// names, as in rec.Entry.
type Attributes struct {
	XAttrs  []rec.XAttr // in order of name
	Omitted []string
	Flags   uint32 // of SettableFlags
}

// ErrBare says that not all attributes of an entry could be read.
var ErrBare = errors.New("read attributes")

// Bare wraps why not all attributes could be read.
func Bare(err error) error { return fmt.Errorf("%w: %w", ErrBare, err) }

// UnknownAttributes is the Attributes of what could not be looked at.
func UnknownAttributes() Attributes { return Attributes{Omitted: []string{rec.AnyXAttr}} }

// An Omit says which extended attributes are left alone: neither read nor set nor removed. A nil Omit is none.
type Omit struct {
	All  bool                   // they are not even listed
	Name func(name string) bool // may be nil; called by many goroutines
}

// Out reports whether an attribute is left alone.
func (o *Omit) Out(name string) bool {
	return o != nil && (o.All || o.Name != nil && o.Name(name))
}

// Apply takes from an entry what is left alone.
func (o *Omit) Apply(e *rec.Entry) {
	switch {
	case o == nil:
	case o.All:
		e.OmitAll()
	case o.Name != nil:
		e.Omit(o.Name)
	}
}

// Covers reports whether all that an entry of an earlier run omits would be left out now.
func (o *Omit) Covers(e *rec.Entry) bool {
	for _, name := range e.Omitted {
		if name == rec.AnyXAttr && (o == nil || !o.All) || !o.Out(name) {
			return false
		}
	}
	return true
}

package rec

import (
	"fmt"
	"slices"
	"strings"

	"preserve/lib/wire"
)

// AnyXAttr stands alone in Omitted for every extended attribute that the entry does not have. No attribute
// has this name.
const AnyXAttr = "*"

// Omit takes the extended attributes that out matches from the entry, and says so in Omitted. XAttrs is not
// changed in place: other entries may share it.
func (e *Entry) Omit(out func(name string) bool) {
	i := slices.IndexFunc(e.XAttrs, func(x XAttr) bool { return out(x.Name) })
	if i < 0 {
		return
	}
	kept, omitted := slices.Clone(e.XAttrs[:i]), slices.Clone(e.Omitted)
	for _, x := range e.XAttrs[i:] {
		if out(x.Name) {
			omitted = append(omitted, x.Name)
		} else {
			kept = append(kept, x)
		}
	}
	e.XAttrs, e.Omitted = kept, omitted
	if slices.Contains(omitted, AnyXAttr) {
		e.Omitted = []string{AnyXAttr}
	}
	slices.Sort(e.Omitted)
	e.Omitted = slices.Compact(e.Omitted)
}

// OmitAll takes all extended attributes from an entry that has metadata of its own, and says that nobody knows
// which there are.
func (e *Entry) OmitAll() {
	if e.plain() {
		e.XAttrs, e.Omitted = nil, []string{AnyXAttr}
	}
}

// Omits reports whether the entry says nothing of an extended attribute that it does not have.
func (e *Entry) Omits(name string) bool {
	if len(e.Omitted) == 1 && e.Omitted[0] == AnyXAttr {
		return true
	}
	_, found := slices.BinarySearch(e.Omitted, name)
	return found
}

// checkOmitted checks the names in Omitted.
func (e *Entry) checkOmitted() error {
	total := 0
	for _, x := range e.XAttrs {
		total += len(x.Name) + len(x.Value)
	}
	for i, name := range e.Omitted {
		total += len(name)
		_, there := slices.BinarySearchFunc(e.XAttrs, name, func(x XAttr, name string) int { return strings.Compare(x.Name, name) })
		switch {
		case total > MaxXAttrs:
			return fmt.Errorf("omitted: %w of %d bytes", wire.ErrLimit, MaxXAttrs)
		case name == "" || len(name) > MaxName || strings.IndexByte(name, 0) >= 0:
			return fmt.Errorf("omitted: %w: name %q", ErrBad, name)
		case i > 0 && name <= e.Omitted[i-1]:
			return fmt.Errorf("omitted: %w: names do not ascend", ErrBad)
		case there:
			return fmt.Errorf("omitted: %w: the entry has %q", ErrBad, name)
		case name == AnyXAttr && len(e.Omitted) > 1:
			return fmt.Errorf("omitted: %w: %q is not alone", ErrBad, AnyXAttr)
		}
	}
	return nil
}

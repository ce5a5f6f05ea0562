// Package id is the name of a blob: 32 bytes, written as 64 lower-case hex
// digits wherever a person or a list sees it.
//
// An ID says nothing about what it names; how ids are computed is the business
// of package box.
package id

import (
	"encoding/hex"
	"errors"
	"fmt"
)

// Size is the length of an ID in bytes.
const Size = 32

// ErrSyntax is returned by Parse for text that is not 64 lower-case hex digits.
var ErrSyntax = errors.New("not an id (64 hex digits)")

// An ID names a blob. The zero ID names nothing.
type ID [Size]byte

// String returns 64 lower-case hex digits.
func (i ID) String() string { return hex.EncodeToString(i[:]) }

// Short returns the first 12 hex digits, for messages.
func (i ID) Short() string { return hex.EncodeToString(i[:6]) }

// IsZero reports whether i names nothing.
func (i ID) IsZero() bool { return i == ID{} }

// Parse is the inverse of String. It accepts upper-case digits too.
func Parse(s string) (ID, error) {
	var i ID
	if len(s) != 2*Size {
		return ID{}, fmt.Errorf("%q: %w", clip(s), ErrSyntax)
	}
	if _, err := hex.Decode(i[:], []byte(s)); err != nil {
		return ID{}, fmt.Errorf("%q: %w", clip(s), ErrSyntax)
	}
	return i, nil
}

// FromBytes copies a 32-byte slice into an ID; ok is false for any other length.
func FromBytes(b []byte) (i ID, ok bool) {
	if len(b) != Size {
		return ID{}, false
	}
	return ID(b), true
}

func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

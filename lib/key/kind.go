package key

import (
	"encoding/hex"
	"fmt"
)

// Kind is what a key was made for.
type Kind uint8

// The kinds of keys. Their values are written in key files
// (docs/format/crypto.md, "Keys").
const (
	Master Kind = iota
	Write
	List
	Read
	Cut
)

var kinds = [...]struct{ name, can, cannot string }{
	Master: {"master", "everything, and derive the other keys: keep it offline", "be replaced when it is lost"},
	Write:  {"write", "make backups", "read backups, its own included"},
	List:   {"list", "list and compare backups, pick what to forget", "read contents, make backups"},
	Read:   {"read", "restore and verify backups", "make backups"},
	Cut:    {"cut", "cut files into chunks (pv-chunk)", "read or make backups"},
}

func (k Kind) valid() bool { return int(k) < len(kinds) }

// String returns "master", "write", "list", "read" or "cut".
func (k Kind) String() string {
	if !k.valid() {
		return fmt.Sprintf("kind %d", uint8(k))
	}
	return kinds[k].name
}

// Can says in plain words what a key of kind k is good for.
func (k Kind) Can() string {
	if !k.valid() {
		return "nothing"
	}
	return kinds[k].can
}

// Cannot says in plain words what a key of kind k is not good for.
func (k Kind) Cannot() string {
	if !k.valid() {
		return "anything"
	}
	return kinds[k].cannot
}

// ParseKind is the inverse of String; ok is false for any other word.
func ParseKind(s string) (k Kind, ok bool) {
	for k := range kinds {
		if s == kinds[k].name {
			return Kind(k), true
		}
	}
	return 0, false
}

// IDSize is the length of an ID in bytes.
const IDSize = 8

// An ID names a master key and all keys derived from it. It is no secret: every
// session carries it, so that a reader can say which key is needed.
type ID [IDSize]byte

// String returns four groups of four hex digits: 3f9c-77a1-0b2e-9d10.
func (i ID) String() string {
	s := hex.EncodeToString(i[:])
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
}

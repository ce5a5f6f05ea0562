package store

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"slices"
)

// Wrapped keys may be kept in the repository that they open: then the repository
// and a passphrase are all that is needed to get everything back. What is in them
// is none of this package's business, but it takes nothing else: a key that is not
// wrapped must not come to lie here by mistake.
const (
	maxKeyFile = 16 << 10
	maxKeyName = 64
	wrappedKey = "PRESERVE WRAPPED KEY"
	// What every wrapped key has: magic, cost, salt, check, and a tag behind what
	// is sealed (docs/format/crypto.md).
	wrappedMagic = "PVW1"
	wrappedLeast = 77 + 16 + 1
)

// Errors of PutKey and Key.
var (
	ErrKeyName   = errors.New("not a name for a wrapped key (1 to 64 of a-z A-Z 0-9 . _ -, no dot in front)")
	ErrKeyExists = errors.New("another key has this name already, and none is ever replaced")
	ErrNoWrapped = errors.New("not a wrapped key (the output of pv-key wrap): it is not stored")
)

func checkKeyName(name string) error {
	good := len(name) >= 1 && len(name) <= maxKeyName && name[0] != '.'
	for _, c := range []byte(name) {
		good = good && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-')
	}
	if !good {
		return fmt.Errorf("%q: %w", name, ErrKeyName)
	}
	return nil
}

// isWrapped reports whether data is one wrapped key as a whole, below text for
// people if there is some. A name is taken for good, so what was cut off on its way
// must not take it.
func isWrapped(data []byte) bool {
	if len(data) > maxKeyFile || bytes.Count(data, []byte("-----BEGIN ")) != 1 {
		return false
	}
	block, rest := pem.Decode(data)
	return block != nil && block.Type == wrappedKey && len(block.Headers) == 0 && len(bytes.TrimSpace(rest)) == 0 &&
		len(block.Bytes) >= wrappedLeast && string(block.Bytes[:len(wrappedMagic)]) == wrappedMagic
}

// PutKey stores a wrapped key, durably. Storing the same again is no error.
// Errors: ErrKeyName, ErrNoWrapped, ErrKeyExists.
func (r *Repo) PutKey(name string, data []byte) error {
	if err := checkKeyName(name); err != nil {
		return err
	}
	if !isWrapped(data) {
		return ErrNoWrapped
	}
	err := r.o.Put("keys/"+name, data)
	if errors.Is(err, fs.ErrExist) {
		if there, rerr := r.Key(name); rerr != nil || !bytes.Equal(there, data) {
			return fmt.Errorf("key %q: %w", name, ErrKeyExists)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("store key %q: %w", name, err)
	}
	return nil
}

// Key returns a wrapped key. Errors: ErrKeyName, ErrMissing, ErrDamaged.
func (r *Repo) Key(name string) ([]byte, error) {
	if err := checkKeyName(name); err != nil {
		return nil, err
	}
	data, err := readAll(r.o, "keys/"+name, maxKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrMissing
	}
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", name, err)
	}
	return data, nil
}

// Keys returns the names of the wrapped keys, sorted.
func (r *Repo) Keys() ([]string, error) {
	list, err := r.o.List("keys")
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	var names []string
	for _, name := range list {
		if checkKeyName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

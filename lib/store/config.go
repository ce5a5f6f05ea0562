package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math"
	"slices"

	"preserve/lib/objects"
	"preserve/lib/wire"
)

// Format is the version of the repository format that this package knows.
const Format = 1

// maxConfig bounds the config file.
const maxConfig = 4 << 10

// A Config says what a repository is. It never changes.
type Config struct {
	ID    [16]byte // of the repository, random
	Needs []string // features that a program must know; none in this version
}

// String returns the repository's id.
func (c Config) String() string { return hex.EncodeToString(c.ID[:]) }

func newConfig() (Config, error) {
	c := Config{}
	_, err := rand.Read(c.ID[:])
	return c, err
}

// encode returns the canonical form: {preserve: 1, repository: id, needs: [], crc: n}. The
// checksum is the CRC-32C over all bytes before the key crc.
func (c *Config) encode() []byte {
	w := wire.NewWriter()
	w.Map(4)
	w.Str("preserve")
	w.Uint(Format)
	w.Str("repository")
	w.Bin(c.ID[:])
	w.Str("needs")
	w.Array(len(c.Needs))
	for _, n := range c.Needs {
		w.Str(n)
	}
	sum := crc32.Checksum(w.Bytes(), castagnoli)
	w.Str("crc")
	w.Uint(uint64(sum))
	return w.Take()
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errConfig = errors.New("not valid")

// parseConfig is the inverse of encode. The version comes first, so that all
// after it may change: a newer one, or an unknown feature, is ErrNewer. A checksum that does
// not match is ErrDamaged.
func parseConfig(b []byte) (c Config, err error) {
	r := wire.NewCursor(b, true)
	key := func(want string) {
		if got := r.Str(64); r.Err() == nil && string(got) != want {
			r.Fail(fmt.Errorf("key %q where %q belongs: %w", got, want, errConfig))
		}
	}
	n := r.Map(64)
	key("preserve")
	version := r.Uint(math.MaxUint32)
	switch {
	case r.Err() != nil:
		return c, r.Err()
	case version > Format:
		return c, fmt.Errorf("format %d: %w", version, ErrNewer)
	case version != Format || n != 4:
		return c, errConfig
	}
	key("repository")
	if raw := r.Bin(16); len(raw) == 16 {
		c.ID = [16]byte(raw)
	} else {
		r.Fail(fmt.Errorf("repository: %w", errConfig))
	}
	key("needs")
	for n := r.Array(64); n > 0 && r.Err() == nil; n-- {
		c.Needs = append(c.Needs, string(r.Str(64)))
	}
	before := r.Pos()
	key("crc")
	sum := uint32(r.Uint(math.MaxUint32))
	switch err := r.Finish(); {
	case err != nil:
		return c, err
	case sum != crc32.Checksum(b[:before], castagnoli):
		return c, fmt.Errorf("%w: checksum mismatch", ErrDamaged)
	case len(c.Needs) > 0:
		return c, fmt.Errorf("feature %q: %w", c.Needs[0], ErrNewer)
	}
	c.Needs = slices.Clip(c.Needs)
	return c, nil
}

func readConfig(s objects.Store) (Config, error) {
	dir := s.String()
	b, err := readAll(s, "config", maxConfig)
	switch {
	case errors.Is(err, ErrDamaged):
		return Config{}, fmt.Errorf("%q is %w (its config is no file, or a large one)", dir, ErrNone)
	case errors.Is(err, fs.ErrNotExist):
		return Config{}, fmt.Errorf("%q is %w (no config in it)", dir, ErrNone)
	case err != nil:
		return Config{}, fmt.Errorf("read the repository: %w", err)
	}
	c, err := parseConfig(b)
	switch {
	case errors.Is(err, ErrNewer):
		return c, fmt.Errorf("%q was %w", dir, err)
	case err != nil:
		return c, fmt.Errorf("%q: %w", dir+"/config", err)
	}
	return c, nil
}

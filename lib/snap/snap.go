// Package snap is the plaintext of a snapshot: what is known about a tree
// besides the tree. The format is docs/format/snapshots.md, "Snapshot".
//
// It believes nothing: signature and certificate are checked by package box.
package snap

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

// MaxPlain bounds a snapshot's plaintext.
const MaxPlain = 4 << 20

// ErrSnapshot is what is wrong with a plaintext that is not a snapshot's.
var ErrSnapshot = errors.New("not a valid snapshot")

// A Snapshot describes one run of a backup.
type Snapshot struct {
	// Writer is who sealed it.
	WriterKey  []byte // Ed25519 public key
	WriterName string
	WriterCert []byte
	Label      string
	Time       rec.Time // when the tree was scanned, by the client's clock
	Prev       id.ID    // the full snapshot that this one builds on; zero for none
	Partial    bool     // a checkpoint of a run that had not ended
	Host, User string
	// Roots are what was backed up: what is at and below Path was found at and below Dir/Path.
	Roots    []rec.Root
	Tags     []string
	Chunker  rec.Chunker
	Entries  uint64 // names in the tree
	Bytes    uint64 // of file content, holes included
	Warnings uint64
	Warned   []string // the first of them
	Users    []rec.Name
	Groups   []rec.Name
}

// Limits of a Snapshot.
const (
	MaxTags  = 64
	MaxRoots = 65536
	MaxWord  = 1024 // bytes of label, tag, host, user
)

// Keys in canonical order; all are present but partial, which is only when true.
var keys = []string{"writer", "label", "time", "prev", "partial", "host", "user", "roots", "tags", "chunker",
	"entries", "bytes", "warnings", "warned", "users", "groups"}

const partialKey = 4

// Sources are the absolute paths of what was backed up, sorted.
func (s *Snapshot) Sources() (paths []string) {
	for _, r := range s.Roots {
		paths = append(paths, path.Join(r.Dir, r.Path))
	}
	slices.Sort(paths)
	return paths
}

// Encode returns the plaintext, or an error if it would be over its limit.
func (s *Snapshot) Encode() ([]byte, error) {
	w := wire.NewWriter()
	n := len(keys)
	if !s.Partial {
		n--
	}
	w.Map(n)
	for k, key := range keys {
		if k == partialKey && !s.Partial {
			continue
		}
		w.Str(key)
		s.write(w, key)
	}
	if w.Len() > MaxPlain {
		return nil, fmt.Errorf("snapshot of %d bytes: %w of %d: fewer roots or names are needed", w.Len(), wire.ErrLimit, MaxPlain)
	}
	if _, err := Decode(w.Bytes()); err != nil {
		return nil, err
	}
	return w.Bytes(), nil
}

func (s *Snapshot) write(w *wire.Writer, key string) {
	switch key {
	case "writer":
		w.Array(3)
		w.Bin(s.WriterKey)
		w.Str(s.WriterName)
		w.Bin(s.WriterCert)
	case "label":
		w.Str(s.Label)
	case "time":
		w.Array(2)
		w.Int(s.Time.Sec)
		w.Uint(uint64(s.Time.Nsec))
	case "prev":
		if s.Prev.IsZero() {
			w.Bin(nil)
		} else {
			w.Bin(s.Prev[:])
		}
	case "partial":
		w.Bool(true)
	case "host":
		w.Str(s.Host)
	case "user":
		w.Str(s.User)
	case "roots":
		w.Array(len(s.Roots))
		for _, r := range s.Roots {
			w.Array(2)
			w.BinString(r.Dir)
			w.BinString(r.Path)
		}
	case "tags":
		writeWords(w, s.Tags)
	case "chunker":
		rec.EncodeChunker(w, &s.Chunker)
	case "entries":
		w.Uint(s.Entries)
	case "bytes":
		w.Uint(s.Bytes)
	case "warnings":
		w.Uint(s.Warnings)
	case "warned":
		writeWords(w, s.Warned)
	case "users":
		rec.EncodeNames(w, s.Users)
	case "groups":
		rec.EncodeNames(w, s.Groups)
	}
}

func writeWords(w *wire.Writer, words []string) {
	w.Array(len(words))
	for _, s := range words {
		w.Str(s)
	}
}

// Decode is the inverse of Encode. It insists on the canonical form.
func Decode(plain []byte) (*Snapshot, error) {
	if len(plain) > MaxPlain {
		return nil, fmt.Errorf("%w: %d bytes", ErrSnapshot, len(plain))
	}
	s := &Snapshot{}
	c := wire.NewCursor(plain, true)
	n := c.Map(len(keys))
	k := 0
	for range n {
		key := string(c.Str(MaxWord))
		if k == partialKey && key != keys[k] {
			k++
		}
		if k >= len(keys) || key != keys[k] {
			c.Fail(fmt.Errorf("key %q out of place", key))
			break
		}
		s.read(c, key)
		k++
	}
	if err := c.Finish(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	if k != len(keys) {
		return nil, fmt.Errorf("%w: keys are absent", ErrSnapshot)
	}
	return s, nil
}

func (s *Snapshot) read(c *wire.Cursor, key string) {
	switch key {
	case "writer":
		if c.Array(3) != 3 {
			c.Fail(errors.New("writer is not [key, name, certificate]"))
		}
		s.WriterKey, s.WriterName, s.WriterCert = c.Bin(32), string(c.Str(32)), c.Bin(64)
	case "label":
		s.Label = string(c.Str(MaxWord))
	case "time":
		if c.Array(2) != 2 {
			c.Fail(errors.New("time is not [seconds, nanoseconds]"))
		}
		s.Time = rec.Time{Sec: c.Int(), Nsec: uint32(c.Uint(999_999_999))}
	case "prev":
		b := c.Bin(id.Size)
		i, ok := id.FromBytes(b)
		if ok == i.IsZero() || !ok && len(b) != 0 {
			c.Fail(errors.New("prev is not an id"))
		}
		s.Prev = i
	case "partial":
		if s.Partial = c.Bool(); !s.Partial {
			c.Fail(wire.ErrCanonical)
		}
	case "host":
		s.Host = string(c.Str(MaxWord))
	case "user":
		s.User = string(c.Str(MaxWord))
	case "roots":
		for n := c.Array(MaxRoots); n > 0 && c.Err() == nil; n-- {
			if c.Array(2) != 2 {
				c.Fail(errors.New("a root is not [directory, path]"))
			}
			r := rec.Root{Dir: string(c.Bin(rec.MaxPath)), Path: string(c.Bin(rec.MaxPath))}
			if err := r.Check(); c.Err() == nil && err != nil {
				c.Fail(err)
			}
			s.Roots = append(s.Roots, r)
		}
	case "tags":
		s.Tags = readWords(c, MaxTags, MaxWord)
	case "chunker":
		s.Chunker = *rec.DecodeChunker(c)
	case "entries":
		s.Entries = c.Uint(math.MaxUint64)
	case "bytes":
		s.Bytes = c.Uint(math.MaxUint64)
	case "warnings":
		s.Warnings = c.Uint(math.MaxUint64)
	case "warned":
		s.Warned = readWords(c, rec.MaxWarned, rec.MaxText)
	case "users":
		s.Users = rec.DecodeNames(c)
	case "groups":
		s.Groups = rec.DecodeNames(c)
	}
}

func readWords(c *wire.Cursor, most, limit int) (words []string) {
	for n := c.Array(most); n > 0 && c.Err() == nil; n-- {
		words = append(words, string(c.Str(limit)))
	}
	return words
}

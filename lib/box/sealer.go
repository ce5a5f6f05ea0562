package box

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"preserve/lib/id"
	"preserve/lib/key"
)

// Level is how much time compression may take.
type Level int

// The levels. What each costs and gains on source text is in the manual page of
// pv-seal.
const (
	Fastest Level = iota
	Default
	Better
)

// A Sealer names and seals blobs under one session of its own. It is safe for
// concurrent use.
type Sealer struct {
	key     *key.Key
	session *session
	sealed  []byte // the session as readers get it
	sid     id.ID
	namer   namer
	zip     *compressor
	unzip   *decompressor
	rooms   sync.Pool // of *room
}

// NewSealer makes a fresh session under k, a write or master key, else
// ErrCannot.
func NewSealer(k *key.Key, level Level) (*Sealer, error) {
	return newSealer(k, level, newSession(bestSuite()))
}

func newSealer(k *key.Key, level Level, s *session) (*Sealer, error) {
	if !k.CanSeal() {
		return nil, fmt.Errorf("make backups with a %s key: %w", k.Kind(), ErrCannot)
	}
	sealed, err := s.seal(k)
	if err != nil {
		return nil, err
	}
	names, _ := newNamer(k)
	zip, err := newCompressor(level)
	if err != nil {
		return nil, err
	}
	unzip, err := newDecompressor()
	if err != nil {
		return nil, err
	}
	return &Sealer{key: k, session: s, sealed: sealed, sid: sidOf(sealed), namer: names, zip: zip, unzip: unzip}, nil
}

// Session returns the session, SessionSize bytes that belong to the caller.
// Readers need it before the first blob.
func (s *Sealer) Session() []byte { return bytes.Clone(s.sealed) }

// SID returns the name of the session.
func (s *Sealer) SID() id.ID { return s.sid }

// Name returns the id of the blob of that kind with the given references, 32
// bytes each, and plaintext. The same blob has the same id under all write keys
// of one master key, and under no other.
func (s *Sealer) Name(kind uint8, refs, plain []byte) id.ID {
	return s.namer.name(kind, headOf(kind, refs), plain)
}

// Seal appends to dst the sealed form of the blob whose id, from Name, is i. It
// keeps neither slice, and grows dst by no more than plain, its padding and a few
// bytes; the sealed form differs each time. Room behind len(dst) may be
// overwritten.
//
// Errors: ErrKind, ErrRefs, ErrLimit. dst is then returned as it was.
func (s *Sealer) Seal(dst []byte, kind uint8, i id.ID, refs, plain []byte) ([]byte, error) {
	if err := checkShape(kind, refs); err != nil {
		return dst, err
	}
	if len(plain) > maxPlain(kind) {
		return dst, fmt.Errorf("%d bytes: %w of %d", len(plain), ErrLimit, maxPlain(kind))
	}
	aead, err := s.session.aead(kind, s.sid, i)
	if err != nil {
		return dst, err
	}
	// The inside is built in memory that serves for all blobs, so that dst takes no more than the
	// ciphertext: most of what the plaintext would need is never touched.
	room := s.room()
	defer s.rooms.Put(room)
	most := max(padded(insideHead+len(plain)), insideHead+s.zip.maxSize(len(plain)))
	room.inside = s.appendInside(slices.Grow(room.inside[:0], most), plain)
	nonceAt, insideAt := len(dst), len(dst)+nonceSize
	dst = slices.Grow(dst, overhead+len(room.inside))[:insideAt]
	rand.Read(dst[nonceAt:]) // never fails: crypto/rand
	return aead.Seal(dst, dst[nonceAt:], room.inside, headOf(kind, refs)), nil
}

// appendInside appends codec ‖ len ‖ bytes ‖ zeros.
func (s *Sealer) appendInside(dst, plain []byte) []byte {
	at := len(dst)
	dst = append(dst, codecZstd, 0, 0, 0, 0)
	dst = s.zip.compress(dst, plain)
	if len(dst)-at-insideHead >= len(plain) {
		dst = append(dst[:at], codecStored, 0, 0, 0, 0)
		dst = append(dst, plain...)
	}
	n := len(dst) - at
	binary.BigEndian.PutUint32(dst[at+1:], uint32(n-insideHead))
	dst = slices.Grow(dst, padded(n)-n)[:at+padded(n)]
	clear(dst[at+n:])
	return dst
}

// snapshotContext, 0 and the id are what a writer signs.
const snapshotContext = "preserve/v1/snapshot"

func signed(i id.ID) []byte {
	b := append([]byte(snapshotContext), 0)
	return append(b, i[:]...)
}

// Sign returns the writer's signature over the snapshot i.
func (s *Sealer) Sign(i id.ID) []byte {
	sk, _, _, _ := s.key.Writer()
	return ed25519.Sign(sk, signed(i))
}

// Writer returns who signs: public key, name, and the root's signature over both.
func (s *Sealer) Writer() (pk []byte, name string, cert []byte) {
	sk, name, cert, _ := s.key.Writer()
	return sk.Public().(ed25519.PublicKey), name, cert
}

// Package box turns plain bytes into sealed ones and back: it names them,
// compresses, pads and encrypts, and on the way back believes nothing that it
// did not verify. It knows bytes only, no records, pages or files.
//
// What is sealed, with what and why, is specified in docs/format/crypto.md,
// "Session", "Blob", "Reading" and "Limits"; this package is its only reader and
// writer. The vectors in testdata/vectors/crypto are its examples.
//
//	head   = u8 kind ‖ u32 n ‖ ref₁ … refₙ
//	id     = HMAC(kind 0 ? id.data : id.meta, head ‖ plaintext)
//	k      = HMAC(kind 0 ? s.data : s.meta, "preserve/v1/blob" ‖ sid ‖ id)
//	inside = u8 codec ‖ u32 len ‖ len bytes ‖ zeros
//	sealed = nonce ‖ AEAD(k, nonce, inside, aad = head)
package box

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"

	"preserve/lib/id"
	"preserve/lib/key"
)

// Kinds of blobs that this package treats apart. 1 is a page, 2 to 8 are index
// pages.
const (
	kindData     = 0
	kindSnapshot = 9
)

// Limits (docs/format/crypto.md, "Limits").
const (
	MaxData = 16 << 20 // plaintext bytes of a data blob
	MaxMeta = 4 << 20  // plaintext bytes of a page, an index page or a snapshot
	MaxRefs = 65536    // references of a blob
)

// Errors; match with errors.Is. None of them says what the plaintext was.
var (
	ErrLimit   = errors.New("over the limit")
	ErrKind    = errors.New("no such kind of blob")
	ErrRefs    = errors.New("wrong references for its kind")
	ErrCannot  = errors.New("this kind of key cannot do that")
	ErrSession = errors.New("not a valid session")
	// ErrSessions is more sessions than a stream can have.
	ErrSessions  = errors.New("sessions: over the limit")
	ErrNoSession = errors.New("its session did not come before it")
	ErrSealed    = errors.New("does not open: damaged, forged, or not what its record says")
	ErrPadding   = errors.New("wrong padding")
	ErrCodec     = errors.New("wrong compression")
	ErrID        = errors.New("its content is not what its id names")
	ErrCert      = errors.New("the writer has no valid certificate of this master key")
	ErrSignature = errors.New("the writer's signature does not fit")
	ErrRevoked   = errors.New("the writer has been revoked")
	// ErrAltered is bytes that changed in memory, or a processor or compressor that erred.
	ErrAltered = errors.New("altered in memory while it was sealed")
)

// A WrongKeyError is returned for a session of another master key.
type WrongKeyError struct{ Needs, Have key.ID }

func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("needs key %s, this is key %s", e.Needs, e.Have)
}

// A RevokedError is returned for a snapshot of a writer that has been revoked. It
// is an ErrRevoked.
type RevokedError struct {
	Writer []byte // public key
	Name   string
	Where  string // file and line that say so
}

func (e *RevokedError) Error() string {
	return fmt.Sprintf("its writer %q, key %x, has been revoked (%s)", e.Name, e.Writer, e.Where)
}

func (e *RevokedError) Unwrap() error { return ErrRevoked }

// maxPlain is the most plaintext that a blob of that kind may have.
func maxPlain(kind uint8) int {
	if kind == kindData {
		return MaxData
	}
	return MaxMeta
}

// checkShape refuses what no blob of that kind can be: docs/format/crypto.md,
// "Blob". Whether references are distinct and of the right kind is for those to
// check who see what they refer to.
func checkShape(kind uint8, refs []byte) error {
	n := len(refs) / id.Size
	switch {
	case kind > kindSnapshot:
		return fmt.Errorf("kind %d: %w", kind, ErrKind)
	case n > MaxRefs:
		return fmt.Errorf("%d references: %w of %d", n, ErrLimit, MaxRefs)
	case len(refs)%id.Size != 0, kind == kindData && n != 0, kind == kindSnapshot && n != 1:
		return fmt.Errorf("kind %d with %d bytes of references: %w", kind, len(refs), ErrRefs)
	}
	return nil
}

// headOf returns the head of a blob: what its id and its AEAD bind besides the
// plaintext.
func headOf(kind uint8, refs []byte) []byte {
	b := make([]byte, 0, 1+4+len(refs))
	b = append(b, kind)
	b = binary.BigEndian.AppendUint32(b, uint32(len(refs)/id.Size))
	return append(b, refs...)
}

// The inside of a blob begins with its codec and the length of what follows.
const (
	codecStored = 0
	codecZstd   = 1
	insideHead  = 1 + 4
)

// padded returns the length to which n bytes are padded, for n ≥ 2: Padmé of
// Nikitin et al., "Reducing Metadata Leakage from Encrypted Files and
// Communication with PURBs", algorithm 1. The length keeps about as many leading
// bits as the number of its bits has, so that of a size of n bits no more than
// O(log n) are told, and at most 12 % are added.
func padded(n int) int {
	e := bits.Len(uint(n)) - 1
	low := e - bits.Len(uint(e))
	mask := 1<<low - 1
	return (n + mask) &^ mask
}

// Sizes of what surrounds the inside of a sealed blob.
const (
	nonceSize = 12
	tagSize   = 16
	overhead  = nonceSize + tagSize
)

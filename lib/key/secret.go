package key

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"io"
)

// SecretSize is the length of a Secret in bytes.
const SecretSize = 32

// A Secret is 32 bytes that are never shown: whatever prints or encodes it
// writes "[secret]". Comparing with == does not compile; Equal compares. The zero
// Secret is 32 zero bytes.
type Secret struct {
	// A function: it cannot be compared, and package fmt, which calls no methods
	// on the unexported fields of a struct that it prints but follows their
	// pointers with some verbs, cannot look into it.
	reveal func() *[SecretSize]byte
}

// hidden is what a Secret shows of itself.
const hidden = "[secret]"

// Bytes returns the secret itself, in a copy that belongs to the caller.
func (s Secret) Bytes() []byte {
	b := make([]byte, SecretSize)
	if s.reveal != nil {
		copy(b, s.reveal()[:])
	}
	return b
}

// Equal compares in constant time.
func (s Secret) Equal(t Secret) bool { return Equal(s.Bytes(), t.Bytes()) }

// Format implements fmt.Formatter for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, hidden) }

// String implements fmt.Stringer.
func (s Secret) String() string { return hidden }

// GoString implements fmt.GoStringer.
func (s Secret) GoString() string { return hidden }

// MarshalText implements encoding.TextMarshaler.
func (s Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Equal compares two byte strings in a time that depends on their lengths only.
// It is the one comparison for secrets, ids that vouch for a plaintext, and
// checksums.
func Equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// NewSecret returns a Secret with a copy of b, which must be SecretSize bytes;
// ok is false for any other length.
func NewSecret(b []byte) (s Secret, ok bool) {
	if len(b) != SecretSize {
		return Secret{}, false
	}
	p := [SecretSize]byte(b)
	return Secret{func() *[SecretSize]byte { return &p }}, true
}

// derive is KDF(secret, label) of docs/format/crypto.md, "Notation".
func derive(secret []byte, label string) Secret {
	s, _ := NewSecret(expand(secret, label, SecretSize))
	return s
}

// expand is HKDF-SHA-256 without salt, info "preserve/v1/" ‖ label, n bytes, of
// which HKDF gives at most 255 * 32.
func expand(secret []byte, label string, n int) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, "preserve/v1/"+label, n)
	if err != nil {
		panic("key: " + err.Error()) // n is too large, which no input decides
	}
	return b
}

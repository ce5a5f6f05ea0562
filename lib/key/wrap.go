package key

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"time"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"
)

// What ParseWrapped and Open refuse; match with errors.Is.
var (
	ErrWrapped    = errors.New("a wrapped key: pv-key unwrap opens it, with its passphrase")
	ErrNotWrapped = errors.New("not a wrapped key, or cut short")
	ErrCost       = errors.New("asks for more work than any wrapped key may")
	ErrPassphrase = errors.New("wrong passphrase")
	ErrDamaged    = errors.New("the passphrase is right, but the wrapped key is damaged")
)

// A wrapped key (docs/format/crypto.md, "Wrapped keys"):
//
//	W ‖ ct;   W = "PVW1" ‖ u32 t ‖ u32 m ‖ u8 p ‖ salt (32) ‖ check (32)
const (
	wrapMagic = "PVW1"
	wrapSalt  = 32
	wrapCheck = 32
	wrapHead  = len(wrapMagic) + 4 + 4 + 1 + wrapSalt + wrapCheck
	wrapLabel = "PRESERVE WRAPPED KEY"
)

// A Cost is the work of one guess at a passphrase: Argon2id (RFC 9106) with Time
// passes over Memory KiB in Threads lanes.
type Cost struct {
	Time    uint32 // 1 to 65536
	Memory  uint32 // 8 * Threads to 2 GiB, in KiB
	Threads uint8  // 1 to 16
}

// The limits of a Cost, and what Wrap's users begin with.
const (
	maxPasses      = 65536
	maxLanes       = 16
	maxMemory      = 2 << 20 // KiB
	DefaultMemory  = 1 << 20 // KiB
	DefaultThreads = 4
	LeastPasses    = 3 // over DefaultMemory, where nobody has said otherwise
)

// check is what must hold before anything is derived: argon2.IDKey panics on zero,
// and takes its memory at once.
func (c Cost) check() error {
	if c.Time < 1 || c.Time > maxPasses || c.Threads < 1 || c.Threads > maxLanes ||
		c.Memory < 8*uint32(c.Threads) || c.Memory > maxMemory {
		return fmt.Errorf("%w: %d passes over %d KiB in %d lanes", ErrCost, c.Time, c.Memory, c.Threads)
	}
	return nil
}

// Pass measures one pass over c's memory on this machine: the least of three, behind
// one that makes the memory warm, since whatever else runs only makes it longer.
func (c Cost) Pass() (time.Duration, error) {
	c.Time = 1
	if err := c.check(); err != nil {
		return 0, err
	}
	least := time.Duration(math.MaxInt64)
	for n := range 4 {
		begun := time.Now()
		c.stretch([]byte("measure"), make([]byte, wrapSalt))
		if n > 0 {
			least = min(least, time.Since(begun))
		}
	}
	return least, nil
}

// For returns c with as many passes as take about d, if one takes pass.
func (c Cost) For(d, pass time.Duration) Cost {
	c.Time = uint32(min(max(d/max(pass, 1), 1), maxPasses))
	return c
}

// stretch returns the key and the check value of a passphrase.
func (c Cost) stretch(phrase, salt []byte) (k, check []byte) {
	a := argon2.IDKey(phrase, salt, c.Time, c.Memory, c.Threads, chacha20poly1305.KeySize+wrapCheck)
	return a[:chacha20poly1305.KeySize], a[chacha20poly1305.KeySize:]
}

// Wrap returns a wrapped key: k's key file under a passphrase, in PEM below lines
// for people. White space around the passphrase does not count, and any within it
// as one space. Errors: ErrPhrase, ErrCost.
func (k *Key) Wrap(phrase []byte, c Cost, made time.Time) ([]byte, error) {
	salt := make([]byte, wrapSalt)
	rand.Read(salt) // never fails: crypto/rand
	body, err := k.wrap(phrase, c, salt)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "Preserve %s key, wrapped in a passphrase\nkey id  %s\nmade    %s\nwork    passes: %d, memory: %d MiB\nopen    pv-key unwrap -o FILE <this\n\n",
		k.kind, k.id, made.UTC().Format(time.DateOnly), c.Time, c.Memory>>10)
	b.Write(pem.EncodeToMemory(&pem.Block{Type: wrapLabel, Bytes: body}))
	return b.Bytes(), nil
}

// wrap is Wrap with a given salt and without what is around it.
func (k *Key) wrap(phrase []byte, c Cost, salt []byte) ([]byte, error) {
	phrase, err := normal(phrase)
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return nil, err
	}
	secret, check := c.stretch(phrase, salt)
	w := binary.BigEndian.AppendUint32([]byte(wrapMagic), c.Time)
	w = binary.BigEndian.AppendUint32(w, c.Memory)
	w = append(append(append(w, c.Threads), salt...), check...)
	aead, err := chacha20poly1305.New(secret)
	if err != nil {
		return nil, err
	}
	// The key is used once: its salt is fresh.
	return aead.Seal(w, make([]byte, chacha20poly1305.NonceSize), k.body(), w), nil
}

// Wrapped is a wrapped key that is not open yet.
type Wrapped struct {
	Cost
	head, salt, check, sealed []byte
}

// ParseWrapped reads a wrapped key: PEM, with text above it that is not looked
// at and nothing but white space behind. It keeps nothing of data.
//
// Errors: ErrSize, ErrTrailing, ErrNotWrapped, ErrVersion, ErrCost.
func ParseWrapped(data []byte) (*Wrapped, error) {
	block, err := decodePEM(data)
	if err != nil {
		return nil, err
	}
	if block == nil || block.Type != wrapLabel {
		return nil, ErrNotWrapped
	}
	return parseWrapped(block.Bytes)
}

func parseWrapped(b []byte) (*Wrapped, error) {
	switch {
	case len(b) < wrapHead+chacha20poly1305.Overhead || string(b[:3]) != wrapMagic[:3]:
		return nil, ErrNotWrapped
	case string(b[:len(wrapMagic)]) != wrapMagic:
		return nil, ErrVersion
	}
	b = bytes.Clone(b)
	n := len(wrapMagic)
	w := &Wrapped{head: b[:wrapHead], sealed: b[wrapHead:]}
	w.Cost = Cost{binary.BigEndian.Uint32(b[n:]), binary.BigEndian.Uint32(b[n+4:]), b[n+8]}
	w.salt, w.check = b[n+9:n+9+wrapSalt], b[n+9+wrapSalt:wrapHead]
	return w, w.Cost.check()
}

// Open returns the key. It takes the time and the memory that the Cost says.
// Errors: ErrPhrase, ErrPassphrase, ErrDamaged, and those of Parse for what is
// inside.
func (w *Wrapped) Open(phrase []byte) (*Key, error) {
	phrase, err := normal(phrase)
	if err != nil {
		return nil, err
	}
	secret, check := w.stretch(phrase, w.salt)
	if !Equal(check, w.check) {
		return nil, ErrPassphrase
	}
	aead, err := chacha20poly1305.New(secret)
	if err != nil {
		return nil, err
	}
	body, err := aead.Open(nil, make([]byte, chacha20poly1305.NonceSize), w.sealed, w.head)
	if err != nil {
		return nil, ErrDamaged
	}
	return parseBody(body)
}

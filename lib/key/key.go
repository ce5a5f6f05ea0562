// Package key makes, derives, reads and writes the keys of Preserve, and keeps them
// for a disaster: wrapped in a passphrase, or on paper. It knows no records, and
// encrypts nothing but keys.
//
// One master key, 32 random bytes, is kept offline; the keys for daily work are
// derived from it and can each do less. Format, derivation and the reasons are
// in docs/format/crypto.md, "Keys".
//
//	write  makes backups, reads none
//	list   reads names and metadata of all backups, no contents
//	read   reads everything, makes no snapshot that readers accept
//	cut    decides where files are cut, for pv-chunk in a process of its own
//
// A master key is accepted wherever a derived one is.
package key

import (
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
)

// MaxName is the most bytes that a writer's name may have.
const MaxName = 32

// Errors that New, Derive and the accessors' users meet.
var (
	ErrName   = errors.New("not a writer's name (1 to 32 of a-z 0-9 . _ -, and not \"master\")")
	ErrDerive = errors.New("only a master key derives others")
)

// A field is one of the values that key files hold.
type field int

const (
	fMaster   field = iota
	fIDMeta         // names pages, index pages and snapshots
	fIDData         // names data blobs
	fCut            // decides cut points
	fMetaPK         // seals session keys for metadata
	fDataPK         // seals session keys for data
	fMetaSeed       // opens what fMetaPK sealed
	fDataSeed       // opens what fDataPK sealed
	fRoot           // verifies certificates
	fWriter         // seed; signs snapshots
	fCert           // root's signature over the writer
	numFields
)

// publicKeySize is the length of an ML-KEM-768 + X25519 public key.
const publicKeySize = 1184 + 32

var fieldSizes = [numFields]int{
	fMaster: SecretSize, fIDMeta: SecretSize, fIDData: SecretSize, fCut: SecretSize,
	fMetaPK: publicKeySize, fDataPK: publicKeySize, fMetaSeed: SecretSize, fDataSeed: SecretSize,
	fRoot: ed25519.PublicKeySize, fWriter: ed25519.SeedSize, fCert: ed25519.SignatureSize,
}

// layouts are the fields of each kind of key, in the order of the key file
// (docs/format/crypto.md, "Keys").
var layouts = [...][]field{
	Master: {fMaster},
	Write:  {fIDMeta, fIDData, fCut, fMetaPK, fDataPK, fWriter, fCert},
	List:   {fIDMeta, fMetaSeed, fRoot},
	Read:   {fIDMeta, fIDData, fMetaSeed, fDataSeed, fRoot},
	Cut:    {fCut},
}

// A Key is a master key or one derived from it. It does not change, and may be
// used by many goroutines. Printing a Key shows its kind and id only.
//
// The accessors return ok = false when this kind of key lacks what is asked for.
type Key struct {
	kind Kind
	id   ID
	name string
	// What its file says of revoked writers; nil for none.
	carried *Revoked
	// A function for the reason that Secret is one.
	reveal func() *values
}

// values are what a Key keeps to itself.
type values struct {
	fields [numFields][]byte // nil where the key lacks it; a master key has all

	// The same in the form in which they are used.
	metaPublic, dataPublic   hpke.PublicKey
	metaPrivate, dataPrivate hpke.PrivateKey
}

// field returns a field, nil if k lacks it.
func (k *Key) field(f field) []byte { return k.reveal().fields[f] }

// New returns a fresh master key.
func New() (*Key, error) {
	var b [SecretSize]byte
	rand.Read(b[:]) // never fails: crypto/rand
	return FromMaster(b)
}

// FromMaster returns the master key with the secret b. It is the whole of the
// security: b must be 32 bytes from a good random source.
func FromMaster(b [SecretSize]byte) (*Key, error) {
	v := &values{}
	v.fields[fMaster] = b[:]
	return newKey(Master, masterID(b[:]), masterName, v)
}

// masterName is what a master key calls itself where it writes.
const masterName = "master"

func masterID(master []byte) ID {
	return ID(derive(master, "key id").Bytes()[:IDSize])
}

// writerContext and 0 precede what a certificate signs.
const writerContext = "preserve/v1/writer"

// Certified returns the bytes that a certificate signs: the writer's public key
// and name.
func Certified(writer ed25519.PublicKey, name string) []byte {
	b := append([]byte(writerContext), 0)
	b = append(b, writer...)
	return append(b, name...)
}

// Derive returns a key of the given kind under the master key k, with k's id. A
// write key is a new writer of the given name, 1 to 32 of [a-z0-9._-], with its
// own signing key; "master" is taken. The other kinds are the same each time and
// have no name: it must be empty.
//
// Errors: ErrDerive if k is no master key or the kind is Master, ErrName.
func (k *Key) Derive(kind Kind, name string) (*Key, error) {
	if k.kind != Master || kind == Master || !kind.valid() {
		return nil, fmt.Errorf("derive a %s key from a %s key: %w", kind, k.kind, ErrDerive)
	}
	if kind == Write && !ValidWriter(name) || kind != Write && name != "" {
		return nil, fmt.Errorf("name %q of a %s key: %w", name, kind, ErrName)
	}
	v := &values{}
	for _, f := range layouts[kind] {
		v.fields[f] = k.field(f)
	}
	if kind == Write {
		seed := make([]byte, ed25519.SeedSize)
		rand.Read(seed) // never fails: crypto/rand
		v.setWriter(seed, name, rootOf(k.field(fMaster)))
	}
	return newKey(kind, k.id, name, v)
}

// ValidName reports whether a writer may have that name: 1 to 32 of [a-z0-9._-].
func ValidName(name string) bool {
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '.' && c != '_' && c != '-' {
			return false
		}
	}
	return len(name) >= 1 && len(name) <= MaxName
}

// ValidWriter reports whether a write key may be derived with that name: a valid
// one that is not the master key's.
func ValidWriter(name string) bool { return ValidName(name) && name != masterName }

// rootOf returns the key that signs certificates.
func rootOf(master []byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(derive(master, "sign root").Bytes())
}

// setWriter makes v those of the writer with that seed and name.
func (v *values) setWriter(seed []byte, name string, root ed25519.PrivateKey) {
	pk := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	v.fields[fWriter] = seed
	v.fields[fCert] = ed25519.Sign(root, Certified(pk, name))
}

// newKey returns the key with the fields in v, to which it adds what follows from
// them. The error is that of a public key that is none.
func newKey(kind Kind, id ID, name string, v *values) (_ *Key, err error) {
	if m := v.fields[fMaster]; m != nil {
		v.fields[fIDMeta] = derive(m, "id meta").Bytes()
		v.fields[fIDData] = derive(m, "id data").Bytes()
		v.fields[fCut] = derive(m, "cut").Bytes()
		v.fields[fMetaSeed] = derive(m, "kem meta").Bytes()
		v.fields[fDataSeed] = derive(m, "kem data").Bytes()
		root := rootOf(m)
		v.fields[fRoot] = root.Public().(ed25519.PublicKey)
		v.setWriter(derive(m, "writer").Bytes(), name, root)
	}
	if v.metaPublic, v.metaPrivate, err = openKEM(v.fields[fMetaPK], v.fields[fMetaSeed]); err != nil {
		return nil, err
	}
	if v.dataPublic, v.dataPrivate, err = openKEM(v.fields[fDataPK], v.fields[fDataSeed]); err != nil {
		return nil, err
	}
	if kind == Master {
		v.fields[fMetaPK], v.fields[fDataPK] = v.metaPublic.Bytes(), v.dataPublic.Bytes()
	}
	return &Key{kind: kind, id: id, name: name, reveal: func() *values { return v }}, nil
}

// openKEM returns the key pair of a seed, or the public key alone, or nothing.
// NewPrivateKey takes exactly 32 bytes, where DeriveKeyPair would take any
// number, even none (docs/format/crypto.md, "Keys").
func openKEM(public, seed []byte) (hpke.PublicKey, hpke.PrivateKey, error) {
	kem := hpke.MLKEM768X25519()
	switch {
	case seed != nil:
		sk, err := kem.NewPrivateKey(seed)
		if err != nil {
			return nil, nil, err
		}
		return sk.PublicKey(), sk, nil
	case public != nil:
		pk, err := kem.NewPublicKey(public)
		return pk, nil, err
	}
	return nil, nil, nil
}

// Format implements fmt.Formatter: what String returns, for every verb. Its
// receiver is no pointer so that a dereferenced Key keeps its secrets too.
func (k Key) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, k.String()) }

// String returns the kind and the id: "read key 3f9c-77a1-0b2e-9d10".
func (k Key) String() string { return k.kind.String() + " key " + k.id.String() }

// GoString implements fmt.GoStringer: what String returns.
func (k Key) GoString() string { return k.String() }

// MarshalText implements encoding.TextMarshaler: what String returns. A key file is
// what Marshal makes.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

package box

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"

	"preserve/lib/id"
	"preserve/lib/key"
)

// newMAC returns HMAC-SHA-256 under secret. Making one takes 0.7 µs more than
// using one again, which for blobs of half a MB is not worth a pool.
func newMAC(secret key.Secret) hash.Hash { return hmac.New(sha256.New, secret.Bytes()) }

// A namer computes ids.
type namer struct {
	meta key.Secret
	data key.Secret // zero under a list key, which does not come to use it
}

func newNamer(k *key.Key) (n namer, ok bool) {
	n.data, _ = k.IDData()
	n.meta, ok = k.IDMeta()
	return n, ok
}

// name returns HMAC(kind 0 ? id.data : id.meta, head ‖ plaintext), where head is
// what headOf makes of kind and refs.
func (n namer) name(kind uint8, head, plain []byte) (i id.ID) {
	secret := n.meta
	if kind == kindData {
		secret = n.data
	}
	m := newMAC(secret)
	m.Write(head)
	m.Write(plain)
	m.Sum(i[:0])
	return i
}

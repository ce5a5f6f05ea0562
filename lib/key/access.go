package key

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
)

// Kind returns what k was made for.
func (k *Key) Kind() Kind { return k.kind }

// ID returns the id of the master key that k is or comes from.
func (k *Key) ID() ID { return k.id }

// Name returns the writer's name of a write key, "master" for a master key, and
// nothing for the other kinds.
func (k *Key) Name() string { return k.name }

// CanSeal reports whether backups can be made with k: master, write.
func (k *Key) CanSeal() bool { return k.field(fWriter) != nil }

// CanReadMeta reports whether names and metadata can be read: master, list, read.
func (k *Key) CanReadMeta() bool { return k.reveal().metaPrivate != nil }

// CanReadData reports whether contents can be read: master, read.
func (k *Key) CanReadData() bool { return k.reveal().dataPrivate != nil }

// CanCut reports whether files can be cut with k: master, write, cut.
func (k *Key) CanCut() bool { return k.field(fCut) != nil }

// IDMeta returns the secret that names pages, index pages and snapshots: master,
// write, list, read.
func (k *Key) IDMeta() (s Secret, ok bool) { return NewSecret(k.field(fIDMeta)) }

// IDData returns the secret that names data blobs: master, write, read.
func (k *Key) IDData() (s Secret, ok bool) { return NewSecret(k.field(fIDData)) }

// MetaPublic returns the key to which the session key of metadata is sealed:
// master, write. The keys that can read know it too; ok says who may write.
func (k *Key) MetaPublic() (pk hpke.PublicKey, ok bool) { return k.reveal().metaPublic, k.CanSeal() }

// DataPublic is MetaPublic for data.
func (k *Key) DataPublic() (pk hpke.PublicKey, ok bool) { return k.reveal().dataPublic, k.CanSeal() }

// MetaPrivate returns the key that opens the session key of metadata: master,
// list, read.
func (k *Key) MetaPrivate() (sk hpke.PrivateKey, ok bool) {
	return k.reveal().metaPrivate, k.CanReadMeta()
}

// DataPrivate returns the key that opens the session key of data: master, read.
func (k *Key) DataPrivate() (sk hpke.PrivateKey, ok bool) {
	return k.reveal().dataPrivate, k.CanReadData()
}

// RootPublic returns the key that verifies certificates: master, list, read.
func (k *Key) RootPublic() (pk ed25519.PublicKey, ok bool) {
	root := k.field(fRoot)
	return bytes.Clone(root), root != nil
}

// Writer returns the key that signs snapshots, its name, and the root's
// signature over both: master, write.
func (k *Key) Writer() (sk ed25519.PrivateKey, name string, cert []byte, ok bool) {
	if !k.CanSeal() {
		return nil, "", nil, false
	}
	return ed25519.NewKeyFromSeed(k.field(fWriter)), k.name, bytes.Clone(k.field(fCert)), true
}

// Cut returns what decides cut points: master, write, cut.
func (k *Key) Cut() (c Cutter, ok bool) {
	s, ok := NewSecret(k.field(fCut))
	return Cutter{s}, ok
}

// A Cutter gives the secrets that decide where files, groups and pages end
// (docs/format/crypto.md, "Keys"). Nothing is cut by an unkeyed hash: sizes of
// stored blobs would else tell which known files they hold.
type Cutter struct{ cut Secret }

// Gear returns n bytes for the table of the gear hash and what else the chunker
// needs. More than 8160, which HKDF cannot give, is a mistake in the program.
func (c Cutter) Gear(n int) []byte { return expand(c.cut.Bytes(), "gear", n) }

// Group returns the key of the HMAC that decides where groups of small files end.
func (c Cutter) Group() Secret { return derive(c.cut.Bytes(), "group") }

// Page returns the key of the HMAC that decides where pages of entries end.
func (c Cutter) Page() Secret { return derive(c.cut.Bytes(), "page") }

// Cache returns the key of the HMAC that vouches for change caches
// (docs/format/cache.md).
func (c Cutter) Cache() Secret { return derive(c.cut.Bytes(), "cache") }

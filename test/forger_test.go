package test

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"strconv"

	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/snap"
)

// A forger names and seals blobs as docs/format/crypto.md says, and as package
// box does: but it asks no questions about what is inside.
type forger struct {
	key        *key.Key
	meta, mass []byte // the session's secrets, of metadata and of data
	session    []byte
	sid        id.ID
	blobs      map[string]*rec.Blob // by id
	data       map[string]*rec.Blob // by the name in the commands
	pages      []*forgedPage
	kinds      []uint8
	top        snap.Snapshot
	signer     ed25519.PrivateKey
	said       map[string]bool
}

// newForger makes a session under a write or master key; under a read key too, which
// has the same public keys, but no writer: then one is invented, who certifies himself.
func newForger(k *key.Key) (*forger, error) {
	f := &forger{
		key: k, meta: make([]byte, 32), mass: make([]byte, 32), blobs: map[string]*rec.Blob{}, data: map[string]*rec.Blob{},
		pages: []*forgedPage{{}}, top: snap.Snapshot{Host: "h", User: "u", Roots: []rec.Root{{Dir: "/"}}}, said: map[string]bool{},
	}
	_, _ = rand.Read(f.meta) // never fails, nor does the next
	_, _ = rand.Read(f.mass)
	keyID := k.ID()
	head := append([]byte{1}, keyID[:]...) // suite 1
	f.session = append([]byte("PVS1"), head...)
	metaPublic, _ := k.MetaPublic()
	dataPublic, _ := k.DataPublic()
	for _, e := range []struct {
		x      string
		to     hpke.PublicKey
		secret []byte
	}{{"meta", metaPublic, f.meta}, {"data", dataPublic, f.mass}} {
		info := append([]byte("preserve/v1/session "+e.x+"\x00"), head...)
		sealed, err := hpke.Seal(e.to, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info, e.secret)
		if err != nil {
			return nil, err
		}
		f.session = append(f.session, sealed...)
	}
	f.sid = sha256.Sum256(f.session)
	sk, name, cert, ok := k.Writer()
	if !ok {
		name = "laptop"
		sk = ed25519.NewKeyFromSeed(f.meta)
		cert = ed25519.Sign(sk, key.Certified(sk.Public().(ed25519.PublicKey), name))
	}
	f.signer = sk
	f.top.WriterKey, f.top.WriterName, f.top.WriterCert = sk.Public().(ed25519.PublicKey), name, cert
	return f, nil
}

// seal makes a blob of which the id names plain, whatever is inside.
func (f *forger) seal(kind uint8, refs, plain, inside []byte) *rec.Blob {
	naming, _ := f.key.IDMeta()
	secret := f.meta
	if kind == rec.KindData {
		naming, _ = f.key.IDData()
		secret = f.mass
	}
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(refs)/32))
	head = append(head, refs...)
	i := id.ID(mac(naming.Bytes(), head, plain))
	block, _ := aes.NewCipher(mac(secret, []byte("preserve/v1/blob"), f.sid[:], i[:])) // 32 bytes are a key
	aead, _ := cipher.NewGCM(block)
	nonce := make([]byte, 12)
	_, _ = rand.Read(nonce) // never fails
	b := &rec.Blob{ID: i, Kind: kind, SID: f.sid, Refs: refs, Data: aead.Seal(nonce, nonce, inside, head)}
	f.blobs[string(i[:])] = b
	return b
}

func mac(secret []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, secret)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// sign returns the writer's signature over a snapshot.
func (f *forger) sign(i id.ID) []byte {
	return ed25519.Sign(f.signer, append([]byte("preserve/v1/snapshot\x00"), i[:]...))
}

// stored is the inside of a blob that is not compressed.
func stored(plain []byte) []byte { return padded(0, plain) }

func padded(codec byte, body []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{codec}, uint32(len(body)))
	b = append(b, body...)
	e := bits.Len(uint(len(b))) - 1
	mask := 1<<(e-bits.Len(uint(e))) - 1
	return append(b, make([]byte, (len(b)+mask)&^mask-len(b))...)
}

// zeros makes a data blob whose zstd frame (RFC 8878) says that it holds claim
// bytes, and holds length, in runs of which each takes four.
func (f *forger) zeros(name, claim, length string) error {
	says, err := strconv.ParseUint(claim, 0, 64)
	if err != nil {
		return err
	}
	n := says
	if length != "" {
		if n, err = strconv.ParseUint(length, 0, 32); err != nil {
			return err
		}
	}
	frame := binary.LittleEndian.AppendUint64([]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0}, says)
	for left := n; left > 0; {
		run := min(left, 128<<10)
		left -= run
		last := 0
		if left == 0 {
			last = 1
		}
		h := int(run)<<3 | 1<<1 | last
		frame = append(frame, byte(h), byte(h>>8), byte(h>>16), 0)
	}
	f.data[name] = f.seal(rec.KindData, nil, make([]byte, min(says, 64<<20)), padded(1, frame))
	return nil
}

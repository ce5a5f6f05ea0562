package box

import (
	"crypto/ed25519"
	"fmt"
	"sync"

	"preserve/lib/id"
	"preserve/lib/key"
)

// MaxSessions is how many sessions an Opener keeps. A snapshot may rest on the
// blobs of all runs before it, and a restore needs the sessions of all of them at
// once: a run every five minutes for ten years makes a million, of about 200 bytes
// each. Only who has a write, read or master key can make a session that is kept.
const MaxSessions = 1 << 20

// An Opener opens and verifies what was sealed under one master key. It is safe
// for concurrent use.
type Opener struct {
	key   *key.Key
	root  ed25519.PublicKey
	namer namer
	zip   *decompressor
	pool  sync.Pool // of *[]byte: insides

	revoked *key.Revoked // before anything is opened

	mu       sync.RWMutex
	sessions map[id.ID]session
	refused  map[id.ID]error // why some sessions did not open, see AddSession
}

// NewOpener returns an Opener for k: a master, read or list key, else ErrCannot.
// With a list key data blobs do not open.
func NewOpener(k *key.Key) (*Opener, error) {
	names, ok := newNamer(k)
	root, okRoot := k.RootPublic()
	if !ok || !okRoot || !k.CanReadMeta() {
		return nil, fmt.Errorf("read backups with a %s key: %w", k.Kind(), ErrCannot)
	}
	zip, err := newDecompressor()
	if err != nil {
		return nil, err
	}
	o := &Opener{key: k, root: root, namer: names, zip: zip, sessions: map[id.ID]session{}}
	o.pool.New = func() any { return new([]byte) }
	return o, nil
}

// Refuse lets o refuse snapshots of these writers. It is called before o is used.
func (o *Opener) Refuse(writers *key.Revoked) { o.revoked = writers }

// AddSession opens the session data, so that blobs sealed under it can be
// opened, and returns its name. It keeps nothing of data; one that is known
// already is no error.
//
// A session that does not open matters only when a blob is sealed under it: Open then tells why
// that was, of the first maxRefused of them.
//
// Errors: *WrongKeyError, ErrSession, and ErrSessions after MaxSessions.
func (o *Opener) AddSession(data []byte) (id.ID, error) {
	sid := sidOf(data)
	if _, ok := o.session(sid); ok {
		return sid, nil
	}
	s, err := openSession(o.key, data)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		if o.refused == nil {
			o.refused = map[id.ID]error{}
		}
		if len(o.refused) < maxRefused {
			o.refused[sid] = err
		}
		return id.ID{}, err
	}
	if _, ok := o.sessions[sid]; !ok && len(o.sessions) >= MaxSessions {
		return id.ID{}, fmt.Errorf("%w of %d", ErrSessions, MaxSessions)
	}
	o.sessions[sid] = *s
	return sid, nil
}

// maxRefused bounds the reasons that are kept of sessions that did not open.
const maxRefused = 64

// noSession says why a session is not there.
func (o *Opener) noSession(sid id.ID) error {
	o.mu.RLock()
	defer o.mu.RUnlock()
	if why := o.refused[sid]; why != nil {
		return fmt.Errorf("session %s: %w: %w", sid.Short(), ErrNoSession, why)
	}
	return fmt.Errorf("session %s: %w", sid.Short(), ErrNoSession)
}

func (o *Opener) session(sid id.ID) (s session, ok bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	s, ok = o.sessions[sid]
	return s, ok
}

// Open appends to dst the plaintext of a sealed blob, after all that is said of
// it has been verified: that a holder of this master key, or of a key derived
// from it, sealed it under session sid as a blob of that kind with these
// references, and that i names just that. Whether i is what is expected here is
// for the caller to know. data is left as it is; room behind len(dst) may be
// overwritten.
//
// Errors: ErrKind, ErrRefs, ErrLimit, ErrCannot (a data blob, a list key),
// ErrNoSession, ErrSealed, ErrPadding, ErrCodec, ErrID. dst is then returned
// without a byte of plaintext in its length.
func (o *Opener) Open(dst []byte, kind uint8, i, sid id.ID, refs, data []byte) ([]byte, error) {
	if err := checkShape(kind, refs); err != nil {
		return dst, err
	}
	if kind == kindData && !o.key.CanReadData() {
		return dst, fmt.Errorf("open data with a %s key: %w", o.key.Kind(), ErrCannot)
	}
	limit := maxPlain(kind)
	switch n := len(data) - overhead; {
	case n < insideHead:
		return dst, fmt.Errorf("%d bytes: %w", len(data), ErrSealed)
	case n > padded(insideHead+limit):
		return dst, fmt.Errorf("%d sealed bytes: %w of %d", len(data), ErrLimit, overhead+padded(insideHead+limit))
	}
	s, ok := o.session(sid)
	if !ok {
		return dst, o.noSession(sid)
	}
	aead, err := s.aead(kind, sid, i)
	if err != nil {
		return dst, err
	}
	buf := o.pool.Get().(*[]byte)
	defer o.pool.Put(buf)
	head := headOf(kind, refs)
	inside, err := aead.Open((*buf)[:0], data[:nonceSize], data[nonceSize:], head)
	if err != nil {
		return dst, ErrSealed
	}
	*buf = inside
	out, err := o.zip.appendPlain(dst, inside, limit)
	if err != nil {
		return dst, err
	}
	got := o.namer.name(kind, head, out[len(dst):])
	if !key.Equal(got[:], i[:]) {
		return dst, ErrID
	}
	return out, nil
}

// VerifySnapshot reports nil if the snapshot i was signed by the writer, and the
// writer certified by the root of o's master key and not one that o refuses: ErrCert,
// ErrSignature, *RevokedError.
func (o *Opener) VerifySnapshot(i id.ID, sig, writer []byte, name string, cert []byte) error {
	if len(writer) != ed25519.PublicKeySize || !key.ValidName(name) ||
		!ed25519.Verify(o.root, key.Certified(writer, name), cert) {
		return fmt.Errorf("writer %q: %w", name, ErrCert)
	}
	if !ed25519.Verify(writer, signed(i), sig) {
		return fmt.Errorf("writer %q: %w", name, ErrSignature)
	}
	if where, ok := o.revoked.Find(writer); ok {
		return &RevokedError{Writer: writer, Name: name, Where: where}
	}
	return nil
}

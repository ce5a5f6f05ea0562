package box

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/sys/cpu"

	"preserve/lib/id"
	"preserve/lib/key"
)

// A session, the sealed secrets of one run (docs/format/crypto.md, "Session"):
//
//	S    = "PVS1" ‖ u8 suite ‖ key id ‖ E(meta) ‖ E(data)
//	E(x) = HPKE.Seal(x.pk, info = "preserve/v1/session " ‖ x ‖ 0 ‖ suite ‖ key id, s.x)
//	sid  = H(S)
const (
	sessionMagic = "PVS1"
	suiteAt      = len(sessionMagic)
	keyIDAt      = suiteAt + 1
	metaAt       = keyIDAt + key.IDSize
	dataAt       = metaAt + envelopeSize
	// SessionSize is the length of a session in bytes.
	SessionSize = dataAt + envelopeSize
	// envelopeSize is the length of E(x): encapsulated key, secret, tag.
	envelopeSize = 1088 + 32 + key.SecretSize + tagSize
)

// A suite is the AEAD of all blobs of a session. It is bound into every key
// under the session, through the sid: there is no negotiation and no downgrade.
type suite uint8

const (
	suiteAES    suite = 1 // AES-256-GCM
	suiteChaCha suite = 2 // ChaCha20-Poly1305
)

// bestSuite is AES only where the processor has it: in software it is slow and
// its time depends on the key.
func bestSuite() suite {
	if cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ && cpu.X86.HasSSE41 && cpu.X86.HasSSSE3 ||
		cpu.ARM64.HasAES && cpu.ARM64.HasPMULL ||
		cpu.S390X.HasAES && cpu.S390X.HasAESCTR && cpu.S390X.HasGHASH {
		return suiteAES
	}
	return suiteChaCha
}

// aead returns the AEAD of s under k, which must be 32 bytes.
func (s suite) aead(k []byte) (cipher.AEAD, error) {
	switch s {
	case suiteAES:
		block, err := aes.NewCipher(k)
		if err != nil {
			return nil, err
		}
		return cipher.NewGCM(block)
	case suiteChaCha:
		return chacha20poly1305.New(k)
	}
	return nil, fmt.Errorf("suite %d: %w", s, ErrSession)
}

// A session is the opened form. It does not change.
type session struct {
	suite   suite
	hasData bool
	meta    key.Secret
	data    key.Secret // if hasData
}

// blobContext begins what a blob's key is derived from.
const blobContext = "preserve/v1/blob"

// blobKey returns the key of one blob:
// HMAC(kind 0 ? s.data : s.meta, "preserve/v1/blob" ‖ sid ‖ id).
func (s *session) blobKey(kind uint8, sid, i id.ID) []byte {
	secret := s.meta
	if kind == kindData {
		secret = s.data
	}
	m := newMAC(secret)
	m.Write([]byte(blobContext))
	m.Write(sid[:])
	m.Write(i[:])
	return m.Sum(nil)
}

// aead returns the AEAD for one blob.
func (s *session) aead(kind uint8, sid, i id.ID) (cipher.AEAD, error) {
	return s.suite.aead(s.blobKey(kind, sid, i))
}

// info returns the context of E(x) of the session that begins with head.
func info(x string, head []byte) []byte {
	b := append([]byte("preserve/v1/session "), x...)
	b = append(b, 0)
	return append(b, head[suiteAt:metaAt]...)
}

// seal returns s as a session for the readers of k.
func (s *session) seal(k *key.Key) ([]byte, error) {
	meta, _ := k.MetaPublic()
	data, ok := k.DataPublic()
	if !ok {
		return nil, ErrCannot
	}
	b := append([]byte(sessionMagic), byte(s.suite))
	keyID := k.ID()
	b = append(b, keyID[:]...)
	for _, e := range []struct {
		x      string
		to     hpke.PublicKey
		secret key.Secret
	}{{"meta", meta, s.meta}, {"data", data, s.data}} {
		sealed, err := hpke.Seal(e.to, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info(e.x, b), e.secret.Bytes())
		if err != nil {
			return nil, fmt.Errorf("seal the session: %w", err)
		}
		b = append(b, sealed...)
	}
	return b, nil
}

// newSession returns fresh secrets under suite s.
func newSession(s suite) *session {
	return &session{suite: s, hasData: true, meta: newSecret(), data: newSecret()}
}

func newSecret() key.Secret {
	var b [key.SecretSize]byte
	rand.Read(b[:]) // never fails: crypto/rand
	s, _ := key.NewSecret(b[:])
	return s
}

// openSession is the inverse of seal, as far as k can read. It returns
// *WrongKeyError or ErrSession.
func openSession(k *key.Key, b []byte) (*session, error) {
	if len(b) != SessionSize {
		return nil, fmt.Errorf("%d bytes where a session has %d: %w", len(b), SessionSize, ErrSession)
	}
	if string(b[:suiteAt]) != sessionMagic {
		return nil, fmt.Errorf("of another version: %w", ErrSession)
	}
	s := &session{suite: suite(b[suiteAt])}
	if s.suite != suiteAES && s.suite != suiteChaCha {
		return nil, fmt.Errorf("suite %d: %w", s.suite, ErrSession)
	}
	if needs := key.ID(b[keyIDAt:metaAt]); needs != k.ID() {
		return nil, &WrongKeyError{Needs: needs, Have: k.ID()}
	}
	sk, ok := k.MetaPrivate()
	if !ok {
		return nil, ErrCannot
	}
	var err error
	if s.meta, err = openEnvelope(sk, "meta", b, b[metaAt:dataAt]); err != nil {
		return nil, err
	}
	if sk, s.hasData = k.DataPrivate(); s.hasData {
		s.data, err = openEnvelope(sk, "data", b, b[dataAt:])
	}
	return s, err
}

func openEnvelope(sk hpke.PrivateKey, x string, head, sealed []byte) (key.Secret, error) {
	b, err := hpke.Open(sk, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info(x, head), sealed)
	s, ok := key.NewSecret(b)
	if err != nil || !ok {
		return key.Secret{}, fmt.Errorf("its %s part does not open: %w", x, ErrSession)
	}
	return s, nil
}

// sidOf returns the name of a session.
func sidOf(b []byte) id.ID { return sha256.Sum256(b) }

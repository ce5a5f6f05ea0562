package box

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hpke"
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"preserve/lib/key"
)

// secretsOf returns every secret of 32 bytes that a key gives out.
func secretsOf(k *key.Key) (all [][]byte) {
	add := func(s key.Secret, ok bool) {
		if ok {
			all = append(all, s.Bytes())
		}
	}
	add(k.IDMeta())
	add(k.IDData())
	if c, ok := k.Cut(); ok {
		add(c.Group(), true)
		add(c.Page(), true)
		all = append(all, c.Gear(key.SecretSize))
	}
	if sk, _, cert, ok := k.Writer(); ok {
		all = append(all, sk.Seed(), cert[:32], cert[32:])
	}
	return all
}

// Somebody with a write key or a cut key who writes a program of his own, without
// the questions that NewOpener asks, opens no session, his own runs' included. With
// a list key he opens no session's data.
func TestPowersOfOpening(t *testing.T) {
	for _, kind := range []key.Kind{key.Write, key.Cut, key.List} {
		name := map[key.Kind]string{key.Write: "laptop"}[kind]
		k := derived(t, kind, name)
		writer := derived(t, key.Write, "laptop")
		if kind == key.Write {
			writer = k
		}
		w := sealer(t, writer)
		session := w.Session()
		if _, err := openSession(k, session); kind != key.List && !errors.Is(err, ErrCannot) {
			t.Errorf("a %s key opens a session: %v", kind, err)
		}
		tried := append(secretsOf(k), make([]byte, key.SecretSize))
		if sk, ok := k.MetaPrivate(); ok {
			b, err := sk.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			tried = append(tried, b)
		}
		opened := 0
		for _, seed := range tried {
			sk, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := openEnvelope(sk, "meta", session, session[metaAt:dataAt]); err == nil {
				opened++
			}
			for _, x := range []string{"meta", "data"} {
				if _, err := openEnvelope(sk, x, session, session[dataAt:]); err == nil {
					t.Errorf("a %s key opens a session's data", kind)
				}
			}
		}
		if want := map[key.Kind]int{key.List: 1}[kind]; opened != want || len(tried) < 2 {
			t.Errorf("%d of %d secrets of a %s key open a session's metadata, not %d", opened, len(tried), kind, want)
		}
		// An Opener that was made without asking, and that has a session it could not
		// open, opens nothing either.
		o := opener(t, master(t))
		o.key, o.sessions[w.SID()] = k, session0(w)
		for blob := range uint8(10) {
			var refs []byte
			if blob == kindSnapshot {
				refs = make([]byte, 32)
			}
			i := w.Name(blob, refs, []byte("hello"))
			data, err := w.Seal(nil, blob, i, refs, []byte("hello"))
			if err != nil {
				t.Fatal(err)
			}
			if plain, err := o.Open(nil, blob, i, w.SID(), refs, data); err == nil || len(plain) > 0 {
				t.Errorf("a %s key opens a blob of kind %d: %q", kind, blob, plain)
			}
		}
	}
}

// session0 is w's session for one who has none of its secrets.
func session0(w *Sealer) session { return session{suite: w.session.suite, hasData: true} }

// With all that a read key holds one can make sessions, pages and data that readers
// open, but no snapshot that they accept: it dies at the certificate, and with the
// certificate of a true writer at the signature.
func TestReadKeySignsNothing(t *testing.T) {
	read := derived(t, key.Read, "")
	forger := forgeSealer(t, read)
	laptop := sealer(t, derived(t, key.Write, "laptop"))
	root := make([]byte, 32)
	plain := []byte("a snapshot")
	for kind, reader := range map[key.Kind]*key.Key{key.Master: master(t), key.Read: read, key.List: derived(t, key.List, "")} {
		o := opener(t, reader, forger, laptop)
		i := forger.Name(kindSnapshot, root, plain)
		data, err := forger.Seal(nil, kindSnapshot, i, root, plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := o.Open(nil, kindSnapshot, i, forger.SID(), root, data); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("the forged blob itself does not open, so that this shows nothing: %v", err)
		}
		pk, sk, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		sig := ed25519.Sign(sk, signed(i))
		truePK, name, cert := laptop.Writer()
		rootPK, _ := read.RootPublic()
		for what, err := range map[string]error{
			"certified by himself":       o.VerifySnapshot(i, sig, pk, name, ed25519.Sign(sk, key.Certified(pk, name))),
			"with another's certificate": o.VerifySnapshot(i, sig, pk, name, cert),
			"as the root":                o.VerifySnapshot(i, sig, rootPK, name, cert),
			"as the master":              o.VerifySnapshot(i, sig, pk, "master", ed25519.Sign(sk, key.Certified(pk, "master"))),
		} {
			if !errors.Is(err, ErrCert) {
				t.Errorf("%s key, %s: %v, want ErrCert", kind, what, err)
			}
		}
		old := laptop.Name(kindSnapshot, root, []byte("an older one"))
		for what, sig := range map[string][]byte{"his own signature": sig, "an older signature": laptop.Sign(old)} {
			if err := o.VerifySnapshot(i, sig, truePK, name, cert); !errors.Is(err, ErrSignature) {
				t.Errorf("%s key, a true writer with %s: %v, want ErrSignature", kind, what, err)
			}
		}
	}
}

// forgeSealer is NewSealer for one who holds a read key: its private keys give the
// public ones.
func forgeSealer(t *testing.T, read *key.Key) *Sealer {
	t.Helper()
	meta, okMeta := read.MetaPrivate()
	data, okData := read.DataPrivate()
	names, okNames := newNamer(read)
	zip, err := newCompressor(Default)
	if !okMeta || !okData || !okNames || err != nil {
		t.Fatal(okMeta, okData, okNames, err)
	}
	s := newSession(bestSuite())
	keyID := read.ID()
	b := append(append([]byte(sessionMagic), byte(s.suite)), keyID[:]...)
	for _, e := range []struct {
		x      string
		to     hpke.PublicKey
		secret key.Secret
	}{{"meta", meta.PublicKey(), s.meta}, {"data", data.PublicKey(), s.data}} {
		sealed, err := hpke.Seal(e.to, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), info(e.x, b), e.secret.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, sealed...)
	}
	return &Sealer{key: read, session: s, sealed: b, sid: sidOf(b), namer: names, zip: zip}
}

// A writer who is refused is refused with a true signature, and no other one is.
func TestRefusedWriter(t *testing.T) {
	laptop, desktop := sealer(t, derived(t, key.Write, "laptop")), sealer(t, derived(t, key.Write, "laptop"))
	pk, name, cert := laptop.Writer()
	pk2, _, cert2 := desktop.Writer()
	var r key.Revoked
	if err := r.Read("F", []byte(key.RevocationOf(pk, "stolen", time.Unix(0, 0)))); err != nil {
		t.Fatal(err)
	}
	o := opener(t, master(t))
	i := laptop.Name(kindSnapshot, make([]byte, 32), nil)
	if err := o.VerifySnapshot(i, laptop.Sign(i), pk, name, cert); err != nil {
		t.Error(err)
	}
	o.Refuse(&r)
	err := o.VerifySnapshot(i, laptop.Sign(i), pk, name, cert)
	var revoked *RevokedError
	if !errors.Is(err, ErrRevoked) || !errors.As(err, &revoked) || !bytes.Equal(revoked.Writer, pk) || revoked.Name != name || revoked.Where != "F, line 1" {
		t.Errorf("%v", err)
	}
	if err := o.VerifySnapshot(i, desktop.Sign(i), pk2, name, cert2); err != nil {
		t.Errorf("another writer of that name: %v", err)
	}
	if err := o.VerifySnapshot(i, desktop.Sign(i), pk, name, cert); !errors.Is(err, ErrSignature) {
		t.Errorf("not signed by him: %v", err)
	}
}

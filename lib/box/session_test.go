package box

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/cpu"

	"preserve/lib/id"
	"preserve/lib/key"
)

func TestSessionRefuses(t *testing.T) {
	w := sealer(t, master(t))
	session := w.Session()
	if len(session) != SessionSize || SessionSize != 2349 || envelopeSize != 1168 {
		t.Fatalf("a session has %d bytes", len(session))
	}
	for _, kind := range []key.Kind{key.Read, key.List} {
		o := opener(t, derived(t, kind, ""))
		for n := range session {
			if kind == key.List && n%16 != 0 {
				continue // the read key has tried them all
			}
			bad := slices.Clone(session)
			bad[n] ^= 1 << (n % 8)
			_, err := o.AddSession(bad)
			var wrong *WrongKeyError
			switch {
			case n >= keyIDAt && n < metaAt:
				if !errors.As(err, &wrong) {
					t.Errorf("%s key, byte %d: %v, want WrongKeyError", kind, n, err)
				}
			case kind == key.List && n >= dataAt:
				// A list key cannot tell; but its sid is another, so no blob fits it.
				if err != nil {
					t.Errorf("%s key, byte %d: %v", kind, n, err)
				}
			case !errors.Is(err, ErrSession):
				t.Errorf("%s key, byte %d: %v, want ErrSession", kind, n, err)
			}
		}
		for _, n := range []int{0, 1, keyIDAt, SessionSize - 1} {
			if _, err := o.AddSession(session[:n]); !errors.Is(err, ErrSession) {
				t.Errorf("cut to %d: %v", n, err)
			}
		}
		if _, err := o.AddSession(append(w.Session(), 0)); !errors.Is(err, ErrSession) {
			t.Error("a byte too many")
		}
		for range 2 {
			if sid, err := o.AddSession(session); err != nil || sid != w.SID() {
				t.Errorf("the session itself: %v", err)
			}
		}
	}
	if a, b := sealer(t, master(t)), sealer(t, master(t)); a.SID() == b.SID() || a.session.data.Equal(b.session.data) || a.session.data.Equal(a.session.meta) {
		t.Error("two sessions share secrets")
	}
}

func TestSnapshots(t *testing.T) {
	laptop := derived(t, key.Write, "laptop")
	w := sealer(t, laptop)
	i := w.Name(9, refs(1), []byte("snapshot"))
	sig := w.Sign(i)
	pk, name, cert := w.Writer()
	flip := func(b []byte, n int) []byte { b = slices.Clone(b); b[n] ^= 1; return b }
	other, err := key.New()
	if err != nil {
		t.Fatal(err)
	}
	for _, reader := range []*key.Key{master(t), derived(t, key.Read, ""), derived(t, key.List, "")} {
		o := opener(t, reader)
		if err := o.VerifySnapshot(i, sig, pk, name, cert); err != nil {
			t.Errorf("%v: %v", reader, err)
		}
		pk2, name2, cert2 := sealer(t, master(t)).Writer()
		if err := o.VerifySnapshot(i, sealer(t, master(t)).Sign(i), pk2, name2, cert2); err != nil || name2 != "master" {
			t.Errorf("signed by the master key: %v", err)
		}
		otherPK, _, otherCert := sealer(t, other).Writer()
		for what, err := range map[string]error{
			"id":        o.VerifySnapshot(id.ID{}, sig, pk, name, cert),
			"signature": o.VerifySnapshot(i, flip(sig, 3), pk, name, cert),
			"short sig": o.VerifySnapshot(i, sig[:63], pk, name, cert),
			"no sig":    o.VerifySnapshot(i, nil, pk, name, cert),
			"swapped":   o.VerifySnapshot(i, sig, pk2, name2, cert2),
		} {
			if !errors.Is(err, ErrSignature) {
				t.Errorf("%s: %v, want ErrSignature", what, err)
			}
		}
		for what, err := range map[string]error{
			"key":           o.VerifySnapshot(i, sig, flip(pk, 3), name, cert),
			"short key":     o.VerifySnapshot(i, sig, pk[:31], name, cert),
			"no key":        o.VerifySnapshot(i, sig, nil, name, cert),
			"name":          o.VerifySnapshot(i, sig, pk, "laptoq", cert),
			"no name":       o.VerifySnapshot(i, sig, pk, "", cert),
			"bad name":      o.VerifySnapshot(i, sig, pk, "\x1b[2J", cert),
			"certificate":   o.VerifySnapshot(i, sig, pk, name, flip(cert, 60)),
			"short cert":    o.VerifySnapshot(i, sig, pk, name, cert[:63]),
			"no cert":       o.VerifySnapshot(i, sig, pk, name, nil),
			"of other root": o.VerifySnapshot(i, sealer(t, other).Sign(i), otherPK, "master", otherCert),
		} {
			if !errors.Is(err, ErrCert) {
				t.Errorf("%s: %v, want ErrCert", what, err)
			}
		}
	}
}

// A name that no writer may have is refused also if the root itself certified it, and
// the snapshot is signed as it should be.
func TestNamesThatRootCertified(t *testing.T) {
	m := make([]byte, key.SecretSize) // that of master
	for i := range m {
		m[i] = byte(i)
	}
	seed, err := hkdf.Key(sha256.New, m, nil, "preserve/v1/sign root", ed25519.SeedSize)
	if err != nil {
		t.Fatal(err)
	}
	root := ed25519.NewKeyFromSeed(seed)
	writer := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	pk := writer.Public().(ed25519.PublicKey)
	i := id.ID(noise(id.Size))
	sig := ed25519.Sign(writer, signed(i))
	o := opener(t, derived(t, key.List, ""))
	verify := func(name string) error {
		return o.VerifySnapshot(i, sig, pk, name, ed25519.Sign(root, key.Certified(pk, name)))
	}
	for _, name := range []string{"a", "laptop", "0.9_z-", strings.Repeat("x", 32)} {
		if err := verify(name); err != nil {
			t.Errorf("a writer %q: %v", name, err)
		}
	}
	for _, name := range []string{
		"", strings.Repeat("x", 33), strings.Repeat("x", 1<<12), "Laptop", "a b", "a\n", "a\x00", "a/b", "\x1b[2J", "grün", "\xff",
	} {
		if err := verify(name); !errors.Is(err, ErrCert) {
			t.Errorf("a writer %.40q: %v, want ErrCert", name, err)
		}
	}
}

// AES is the suite of a new session where the processor has all that makes it fast and
// its time independent of the key, and nowhere else.
func TestSuiteIsTheProcessors(t *testing.T) {
	x86, arm, s390x := cpu.X86, cpu.ARM64, cpu.S390X
	defer func() { cpu.X86, cpu.ARM64, cpu.S390X = x86, arm, s390x }()
	want := func(what string, su suite) {
		t.Helper()
		if got := suite(sealer(t, master(t)).Session()[suiteAt]); got != su || bestSuite() != su {
			t.Errorf("%s: suite %d, then %d; want %d", what, got, bestSuite(), su)
		}
	}
	needs := map[string][]*bool{
		"x86":   {&cpu.X86.HasAES, &cpu.X86.HasPCLMULQDQ, &cpu.X86.HasSSE41, &cpu.X86.HasSSSE3},
		"arm64": {&cpu.ARM64.HasAES, &cpu.ARM64.HasPMULL},
		"s390x": {&cpu.S390X.HasAES, &cpu.S390X.HasAESCTR, &cpu.S390X.HasGHASH},
	}
	set := func(all []*bool, has bool) {
		for _, p := range all {
			*p = has
		}
	}
	for _, all := range needs {
		set(all, false)
	}
	want("a processor without any", suiteChaCha)
	for name, all := range needs {
		set(all, true)
		want(name+" with AES", suiteAES)
		for n, p := range all {
			*p = false
			want(name+" without "+[]string{"the first", "the second", "the third", "the fourth"}[n], suiteChaCha)
			*p = true
		}
		set(all, false)
	}
}

// Secrets of a session and nonces are drawn whole: of many draws no byte is always the
// same, and no two are always alike.
func TestDrawnWhole(t *testing.T) {
	w := sealer(t, master(t))
	for what, draw := range map[string]func() []byte{
		"s.meta": func() []byte { return newSession(suiteAES).meta.Bytes() },
		"s.data": func() []byte { return newSession(suiteAES).data.Bytes() },
		"a nonce": func() []byte {
			b, err := w.Seal(nil, 0, id.ID{}, nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			return b[:nonceSize]
		},
	} {
		columns := make([]string, len(draw()))
		for range 16 {
			for i, c := range draw() {
				columns[i] += string([]byte{c})
			}
		}
		seen := map[string]bool{}
		for i, c := range columns {
			if seen[c] || strings.Count(c, c[:1]) == len(c) {
				t.Errorf("%s: byte %d is not drawn by itself", what, i)
			}
			seen[c] = true
		}
	}
}

func TestUnknownSuite(t *testing.T) {
	if _, err := suite(3).aead(make([]byte, 32)); !errors.Is(err, ErrSession) {
		t.Errorf("suite 3: %v", err)
	}
}

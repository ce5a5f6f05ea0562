package key

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"preserve/lib/vectors"
)

var record = flag.Bool("record", false, "write the vectors anew: only for a new version of the format")

// master returns the master key 00 01 … 1f.
func master(t testing.TB) *Key {
	t.Helper()
	var b [SecretSize]byte
	for i := range b {
		b[i] = byte(i)
	}
	k, err := FromMaster(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// all returns a key of each kind under one master key.
func all(t testing.TB) map[Kind]*Key {
	t.Helper()
	m := master(t)
	keys := map[Kind]*Key{Master: m}
	for _, kind := range []Kind{Write, List, Read, Cut} {
		name := ""
		if kind == Write {
			name = "laptop"
		}
		k, err := m.Derive(kind, name)
		if err != nil {
			t.Fatal(err)
		}
		keys[kind] = k
	}
	return keys
}

// derivations are all values that follow from a master key, by the names that
// the specification gives them.
func derivations(t *testing.T, k *Key) map[string][]byte {
	t.Helper()
	secret := func(s Secret, ok bool) []byte {
		if !ok {
			t.Fatal("a master key lacks a secret")
		}
		return s.Bytes()
	}
	hash := func(b []byte) []byte { h := sha256.Sum256(b); return h[:] }
	cut, _ := k.Cut()
	id := k.ID()
	metaSK, _ := k.MetaPrivate()
	dataSK, _ := k.DataPrivate()
	metaSeed, err1 := metaSK.Bytes()
	dataSeed, err2 := dataSK.Bytes()
	metaPK, _ := k.MetaPublic()
	dataPK, _ := k.DataPublic()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	root, _ := k.RootPublic()
	writer, _, cert, _ := k.Writer()
	return map[string][]byte{
		"key id": id[:], "id.meta": secret(k.IDMeta()), "id.data": secret(k.IDData()), "cut": cut.cut.Bytes(),
		"meta.seed": metaSeed, "data.seed": dataSeed, "meta.pk": metaPK.Bytes(), "data.pk": dataPK.Bytes(),
		"H(meta.pk)": hash(metaPK.Bytes()), "root.pk": root, "writer.seed": writer.Seed(),
		"writer.pk": writer.Public().(ed25519.PublicKey), "cert": cert, "gear[:64]": cut.Gear(64),
		"H(gear[:2064])": hash(cut.Gear(2064)), "group cut": cut.Group().Bytes(), "page cut": cut.Page().Bytes(),
		"cache cut": cut.Cache().Bytes(),
	}
}

var derivationNames = []string{"key id", "id.meta", "id.data", "cut", "meta.seed", "data.seed", "meta.pk", "data.pk",
	"H(meta.pk)", "root.pk", "writer.seed", "writer.pk", "cert", "gear[:64]", "H(gear[:2064])", "group cut", "page cut", "cache cut"}

func TestVectors(t *testing.T) {
	if *record {
		var w vectors.Writer
		w.WriteString("# What follows from a master key: docs/format/crypto.md, \"Keys\". The certificate is\n" +
			"# that of the master key as writer, named \"master\". H is SHA-256.\n" + vectors.Form)
		for _, b := range [][SecretSize]byte{[SecretSize]byte(master(t).field(fMaster)), {31: 0}, sha256.Sum256([]byte("third"))} {
			k, err := FromMaster(b)
			if err != nil {
				t.Fatal(err)
			}
			w.WriteString("\n")
			w.Hex("master", b[:])
			d := derivations(t, k)
			for _, name := range derivationNames {
				w.Hex(name, d[name])
			}
		}
		w.Save(t, "crypto/keys.txt")
	}
	for _, v := range vectors.Read(t, "crypto/keys.txt") {
		k, err := FromMaster([SecretSize]byte(v["master"]))
		if err != nil {
			t.Fatal(err)
		}
		got := derivations(t, k)
		if len(v) != len(got)+1 {
			t.Errorf("%d values, want %d", len(v), len(got)+1)
		}
		for name, b := range got {
			if !bytes.Equal(b, v[name]) {
				t.Errorf("master %x…: %s = %x, want %x", v["master"][:4], name, b, v[name])
			}
		}
	}
}

// The values that the specification was published with: computed by other code.
func TestPublishedVectors(t *testing.T) {
	got := derivations(t, master(t))
	for name, want := range map[string]string{
		"key id":     "ee88199d94b32368",
		"id.meta":    "17f5325509cb9cfd16d2e3dac1d9788dc97f6f0dc727c7e08f6d5bb8513410bb",
		"id.data":    "4da359473ce8ced7f6c86a3183f3cc3e18024ef39fbf9b839eff8739990033ca",
		"cut":        "f10f77e56709355d28fdf782bf1678bf90a058d35392e1699c570a81e23a2e5c",
		"meta.seed":  "87885475d42963168303e1efa1d1ca7f15a092f7e7abd3c8e982f0e2afccf544",
		"data.seed":  "f1307e211eb7dd907cdf9b5badeb9e9bb41b3cec6bf8432c69b0c82f5b862e85",
		"H(meta.pk)": "1a9a0f8a09e6aaaf",
		"root.pk":    "0f657ee1b8791de13ce11cc333dd55080acfb0cecd8f31f4d3149b77614c8540",
	} {
		if !strings.HasPrefix(hex.EncodeToString(got[name]), want) {
			t.Errorf("%s = %x, want %s", name, got[name], want)
		}
	}
}

// What each kind of key has is what docs/format/crypto.md, "Keys" allows it, and
// no more.
func TestPrivileges(t *testing.T) {
	const seal, readMeta, readData, cut, nameMeta, nameData, root = 1, 2, 4, 8, 16, 32, 64
	want := map[Kind]int{
		Master: seal | readMeta | readData | cut | nameMeta | nameData | root,
		Write:  seal | cut | nameMeta | nameData,
		List:   readMeta | nameMeta | root,
		Read:   readMeta | readData | nameMeta | nameData | root,
		Cut:    cut,
	}
	for kind, k := range all(t) {
		got := 0
		set := func(bit int, oks ...bool) {
			for _, ok := range oks {
				if ok != oks[0] {
					t.Errorf("%s: accessors differ about %d", kind, bit)
				}
			}
			if oks[0] {
				got |= bit
			}
		}
		_, okMetaPK := k.MetaPublic()
		_, okDataPK := k.DataPublic()
		_, _, _, okWriter := k.Writer()
		metaSK, okMetaSK := k.MetaPrivate()
		dataSK, okDataSK := k.DataPrivate()
		_, okIDMeta := k.IDMeta()
		_, okIDData := k.IDData()
		_, okRoot := k.RootPublic()
		_, okCut := k.Cut()
		set(seal, k.CanSeal(), okMetaPK, okDataPK, okWriter)
		set(readMeta, k.CanReadMeta(), okMetaSK, metaSK != nil)
		set(readData, k.CanReadData(), okDataSK, dataSK != nil)
		set(cut, k.CanCut(), okCut)
		set(nameMeta, okIDMeta)
		set(nameData, okIDData)
		set(root, okRoot)
		if got != want[kind] {
			t.Errorf("%s key: can %07b, want %07b", kind, got, want[kind])
		}
		if k.Kind() != kind || k.ID() != master(t).ID() {
			t.Errorf("%s key says it is %v", kind, k)
		}
	}
}

// What is drawn is drawn whole: of many draws no byte is always the same, and no two
// are always alike. (Whether the source is good, no test says.)
func TestDrawnWhole(t *testing.T) {
	m := master(t)
	for what, draw := range map[string]func() ([]byte, error){
		"a master key": func() ([]byte, error) {
			k, err := New()
			return k.field(fMaster), err
		},
		"a writer's seed": func() ([]byte, error) {
			k, err := m.Derive(Write, "laptop")
			return k.field(fWriter), err
		},
		"a salt": func() ([]byte, error) {
			file, err := m.Wrap([]byte("x"), cheap, made)
			if err != nil {
				return nil, err
			}
			w, err := ParseWrapped(file)
			return w.salt, err
		},
	} {
		var columns [32][]byte
		for range 16 {
			b, err := draw()
			if err != nil || len(b) != len(columns) {
				t.Fatalf("%s: %d bytes, %v", what, len(b), err)
			}
			for i, c := range b {
				columns[i] = append(columns[i], c)
			}
		}
		seen := map[string]bool{}
		for i, c := range columns {
			if seen[string(c)] || bytes.Count(c, c[:1]) == len(c) {
				t.Errorf("%s: byte %d is not drawn by itself", what, i)
			}
			seen[string(c)] = true
		}
	}
}

// A derived key agrees with its master in what both have.
func TestDerivedAgree(t *testing.T) {
	keys := all(t)
	for kind, k := range keys {
		for f := range numFields {
			if kind != Master && f != fWriter && f != fCert && k.field(f) != nil && !bytes.Equal(k.field(f), keys[Master].field(f)) {
				t.Errorf("%s: field %d differs from the master's", kind, f)
			}
		}
	}
	sk, name, cert, _ := keys[Write].Writer()
	root, _ := keys[Read].RootPublic()
	pk := sk.Public().(ed25519.PublicKey)
	if name != "laptop" || !ed25519.Verify(root, Certified(pk, name), cert) || ed25519.Verify(root, Certified(pk, "laptoq"), cert) {
		t.Error("the writer's certificate does not verify, or verifies another name")
	}
	other := all(t)[Write]
	if Equal(other.field(fWriter), keys[Write].field(fWriter)) {
		t.Error("two write keys have the same signing key")
	}
	if _, name, _, _ := keys[Master].Writer(); name != "master" || keys[Master].Name() != "master" {
		t.Error("a master key as writer is not named master")
	}
	a, err := New()
	b, err2 := New()
	if err != nil || err2 != nil || a.ID() == b.ID() {
		t.Errorf("two new master keys: %v, %v", a, b)
	}
}

func TestDeriveRefuses(t *testing.T) {
	keys := all(t)
	for kind, k := range keys {
		if kind != Master {
			if _, err := k.Derive(Cut, ""); !errors.Is(err, ErrDerive) {
				t.Errorf("derive from a %s key: %v", kind, err)
			}
		}
	}
	for _, kind := range []Kind{Master, 5, 255} {
		if _, err := keys[Master].Derive(kind, ""); !errors.Is(err, ErrDerive) {
			t.Errorf("derive a %s key: %v", kind, err)
		}
	}
	for _, name := range []string{"", "master", "Laptop", "a b", "é", "a/b", "a\n", strings.Repeat("a", MaxName+1)} {
		if _, err := keys[Master].Derive(Write, name); !errors.Is(err, ErrName) {
			t.Errorf("writer %q: %v", name, err)
		}
	}
	for _, name := range []string{"a", "web-1.example.org", "_", strings.Repeat("z9", MaxName/2)} {
		if _, err := keys[Master].Derive(Write, name); err != nil {
			t.Errorf("writer %q: %v", name, err)
		}
	}
	if _, err := keys[Master].Derive(Read, "laptop"); !errors.Is(err, ErrName) {
		t.Errorf("a read key with a name: %v", err)
	}
}

// No way of printing shows a secret.
func TestSecretsAreNotShown(t *testing.T) {
	k := master(t)
	s, _ := k.IDData()
	type holder struct {
		s Secret
		k *Key
		E Secret
		v Key
	}
	h := holder{s, k, s, *k}
	for _, v := range []any{s, &s, k, *k, h, &h, []Secret{s}, map[string]Secret{"a": s}, []any{h}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q", "%08b"} {
			got := fmt.Sprintf(verb, v)
			for _, f := range k.reveal().fields[:fMetaPK] {
				for _, shown := range []string{"%v", "%x", "%X", "%s", "%q", "%08b"} {
					// Three bytes in a row, as any verb would show them.
					part := strings.Trim(fmt.Sprintf(shown, f[:3]), "[]\"")
					if strings.Contains(got, part) {
						t.Errorf("%s of a %T shows a secret", verb, v)
					}
				}
			}
		}
		if b, err := json.Marshal(v); err == nil && bytes.Contains(b, []byte(hex.EncodeToString(s.Bytes()))) {
			t.Errorf("JSON of a %T shows a secret", v)
		}
	}
	if got := fmt.Sprintf("%v %s %x", s, &s, s); got != "[secret] [secret] [secret]" {
		t.Error(got)
	}
	if got := fmt.Sprintf("%#v", k); got != "master key ee88-199d-94b3-2368" {
		t.Error(got)
	}
	c, _ := k.Cut()
	if got := fmt.Sprintf("%v %#v %x", c, c, &c); got != "[secret] [secret] [secret]" {
		t.Error(got)
	}
	if b, err := json.Marshal([]any{s, k, c}); err != nil || string(b) != `["[secret]","master key ee88-199d-94b3-2368","[secret]"]` {
		t.Errorf("%s, %v", b, err)
	}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("", "a", s, "b", k, "c", c)
	slog.New(slog.NewTextHandler(&log, nil)).Info("", "a", s, "b", k, "c", c)
	if strings.Count(log.String(), "[secret]") != 4 || strings.Count(log.String(), "master key ee88-199d-94b3-2368") != 2 {
		t.Error(log.String())
	}
}

func TestSecret(t *testing.T) {
	for _, n := range []int{0, 31, 33} {
		if _, ok := NewSecret(make([]byte, n)); ok {
			t.Errorf("a secret of %d bytes", n)
		}
	}
	var zero Secret
	zeros, _ := NewSecret(make([]byte, SecretSize))
	s, _ := master(t).IDMeta()
	if !zero.Equal(zeros) || s.Equal(zero) || !s.Equal(s) {
		t.Error("Equal is wrong")
	}
	s.Bytes()[0] ^= 1
	if again, _ := master(t).IDMeta(); !s.Equal(again) {
		t.Error("Bytes gave away the secret's own memory")
	}
	if !Equal(nil, []byte{}) || Equal([]byte{1}, []byte{2}) || Equal([]byte{1}, []byte{1, 1}) {
		t.Error("Equal is wrong about slices")
	}
}

func TestKindNames(t *testing.T) {
	for k := Master; k.valid(); k++ {
		if got, ok := ParseKind(k.String()); !ok || got != k {
			t.Errorf("%s is read as %s", k, got)
		}
	}
	if _, ok := ParseKind("Master"); ok || Kind(9).String() != "kind 9" || Kind(9).Can() != "nothing" || Kind(9).Cannot() != "anything" {
		t.Error("a kind that is none")
	}
}

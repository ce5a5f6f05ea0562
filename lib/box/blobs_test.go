package box

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"math/big"
	"slices"
	"strconv"
	"testing"

	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/vectors"
)

var record = flag.Bool("record", false, "write the vectors anew: only for a new version of the format")

// pattern returns a secret that is easy to recognise in a vector.
func pattern(first byte) key.Secret {
	b := make([]byte, key.SecretSize)
	for i := range b {
		b[i] = first + byte(i)
	}
	s, _ := key.NewSecret(b)
	return s
}

// recordVectors writes sessions.txt, blobs.txt and snapshots.txt anew.
func recordVectors(t *testing.T) {
	var sessions, blobs, snapshots vectors.Writer
	sessions.WriteString("# Sessions under the master key 00 01 … 1f: docs/format/crypto.md, \"Session\". Those with\n" +
		"# an error are refused; with \"needs\" because they need the key of that id.\n" + vectors.Form)
	blobs.WriteString("# Sealed blobs: docs/format/crypto.md, \"Blob\". The sessions are in sessions.txt. \"k\" and\n" +
		"# \"inside\" are what the sealed form was made with; \"plain\" is what the id names. Those\n" +
		"# with an error are refused, and \"inside\" is then missing if the seal itself is broken.\n" + vectors.Form)
	snapshots.WriteString("# Who signed a snapshot: docs/format/crypto.md, \"Keys\" and \"Blob\". The root is that of the\n" +
		"# master key 00 01 … 1f. Those with an error are refused.\n" + vectors.Form)
	var sealers []*Sealer
	for n, su := range []suite{suiteAES, suiteChaCha} {
		w, err := newSealer(master(t), Default, &session{su, true, pattern(0x20 + byte(0x80*n)), pattern(0x40 + byte(0x80*n))})
		if err != nil {
			t.Fatal(err)
		}
		sealers = append(sealers, w)
		recordSession(&sessions, w, "suite "+strconv.Itoa(int(su)))
		recordGoodBlobs(t, &blobs, w)
	}
	recordBadSessions(t, &sessions, sealers[0])
	recordBadBlobs(t, &blobs, sealers[0], sealers[1])
	recordSnapshots(t, &snapshots)
	sessions.Save(t, "crypto/sessions.txt")
	blobs.Save(t, "crypto/blobs.txt")
	snapshots.Save(t, "crypto/snapshots.txt")
}

func recordSession(v *vectors.Writer, w *Sealer, name string) {
	v.WriteString("\n")
	v.Text("case", name)
	v.Hex("s.meta", w.session.meta.Bytes())
	v.Hex("s.data", w.session.data.Bytes())
	v.Hex("sid", w.sid[:])
	v.Hex("session", w.sealed)
}

func recordBadSessions(t *testing.T, v *vectors.Writer, w *Sealer) {
	put := func(name, err string, b []byte) {
		v.WriteString("\n")
		v.Text("case", name)
		v.Text("error", err)
		v.Hex("session", b)
	}
	change := func(at int, c byte) []byte { b := w.Session(); b[at] = c; return b }
	put("version 2", "ErrSession", change(3, '2'))
	put("suite 0", "ErrSession", change(suiteAt, 0))
	put("suite 3", "ErrSession", change(suiteAt, 3))
	put("another suite than it was sealed with", "ErrSession", change(suiteAt, byte(suiteChaCha)))
	put("a flipped bit in the encapsulated key", "ErrSession", change(metaAt+9, w.sealed[metaAt+9]^1))
	put("a flipped bit in E(data)", "ErrSession", change(SessionSize-1, w.sealed[SessionSize-1]^1))
	put("E(meta) and E(data) exchanged", "ErrSession", slices.Concat(w.sealed[:metaAt], w.sealed[dataAt:], w.sealed[metaAt:dataAt]))
	put("E(meta) twice", "ErrSession", slices.Concat(w.sealed[:dataAt], w.sealed[metaAt:dataAt]))
	put("cut short", "ErrSession", w.sealed[:SessionSize-1])
	put("a byte too many", "ErrSession", append(w.Session(), 0))
	put("nothing", "ErrSession", nil)
	var zero [key.SecretSize]byte
	other, err := key.FromMaster(zero)
	if err != nil {
		t.Fatal(err)
	}
	w, err = newSealer(other, Default, newSession(suiteAES))
	if err != nil {
		t.Fatal(err)
	}
	needs := other.ID()
	v.WriteString("\n")
	v.Text("case", "of the master key 00 00 … 00")
	v.Hex("needs", needs[:])
	v.Hex("session", w.sealed)
}

// A blobCase is one blob of blobs.txt.
type blobCase struct {
	name, err   string
	kind        uint8
	sid, i      id.ID
	refs, plain []byte
	k, inside   []byte
	sealed      []byte
}

func (c *blobCase) record(v *vectors.Writer) {
	v.WriteString("\n")
	v.Text("case", c.name)
	if c.err != "" {
		v.Text("error", c.err)
	}
	v.Hex("sid", c.sid[:])
	v.Hex("kind", []byte{c.kind})
	v.Hex("refs", c.refs)
	v.Hex("id", c.i[:])
	if c.plain != nil {
		v.Hex("plain", c.plain)
	}
	if c.inside != nil {
		v.Hex("k", c.k)
		v.Hex("inside", c.inside)
	}
	v.Hex("sealed", c.sealed)
}

func newBlobCase(t *testing.T, name string, w *Sealer, kind uint8, refs, plain, inside []byte) *blobCase {
	i := w.Name(kind, refs, plain)
	return &blobCase{name: name, kind: kind, sid: w.sid, i: i, refs: refs, plain: plain,
		k: w.session.blobKey(kind, w.sid, i), inside: inside, sealed: sealInside(t, w, kind, i, refs, inside)}
}

func recordGoodBlobs(t *testing.T, v *vectors.Writer, w *Sealer) {
	for _, c := range []struct {
		name        string
		kind        uint8
		refs, plain []byte
	}{
		{"data", 0, nil, []byte("hello")},
		{"no data", 0, nil, []byte{}},
		{"data that compresses", 0, nil, prose(600)},
		{"data that does not compress", 0, nil, noise(300)},
		{"a page without references", 1, nil, []byte("a page")},
		{"a page with two", 1, refs(2), prose(400)},
		{"an index page", 2, refs(3), []byte("an index page")},
		{"a snapshot", 9, refs(1), []byte("a snapshot")},
	} {
		name := c.name + ", suite " + strconv.Itoa(int(w.session.suite))
		newBlobCase(t, name, w, c.kind, c.refs, c.plain, w.appendInside(nil, c.plain)).record(v)
	}
}

func recordBadBlobs(t *testing.T, v *vectors.Writer, w, w2 *Sealer) {
	for _, c := range hostile() {
		if len(c.plain) > 1<<20 {
			c.plain = nil // as good as another
		}
		if len(c.inside) == 0 || c.err == "" && c.plain == nil {
			continue
		}
		var r []byte
		if c.kind == kindSnapshot {
			r = refs(1)
		}
		b := newBlobCase(t, c.name, w, c.kind, r, c.plain, c.inside)
		b.err = c.err
		b.record(v)
	}
	page := newBlobCase(t, "the page that the cases below are made of", w, 1, refs(2), []byte("a page"), w.appendInside(nil, []byte("a page")))
	page.record(v)
	change := func(name, err string, change func(c *blobCase)) {
		c := *page
		c.name, c.err, c.inside = name, err, nil
		c.sealed, c.refs = slices.Clone(c.sealed), slices.Clone(c.refs)
		change(&c)
		c.record(v)
	}
	change("a flipped bit in the nonce", "ErrSealed", func(c *blobCase) { c.sealed[0] ^= 1 })
	change("a flipped bit in the ciphertext", "ErrSealed", func(c *blobCase) { c.sealed[nonceSize] ^= 1 })
	change("a flipped bit in the tag", "ErrSealed", func(c *blobCase) { c.sealed[len(c.sealed)-1] ^= 1 })
	change("cut short", "ErrSealed", func(c *blobCase) { c.sealed = c.sealed[:len(c.sealed)-1] })
	change("too short for any blob", "ErrSealed", func(c *blobCase) { c.sealed = c.sealed[:overhead+insideHead-1] })
	change("a byte too many", "ErrSealed", func(c *blobCase) { c.sealed = append(c.sealed, 0) })
	change("a page as an index page", "ErrSealed", func(c *blobCase) { c.kind = 2 })
	change("a page as data", "ErrRefs", func(c *blobCase) { c.kind = 0 })
	change("a page as data without references", "ErrSealed", func(c *blobCase) { c.kind, c.refs = 0, nil })
	change("a page as kind 10", "ErrKind", func(c *blobCase) { c.kind = 10 })
	change("a flipped bit in a reference", "ErrSealed", func(c *blobCase) { c.refs[40] ^= 1 })
	change("a reference less", "ErrSealed", func(c *blobCase) { c.refs = c.refs[:32] })
	change("half a reference", "ErrRefs", func(c *blobCase) { c.refs = c.refs[:48] })
	change("references exchanged", "ErrSealed", func(c *blobCase) { c.refs = slices.Concat(c.refs[32:], c.refs[:32]) })
	change("the id of another blob", "ErrSealed", func(c *blobCase) { c.i = w.Name(1, c.refs, []byte("b page")) })
	change("the session of another blob", "ErrSealed", func(c *blobCase) { c.sid = w2.sid })
	change("a session that was never seen", "ErrNoSession", func(c *blobCase) { c.sid = sha256.Sum256(nil) })
}

func TestVectors(t *testing.T) {
	if *record {
		recordVectors(t)
	}
	o := opener(t, derived(t, key.Read, ""))
	list := opener(t, derived(t, key.List, ""))
	known := map[id.ID]session{}
	for _, v := range vectors.Read(t, "crypto/sessions.txt") {
		sid, err := o.AddSession(v["session"])
		var wrong *WrongKeyError
		switch {
		case v["error"] != nil:
			if want := errorNames[string(v["error"])]; want == nil || !errors.Is(err, want) {
				t.Errorf("session, %s: %v, want %s", v["case"], err, v["error"])
			}
			continue
		case v["needs"] != nil:
			if !errors.As(err, &wrong) || !bytes.Equal(wrong.Needs[:], v["needs"]) {
				t.Errorf("session, %s: %v", v["case"], err)
			}
			continue
		case err != nil || !bytes.Equal(sid[:], v["sid"]):
			t.Fatalf("session, %s: %v, %v", v["case"], sid, err)
		}
		s, _ := o.session(sid)
		if !bytes.Equal(s.meta.Bytes(), v["s.meta"]) || !bytes.Equal(s.data.Bytes(), v["s.data"]) {
			t.Errorf("session, %s: other secrets", v["case"])
		}
		if _, err := list.AddSession(v["session"]); err != nil {
			t.Errorf("session, %s: with a list key: %v", v["case"], err)
		}
		known[sid] = s
	}
	checkBlobs(t, o, list, known)
}

func checkBlobs(t *testing.T, o, list *Opener, known map[id.ID]session) {
	good, bad := 0, 0
	for _, v := range vectors.Read(t, "crypto/blobs.txt") {
		kind, sid, i := v["kind"][0], id.ID(v["sid"]), id.ID(v["id"])
		want, ok := errorNames[string(v["error"])]
		got, err := o.Open(nil, kind, i, sid, v["refs"], v["sealed"])
		if !ok || !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("blob, %s: %v, want %q", v["case"], err, v["error"])
		}
		if v["inside"] != nil {
			s := known[sid]
			k := s.blobKey(kind, sid, i)
			aead, errAEAD := s.suite.aead(k)
			if errAEAD != nil || !bytes.Equal(k, v["k"]) {
				t.Fatalf("blob, %s: k = %x", v["case"], k)
			}
			sealed := aead.Seal(v["sealed"][:nonceSize:nonceSize], v["sealed"][:nonceSize], v["inside"], headOf(kind, v["refs"]))
			if !bytes.Equal(sealed, v["sealed"]) {
				t.Errorf("blob, %s: sealed again it differs", v["case"])
			}
		}
		if want != nil {
			bad++
			continue
		}
		good++
		if !bytes.Equal(got, v["plain"]) || o.namer.name(kind, headOf(kind, v["refs"]), v["plain"]) != i {
			t.Errorf("blob, %s: wrong plaintext or id", v["case"])
		}
		if _, err := list.Open(nil, kind, i, sid, v["refs"], v["sealed"]); (err == nil) != (kind != 0) {
			t.Errorf("blob, %s: with a list key: %v", v["case"], err)
		}
	}
	if good == 0 || bad < good {
		t.Errorf("%d good blobs, %d bad ones", good, bad)
	}
}

// The value that the specification was published with: computed by other code.
func TestPublishedID(t *testing.T) {
	const want = "32145a1d47e5e66217500d1ac5492568c14c3d672346059d8b8b0daacb3ec8df"
	if got := sealer(t, master(t)).Name(0, nil, []byte("hello")); got.String() != want {
		t.Errorf("id of the data blob \"hello\" = %v, want %s", got, want)
	}
}

// addOrder returns a signature that says the same with another S: RFC 8032, 5.1.7, refuses it.
func addOrder(sig []byte) []byte {
	order, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	order.Add(order, new(big.Int).Lsh(big.NewInt(1), 252))
	s := slices.Clone(sig[32:])
	slices.Reverse(s)
	new(big.Int).Add(new(big.Int).SetBytes(s), order).FillBytes(s)
	slices.Reverse(s)
	return slices.Concat(sig[:32], s)
}

func recordSnapshots(t *testing.T, v *vectors.Writer) {
	put := func(name, err string, i id.ID, sig, pk []byte, writer string, cert []byte) {
		v.WriteString("\n")
		v.Text("case", name)
		if err != "" {
			v.Text("error", err)
		}
		v.Hex("id", i[:])
		v.Hex("sig", sig)
		v.Hex("writer", pk)
		v.Text("name", writer)
		v.Hex("cert", cert)
	}
	m, l := sealer(t, master(t)), sealer(t, derived(t, key.Write, "laptop"))
	i := m.Name(9, refs(1), []byte("a snapshot"))
	pk, name, cert := m.Writer()
	put("by the master key", "", i, m.Sign(i), pk, name, cert)
	pk, name, cert = l.Writer()
	sig := l.Sign(i)
	flip := func(b []byte) []byte { b = slices.Clone(b); b[5] ^= 1; return b }
	put("by a write key", "", i, sig, pk, name, cert)
	put("another id", "ErrSignature", id.ID(flip(i[:])), sig, pk, name, cert)
	put("a flipped bit in the signature", "ErrSignature", i, flip(sig), pk, name, cert)
	put("the order of the group added to S", "ErrSignature", i, addOrder(sig), pk, name, cert)
	put("no signature", "ErrSignature", i, nil, pk, name, cert)
	put("the signature of another writer", "ErrSignature", i, m.Sign(i), pk, name, cert)
	put("another name", "ErrCert", i, sig, pk, "laptoq", cert)
	put("no name", "ErrCert", i, sig, pk, "", cert)
	put("another key", "ErrCert", i, sig, flip(pk), name, cert)
	put("a flipped bit in the certificate", "ErrCert", i, sig, pk, name, flip(cert))
	put("no certificate", "ErrCert", i, sig, pk, name, nil)
	other, err := key.FromMaster([key.SecretSize]byte{})
	if err != nil {
		t.Fatal(err)
	}
	o := sealer(t, other)
	pk, name, cert = o.Writer()
	put("the certificate of another master key", "ErrCert", i, o.Sign(i), pk, name, cert)
}

func TestSnapshotVectors(t *testing.T) {
	o := opener(t, derived(t, key.List, ""))
	for _, v := range vectors.Read(t, "crypto/snapshots.txt") {
		want, ok := errorNames[string(v["error"])]
		err := o.VerifySnapshot(id.ID(v["id"]), v["sig"], v["writer"], string(v["name"]), v["cert"])
		if !ok || !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("snapshot, %s: %v, want %q", v["case"], err, v["error"])
		}
	}
}

// Only what was sealed opens, whatever is asked.
func FuzzOpen(f *testing.F) {
	o := opener(f, derived(f, key.Read, ""))
	for _, v := range vectors.Read(f, "crypto/sessions.txt") {
		_, _ = o.AddSession(v["session"]) // the bad ones too
	}
	plains := map[string]bool{}
	for _, v := range vectors.Read(f, "crypto/blobs.txt") {
		f.Add(v["kind"][0], v["id"], v["sid"], v["refs"], v["sealed"])
		if v["error"] == nil {
			plains[string(v["id"])+string(v["plain"])] = true
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, i, sid, refs, data []byte) {
		if len(i) != id.Size || len(sid) != id.Size {
			return
		}
		got, err := o.Open(nil, kind, id.ID(i), id.ID(sid), refs, data)
		if err == nil && !plains[string(i)+string(got)] {
			t.Fatal("opened something else")
		}
		if err != nil && len(got) > 0 {
			t.Fatal("plaintext and an error")
		}
	})
}

// Only what was sealed is a session.
func FuzzSession(f *testing.F) {
	read, list := opener(f, derived(f, key.Read, "")), opener(f, derived(f, key.List, ""))
	sids := map[id.ID]bool{}
	for _, v := range vectors.Read(f, "crypto/sessions.txt") {
		f.Add(v["session"])
		if v["sid"] != nil {
			sids[id.ID(v["sid"])] = true
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if sid, err := read.AddSession(data); err == nil && !sids[sid] {
			t.Fatal("a forged session opens")
		}
		_, _ = list.AddSession(data)
	})
}

package box

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"preserve/lib/id"
	"preserve/lib/key"
)

// master returns the master key 00 01 … 1f.
func master(t testing.TB) *key.Key {
	t.Helper()
	var b [key.SecretSize]byte
	for i := range b {
		b[i] = byte(i)
	}
	k, err := key.FromMaster(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func derived(t testing.TB, kind key.Kind, name string) *key.Key {
	t.Helper()
	k, err := master(t).Derive(kind, name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func sealer(t testing.TB, k *key.Key) *Sealer {
	t.Helper()
	s, err := NewSealer(k, Default)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// opener returns an Opener that knows the sessions of the sealers.
func opener(t testing.TB, k *key.Key, sealers ...*Sealer) *Opener {
	t.Helper()
	o, err := NewOpener(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sealers {
		if sid, err := o.AddSession(s.Session()); err != nil || sid != s.SID() {
			t.Fatalf("session %v: %v, %v", s.SID(), sid, err)
		}
	}
	return o
}

// noise returns n bytes that do not compress; the same each time.
func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

// prose returns n bytes that compress.
func prose(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "line %d: the quick brown fox\n", i)
	}
	return b.Bytes()[:n]
}

func refs(n int) []byte { return noise(n * id.Size) }

func TestRoundTrip(t *testing.T) {
	w := sealer(t, derived(t, key.Write, "laptop"))
	o := opener(t, derived(t, key.Read, ""), w)
	for kind, nrefs := range map[uint8][]int{0: {0}, 1: {0, 1, 1024, MaxRefs}, 2: {1, 7}, 8: {1024}, 9: {1}} {
		for _, n := range nrefs {
			for _, size := range []int{0, 1, 2, 27, 100, 255, 256, 1023, 1024, 70000, 1<<20 + 3} {
				for _, plain := range [][]byte{noise(size), prose(size), make([]byte, size)} {
					r := refs(n)
					i := w.Name(kind, r, plain)
					data, err := w.Seal([]byte("before"), kind, i, r, plain)
					if err != nil {
						t.Fatal(err)
					}
					got, err := o.Open([]byte("ahead"), kind, i, w.SID(), r, data[6:])
					if err != nil || string(data[:6]) != "before" || !bytes.Equal(got, append([]byte("ahead"), plain...)) {
						t.Fatalf("kind %d, %d refs, %d bytes: %v", kind, n, size, err)
					}
					if max := padded(insideHead+size) + overhead; len(data)-6 > max {
						t.Errorf("%d bytes sealed to %d, want at most %d", size, len(data)-6, max)
					}
				}
			}
		}
	}
}

func TestLargest(t *testing.T) {
	w := sealer(t, master(t))
	o := opener(t, master(t), w)
	for kind := range uint8(2) {
		plain := noise(maxPlain(kind))
		i := w.Name(kind, nil, plain)
		data, err := w.Seal(nil, kind, i, nil, plain)
		if err != nil || len(data) > 20<<20 {
			t.Fatalf("kind %d: %d bytes sealed, %v", kind, len(data), err)
		}
		if got, err := o.Open(nil, kind, i, w.SID(), nil, data); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("kind %d: %v", kind, err)
		}
	}
}

// Every master key, write key and level makes the same ids, and readers of the
// master key open all.
func TestWritersAgree(t *testing.T) {
	m := master(t)
	plain := prose(3000)
	var first id.ID
	for n, k := range []*key.Key{m, derived(t, key.Write, "a"), derived(t, key.Write, "b")} {
		for level := Fastest; level <= Better; level++ {
			w, err := NewSealer(k, level)
			if err != nil {
				t.Fatal(err)
			}
			i := w.Name(1, refs(2), plain)
			if first.IsZero() {
				first = i
			}
			data, err := w.Seal(nil, 1, i, refs(2), plain)
			if err != nil || i != first {
				t.Fatalf("writer %d: id %v, %v", n, i, err)
			}
			for _, reader := range []*key.Key{m, derived(t, key.Read, ""), derived(t, key.List, "")} {
				if got, err := opener(t, reader, w).Open(nil, 1, i, w.SID(), refs(2), data); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("writer %d, %v: %v", n, reader, err)
				}
			}
		}
	}
	if _, err := NewSealer(m, Better+1); !errors.Is(err, ErrCodec) {
		t.Errorf("a level that is none: %v", err)
	}
	if w := sealer(t, m); w.Name(0, nil, plain) == w.Name(1, nil, plain) || w.Name(1, refs(2), nil) == w.Name(1, refs(1), refs(2)[32:]) {
		t.Error("different blobs, same id")
	}
}

func TestPrivileges(t *testing.T) {
	w := sealer(t, master(t))
	i := w.Name(0, nil, []byte("hello"))
	data, err := w.Seal(nil, 0, i, nil, []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opener(t, derived(t, key.List, ""), w).Open(nil, 0, i, w.SID(), nil, data); !errors.Is(err, ErrCannot) {
		t.Errorf("a list key opens data: %v", err)
	}
	for _, kind := range []key.Kind{key.Write, key.Cut} {
		name := map[key.Kind]string{key.Write: "w"}[kind]
		if _, err := NewOpener(derived(t, kind, name)); !errors.Is(err, ErrCannot) {
			t.Errorf("a %s key opens: %v", kind, err)
		}
	}
	for _, kind := range []key.Kind{key.List, key.Read, key.Cut} {
		if _, err := NewSealer(derived(t, kind, ""), Default); !errors.Is(err, ErrCannot) {
			t.Errorf("a %s key seals: %v", kind, err)
		}
	}
	other, err := key.New()
	if err != nil {
		t.Fatal(err)
	}
	_, err = opener(t, other).AddSession(w.Session())
	var wrong *WrongKeyError
	if !errors.As(err, &wrong) || wrong.Needs != master(t).ID() || wrong.Have != other.ID() {
		t.Fatalf("session of another key: %v", err)
	}
	if want := "needs key ee88-199d-94b3-2368, this is key " + other.ID().String(); err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// Whatever is changed of a sealed blob or its record, it does not open.
func TestOpenRefuses(t *testing.T) {
	for _, su := range []suite{suiteAES, suiteChaCha} {
		w, err := newSealer(master(t), Default, newSession(su))
		if err != nil {
			t.Fatal(err)
		}
		w2 := sealer(t, master(t))
		o := opener(t, master(t), w, w2)
		plain, r := []byte("a page, perhaps"), refs(2)
		i := w.Name(1, r, plain)
		data, err := w.Seal(nil, 1, i, r, plain)
		if err != nil {
			t.Fatal(err)
		}
		j := w.Name(1, r, []byte("another"))
		try := func(what string, want error, kind uint8, i, sid id.ID, refs, data []byte) {
			t.Helper()
			room := make([]byte, 3, 4096)
			got, err := o.Open(room, kind, i, sid, refs, data)
			if !errors.Is(err, want) || len(got) != 3 {
				t.Errorf("suite %d, %s: %v (%d bytes), want %v", su, what, err, len(got), want)
			}
		}
		try("nothing changed, wrong session", ErrSealed, 1, i, w2.SID(), r, data)
		try("unknown session", ErrNoSession, 1, i, id.ID{1}, r, data)
		try("another id", ErrSealed, 1, j, w.SID(), r, data)
		try("as an index page", ErrSealed, 2, i, w.SID(), r, data)
		try("as data", ErrRefs, 0, i, w.SID(), r, data)
		try("as data without refs", ErrSealed, 0, i, w.SID(), nil, data)
		try("as a snapshot", ErrRefs, 9, i, w.SID(), r, data)
		try("as kind 10", ErrKind, 10, i, w.SID(), r, data)
		try("as kind 255", ErrKind, 255, i, w.SID(), r, data)
		try("no refs", ErrSealed, 1, i, w.SID(), nil, data)
		try("one ref", ErrSealed, 1, i, w.SID(), r[:32], data)
		try("half a ref", ErrRefs, 1, i, w.SID(), r[:48], data)
		try("refs swapped", ErrSealed, 1, i, w.SID(), append(slices.Clone(r[32:]), r[:32]...), data)
		try("too many refs", ErrLimit, 1, i, w.SID(), make([]byte, (MaxRefs+1)*id.Size), data)
		for n := range data {
			try(fmt.Sprintf("cut to %d", n), ErrSealed, 1, i, w.SID(), r, data[:n])
			bad := slices.Clone(data)
			bad[n] ^= 1 << (n % 8)
			try(fmt.Sprintf("byte %d flipped", n), ErrSealed, 1, i, w.SID(), r, bad)
		}
		try("a byte more", ErrSealed, 1, i, w.SID(), r, append(slices.Clone(data), 0))
		try("beyond the limit", ErrLimit, 1, i, w.SID(), r, make([]byte, padded(MaxMeta+5)+29))
		if got, err := o.Open(nil, 1, i, w.SID(), r, data); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("unchanged: %v", err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	w := sealer(t, master(t))
	for name, c := range map[string]struct {
		kind uint8
		refs []byte
		n    int
		want error
	}{
		"too much data":      {0, nil, MaxData + 1, ErrLimit},
		"too large a page":   {1, nil, MaxMeta + 1, ErrLimit},
		"data with refs":     {0, refs(1), 1, ErrRefs},
		"half a ref":         {1, refs(1)[:16], 1, ErrRefs},
		"snapshot of two":    {9, refs(2), 1, ErrRefs},
		"snapshot of none":   {9, nil, 1, ErrRefs},
		"kind 10":            {10, nil, 1, ErrKind},
		"too many refs":      {1, make([]byte, (MaxRefs+1)*id.Size), 1, ErrLimit},
		"too large snapshot": {9, refs(1), MaxMeta + 1, ErrLimit},
	} {
		if got, err := w.Seal([]byte("x"), c.kind, id.ID{}, c.refs, make([]byte, c.n)); !errors.Is(err, c.want) || string(got) != "x" {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// Seal differs each time, or the nonce does not.
func TestSealIsFresh(t *testing.T) {
	w := sealer(t, master(t))
	i := w.Name(0, nil, []byte("x"))
	seen := map[string]bool{}
	for range 1000 {
		data, err := w.Seal(nil, 0, i, nil, []byte("x"))
		if err != nil || seen[string(data[:nonceSize])] {
			t.Fatalf("a nonce was used twice, or %v", err)
		}
		seen[string(data[:nonceSize])] = true
	}
}

// What lay in the buffer before does not end up in the padding or after it.
func TestSealIntoDirtyBuffer(t *testing.T) {
	w := sealer(t, master(t))
	o := opener(t, master(t), w)
	buf := bytes.Repeat([]byte{0xff}, 1<<20)
	out := bytes.Repeat([]byte{0xff}, 1<<20)
	for _, size := range []int{0, 1, 100, 5000, 70001, 300007} {
		for _, plain := range [][]byte{noise(size), prose(size)} {
			i := w.Name(0, nil, plain)
			data, err := w.Seal(buf[:0], 0, i, nil, plain)
			if err != nil || &data[0] != &buf[0] {
				t.Fatalf("%d bytes: a new buffer, or %v", size, err)
			}
			kept := slices.Clone(data)
			got, err := o.Open(out[:0], 0, i, w.SID(), nil, data)
			if err != nil || !bytes.Equal(got, plain) || !bytes.Equal(kept, data) {
				t.Errorf("%d bytes: %v", size, err)
			}
			if size > 0 && &got[0] != &out[0] {
				t.Errorf("%d bytes: opened into a new buffer", size)
			}
		}
	}
}

func TestPadded(t *testing.T) {
	for n, want := range map[int]int{5: 5, 8: 8, 9: 10, 10: 10, 100: 104, 1000: 1024, 1025: 1088, 1 << 20: 1 << 20, 1<<20 + 1: 1<<20 + 1<<15, MaxData + 5: MaxData + 1<<19} {
		if got := padded(n); got != want {
			t.Errorf("padded(%d) = %d, want %d", n, got, want)
		}
	}
	before := 0
	for n := insideHead; n < 1<<21; n++ {
		p := padded(n)
		if p < n || p < before || padded(p) != p || (p-n)*100 > 12*n {
			t.Fatalf("padded(%d) = %d", n, p)
		}
		before = p
	}
}

func TestConcurrent(t *testing.T) {
	w := sealer(t, master(t))
	o := opener(t, master(t))
	session := w.Session()
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			var buf, out []byte
			for j := range 20 {
				plain := prose(1000*j + n)
				i := w.Name(0, nil, plain)
				var err error
				if buf, err = w.Seal(buf[:0], 0, i, nil, plain); err != nil {
					t.Error(err)
				}
				if _, err = o.AddSession(session); err != nil {
					t.Error(err)
				}
				if out, err = o.Open(out[:0], 0, i, w.SID(), nil, buf); err != nil || !bytes.Equal(out, plain) {
					t.Errorf("worker %d, blob %d: %v", n, j, err)
				}
			}
		})
	}
	wg.Wait()
}

// Neither a Sealer nor an Opener shows its secrets when it is printed.
func TestNothingIsShown(t *testing.T) {
	w := sealer(t, master(t))
	o := opener(t, master(t), w)
	for _, v := range []any{w, *w.session, w.namer, struct{ o *Opener }{o}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			got := fmt.Sprintf(verb, v)
			for _, s := range []key.Secret{w.session.meta, w.session.data, w.namer.meta, w.namer.data} {
				for _, shown := range []string{"%v", "%x", "%s"} {
					if strings.Contains(got, strings.Trim(fmt.Sprintf(shown, s.Bytes()[:3]), "[]")) {
						t.Errorf("%s of a %T shows a secret", verb, v)
					}
				}
			}
		}
	}
}

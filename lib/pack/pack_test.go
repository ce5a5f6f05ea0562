package pack_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"preserve/lib/id"
	"preserve/lib/pack"
	"preserve/lib/rec"
	"preserve/lib/store/storetest"
)

// makePack writes blobs of a seed and returns the pack.
func makePack(t testing.TB, seed byte, blobs int, size int) (data []byte, name id.ID, list []pack.Entry, all []*rec.Blob) {
	t.Helper()
	m := storetest.New(seed)
	var b bytes.Buffer
	w, err := pack.NewWriter(&b, [rec.NonceSize]byte(m.Bytes(rec.NonceSize)))
	if err != nil {
		t.Fatal(err)
	}
	for range blobs {
		x := m.Blob(rec.KindData, size)
		all = append(all, x)
		if err := w.Session(m.Session); err != nil {
			t.Fatal(err)
		}
		if err := w.Blob(x); err != nil {
			t.Fatal(err)
		}
	}
	if name, err = w.Close(); err != nil {
		t.Fatal(err)
	}
	if w.Size() != int64(b.Len()) {
		t.Fatalf("size %d of %d", w.Size(), b.Len())
	}
	return b.Bytes(), name, w.Entries(), all
}

func TestPackRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 2, 5, 300, 1500} {
		data, name, list, all := makePack(t, byte(n), n, 3)
		got, rows, err := pack.ReadList(bytes.NewReader(data), int64(len(data)))
		if err != nil || got != name || !slices.Equal(rows, list) {
			t.Fatalf("%d: ReadList: %v", n, err)
		}
		got, rows, err = pack.Check(iotest.OneByteReader(bytes.NewReader(data)))
		if err != nil || got != name || !slices.Equal(rows, list) {
			t.Fatalf("%d: Check: %v", n, err)
		}
		k := 0
		for _, e := range list {
			v, err := pack.ParseRecord(data[e.Offset:e.Offset+e.Length], e.ID, e.Kind)
			if err != nil {
				t.Fatal(err)
			}
			if b, ok := v.(*rec.Blob); ok {
				if !bytes.Equal(b.Data, all[k].Data) || b.CRC != e.CRC {
					t.Fatalf("blob %d is another", k)
				}
				k++
			}
		}
		if k != n {
			t.Fatalf("%d of %d blobs", k, n)
		}
		if _, again, _, _ := makePack(t, byte(n), n, 3); again != name {
			t.Fatal("the same pack has two names")
		}
	}
}

// A pack is a stream like any other.
func TestPackIsAStream(t *testing.T) {
	data, _, list, _ := makePack(t, 1, 4, 100)
	r := rec.NewReader(bytes.NewReader(append(bytes.Clone(data), data...)), rec.Sealed)
	r.Several()
	r.Strict()
	n := 0
	for {
		if _, err := r.Next(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if want := 2 * (len(list) + 3); n != want {
		t.Fatalf("%d records, want %d", n, want)
	}
}

// Whatever is changed or cut off is noticed by Check, and by ReadList if it
// concerns the list.
func TestPackDamage(t *testing.T) {
	data, name, list, _ := makePack(t, 2, 3, 40)
	last := list[len(list)-1]
	behind := int(last.Offset + last.Length)
	endsAt := bytes.LastIndex(data, []byte("\x88\xa1t\xa3end"))
	for i := range data {
		if i > 150 && i < int(list[0].Length) && i%50 != 0 {
			continue // the session's data
		}
		bad := bytes.Clone(data)
		bad[i] ^= 0x10
		got, _, err := pack.Check(bytes.NewReader(bad))
		if err == nil && got == name || err != nil && !errors.Is(err, pack.ErrDamaged) {
			t.Fatalf("byte %d: Check: %v", i, err)
		}
		got, _, err = pack.ReadList(bytes.NewReader(bad), int64(len(bad)))
		if i >= behind && i < endsAt && err == nil && got == name || err != nil && !errors.Is(err, pack.ErrDamaged) {
			t.Fatalf("byte %d of %d: ReadList: %v", i, endsAt, err)
		}
	}
	for n := range data {
		if n > 150 && n < int(list[0].Length) {
			continue
		}
		if _, _, err := pack.Check(bytes.NewReader(data[:n])); !errors.Is(err, pack.ErrDamaged) {
			t.Fatalf("cut at %d: Check: %v", n, err)
		}
		if _, _, err := pack.ReadList(bytes.NewReader(data[:n]), int64(n)); !errors.Is(err, pack.ErrDamaged) {
			t.Fatalf("cut at %d: ReadList: %v", n, err)
		}
	}
}

// A failure to read is not called damage.
func TestPackReadError(t *testing.T) {
	data, _, _, _ := makePack(t, 2, 3, 40)
	boom := errors.New("input/output error")
	_, _, err := pack.Check(io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(boom)))
	if !errors.Is(err, boom) || errors.Is(err, pack.ErrDamaged) {
		t.Fatal(err)
	}
}

func TestWriterRefuses(t *testing.T) {
	m := storetest.New(3)
	w, err := pack.NewWriter(io.Discard, [rec.NonceSize]byte{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Blob(m.Blob(rec.KindData, 1)); !errors.Is(err, rec.ErrAbsent) {
		t.Fatalf("a blob before its session: %v", err)
	}
	bad, err := pack.NewWriter(failing{}, [rec.NonceSize]byte{})
	if err == nil {
		t.Fatal("a writer on what cannot be written", bad)
	}
}

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errors.New("no") }

func TestParseRecordRefuses(t *testing.T) {
	data, _, list, _ := makePack(t, 4, 2, 10)
	session, first, second := list[0], list[1], list[2]
	raw := func(e pack.Entry) []byte { return bytes.Clone(data[e.Offset : e.Offset+e.Length]) }
	renamed := []byte(strings.Replace(string(raw(first)), "\xa4blob", "\xa4blub", 1))
	for name, c := range map[string]struct {
		raw  []byte
		id   id.ID
		kind uint8
	}{
		"another blob":      {raw(second), first.ID, 0},
		"another kind":      {raw(first), first.ID, 1},
		"a session":         {raw(session), session.ID, 0},
		"a blob":            {raw(first), first.ID, pack.KindSession},
		"another session":   {raw(session), first.ID, pack.KindSession},
		"one byte more":     {append(raw(first), 0), first.ID, 0},
		"one byte less":     {raw(first)[:first.Length-1], first.ID, 0},
		"nothing":           {nil, first.ID, 0},
		"another type":      {renamed, first.ID, 0},
		"a kind of no blob": {raw(first), first.ID, 77},
	} {
		if _, err := pack.ParseRecord(c.raw, c.id, c.kind); !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What checks is listed the same from its end, and comes out the same when it is
// written again.
func FuzzPack(f *testing.F) {
	for n := range 3 {
		data, _, _, _ := makePack(f, byte(n), n, 5)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		name, list, err := pack.Check(bytes.NewReader(b))
		short, rows, serr := pack.ReadList(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		if serr != nil || short != name || !slices.Equal(rows, list) {
			t.Fatalf("checked as %v, listed as %v, %v", name, short, serr)
		}
		r := rec.NewReader(bytes.NewReader(b), rec.Sealed)
		h, err := r.Head()
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		w, err := pack.NewWriter(&out, [rec.NonceSize]byte(h.Nonce))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list {
			v, err := pack.ParseRecord(b[e.Offset:e.Offset+e.Length], e.ID, e.Kind)
			if err != nil {
				t.Fatal(err)
			}
			switch v := v.(type) {
			case *rec.Session:
				err = w.Session(v)
			case *rec.Blob:
				err = w.Blob(v)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if again, err := w.Close(); err != nil || again != name || !bytes.Equal(out.Bytes(), b) {
			t.Fatalf("written again as %v, %v:\n%x\n%x", again, err, b, out.Bytes())
		}
	})
}

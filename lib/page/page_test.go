package page

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"math/bits"
	"reflect"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

func file(path string, ext ...rec.Extent) *rec.Entry {
	e := &rec.Entry{Path: path, Type: rec.File, Extents: ext}
	for _, x := range ext {
		e.Size += x.Len
	}
	return e
}

func dir(path string) *rec.Entry { return &rec.Entry{Path: path, Type: rec.Dir, Mode: 0o755} }

func encode(es ...*rec.Entry) []byte {
	w := wire.NewWriter()
	Encode(w, es)
	return w.Bytes()
}

func TestPageRoundTrip(t *testing.T) {
	es := []*rec.Entry{dir("a"), file("a/b", rec.Extent{N: 0, Len: 5}, rec.Extent{Hole: true, Len: 9}, rec.Extent{N: 1, Off: 7, Len: 1}), file("a/c", rec.Extent{N: 0, Len: 5})}
	got, err := Decode(encode(es...), 2)
	if err != nil || !reflect.DeepEqual(got, es) {
		t.Fatalf("%v\n got %+v\nwant %+v", err, got, es)
	}
}

func TestPageRefuses(t *testing.T) {
	x := func(n uint64) rec.Extent { return rec.Extent{N: n, Len: 1} }
	for name, c := range map[string]struct {
		plain []byte
		refs  int
	}{
		"empty":           {nil, 0},
		"ref out of turn": {encode(file("a", x(1), x(0))), 2},
		"ref unused":      {encode(file("a", x(0))), 2},
		"ref beyond":      {encode(file("a", x(0), x(1))), 1},
		"trailing":        {append(encode(dir("a")), 0xc1), 0},
		"truncated":       {encode(dir("a"))[:9], 0},
		"by id":           {encode(file("a", rec.Extent{ID: id.ID{1}, Len: 1})), 0},
	} {
		if _, err := Decode(c.plain, c.refs); !errors.Is(err, ErrPage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// memory is a store of index pages.
type memory map[id.ID]struct {
	kind  uint8
	refs  []byte
	plain []byte
}

func (m memory) seal(kind uint8, refs, plain []byte) (id.ID, error) {
	i := id.ID(sha256.Sum256(append(append([]byte{kind}, refs...), plain...)))
	m[i] = struct {
		kind  uint8
		refs  []byte
		plain []byte
	}{kind, bytes.Clone(refs), bytes.Clone(plain)}
	return i, nil
}

func (m memory) leaves(t *testing.T, root id.ID, kind uint8, keys *[]Key, at Key) (leaves []id.ID) {
	n, ok := m[root]
	if !ok {
		*keys = append(*keys, at)
		return []id.ID{root}
	}
	if kind != 0 && n.kind != kind {
		t.Fatalf("kind %d below kind %d", n.kind, kind+1)
	}
	rows, err := DecodeIndex(n.plain, len(n.refs)/id.Size)
	if err != nil {
		t.Fatal(err)
	}
	for i, k := range rows {
		if i == 0 && kind != 0 && k != at {
			t.Fatalf("first key %v, parent says %v", k, at)
		}
		leaves = append(leaves, m.leaves(t, id.ID(n.refs[i*id.Size:]), n.kind-1, keys, k)...)
	}
	return leaves
}

func begins(level int, path string) bool {
	h := fnv.New64a()
	h.Write([]byte(path))
	return bits.LeadingZeros64(h.Sum64()*0x9E3779B97F4A7C15) >= 2+2*level
}

func TestTree(t *testing.T) {
	for _, n := range []int{1, 2, 3, 17, 400, 3000} {
		m := memory{}
		tree := &Tree{Begins: begins, Seal: m.seal, MaxChildren: 8, MaxBytes: 1 << 10}
		var want []id.ID
		var wantKeys []Key
		for i := range n {
			leaf := id.ID(sha256.Sum256(fmt.Append(nil, "leaf", i)))
			k := Key{Path: fmt.Sprintf("%06d", i/3), Off: uint64(i % 3)}
			want, wantKeys = append(want, leaf), append(wantKeys, k)
			if err := tree.Add(k, leaf); err != nil {
				t.Fatal(err)
			}
		}
		root, err := tree.Finish()
		if err != nil {
			t.Fatal(err)
		}
		var keys []Key
		got := m.leaves(t, root, 0, &keys, wantKeys[0])
		if !reflect.DeepEqual(got, want) || n > 1 && !reflect.DeepEqual(keys, wantKeys) {
			t.Fatalf("%d pages: walk gives %d others", n, len(got))
		}
	}
}

// An insertion changes only the index pages on its path.
func TestTreeSharesUnchanged(t *testing.T) {
	m := memory{}
	build := func(skip int) {
		tree := &Tree{Begins: begins, Seal: m.seal, MaxChildren: 1024, MaxBytes: 1 << 20}
		for i := range 5000 {
			if i != skip {
				if err := tree.Add(Key{Path: fmt.Sprint("p", 10000+i)}, id.ID(sha256.Sum256(fmt.Append(nil, i)))); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := tree.Finish(); err != nil {
			t.Fatal(err)
		}
	}
	build(-1)
	before := len(m)
	build(2500)
	if added := len(m) - before; added > 12 {
		t.Errorf("one page less rewrote %d of %d index pages", added, before)
	}
}

func TestTreeEmpty(t *testing.T) {
	if _, err := (&Tree{}).Finish(); !errors.Is(err, ErrPage) {
		t.Fatal(err)
	}
}

func TestChecker(t *testing.T) {
	link := &rec.Entry{Path: "d/l", Type: rec.HardLink, Leader: "d/f"}
	leader := file("d/f", rec.Extent{N: 0, Len: 3})
	leader.Links = 2
	p1 := &rec.Entry{Path: "h", Type: rec.File, Size: 10, More: true, Extents: []rec.Extent{{N: 0, Len: 4}}}
	p2 := &rec.Entry{Path: "h", Type: rec.File, Size: 10, Off: 4, More: true, Extents: []rec.Extent{{Hole: true, Len: 5}}}
	p3 := &rec.Entry{Path: "h", Type: rec.File, Size: 10, Off: 9, Extents: []rec.Extent{{N: 0, Len: 1}}}
	short := &rec.Entry{Path: "h", Type: rec.File, Size: 10, Extents: []rec.Extent{{N: 0, Len: 4}}}
	over := &rec.Entry{Path: "h", Type: rec.File, Size: 10, Extents: []rec.Extent{{Hole: true, Len: 1 << 63}, {Hole: true, Len: 1 << 63}, {Hole: true, Len: 10}}}
	bad := &rec.Entry{Path: "x", Type: rec.File, Err: "permission denied", Size: 77}
	for name, c := range map[string]struct {
		es []*rec.Entry
		ok bool
	}{
		"good":            {[]*rec.Entry{dir("d"), leader, link, p1, p2, p3, bad}, true},
		"root":            {[]*rec.Entry{dir(""), dir("d"), file("d/a")}, true},
		"no parent":       {[]*rec.Entry{dir("d"), file("e/a")}, false},
		"parent left":     {[]*rec.Entry{dir("d"), dir("d/e"), file("d/f"), file("d/e2/x")}, false},
		"parent is link":  {[]*rec.Entry{{Path: "s", Type: rec.Symlink, Target: "/"}, file("s/a")}, false},
		"parent is file":  {[]*rec.Entry{file("s"), file("s/a")}, false},
		"order":           {[]*rec.Entry{dir("b"), dir("a")}, false},
		"twice":           {[]*rec.Entry{dir("b"), dir("b")}, false},
		"twice, a file":   {[]*rec.Entry{file("b"), file("b")}, false},
		"slash order":     {[]*rec.Entry{dir("a"), file("a-b"), file("a/b")}, false},
		"no leader":       {[]*rec.Entry{dir("d"), link}, false},
		"leader unlinked": {[]*rec.Entry{dir("d"), file("d/f"), link}, false},
		"gap":             {[]*rec.Entry{p1, p3}, false},
		"piece first":     {[]*rec.Entry{p2, p3}, false},
		"piece missing":   {[]*rec.Entry{p1, p2}, false},
		"piece, then dir": {[]*rec.Entry{p1, dir("i")}, false},
		"short":           {[]*rec.Entry{short}, false},
		"overflow":        {[]*rec.Entry{over}, false},
	} {
		var k Checker
		var err error
		for _, e := range c.es {
			if err = k.Next(e); err != nil {
				break
			}
		}
		if err == nil {
			err = k.Finish()
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
		if name == "good" && (k.Entries != 5 || k.Bytes != 13) {
			t.Errorf("counted %d entries, %d bytes", k.Entries, k.Bytes)
		}
	}
}

// Behind what was passed over, parents, leaders and the beginnings of files may be
// absent; order and pieces are checked all the same.
func TestCheckerSkips(t *testing.T) {
	piece := func(off uint64, more bool) *rec.Entry {
		return &rec.Entry{Path: "d/f", Type: rec.File, Size: 9, Off: off, More: more, Extents: []rec.Extent{{Hole: true, Len: 3}}}
	}
	link := &rec.Entry{Path: "e/l", Type: rec.HardLink, Leader: "a"}
	var k Checker
	next := func(want error, es ...*rec.Entry) {
		t.Helper()
		for _, e := range es {
			if err := k.Next(e); !errors.Is(err, want) {
				t.Fatalf("%s: %v, want %v", KeyOf(e), err, want)
			}
		}
	}
	next(nil, file("a"), &rec.Entry{Path: "b", Type: rec.File, Size: 9, More: true, Extents: []rec.Extent{{Hole: true, Len: 3}}})
	k.Skip()
	next(ErrSkipped, piece(3, true), piece(6, false))
	next(nil, file("d/g"), link)
	rest := piece(6, false)
	rest.Path = "e/m"
	next(ErrPage, rest)
	next(rec.ErrOrder, file("e/k"), piece(6, false))
	if k.Finish() != nil || k.Entries != 4 {
		t.Error(k.Entries)
	}
}

// A name that came as a link or a file never becomes a directory behind a page that was lost or
// passed over: neither one that is believed to be there, nor one that is made up.
func TestCheckerNoParentOfAFile(t *testing.T) {
	symlink := &rec.Entry{Path: "d/s", Type: rec.Symlink, Target: "/etc"}
	further := &rec.Entry{Path: "d/s", Type: rec.HardLink, Leader: "a"} // whose first name is lost, or was passed over
	first := &rec.Entry{Path: "d/s", Type: rec.File, Size: 9, More: true, Extents: []rec.Extent{{Hole: true, Len: 3}}}
	last := &rec.Entry{Path: "d/s", Type: rec.File, Size: 9, Off: 6, Extents: []rec.Extent{{Hole: true, Len: 3}}}
	lost := func(k *Checker) { k.Gap(Key{Path: "d/s"}) }
	amid := func(k *Checker) { k.Gap(Key{Path: "d/s", Off: 3}) }
	skip := (*Checker).Skip
	for name, c := range map[string]struct {
		es     []any // entries, and what happens between them
		parent []string
		want   error
	}{
		"a lost directory":         {[]any{dir("d"), lost, file("d/s/x")}, []string{"d/s"}, nil},
		"two of them":              {[]any{lost, file("d/s/x")}, []string{"d", "d/s"}, nil},
		"a link":                   {[]any{dir("d"), symlink, lost, file("d/s/x")}, nil, ErrPage},
		"a link, deeper":           {[]any{dir("d"), symlink, lost, file("d/s/x/y")}, nil, ErrPage},
		"a link, passed over":      {[]any{dir("d"), symlink, skip, file("d/s/x")}, nil, ErrPage},
		"a link, lost and passed":  {[]any{dir("d"), symlink, skip, lost, file("d/s/x")}, nil, ErrPage},
		"an empty file":            {[]any{dir("d"), file("d/s"), lost, file("d/s/x")}, nil, ErrPage},
		"a first piece":            {[]any{dir("d"), first, amid, file("d/s/x")}, nil, ErrPage},
		"a lost piece":             {[]any{dir("d"), amid, file("d/s/x")}, nil, ErrPage},
		"an orphan's piece":        {[]any{dir("d"), amid, last, file("d/s/x")}, nil, ErrPage},
		"a piece passed over":      {[]any{dir("d"), skip, last, file("d/s/x")}, nil, ErrPage},
		"an orphan":                {[]any{lost, further, file("d/s/x")}, nil, ErrPage},
		"a further name":           {[]any{skip, further, file("d/s/x")}, nil, ErrPage},
		"its own first name":       {[]any{lost, &rec.Entry{Path: "d/s/x", Type: rec.HardLink, Leader: "d/s"}}, nil, ErrPage},
		"a name that goes before":  {[]any{lost, symlink, file("e"), file("d/s/x")}, nil, rec.ErrOrder},
		"only a beginning of it":   {[]any{dir("d"), symlink, lost, file("d/s2/x")}, []string{"d/s2"}, nil},
		"behind an orphan, orphan": {[]any{lost, further, &rec.Entry{Path: "d/r", Type: rec.HardLink, Leader: "a"}}, nil, rec.ErrOrder},
	} {
		var k Checker
		var parents []string
		var err error
		for _, e := range c.es {
			switch e := e.(type) {
			case func(*Checker):
				e(&k)
			case *rec.Entry:
				parents = k.Parents(e)
				err = k.Next(e)
			}
		}
		if !errors.Is(err, c.want) || err == nil && !slices.Equal(parents, c.parent) || err != nil && len(parents) > 0 {
			t.Errorf("%s: %v, parents are %q", name, err, parents)
		}
	}
}

func TestDistinct(t *testing.T) {
	a, b := strings.Repeat("a", 32), strings.Repeat("b", 32)
	if !Distinct([]byte(a+b)) || Distinct([]byte(a+b+a)) || !Distinct(nil) {
		t.Fatal("Distinct is wrong")
	}
}

func FuzzPage(f *testing.F) {
	f.Add(encode(dir("a"), file("a/b", rec.Extent{N: 0, Len: 5})), 1)
	f.Add(encode(dir("")), 0)
	f.Fuzz(func(t *testing.T, b []byte, nrefs int) {
		es, err := Decode(b, nrefs)
		if err != nil {
			return
		}
		if out := encode(es...); !bytes.Equal(out, b) {
			t.Fatalf("decoded, encoded otherwise:\n%x\n%x", b, out)
		}
		var k Checker
		for _, e := range es {
			_ = k.Next(e)
		}
	})
}

func FuzzIndex(f *testing.F) {
	w := wire.NewWriter()
	EncodeIndex(w, []Key{{"a", 0}, {"a", 9}, {"b", 0}})
	f.Add(w.Bytes(), 3)
	f.Fuzz(func(t *testing.T, b []byte, nrefs int) {
		keys, err := DecodeIndex(b, nrefs)
		if err != nil {
			return
		}
		w := wire.NewWriter()
		if EncodeIndex(w, keys); !bytes.Equal(w.Bytes(), b) {
			t.Fatalf("decoded, encoded otherwise:\n%x\n%x", b, w.Bytes())
		}
	})
}

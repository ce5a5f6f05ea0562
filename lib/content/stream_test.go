package content

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
)

// bytesOf is a stream of a kind, with a head and an end.
func bytesOf(t *testing.T, kind rec.Kind, rs ...rec.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	for _, r := range append(append([]rec.Record{&rec.Head{Kind: kind, Host: "h", User: "u"}}, rs...), &rec.End{}) {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// read reads a stream, and puts what it holds in order.
func read(stream []byte, o ReadOptions) (log []string, err error) {
	var w writer
	err = InOrder(&w, 0, func(s Sink) error {
		return Read(rec.NewReader(bytes.NewReader(stream), rec.Content), o, s)
	})
	return w.log, err
}

func chunkOf(n uint64, data string) *rec.Chunk { return &rec.Chunk{N: n, Data: []byte(data)} }

func of(p string, size uint64, xs ...rec.Extent) *rec.Entry {
	return &rec.Entry{Path: p, Type: rec.File, Size: size, Extents: xs}
}

func x(n, off, length uint64) rec.Extent { return rec.Extent{N: n, Off: off, Len: length} }

func TestReadStream(t *testing.T) {
	huge := of("b", 0, x(0, 0, 4))
	huge.More = true
	rest := of("b", 9, x(0, 4, 5))
	rest.Off = 4
	log, err := read(bytesOf(t, rec.Content,
		&rec.Entry{Path: "", Type: rec.Dir}, chunkOf(0, "firstonly"), of("a", 5, x(0, 0, 5)),
		&rec.Cut{Keep: 1}, huge, chunkOf(1, "more"), &rec.Cut{Keep: 2}, rest, of("c", 6, x(1, 0, 4), rec.Extent{Hole: true, Len: 2}), of("d", 0)), ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "snapshot", "entry ", "entry a", "done a at 0 of 5: first", "entry b", "done b at 4 of 9: firstonly", "entry c", "done c at 0 of 6: more--", "entry d", "done d at 0 of 0: ", "end")
}

// What a stream says of what is lost reaches the sink as a loss: of a file, or of entries.
func TestReadMissing(t *testing.T) {
	huge := of("a", 0, x(0, 0, 4))
	huge.More = true
	lost := id.ID{7}
	for name, c := range map[string]struct {
		rs   []rec.Record
		want []string
	}{
		"of a file":          {[]rec.Record{chunkOf(0, "half"), huge, &rec.Cut{}, &rec.Missing{ID: lost}, of("b", 0)}, []string{"snapshot", "entry a", "lost 070000000000 of a, begun true", "done a at 4 of 5: half?????", "entry b", "done b at 0 of 0: ", "end"}},
		"of entries":         {[]rec.Record{of("a", 0), &rec.Missing{ID: lost}, of("c/d", 0)}, []string{"snapshot", "entry a", "done a at 0 of 0: ", "gap a at 1 c/d", "entry c", "entry c/d", "done c/d at 0 of 0: ", "end"}},
		"of all that follow": {[]rec.Record{of("a", 0), &rec.Missing{ID: lost}}, []string{"snapshot", "entry a", "done a at 0 of 0: ", "gap a at 1 <nil>", "end"}},
		"of a file and more": {[]rec.Record{chunkOf(0, "half"), huge, &rec.Cut{}, &rec.Missing{ID: lost}, &rec.Missing{ID: lost}, of("c", 0)}, []string{"snapshot", "entry a", "lost 070000000000 of a, begun true", "done a at 4 of 5: half?????", "gap a at 1 c", "entry c", "done c at 0 of 0: ", "end"}},
		"a link to nothing":  {[]rec.Record{&rec.Missing{ID: lost}, &rec.Entry{Path: "l", Type: rec.HardLink, Leader: "k"}}, []string{"snapshot", "gap \"\" l", "orphan l", "end"}},
	} {
		log, err := read(bytesOf(t, rec.Content, c.rs...), ReadOptions{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.Equal(log, c.want) {
			t.Errorf("%s:\n%q\nwant\n%q", name, log, c.want)
		}
	}
}

func TestReadRefuses(t *testing.T) {
	more := of("a", 0, x(0, 0, 1))
	more.More = true
	piece := of("a", 9, x(0, 0, 1))
	piece.Off = 8
	blob := of("a", 1, rec.Extent{ID: id.ID{1}, Len: 1})
	for name, c := range map[string]struct {
		rs   []rec.Record
		want error
	}{
		"no such chunk":        {[]rec.Record{chunkOf(0, "x"), of("a", 1, x(1, 0, 1))}, ErrContent},
		"a chunk that was cut": {[]rec.Record{chunkOf(0, "x"), of("a", 0), &rec.Cut{}, of("b", 1, x(0, 0, 1))}, ErrContent},
		"beyond a chunk":       {[]rec.Record{chunkOf(0, "x"), of("a", 2, x(0, 0, 2))}, ErrContent},
		"behind a chunk":       {[]rec.Record{chunkOf(0, "x"), of("a", 1, x(0, 1<<23, 1))}, ErrContent},
		"a blob":               {[]rec.Record{blob}, ErrContent},
		"chunk out of turn":    {[]rec.Record{chunkOf(1, "x")}, ErrContent},
		"keeps too much":       {[]rec.Record{chunkOf(0, "x"), of("a", 0), &rec.Cut{Keep: 2}}, ErrContent},
		"size":                 {[]rec.Record{chunkOf(0, "x"), of("a", 2, x(0, 0, 1))}, nil},
		"order":                {[]rec.Record{of("b", 0), of("a", 0)}, rec.ErrOrder},
		"twice":                {[]rec.Record{of("a", 0), of("a", 0)}, rec.ErrOrder},
		"no parent":            {[]rec.Record{of("a/b", 0)}, page.ErrPage},
		"below a file":         {[]rec.Record{of("a", 0), of("a/b", 0)}, page.ErrPage},
		"link to nothing":      {[]rec.Record{&rec.Entry{Path: "b", Type: rec.HardLink, Leader: "a"}}, page.ErrPage},
		"no next piece":        {[]rec.Record{chunkOf(0, "x"), more}, page.ErrPage},
		"another piece":        {[]rec.Record{chunkOf(0, "x"), more, piece}, page.ErrPage},
		"a piece alone":        {[]rec.Record{chunkOf(0, "x"), piece}, page.ErrPage},
	} {
		_, err := read(bytesOf(t, rec.Content, c.rs...), ReadOptions{})
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.HasPrefix(err.Error(), "record ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	stream := bytesOf(t, rec.Content, chunkOf(0, "x"), of("a", 1, x(0, 0, 1)), &rec.Cut{})
	for n := range stream {
		if _, err := read(stream[:n], ReadOptions{}); err == nil {
			t.Fatalf("%d bytes of %d are taken", n, len(stream))
		}
	}
}

// A tree stream is read where it will do. It may lack directories; it has no contents.
func TestReadTree(t *testing.T) {
	stream := bytesOf(t, rec.Tree, of("a/b", 7), &rec.Entry{Path: "c", Type: rec.HardLink, Leader: "a/x"})
	if _, err := read(stream, ReadOptions{}); !errors.Is(err, rec.ErrKind) {
		t.Error(err)
	}
	log, err := read(stream, ReadOptions{Meta: true, Trees: true})
	if err != nil {
		t.Fatal(err)
	}
	wantLog(t, log, "snapshot", "entry a/b", "done a/b at 0 of 7: ", "entry c", "end")
	if _, err := read(bytesOf(t, rec.Tree, of("a", 1, rec.Extent{Hole: true, Len: 1})), ReadOptions{Meta: true, Trees: true}); !errors.Is(err, ErrContent) {
		t.Error(err)
	}
}

// Names that come before all entries are the snapshot's; others come late.
func TestReadNames(t *testing.T) {
	var late int
	names := &rec.Names{Users: []rec.Name{{ID: 1, Name: "eve"}}}
	if _, err := read(bytesOf(t, rec.Content, names, of("a", 0), names, names), ReadOptions{Late: func(u, _ []rec.Name) { late += len(u) }}); err != nil || late != 2 {
		t.Errorf("%d late, %v", late, err)
	}
}

// More than is kept in memory comes back from the spool, whatever is named when.
func TestReadKept(t *testing.T) {
	var rs []rec.Record
	const n, size = 9, 6 << 20 // 54 MiB
	for i := range uint64(n) {
		rs = append(rs, chunkOf(i, strings.Repeat(fmt.Sprint(i), size)))
	}
	for i := range uint64(n) {
		rs = append(rs, of(fmt.Sprint(i), 1, x(n-1-i, size-1, 1)))
	}
	log, err := read(bytesOf(t, rec.Content, rs...), ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if want := fmt.Sprintf("done %d at 0 of 1: %d", i, n-1-i); !slices.Contains(log, want) {
			t.Errorf("nothing of %q", want)
		}
	}
}

// What the Writer writes, Read reads: the round trip.
func TestWriteAndRead(t *testing.T) {
	var b bytes.Buffer
	out := rec.NewWriter(&b)
	w, err := NewWriter(out, rec.Head{Kind: rec.Content, Host: "h", User: "u"})
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(err)
	check(w.Names([]rec.Name{{ID: 1, Name: "eve"}}, nil))
	check(w.Entry(&rec.Entry{Path: "", Type: rec.Dir}))
	var want []string
	want = append(want, "snapshot", "entry ")
	for i := range 2500 {
		text := strings.Repeat("x", i%40)
		w.Begin(&rec.Entry{Path: fmt.Sprintf("%04d", i), Type: rec.File})
		check(w.Data([]byte(text)))
		if i%7 == 0 {
			check(w.Hole(3))
			text += "---"
		}
		check(w.Done(uint64(len(text)), false))
		want = append(want, fmt.Sprintf("entry %04d", i), fmt.Sprintf("done %04d at 0 of %d: %s", i, len(text), text))
	}
	w.Begin(&rec.Entry{Path: "big", Type: rec.File})
	big := strings.Repeat("0123456789", 1<<20)
	for part := range slices.Chunk([]byte(big), 700_001) {
		check(w.Data(part))
	}
	check(w.Done(uint64(len(big)), true))
	check(w.Finish(false))
	log, err := read(b.Bytes(), ReadOptions{})
	check(err)
	got := log[:len(want)]
	wantLog(t, got, want...)
	if last := log[len(log)-2]; !strings.HasPrefix(last, "done big at ") || !strings.HasSuffix(last, " of 10485760: "+big) {
		t.Errorf("%.40s…", last)
	}
}

// Whatever bytes come, reading ends, with or without an error.
func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	more := of("a", 0, x(0, 0, 1))
	more.More = true
	for _, r := range []rec.Record{&rec.Head{Kind: rec.Content, Host: "h", User: "u"}, chunkOf(0, "x"), more, &rec.Cut{Keep: 1}, &rec.Missing{ID: id.ID{7}}, of("b", 1, x(0, 0, 1)), &rec.End{}} {
		if err := w.Write(r); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(b.Bytes())
	f.Fuzz(func(_ *testing.T, stream []byte) {
		_, _ = read(stream, ReadOptions{Trees: true})
	})
}

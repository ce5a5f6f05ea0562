// Package sealtest makes keys and sealed streams for tests of tools that read them.
package sealtest

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"preserve/lib/box"
	"preserve/lib/key"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/wire"
)

var (
	keyDir string
	master *key.Key
)

// Main runs tests with key files: read, list and cut of one master key. It is for TestMain.
func Main(m *testing.M) int {
	var err error
	if keyDir, err = os.MkdirTemp("", "sealtest"); err != nil {
		panic(err)
	}
	if master, err = key.FromMaster([32]byte{1}); err != nil {
		panic(err)
	}
	for _, kind := range []key.Kind{key.Read, key.List, key.Cut} {
		k, err := master.Derive(kind, "")
		if err != nil {
			panic(err)
		}
		if err := k.Save(filepath.Join(keyDir, kind.String())); err != nil {
			panic(err)
		}
	}
	defer os.RemoveAll(keyDir)

	return m.Run()
}

// KeyFile is a key file of a kind: read, list or cut.
func KeyFile(kind string) string { return filepath.Join(keyDir, kind) }

// A Stream under construction.
type Stream struct {
	T   *testing.T
	Box *box.Sealer
	Out bytes.Buffer
	W   *rec.Writer
}

// New begins a stream, with its head and session.
func New(t *testing.T, order string) *Stream {
	b, err := box.NewSealer(master, box.Fastest)
	if err != nil {
		t.Fatal(err)
	}
	s := &Stream{T: t, Box: b}
	s.W = rec.NewWriter(&s.Out)
	return s.Put(&rec.Head{Kind: rec.Sealed, Order: order}, &rec.Session{Data: b.Session()})
}

// Put writes records.
func (s *Stream) Put(rs ...rec.Record) *Stream {
	for _, r := range rs {
		if err := s.W.Write(r); err != nil {
			s.T.Fatal(err)
		}
	}
	return s
}

// Bytes ends the stream and returns it.
func (s *Stream) Bytes() []byte { return s.Put(&rec.End{}).Out.Bytes() }

// Blob seals a blob.
func (s *Stream) Blob(kind uint8, plain []byte, refs ...*rec.Blob) *rec.Blob {
	var r []byte
	for _, b := range refs {
		r = append(r, b.ID[:]...)
	}
	i := s.Box.Name(kind, r, plain)
	data, err := s.Box.Seal(nil, kind, i, r, plain)
	if err != nil {
		s.T.Fatal(err)
	}
	b := &rec.Blob{ID: i, Kind: kind, SID: s.Box.SID(), Refs: r, Data: data}
	if kind == rec.KindSnapshot {
		b.Sig = s.Box.Sign(i)
	}
	b.CRC = b.Sum()
	return b
}

// Page seals a page of entries.
func (s *Stream) Page(es []*rec.Entry, refs ...*rec.Blob) *rec.Blob {
	w := wire.NewWriter()
	page.Encode(w, es)
	return s.Blob(rec.KindPage, w.Bytes(), refs...)
}

// Index seals an index page of a kind.
func (s *Stream) Index(kind uint8, keys []page.Key, refs ...*rec.Blob) *rec.Blob {
	w := wire.NewWriter()
	page.EncodeIndex(w, keys)
	return s.Blob(kind, w.Bytes(), refs...)
}

// Snapshot seals and signs a snapshot over a root.
func (s *Stream) Snapshot(root *rec.Blob, sn snap.Snapshot) *rec.Blob {
	sn.WriterKey, sn.WriterName, sn.WriterCert = s.Box.Writer()
	plain, err := sn.Encode()
	if err != nil {
		s.T.Fatal(err)
	}
	return s.Blob(rec.KindSnapshot, plain, root)
}

// Dir is an entry of a directory.
func Dir(p string) *rec.Entry { return &rec.Entry{Path: p, Type: rec.Dir, Mode: 0o755} }

// File is an entry of a file that belongs to the user who runs the test.
func File(p string, ext ...rec.Extent) *rec.Entry {
	e := &rec.Entry{Path: p, Type: rec.File, Mode: 0o644, UID: uint32(os.Getuid()), GID: uint32(os.Getgid()), Extents: ext}
	for _, x := range ext {
		e.Size += x.Len
	}
	return e
}

// X is an extent.
func X(n, off, length uint64) rec.Extent { return rec.Extent{N: n, Off: off, Len: length} }

// Content is the records of a content stream, with a head of no roots and an end.
func Content(t *testing.T, rs ...rec.Record) []byte {
	t.Helper()
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	for _, r := range append(append([]rec.Record{&rec.Head{Kind: rec.Content, Host: "h", User: "u"}}, rs...), &rec.End{}) {
		if err := w.Write(r); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// Uncut puts the files of an uncut content stream together again, by path: their first entries, and their
// contents, holes as zeros. It checks what docs/format/streams.md asks of such a stream, and of who writes it.
func Uncut(t *testing.T, stream []byte) (entries map[string]*rec.Entry, data map[string]string) {
	t.Helper()
	entries, data = map[string]*rec.Entry{}, map[string]string{}
	var chunks [][]byte
	since, inPage := 0, 0
	for in := rec.NewReader(bytes.NewReader(stream), rec.Content); ; {
		v, err := in.Next()
		if err == io.EOF {
			return entries, data
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Head:
			if v.Chunker != nil {
				t.Error("it names a chunker")
			}
		case *rec.Chunk:
			if v.N != uint64(len(chunks)) {
				t.Fatalf("chunk %d as number %d", v.N, len(chunks))
			}
			since += len(v.Data)
			chunks = append(chunks, bytes.Clone(v.Data))
		case *rec.Entry:
			if err := v.CheckContent(); err != nil {
				t.Fatal(err)
			}
			if entries[v.Path] == nil {
				entries[v.Path] = v
			}
			entries[v.Path].Size = v.Size
			for _, x := range v.Extents {
				if x.Hole {
					data[v.Path] += string(make([]byte, x.Len))
				} else {
					data[v.Path] += string(chunks[x.N][x.Off : x.Off+x.Len])
				}
			}
			inPage++
		case *rec.Cut:
			if since > 4<<20+rec.MaxChunk || inPage > 1024 || inPage == 0 {
				t.Errorf("%d bytes and %d entries between two cuts", since, inPage)
			}
			chunks, since, inPage = nil, 0, 0
		case *rec.End:
			if inPage > 0 || len(chunks) > 0 {
				t.Error("something behind the last cut")
			}
		}
	}
}

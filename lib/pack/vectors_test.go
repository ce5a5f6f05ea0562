package pack

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/vectors"
)

var update = flag.Bool("update", false, "write the vectors anew")

// The parts of the examples in docs/format/repository.md.
func exampleNonce() (n [rec.NonceSize]byte) {
	for i := range n {
		n[i] = byte(i)
	}
	return n
}

func exampleSession() *rec.Session {
	s := &rec.Session{Data: make([]byte, rec.SessionSize)}
	for i := range s.Data {
		s.Data[i] = byte(i % 251)
	}
	return s
}

func exampleBlobs() []*rec.Blob {
	s := exampleSession()
	data := &rec.Blob{ID: id.ID(bytes.Repeat([]byte{0xda}, 32)), SID: SID(s), Data: []byte("sealed data")}
	page := &rec.Blob{ID: id.ID(bytes.Repeat([]byte{0x9a}, 32)), Kind: 1, SID: SID(s), Refs: data.ID[:], Data: []byte("sealed page")}
	snap := &rec.Blob{ID: id.ID(bytes.Repeat([]byte{0x5a}, 32)), Kind: 9, SID: SID(s), Refs: page.ID[:], Data: []byte("sealed snapshot"), Sig: bytes.Repeat([]byte{0x51}, 64)}
	for _, b := range []*rec.Blob{data, page, snap} {
		b.CRC = b.Sum()
	}
	return []*rec.Blob{data, page, snap}
}

func examplePack(t testing.TB, blobs ...*rec.Blob) (data []byte, name id.ID, list []Entry) {
	t.Helper()
	var b bytes.Buffer
	w, err := NewWriter(&b, exampleNonce())
	for _, x := range blobs {
		if err == nil {
			err = w.Session(exampleSession())
		}
		if err == nil {
			err = w.Blob(x)
		}
	}
	if err == nil {
		name, err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), name, w.Entries()
}

// verdict is what a decoder says, for a vector.
func verdict(c vectors.Fields, err error) vectors.Fields {
	switch {
	case errors.Is(err, ErrVersion):
		return append(c, vectors.Field{Name: "error", Value: "newer"})
	case errors.Is(err, ErrDamaged):
		return append(c, vectors.Field{Name: "error", Value: "damaged"})
	case err != nil:
		return append(c, vectors.Field{Name: "error", Value: err.Error()})
	}
	return c
}

func packCase(what string, data []byte) vectors.Fields {
	c := vectors.Fields{{Name: "case", Value: what}, {Name: "pack", Value: data}}
	name, list, err := Check(bytes.NewReader(data))
	if err != nil {
		return verdict(c, err)
	}
	c = append(c, vectors.Field{Name: "name", Value: name[:]})
	for _, e := range list {
		c = append(c, vectors.Field{Name: "row", Value: fmt.Sprintf("%v kind %d offset %d length %d crc %08x", e.ID, e.Kind, e.Offset, e.Length, e.CRC)})
	}
	return c
}

func TestPackVectors(t *testing.T) {
	blobs := exampleBlobs()
	good, _, list := examplePack(t, blobs[0])
	change := func(old, repl string) []byte {
		if !bytes.Contains(good, []byte(old)) {
			t.Fatalf("%q is not in the pack", old)
		}
		return bytes.Replace(good, []byte(old), []byte(repl), 1)
	}
	meta, _, _ := examplePack(t, blobs[1], blobs[2])
	empty, _, _ := examplePack(t)
	behind := int(list[1].Offset + list[1].Length)
	blob := good[list[1].Offset:behind]
	twice := slices.Concat(good[:behind], blob, good[behind:])
	cases := []vectors.Fields{
		packCase("a data pack", good),
		packCase("a metadata pack", meta),
		packCase("an empty pack", empty),
		packCase("a flipped bit in a blob", change("sealed data", "sealed dat`")),
		packCase("a record that the toc does not list", twice),
		packCase("cut off before its end", good[:len(good)-1]),
		packCase("a byte behind its end", append(slices.Clone(good), 0)),
		packCase("order up", change("\xa5loose", "\xa2up")),
		packCase("an integer in a long form", change("\xa4kind\x00", "\xa4kind\xcc\x00")),
		packCase("another status", change("status\x00", "status\x03")),
	}
	text := vectors.Render("Packs: docs/format/repository.md, \"Packs\". Each case that has no error has the\npack's name and the rows of its toc.\n", cases)
	text.Compare(t, "repository/packs.txt", *update)
	if n := strings.Count(text.String(), "\nerror ="); n != len(cases)-3 {
		t.Fatalf("%d errors:\n%s", n, text)
	}
}

func segmentCase(what string, data []byte) vectors.Fields {
	c := vectors.Fields{{Name: "case", Value: what}, {Name: "segment", Value: data}}
	s, err := ParseSegment(data)
	if err != nil {
		return verdict(c, err)
	}
	bare, name := c, s.Name()
	c = append(c, vectors.Field{Name: "name", Value: name[:]})
	for i := range s.Len() {
		r, err := s.Row(i)
		if err != nil {
			return verdict(bare, err)
		}
		p := s.Packs()[r.Pack]
		c = append(c, vectors.Field{Name: "row", Value: fmt.Sprintf("%v kind %d in pack %v of %d bytes at %d length %d", r.ID, r.Kind, p.Name, p.Size, r.Offset, r.Length)})
	}
	return c
}

func exampleSegment(t testing.TB) []byte {
	blobs := exampleBlobs()
	data, name, list := examplePack(t, blobs[0])
	meta, metaName, metaList := examplePack(t, blobs[1], blobs[2])
	return mustEncode(t, []List{{Pack{name, uint64(len(data))}, list}, {Pack{metaName, uint64(len(meta))}, metaList}})
}

func TestSegmentVectors(t *testing.T) {
	good := exampleSegment(t)
	body := good[:segHeader+2*packSize+5*RowSize]
	patch := func(off int, v ...byte) []byte {
		b := slices.Clone(body)
		copy(b[off:], v)
		return seal(b)
	}
	row := segHeader + 2*packSize
	swapped := slices.Concat(body[:row], body[row+RowSize:row+2*RowSize], body[row:row+RowSize], body[row+2*RowSize:])
	flipped := slices.Clone(good)
	flipped[200] ^= 1
	large := mustEncode(t, randomLists(3, 2, 60, uniform))
	cases := []vectors.Fields{
		segmentCase("two packs", good),
		segmentCase("no packs", mustEncode(t, nil)),
		segmentCase("two blocks", large),
		segmentCase("a flipped bit", flipped),
		segmentCase("rows out of order", seal(swapped)),
		segmentCase("a pack that the table does not have", patch(row+32, 0, 0, 0, 2)),
		segmentCase("a place behind the pack's end", patch(row+36, 0xff, 0xff, 0xff, 0xff)),
		segmentCase("an unknown kind", patch(row+44, 11)),
		segmentCase("an unknown flag", patch(row+45, 0x80)),
		segmentCase("padding that is not zero", patch(row+46, 1)),
		segmentCase("version 2", patch(3, '2')),
		segmentCase("a byte behind the end", append(slices.Clone(good), 0)),
	}
	text := vectors.Render("Index segments: docs/format/repository.md, \"Index segments\". Each case that has\nno error has its name and its rows, in order. \"newer\" is what a later version may allow.\n", cases)
	text.Compare(t, "repository/segments.txt", *update)
	if n := strings.Count(text.String(), "\nerror ="); n != len(cases)-3 {
		t.Fatalf("%d errors:\n%s", n, text)
	}
}

// dump writes bytes as the document has them: 16 a line, in hex and as text.
func dump(b []byte, at int) string {
	var out strings.Builder
	for n := 0; n < len(b); n += 16 {
		line := b[n:min(n+16, len(b))]
		fmt.Fprintf(&out, "    %5d  %-47s  %s\n", at+n, fmt.Sprintf("% x", line), ascii(line))
	}
	return out.String()
}

// ascii replaces what is no printable text, so that it is one rune a byte.
func ascii(b []byte) []byte {
	out := slices.Clone(b)
	for i, c := range out {
		if c < 0x20 || c > 0x7e {
			out[i] = '.'
		}
	}
	return out
}

// The worked examples in the document are what the code writes.
func TestDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/format/repository.md")
	if err != nil {
		t.Fatal(err)
	}
	data, name, list := examplePack(t, exampleBlobs()[0])
	session, blob := list[0], list[1]
	toc := int(blob.Offset + blob.Length)
	ends := bytes.LastIndex(data, []byte(endPrefix))
	segment := exampleSegment(t)
	for what, text := range map[string]string{
		"the pack's head":       dump(data[:session.Offset], 0),
		"the session's begin":   dump(data[session.Offset:session.Offset+48], int(session.Offset)),
		"the blob":              dump(data[blob.Offset:toc], int(blob.Offset)),
		"the toc":               dump(data[toc:ends], toc),
		"the end":               dump(data[ends:], ends),
		"the pack's name":       name.String(),
		"the segment":           dump(segment, 0),
		"the segment's length":  fmt.Sprintf("%d bytes", len(segment)),
		"the session's id":      session.ID.String(),
		"the length of a head":  fmt.Sprintf("%d bytes", headLen),
		"the length of a pack":  fmt.Sprintf("%d bytes", len(data)),
		"the limit of entries":  "262,144",
		"the limit of packs":    "1,048,576",
		"the row's size":        "48 bytes",
		"the segment's version": segMagic,
	} {
		if !strings.Contains(string(doc), text) {
			t.Errorf("%s: the document does not have\n%s", what, text)
		}
	}
}

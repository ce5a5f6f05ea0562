package tarball

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// block makes a header; edit may change it before its checksum is made.
func block(name string, flag byte, size int, edit func(b []byte)) []byte {
	b := make([]byte, blockSize)
	copy(b, name)
	copy(b[100:], "0000644")
	copy(b[124:], fmt.Sprintf("%011o", size))
	b[156] = flag
	copy(b[257:], "ustar\x0000")
	if edit != nil {
		edit(b)
	}
	sum := 8 * int(' ')
	for i, c := range b {
		if i < 148 || i >= 156 {
			sum += int(c)
		}
	}
	copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
	return b
}

func padded(s string) []byte { return append([]byte(s), make([]byte, -len(s)&(blockSize-1))...) }

// paxHeader makes an extended header of keys and values.
func paxHeader(flag byte, words ...string) []byte {
	var s strings.Builder
	for i := 0; i < len(words); i += 2 {
		rest := " " + words[i] + "=" + words[i+1] + "\n"
		n := len(rest) + 1
		for len(fmt.Sprint(n))+len(rest) != n {
			n++
		}
		fmt.Fprint(&s, n, rest)
	}
	return append(block("x", flag, s.Len(), nil), padded(s.String())...)
}

var zeros = make([]byte, 2*blockSize)

// sparseArchives hold one file each, of 1 MiB with data at 4096 and 8192, in the
// formats in which GNU tar writes it.
func sparseArchives() map[string][]byte {
	data := strings.Repeat("A", 1000) + strings.Repeat("B", 24)
	pairs := func(b []byte, ns ...int) {
		for i, n := range ns {
			copy(b[12*i:], fmt.Sprintf("%011o", n))
		}
	}
	old := func(more bool) []byte {
		return block("f", 'S', len(data), func(b []byte) {
			copy(b[257:], "ustar  \x00")
			pairs(b[386:], 4096, 1000, 8192, 24)
			if more {
				copy(b[386:], make([]byte, 96))
				pairs(b[386:], 4096, 400, 4496, 600)
				b[482] = 1
			} else {
				pairs(b[386+48:], 1<<20, 0)
			}
			copy(b[483:], fmt.Sprintf("%011o", 1<<20))
		})
	}
	extension := make([]byte, blockSize)
	pairs(extension, 8192, 24, 1<<20, 0)
	size := fmt.Sprint(1 << 20)
	inData := string(padded("3\n4096\n1000\n8192\n24\n1048576\n0\n")) + data
	return map[string][]byte{
		"old":           bytes.Join([][]byte{old(false), padded(data), zeros}, nil),
		"old, extended": bytes.Join([][]byte{old(true), extension, padded(data), zeros}, nil),
		"0.0": bytes.Join([][]byte{paxHeader('x', "GNU.sparse.size", size, "GNU.sparse.numblocks", "2",
			"GNU.sparse.offset", "4096", "GNU.sparse.numbytes", "1000", "GNU.sparse.offset", "8192", "GNU.sparse.numbytes", "24"),
			block("f", '0', len(data), nil), padded(data), zeros}, nil),
		"0.1": bytes.Join([][]byte{paxHeader('x', "GNU.sparse.size", size, "GNU.sparse.numblocks", "3", "GNU.sparse.name", "f", "GNU.sparse.map", "4096,1000,8192,24,1048576,0"),
			block("GNUSparseFile.1/f", '0', len(data), nil), padded(data), zeros}, nil),
		"1.0": bytes.Join([][]byte{paxHeader('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.name", "f", "GNU.sparse.realsize", size),
			block("GNUSparseFile.1/f", '0', len(inData), nil), padded(inData), zeros}, nil),
	}
}

// The holes of a file are holes, in every format.
func TestSparse(t *testing.T) {
	content := make([]byte, 1<<20)
	copy(content[4096:], strings.Repeat("A", 1000))
	copy(content[8192:], strings.Repeat("B", 24))
	for name, b := range sparseArchives() {
		for how, src := range sources(t, b) {
			got, err := unpacked(src(), runBytes)
			if err != nil {
				t.Errorf("%s, %s: %v", name, how, err)
				continue
			}
			want := "f file 1048576 data [4096 5096 8192 8216]"
			if name == "old, extended" {
				want = "f file 1048576 data [4096 4496 4496 5096 8192 8216]"
			}
			if len(got.lines) != 1 || got.lines[0] != want {
				t.Errorf("%s, %s: %q", name, how, got.lines)
			}
			if got.contents["f"] != string(content) {
				t.Errorf("%s, %s: another content", name, how)
			}
		}
	}
}

// Maps that lie are errors, and the sizes that they claim cost nothing.
func TestSparseLies(t *testing.T) {
	pax := func(size, m string, data string) []byte {
		return bytes.Join([][]byte{paxHeader('x', "GNU.sparse.size", size, "GNU.sparse.map", m), block("f", '0', len(data), nil), padded(data), zeros}, nil)
	}
	for name, b := range map[string][]byte{
		"going back":          pax("100", "50,2,10,2", "1234"),
		"overlapping":         pax("100", "10,2,11,2", "1234"),
		"beyond the size":     pax("100", "10,2,99,2", "1234"),
		"more than there is":  pax("100", "10,20", "1234"),
		"too large":           pax("9223372036854775807", "9223372036854775806,2", "12"),
		"no numbers":          pax("100", "a,b", "12"),
		"half a pair":         pax("100", "10", "12"),
		"negative":            pax("100", "-1,2", "12"),
		"no size":             bytes.Join([][]byte{paxHeader('x', "GNU.sparse.map", "0,1"), block("f", '0', 1, nil), padded("1"), zeros}, nil),
		"a map without end":   bytes.Join([][]byte{paxHeader('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9"), block("f", '0', 512, nil), padded("9999999\n1\n1\n"), zeros}, nil),
		"no line in the map":  bytes.Join([][]byte{paxHeader('x', "GNU.sparse.major", "1", "GNU.sparse.minor", "0", "GNU.sparse.realsize", "9"), block("f", '0', 512, nil), bytes.Repeat([]byte("1"), 512), zeros}, nil),
		"a huge header":       bytes.Join([][]byte{block("x", 'x', 1<<33-1, nil), zeros}, nil),
		"a huge name":         bytes.Join([][]byte{block("x", 'L', 1<<33-1, nil), zeros}, nil),
		"a record of no size": bytes.Join([][]byte{block("x", 'x', 8, nil), padded("0 a=b\n\n\n"), block("f", '0', 0, nil), zeros}, nil),
		"many global keys":    paxHeader('g', manyWords(maxGlobalKeys+1)...),
	} {
		if _, err := unpacked(bytes.NewReader(b), runBytes); !errors.Is(err, ErrBad) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := unpacked(bytes.NewReader(pax("9223372036854775807", "9223372036854775806,1", "x")), runBytes)
	if err != nil || len(got.lines) != 1 || got.lines[0] != "f file 9223372036854775807 data [9223372036854775806 9223372036854775807]" {
		t.Errorf("the largest file: %v, %q", err, got.lines)
	}
}

func manyWords(n int) (words []string) {
	for i := range n {
		words = append(words, fmt.Sprint("k", i), "v")
	}
	return words
}

// A global header holds for all members behind it, until it is taken back.
func TestGlobal(t *testing.T) {
	b := bytes.Join([][]byte{
		paxHeader('g', "mtime", "5.25", "uname", "eve"), block("a", '0', 0, nil),
		paxHeader('x', "mtime", ""), block("b", '0', 0, nil),
		paxHeader('g', "mtime", ""), block("c", '0', 0, nil), zeros}, nil)
	got, err := unpacked(bytes.NewReader(b), runBytes)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"a": "{5 250000000}", "b": "{0 0}", "c": "{0 0}"} {
		if m := got.entries[name].MTime; fmt.Sprint(m) != want {
			t.Errorf("%s: %v, want %s", name, m, want)
		}
	}
}

// What extended headers say before one member is bounded, however many there are.
func TestExtendedLimits(t *testing.T) {
	var many []string
	for i := range maxKeys + 1 {
		many = append(many, fmt.Sprint("k", i), "v")
	}
	few := paxHeader('x', "SCHILY.xattr.user.a", "b")
	for name, c := range map[string]struct {
		parts [][]byte
		want  string
	}{
		"two":         {[][]byte{few, paxHeader('x', "uname", "eve"), block("a", '0', 0, nil), zeros}, ""},
		"keys":        {[][]byte{paxHeader('x', many...), block("a", '0', 0, nil), zeros}, "more than 65536 keys"},
		"one each":    {[][]byte{few, block("a", '0', 0, nil), few, block("b", '0', 0, nil), zeros}, ""},
		"one between": {[][]byte{few, paxHeader('g', "uname", "eve"), block("a", '0', 0, nil), zeros}, ""},
	} {
		got, err := unpacked(bytes.NewReader(bytes.Join(c.parts, nil)), runBytes)
		if c.want == "" {
			if err != nil || len(got.entries["a"].XAttrs) != 1 {
				t.Errorf("%s: %v", name, err)
			}
		} else if !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever comes, the entries form a tree, and contents can be read.
func FuzzRead(f *testing.F) {
	for _, b := range sparseArchives() {
		f.Add(b)
	}
	f.Add(packed(f, file("a", "x"), linkTo("b", "a"), file("a", "y"), of('5', "d/", ""), file("d/../e", "z"), of('2', "s", "t"), file("s/x", "")))
	f.Add(packed(f, file("long/"+strings.Repeat("n", 200), "x")))
	f.Add(paxHeader('g', "SCHILY.xattr.user.a", "b", "SCHILY.acl.access", "user::rwx,user:1:r--,mask::r--"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fixed := fixSums(b)
		one, err := unpacked(bytes.NewReader(fixed), runBytes)
		two, err2 := unpacked(bytes.NewReader(fixed), 1)
		if (err == nil) != (err2 == nil) || fmt.Sprint(one.lines, one.said) != fmt.Sprint(two.lines, two.said) {
			t.Fatalf("in memory: %v %q %q\non disk: %v %q %q", err, one.lines, one.said, err2, two.lines, two.said)
		}
		for _, known := range []error{ErrBad, ErrCut, ErrLimit} {
			if errors.Is(err, known) {
				err = nil
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	})
}

// fixSums makes the checksum of everything that looks like a header hold.
func fixSums(b []byte) []byte {
	b = bytes.Clone(b)
	for at := 0; at+blockSize <= len(b); at += blockSize {
		h := b[at : at+blockSize]
		if string(h[257:262]) != "ustar" {
			continue
		}
		sum := 8 * int(' ')
		for i, c := range h {
			if i < 148 || i >= 156 {
				sum += int(c)
			}
		}
		copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	}
	return b
}

// What GNU tar reads we read, too: a file that has more data than its map has places for, two
// extended headers before a member, a time that is not one.
func TestReadAsOthersDo(t *testing.T) {
	for name, c := range map[string]struct {
		parts [][]byte
		want  string
		warns int
	}{
		"more data than the map":         {[][]byte{paxHeader('x', "GNU.sparse.size", "8", "GNU.sparse.map", "2,2"), block("f", '0', 4, nil), padded("1234"), zeros}, "\x00\x0012\x00\x00\x00\x00", 1},
		"two extended headers":           {[][]byte{paxHeader('x', "path", "g"), paxHeader('x', "path", "f"), block("x", '0', 4, nil), padded("1234"), zeros}, "1234", 0},
		"a time that is none":            {[][]byte{paxHeader('x', "mtime", "17480.1a"), block("f", '0', 4, nil), padded("1234"), zeros}, "1234", 0},
		"a directory with a size":        {[][]byte{block("d/", 0, 1024, nil), block("f", '0', 4, nil), padded("1234"), zeros}, "1234", 0},
		"a link with a size and no data": {[][]byte{block("f", '0', 4, nil), padded("1234"), block("l", '1', 4, func(b []byte) { copy(b[157:], "f") }), block("z", '0', 0, nil), zeros}, "1234", 0},
		"a link with data":               {[][]byte{block("f", '0', 4, nil), padded("1234"), block("l", '1', 4, func(b []byte) { copy(b[157:], "f") }), padded("1234"), block("z", '0', 0, nil), zeros}, "1234", 0},
		"a link with data, to nothing":   {[][]byte{paxHeader('x', "path", "f"), block("l", '1', 4, func(b []byte) { copy(b[157:], "no") }), padded("1234"), block("z", '0', 0, nil), zeros}, "1234", 0},
	} {
		for how, src := range map[string]io.Reader{"file": bytes.NewReader(bytes.Join(c.parts, nil)), "pipe": iotest.OneByteReader(bytes.NewReader(bytes.Join(c.parts, nil)))} {
			got, err := unpacked(src, runBytes)
			if err != nil {
				t.Errorf("%s, %s: %v", name, how, err)
				continue
			}
			if got.contents["f"] != c.want || len(got.said) != c.warns {
				t.Errorf("%s, %s: %q, %q", name, how, got.contents, got.said)
			}
			if _, last := got.entries["z"]; !last && len(c.parts) > 5 {
				t.Errorf("%s, %s: what follows is lost", name, how)
			}
		}
	}
}

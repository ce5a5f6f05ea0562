package rec

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"preserve/lib/vectors"
	"preserve/lib/wire"
)

// A vector is one case of a vector file: see testdata/vectors/streams.
type vector struct {
	file, name, stream string
	strict             bool
	bytes, canonical   []byte
	records            []string
	class              string
}

// readVectors reads all vector files of a directory. None is a failure.
func readVectors(t testing.TB, dir string) (vs []vector) {
	t.Helper()
	files, err := filepath.Glob(vectors.Dir + dir + "/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no vectors in %s: %v", dir, err)
	}
	for _, file := range files {
		file = filepath.Base(file)
		for _, c := range vectors.Read(t, dir+"/"+file) {
			for name := range c {
				if !slices.Contains(vectorNames, name) {
					t.Fatalf("%s: %s: no such name", file, name)
				}
			}
			vs = append(vs, vector{file, c.Text("case"), c.Text("stream"), c["strict"] != nil,
				c["bytes"], c["canonical"], c.Records(), c.Text("error")})
		}
	}
	return vs
}

// vectorNames is the names that a case can have. refs and tree are of snapshots: packages page and
// snap look at them.
var vectorNames = []string{"case", "stream", "strict", "bytes", "canonical", "record", "error", "refs", "tree"}

// classes are the words for errors in vector files and docs/format/streams.md.
var classes = map[string]error{
	"empty": ErrEmpty, "cut": ErrCut, "not ours": ErrNotOurs, "version": ErrVersion, "kind": ErrKind,
	"unknown": ErrUnknown, "twice": ErrTwice, "absent": ErrAbsent, "not valid": ErrBad, "after": ErrAfter,
	"path": ErrPath, "order": ErrOrder, "field": errField, "limit": wire.ErrLimit, "type": wire.ErrType,
	"canonical": wire.ErrCanonical, "checksum": ErrSum,
}

func TestVectors(t *testing.T) {
	good, bad := 0, 0
	for _, v := range readVectors(t, "streams") {
		t.Run(v.file+"/"+v.name, func(t *testing.T) {
			for name, src := range map[string]io.Reader{"whole": bytes.NewReader(v.bytes), "bytewise": iotest.OneByteReader(bytes.NewReader(v.bytes))} {
				r := NewReader(src, Kind(v.stream))
				if v.strict {
					r.Strict()
				}
				got, err := readAll(r)
				if v.class != "" {
					bad++
					var fail *FailError
					want, known := classes[v.class]
					if !known && v.class != "fail" || known && !errors.Is(err, want) || v.class == "fail" && !errors.As(err, &fail) {
						t.Errorf("%s: error %v, want %q", name, err, v.class)
					}
					continue
				}
				good++
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				out, _ := streamOf(t, got...)
				want := v.bytes
				if v.canonical != nil {
					want = v.canonical
				}
				if !bytes.Equal(out, want) {
					t.Errorf("%s: written again\n got %x\nwant %x", name, out, want)
				}
			}
		})
	}
	if good < 5 || bad < 20 {
		t.Errorf("%d good cases, %d bad ones", good, bad)
	}
}

// The text beside the bytes says what is in the bytes, by a reading of msgpack
// that shares nothing with package wire.
func TestVectorTexts(t *testing.T) {
	n := 0
	for _, dir := range []string{"streams", "snapshots"} {
		for _, v := range readVectors(t, dir) {
			rest := v.bytes
			for _, want := range v.records {
				got, tail, err := notation(rest)
				if err != nil || got != want {
					t.Errorf("%s: %s: %v\n got %s\nwant %s", v.file, v.name, err, got, want)
					break
				}
				rest = tail
				n++
			}
			if len(v.records) > 0 && len(rest) > 0 && v.class == "" {
				t.Errorf("%s: %s: %d bytes without text", v.file, v.name, len(rest))
			}
		}
	}
	if n == 0 {
		t.Error("no texts")
	}
}

// notation writes the msgpack value that b begins with as text: str in double
// quotes, bin in single ones if it is printable ASCII, else as h'hex', and floats
// behind their type.
func notation(b []byte) (text string, rest []byte, err error) {
	if len(b) == 0 {
		return "", nil, io.ErrUnexpectedEOF
	}
	code, rest := b[0], b[1:]
	number := func(size int) (n uint64) {
		var p [8]byte
		if len(rest) < size {
			err = io.ErrUnexpectedEOF
			return 0
		}
		copy(p[8-size:], rest[:size])
		rest = rest[size:]
		return binary.BigEndian.Uint64(p[:])
	}
	take := func(n uint64) []byte {
		if n > uint64(len(rest)) {
			err = io.ErrUnexpectedEOF
			return nil
		}
		p := rest[:n]
		rest = rest[n:]
		return p
	}
	list := func(n uint64, pairs bool) string {
		var parts []string
		for ; n > 0 && err == nil; n-- {
			var s, v string
			s, rest, err = notation(rest)
			if pairs && err == nil {
				v, rest, err = notation(rest)
				s += ": " + v
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ", ")
	}
	bin := func(p []byte) string {
		for _, c := range p {
			if c < 0x20 || c > 0x7e || c == '\'' || c == '\\' {
				return "h'" + hex.EncodeToString(p) + "'"
			}
		}
		return "'" + string(p) + "'"
	}
	switch {
	case code < 0x80:
		text = strconv.Itoa(int(code))
	case code < 0x90:
		text = "{" + list(uint64(code&15), true) + "}"
	case code < 0xa0:
		text = "[" + list(uint64(code&15), false) + "]"
	case code < 0xc0:
		text = strconv.Quote(string(take(uint64(code & 31))))
	case code >= 0xe0:
		text = strconv.Itoa(int(int8(code)))
	case code == 0xc0:
		text = "null"
	case code == 0xc2, code == 0xc3:
		text = strconv.FormatBool(code == 0xc3)
	case code >= 0xc4 && code <= 0xc6:
		text = bin(take(number(1 << (code - 0xc4))))
	case code == 0xca:
		text = "float32 " + strconv.FormatFloat(float64(math.Float32frombits(uint32(number(4)))), 'g', -1, 32)
	case code == 0xcb:
		text = "float64 " + strconv.FormatFloat(math.Float64frombits(number(8)), 'g', -1, 64)
	case code >= 0xcc && code <= 0xcf:
		text = strconv.FormatUint(number(1<<(code-0xcc)), 10)
	case code >= 0xd0 && code <= 0xd3:
		size := 1 << (code - 0xd0)
		shift := 64 - 8*size
		text = strconv.FormatInt(int64(number(size)<<shift)>>shift, 10)
	case code >= 0xd9 && code <= 0xdb:
		text = strconv.Quote(string(take(number(1 << (code - 0xd9)))))
	case code == 0xdc, code == 0xdd:
		text = "[" + list(number(2<<(code-0xdc)), false) + "]"
	case code == 0xde, code == 0xdf:
		text = "{" + list(number(2<<(code-0xde)), true) + "}"
	default:
		err = fmt.Errorf("code %#x", code)
	}
	return text, rest, err
}

package page

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"preserve/lib/rec"
	"preserve/lib/vectors"
	"preserve/lib/wire"
)

// A vector is one case of a file in testdata/vectors/snapshots. Package rec
// compares its records with its bytes.
type vector struct {
	name, tree, class string
	refs              int
	bytes             []byte
}

func readVectors(t testing.TB, file string) (vs []vector) {
	t.Helper()
	for _, c := range vectors.Read(t, "snapshots/"+file) {
		refs := 0
		if text := c.Text("refs"); text != "" {
			var err error
			if refs, err = strconv.Atoi(text); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
		}
		vs = append(vs, vector{c.Text("case"), c.Text("tree"), c.Text("error"), refs, c["bytes"]})
	}
	return vs
}

// classes are the words for errors in vector files and docs/format/snapshots.md.
var classes = map[string]error{
	"page": ErrPage, "order": rec.ErrOrder, "path": rec.ErrPath, "unknown": rec.ErrUnknown, "twice": rec.ErrTwice,
	"not valid": rec.ErrBad, "type": wire.ErrType, "canonical": wire.ErrCanonical, "short": wire.ErrShort,
}

func (v *vector) judge(t *testing.T, err error, again []byte) {
	t.Helper()
	switch {
	case v.class == "" && err != nil:
		t.Error(err)
	case v.class == "" && !bytes.Equal(again, v.bytes):
		t.Errorf("written again\n got %x\nwant %x", again, v.bytes)
	case v.class == "":
	case classes[v.class] == nil || !errors.Is(err, classes[v.class]) || !errors.Is(err, ErrPage):
		t.Errorf("error %v, want %q", err, v.class)
	}
}

func TestPageVectors(t *testing.T) {
	for _, v := range readVectors(t, "pages.txt") {
		t.Run(v.name, func(t *testing.T) {
			es, err := Decode(v.bytes, v.refs)
			v.judge(t, err, encode(es...))
		})
	}
}

func TestIndexVectors(t *testing.T) {
	for _, v := range readVectors(t, "indexes.txt") {
		t.Run(v.name, func(t *testing.T) {
			keys, err := DecodeIndex(v.bytes, v.refs)
			w := wire.NewWriter()
			EncodeIndex(w, keys)
			v.judge(t, err, w.Bytes())
		})
	}
}

func TestTreeVectors(t *testing.T) {
	for _, v := range readVectors(t, "trees.txt") {
		t.Run(v.name, func(t *testing.T) {
			es, err := Decode(v.bytes, v.refs)
			if err != nil {
				t.Fatal(err)
			}
			var k Checker
			for _, e := range es {
				if err = k.Next(e); err != nil {
					break
				}
			}
			if err == nil {
				err = k.Finish()
			}
			switch holds := fmt.Sprintf("holds, %d entries, %d bytes", k.Entries, k.Bytes); {
			case v.class == "" && (err != nil || v.tree != holds):
				t.Errorf("%s (%v), want %s", holds, err, v.tree)
			case v.class == "sum" && err == nil, v.class != "" && v.class != "sum" && !errors.Is(err, classes[v.class]):
				t.Errorf("error %v, want %q", err, v.class)
			}
		})
	}
}

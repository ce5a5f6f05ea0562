package cache

import (
	"bytes"
	"encoding/hex"
	"flag"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/wire"
)

var show = flag.Bool("show", false, "write the example of the format's page to the log")

// The example of docs/format/cache.md is what the writer writes and the reader
// reads. Of the document, the hex digits in front of each line of its code block
// count.
func TestExample(t *testing.T) {
	master, err := key.FromMaster([32]byte(func() (b []byte) {
		for n := range byte(32) {
			b = append(b, n)
		}
		return b
	}()))
	if err != nil {
		t.Fatal(err)
	}
	cut, _ := master.Cut()
	var random []byte
	for n := range byte(randomSize) {
		random = append(random, 0xa0+n)
	}
	job := Job{Key: master.ID(), Chunker: rec.Chunker{Name: "gear1", Min: 262144, Avg: 1048576, Max: 4194304}, Host: "nas", Roots: []rec.Root{{Dir: "/home", Path: "eve"}}}
	blob, err := id.Parse("0c428701ccede0dbc7a8b8ea98d18ab5bad085461148d4fce1750622bbcece2d")
	if err != nil {
		t.Fatal(err)
	}
	snapshot, err := id.Parse("9e25cbf4ed865dea109624ea3b0c88ff9fea7accda019d39f960dfb8df7d611d")
	if err != nil {
		t.Fatal(err)
	}
	root, err := id.Parse("8fe8df28e872b5906e63097f24918e11311e04905dfb6eeba60ba1b23587aeab")
	if err != nil {
		t.Fatal(err)
	}
	p := page{refs: []id.ID{blob}, entries: []*rec.Entry{
		{Path: "eve", Type: rec.Dir, Mode: 0o755, UID: 1000, GID: 1000, MTime: rec.Time{Sec: 1699999000}, CTime: rec.Time{Sec: 1699999000}, Ino: 12, Dev: 2049},
		{Path: "eve/a", Type: rec.File, Mode: 0o644, UID: 1000, GID: 1000, MTime: rec.Time{Sec: 1699999000, Nsec: 250000000}, Size: 6, Links: 2,
			Extents: []rec.Extent{{Len: 6}}, CTime: rec.Time{Sec: 1699999001, Nsec: 5}, Ino: 13, Dev: 2049},
		{Path: "eve/b", Type: rec.HardLink, Leader: "eve/a"},
	}}
	name := filepath.Join(t.TempDir(), snapshot.String())
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(append([]byte(magic), random...)); err != nil {
		t.Fatal(err)
	}
	w := &Writer{file: f, sum: newSum(cut.Cache(), append([]byte(magic), random...)), w: wire.NewWriter()}
	w.start()
	(&header{job, rec.Time{Sec: 1700000000, Nsec: 5}}).encode(w.w)
	if err := w.finish(kindHeader); err != nil {
		t.Fatal(err)
	}
	write(t, w, p)
	if err := w.trail(snapshot, root); err != nil {
		t.Fatal(err)
	}
	w.end()
	file, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if *show {
		t.Logf("%x", file)
	}
	r, err := Open(filepath.Dir(name), snapshot, cut.Cache(), job)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := all(r)
	if err != io.EOF {
		t.Fatal(err)
	}
	same(t, got, want([]page{p}))

	doc, err := os.ReadFile("../../docs/format/cache.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, found := strings.Cut(string(doc), "\n## Example\n")
	if !found {
		t.Fatal("the document has no example")
	}
	var digits strings.Builder
	for _, m := range regexp.MustCompile(`(?m)^    ([0-9a-f]+)\b`).FindAllStringSubmatch(example, -1) {
		digits.WriteString(m[1])
	}
	if documented, err := hex.DecodeString(digits.String()); err != nil || !bytes.Equal(documented, file) {
		t.Errorf("the example is %d bytes, the file %d, and they differ (-show gives the file's): %v", len(documented), len(file), err)
	}
}

package test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"preserve/lib/key"
	"preserve/lib/tool"
	"preserve/lib/tools/get"
	"preserve/lib/tools/put"
)

// restore reads the repository as it lies there, as pv-get and a reader do.
func (f *flipped) restore() (*taker, error) {
	var out bytes.Buffer
	err := get.Run(tool.NewEnv("pv-get", []string{f.dir, f.snap.String()}, nil, &out, io.Discard))
	if err != nil && !errors.Is(err, tool.ErrPartial) && out.Len() == 0 {
		return &taker{log: map[string]bool{}}, err
	}
	k, werr := f.walk(out.Bytes())
	return k, werr
}

// objects returns the paths of the repository's files.
func (f *flipped) objects() (paths []string) {
	f.t.Helper()
	err := filepath.WalkDir(f.dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			paths = append(paths, p)
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return paths
}

// TestFlipsAtRest flips bits of a repository's files. A flip in a record is found by
// its checksum, and the record is then another copy's, or missing; nothing is ever
// restored as something else. (With -flips.all every bit; else some of each file.)
func TestFlipsAtRest(t *testing.T) {
	f := newFlipped(t)
	stride := map[string]int{"index": 11, "config": 1, "snapshots": 101, "packs": 61, "checkpoints": 499, "ballast": 40009, "lock": 1}
	y := tally{}
	for _, path := range f.objects() {
		rel, _ := filepath.Rel(f.dir, path)
		dir, _, _ := strings.Cut(rel, "/")
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		file, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		step := stride[dir]
		if *everyFlip && dir != "ballast" {
			step = 1
		}
		if step == 0 {
			t.Fatalf("what is %s?", rel)
		}
		for bit := 0; bit < 8*len(good); bit += step {
			at := int64(bit / 8)
			if _, err := file.WriteAt([]byte{good[at] ^ 1<<(bit%8)}, at); err != nil {
				t.Fatal(err)
			}
			k, err := f.restore()
			y.count(dir, f.judge(rel, k, err))
			if _, err := file.WriteAt(good[at:at+1], at); err != nil {
				t.Fatal(err)
			}
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if k, err := f.restore(); err != nil || f.judge("in the end", k, err) != isSame {
		t.Fatalf("in the end: %v", err)
	}
	for _, dir := range []string{"packs", "config"} {
		if y[dir][isRefused]+y[dir][isMissing] == 0 {
			t.Errorf("%s: no flip had an effect", dir)
		}
	}
	if n := y["index"][isRefused] + y["index"][isMissing]; n > 0 {
		t.Errorf("index: %d flips had an effect, though the packs say themselves what is in them", n)
	}
	any := -1 // what a restore does not need, or has twice
	y.report(t, 3_000, map[string]int{"packs": any, "index": any, "config": any, "snapshots": any, "checkpoints": any, "ballast": any})
}

// TestFlipsOfAWrappedKey flips each bit of a wrapped key as a repository keeps it.
func TestFlipsOfAWrappedKey(t *testing.T) {
	dir := t.TempDir()
	k, err := key.New()
	if err != nil {
		t.Fatal(err)
	}
	phrase := []byte("abandon ability able about")
	file, err := k.Wrap(phrase, key.Cost{Time: 1, Memory: 8, Threads: 1}, time.Unix(1_700_000_000, 0))
	if err != nil {
		t.Fatal(err)
	}
	repo := filepath.Join(dir, "repo")
	tools(t, func(e *tool.Env) error { _, err := e.Stdout.Write(file); return err }, []string{}, put.Run, []string{"--key", "mine", repo})
	path := filepath.Join(repo, "keys", "mine")
	good, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(good, file) {
		t.Fatalf("%v\n%s", err, good)
	}
	want := k.Marshal(time.Unix(0, 0))
	pem := bytes.Index(good, []byte("-----BEGIN"))
	y := tally{}
	for bit := range 8 * len(good) {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		part := "lines for people"
		if bit >= 8*pem {
			part = "PEM"
		}
		w, err := key.ParseWrapped(bad)
		if err != nil {
			y.count(part, isRefused)
			continue
		}
		work := uint64(w.Time) * uint64(w.Memory) // KiB
		if work > 1<<21 || work > 1<<16 && !*everyFlip {
			y.count("asks for more work", isRefused) // and would be refused behind it: the cost is bound like the rest
			continue
		}
		got, err := w.Open(phrase)
		switch {
		case err != nil:
			y.count(part, isRefused)
		case !bytes.Equal(got.Marshal(time.Unix(0, 0)), want):
			t.Fatalf("bit %d: another key", bit)
		default:
			y.count(part, isSame)
		}
	}
	// In PEM, white space, and the bits of the last digit that stand for nothing.
	if n := y["PEM"][isSame]; n > 8*8 {
		t.Errorf("%d flips in PEM have no effect", n)
	}
	y.report(t, 2_000, map[string]int{"PEM": -1, "lines for people": -1})
}

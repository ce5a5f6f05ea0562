package chunk

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"preserve/lib/bounds"
	"preserve/lib/cache"
	"preserve/lib/cdc"
	"preserve/lib/id"
	"preserve/lib/key"
	pages "preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/source"
	"preserve/lib/tool"
	"preserve/lib/wire"
)

// A vault is what pv-seal and a repository are to pv-chunk: it keeps chunks, makes
// pages, and writes the cache of the next run.
type vault struct {
	t     testing.TB
	dir   string // of the caches
	key   *key.Key
	blobs map[id.ID][]byte
	// fine are sizes of chunks that make several pieces of a file of megabytes.
	fine bool
}

// A snapshot is one in a vault.
type snapshot struct {
	id      id.ID
	root    id.ID // changes with any page
	base    []id.ID
	entries map[string]*rec.Entry // the first record of each path
	data    map[string][]byte     // content, from wherever it lies
	pages   []onePage
	read    int // bytes of chunks that came
	stderr  string
	status  int
	end     *rec.End
}

// A onePage is what a test asks of a page.
type onePage struct {
	first   string
	entries int
	blobs   int // distinct, of small files
}

func newVault(t testing.TB) *vault {
	t.Helper()
	src, err := source.OpenRoots([]rec.Root{{Dir: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	if !src.FileSystem(&rec.Entry{Type: rec.Dir}).ChangeTimes {
		t.Skip("the file system of TMPDIR does not keep change times of its own: no file is trusted there")
	}
	k, _, err := key.Load(keyFile(t, "master"))
	if err != nil {
		t.Fatal(err)
	}
	return &vault{t: t, dir: t.TempDir(), key: k, blobs: map[id.ID][]byte{}}
}

// start is when the scans of a vault's tests begin, unless they say when: later
// than anything that they make, so that margin alone decides.
func start() rec.Time { return rec.TimeOf(time.Now().Add(time.Hour)) }

// run chunks a tree stream and keeps the result.
func (v *vault) run(stream []byte, args ...string) *snapshot {
	v.t.Helper()
	out, stderr, status := v.chunk(stream, args...)
	if status == 1 || status == 2 {
		v.t.Fatalf("status %d: %s", status, stderr)
	}
	s := v.keep(out)
	s.stderr, s.status = stderr, status
	return s
}

func (v *vault) chunk(stream []byte, args ...string) (out []byte, stderr string, status int) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-chunk", append([]string{"--settle", "0", "-k", keyFile(v.t, "master")}, args...), bytes.NewReader(stream), &o, &e)
	if !v.fine {
		status = env.Status(Run(env))
		return o.Bytes(), e.String(), status
	}
	var old cacheOptions
	fs := env.Flags()
	old.flags(fs)
	fs.String("k", "", "")
	settle := tool.Duration(fs, "settle", 0)
	if _, err := env.Parse(fs, ""); err != nil {
		v.t.Fatal(err)
	}
	w := &work{env: env, in: env.Stdin, out: rec.NewWriter(&o), key: v.key, settle: *settle, params: cdc.Params{Min: 256, Avg: 1024, Max: 4096}, old: &old}
	status = env.Status(w.out.Close("pv-chunk", w.run()))
	return o.Bytes(), e.String(), status
}

// on are the words for a run on earlier snapshots.
func (v *vault) on(base ...*snapshot) []string {
	words := []string{"--cache", v.dir, "--base", ""}
	for i, s := range base {
		if i > 0 {
			words[3] += ","
		}
		words[3] += s.id.String()
	}
	return words
}

// keep does with a content stream what pv-seal does.
func (v *vault) keep(stream []byte) *snapshot {
	v.t.Helper()
	s := &snapshot{entries: map[string]*rec.Entry{}, data: map[string][]byte{}}
	in := rec.NewReader(bytes.NewReader(stream), rec.Content)
	head, err := in.Head()
	if err != nil {
		v.t.Fatal(err)
	}
	s.base = head.Base
	cut, _ := v.key.Cut()
	w, err := cache.Create(v.dir, cut.Cache(), cache.JobOf(head, v.key.ID()), head.Time, head.Base)
	if err != nil {
		v.t.Fatal(err)
	}
	defer w.Abort()
	var check pages.Checker
	var chunks []id.ID
	var entries []*rec.Entry
	root := sha256.New()
	for {
		r, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			v.t.Fatal(err)
		}
		switch r := r.(type) {
		case *rec.Chunk:
			i := id.ID(sha256.Sum256(r.Data))
			s.read += len(r.Data)
			v.blobs[i] = bytes.Clone(r.Data)
			chunks = append(chunks, i)
			r.Free()
		case *rec.Entry:
			if err := check.Next(r); err != nil {
				v.t.Fatal(err)
			}
			entries = append(entries, r)
		case *rec.Cut:
			v.page(s, w, root, chunks, entries)
			chunks, entries = slices.Clone(chunks[len(chunks)-int(r.Keep):]), nil
		case *rec.End:
			s.end = r
		}
	}
	if err := check.Finish(); err != nil || len(entries) > 0 || s.end == nil {
		v.t.Fatal("the stream does not end as it should", err)
	}
	s.root = id.ID(root.Sum(nil))
	s.id = sha256.Sum256(fmt.Appendf(s.root[:], "%d %d", len(v.blobs), time.Now().UnixNano()))
	if err := w.Finish(s.id, s.root, nil); err != nil {
		v.t.Fatal(err)
	}
	return s
}

// page does what pv-seal does at a cut.
func (v *vault) page(s *snapshot, w *cache.Writer, root io.Writer, chunks []id.ID, entries []*rec.Entry) {
	v.t.Helper()
	var refs pages.Refs
	small := map[id.ID]bool{}
	for _, e := range entries {
		if s.entries[e.Path] == nil {
			first := *e
			s.entries[e.Path] = &first
		}
		for i := range e.Extents {
			x := &e.Extents[i]
			if x.Hole {
				s.data[e.Path] = append(s.data[e.Path], make([]byte, x.Len)...)
				continue
			}
			if x.ID.IsZero() {
				x.ID = chunks[x.N]
			}
			blob, ok := v.blobs[x.ID]
			if !ok || x.Off+x.Len > uint64(len(blob)) {
				v.t.Fatalf("%s lies in blob %s at %d…%d, which is not there", e.Path, x.ID, x.Off, x.Off+x.Len)
			}
			s.data[e.Path] = append(s.data[e.Path], blob[x.Off:x.Off+x.Len]...)
			if isSmall(e) {
				small[x.ID] = true
			}
			x.N, x.ID = refs.Index(x.ID), id.ID{}
		}
	}
	enc := wire.NewWriter()
	pages.Encode(enc, entries)
	if len(entries) > bounds.MaxEntries || len(refs.Bytes) > bounds.MaxRefs*id.Size || len(enc.Bytes()) > bounds.MaxBytes && len(entries) > 1 {
		v.t.Fatalf("a page of %d entries, %d references, %d bytes", len(entries), len(refs.Bytes)/id.Size, len(enc.Bytes()))
	}
	_, _ = root.Write(refs.Bytes) // a hash takes all
	_, _ = root.Write(enc.Bytes())
	s.pages = append(s.pages, onePage{entries[0].Path, len(entries), len(small)})
	var list []id.ID
	for b := range slices.Chunk(refs.Bytes, id.Size) {
		list = append(list, id.ID(b))
	}
	if err := w.Page(list, entries); err != nil {
		v.t.Fatal(err)
	}
}

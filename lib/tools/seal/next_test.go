package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"preserve/lib/box"
	"preserve/lib/cache"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/walk"
)

// content is a tree of two pages; base are the snapshots that it rests on.
func content(base ...id.ID) []rec.Record {
	h := head()
	h.Base = base
	return []rec.Record{h, chunk(0, "hello"), chunk(1, "world"), dir("a"), file("a/1", x(0, 0, 5)), file("a/2", x(1, 0, 5)), &rec.Cut{},
		chunk(0, "third"), file("b", x(0, 0, 5)), &rec.Cut{}, &rec.End{}}
}

// sealed seals records and opens what comes of them. It wants status 0.
func sealed(t *testing.T, rs []rec.Record, args ...string) (o *opened, stderr string) {
	t.Helper()
	out, stderr, status := seal(streamOf(t, rs...), append(writeKey(), args...)...)
	if status != 0 {
		t.Fatal(status, stderr)
	}
	stored := len(rs[0].(*rec.Head).Base) > 0 || slices.Contains(args, "--known")
	return openOn(t, out, stored), stderr
}

func quietly(t *testing.T, rs []rec.Record, args ...string) *opened {
	t.Helper()
	o, stderr := sealed(t, rs, args...)
	if stderr != "" {
		t.Fatal(stderr)
	}
	return o
}

func (o *opened) root() id.ID { return o.snap.Ref(0) }

// plain opens a snapshot.
func (o *opened) plain(b *rec.Blob, partial bool) *snap.Snapshot {
	o.t.Helper()
	k, _, err := key.Load(filepath.Join(keyDir, "read"))
	if err != nil {
		o.t.Fatal(err)
	}
	opener, err := box.NewOpener(k)
	if err != nil {
		o.t.Fatal(err)
	}
	if _, err := opener.AddSession(o.sess.Data); err != nil {
		o.t.Fatal(err)
	}
	sn, err := walk.OpenSnapshot(opener, b)
	if err != nil || sn.Partial != partial {
		o.t.Fatal(sn, err)
	}
	return sn
}

// ids writes a list of ids.
func list(t *testing.T, ids ...id.ID) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "ids")
	var b strings.Builder
	for _, i := range ids {
		b.WriteString(i.String() + "\n")
	}
	if err := os.WriteFile(name, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// job opens the cache of snapshot i.
func job(t *testing.T, dir string, i id.ID) (*cache.Reader, error) {
	t.Helper()
	k, _, err := key.Load(filepath.Join(keyDir, "cut"))
	if err != nil {
		t.Fatal(err)
	}
	cut, _ := k.Cut()
	return cache.Open(dir, i, cut.Cache(), cache.JobOf(head(), k.ID()))
}

func remembered(t *testing.T, dir string, i id.ID) (entries []*rec.Entry) {
	t.Helper()
	r, err := job(t, dir, i)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for {
		e, err := r.Next()
		if err == io.EOF {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, e)
	}
}

// Chunks that a cut keeps are named by later entries, under new numbers: the same
// tree comes of it.
func TestChunksAhead(t *testing.T) {
	want := quietly(t, content()).root()
	ahead := []rec.Record{head(), chunk(0, "hello"), chunk(1, "never named"), chunk(2, "world"), dir("a"), chunk(3, "third"), file("a/1", x(0, 0, 5)), file("a/2", x(2, 0, 5)),
		&rec.Cut{Keep: 1}, chunk(1, "nor this"), file("b", x(0, 0, 5)), &rec.Cut{}, &rec.End{}}
	if o := quietly(t, ahead); o.root() != want {
		t.Error("another tree came of it")
	}
	for name, c := range map[string]struct {
		recs []rec.Record
		want string
	}{
		"too many":    {[]rec.Record{chunk(0, "x"), dir("a"), &rec.Cut{Keep: 2}}, "keeps 2 chunks, and only 1 can be named"},
		"let go":      {[]rec.Record{chunk(0, "x"), chunk(1, "y"), dir("a"), &rec.Cut{Keep: 1}, file("b", x(1, 0, 1))}, "names chunk 1, and only 1 can be named"},
		"kept at end": {[]rec.Record{chunk(0, "x"), dir("a"), &rec.Cut{Keep: 1}, &rec.End{}}, "kept by it"},
		"old number":  {[]rec.Record{chunk(0, "x"), chunk(1, "y"), dir("a"), &rec.Cut{Keep: 1}, chunk(2, "z")}, "chunk 2 comes where chunk 1 belongs"},
		"length":      {[]rec.Record{chunk(0, "long"), chunk(1, "y"), dir("a"), &rec.Cut{Keep: 1}, file("b", x(0, 0, 2))}, "ends at byte 2 of a chunk of 1"},
	} {
		_, stderr, status := seal(streamOf(t, append([]rec.Record{head()}, c.recs...)...), writeKey()...)
		if status != 1 || !strings.Contains(stderr, c.want) {
			t.Errorf("%s: %d %q", name, status, stderr)
		}
	}
}

func TestMostChunks(t *testing.T) {
	rs := []rec.Record{head()}
	for n := range uint64(rec.MaxRefs) {
		rs = append(rs, chunk(n, "x"))
	}
	quietly(t, append(slices.Clone(rs), dir("a"), &rec.Cut{Keep: rec.MaxRefs}, dir("b"), &rec.Cut{}, &rec.End{}))
	rs = append(rs, dir("a"), &rec.Cut{Keep: rec.MaxRefs}, chunk(rec.MaxRefs-1, "y"))
	if _, stderr, status := seal(streamOf(t, rs...), writeKey()...); status != 1 || !strings.Contains(stderr, "more than 65536 chunks") {
		t.Error(status, stderr)
	}
}

func TestKnown(t *testing.T) {
	first := quietly(t, content())
	known := list(t, first.order...)
	o := quietly(t, content(), "--known", known)
	if len(o.order) != 1 || o.snap == nil || o.root() != first.root() {
		t.Errorf("%d blobs were sent", len(o.order))
	}
	for n, i := range first.order[:len(first.order)-1] { // all kinds but the snapshot
		want := 4 // two pages, the index page, the snapshot
		if first.blobs[i].Kind == rec.KindData {
			want++
		}
		o := quietly(t, content(), "--known", known, "--distrust", list(t, i))
		if _, ok := o.blobs[i]; !ok || len(o.order) != want {
			t.Errorf("blob %d of kind %d: %d blobs were sent", n, first.blobs[i].Kind, len(o.order))
		}
	}
	if o := quietly(t, content(), "--known", known, "--distrust", list(t)); len(o.order) != 1 {
		t.Errorf("nothing is distrusted: %d blobs were sent", len(o.order))
	}
	for _, flag := range []string{"--known", "--distrust"} {
		bad := filepath.Join(t.TempDir(), "bad")
		if err := os.WriteFile(bad, []byte(first.order[0].String()), 0o600); err != nil { // the newline was cut off
			t.Fatal(err)
		}
		for _, name := range []string{bad, bad + "-absent"} {
			out, stderr, status := seal(streamOf(t, content()...), append(writeKey(), flag, name)...)
			if status != 1 || !strings.Contains(stderr, flag) || !strings.Contains(stderr, "bad") || bytes.Contains(out, []byte("session")) {
				t.Errorf("%d %q", status, stderr)
			}
		}
	}
}

// byID returns the content stream that pv-chunk makes of an unchanged tree.
func byID(t *testing.T, entries []*rec.Entry, base ...id.ID) []rec.Record {
	h := head()
	h.Base, h.Time.Sec = base, h.Time.Sec+1
	rs := []rec.Record{h}
	for n, e := range entries {
		rs = append(rs, e)
		if n == 2 {
			rs = append(rs, &rec.Cut{})
		}
	}
	return append(rs, &rec.Cut{}, &rec.End{})
}

// What a base reaches is not sent; the entries come back as they were.
func TestNextRun(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	first := quietly(t, content(), "--cache", dir)
	entries := remembered(t, dir, first.snap.ID)
	if len(entries) != 4 || entries[1].CTime != (rec.Time{Sec: 5}) || entries[1].Ino != 7 || entries[1].Extents[0].ID != first.order[0] {
		t.Fatal(entries)
	}
	second := quietly(t, byID(t, entries, first.snap.ID), "--cache", dir)
	if len(second.order) != 1 || second.root() != first.root() {
		t.Fatalf("%d blobs were sent", len(second.order))
	}
	if sn := second.plain(second.snap, false); sn.Prev != first.snap.ID || sn.Entries != 4 || sn.Bytes != 15 {
		t.Errorf("%+v", sn)
	}
	// Read again, it is known all the same; a new file is sent, with its page.
	if o := quietly(t, content(second.snap.ID), "--cache", dir); len(o.order) != 1 {
		t.Errorf("%d blobs were sent", len(o.order))
	}
	rs := slices.Clone(content(first.snap.ID, second.snap.ID))
	rs[7] = chunk(0, "other")
	o := quietly(t, rs, "--cache", dir)
	if len(o.order) != 4 || o.plain(o.snap, false).Prev != second.snap.ID { // chunk, page, index page, snapshot
		t.Errorf("%d blobs were sent", len(o.order))
	}
	// The list has what is reached, and nothing else.
	k, _, err := key.Load(filepath.Join(keyDir, "cut"))
	if err != nil {
		t.Fatal(err)
	}
	cut, _ := k.Cut()
	l, err := cache.OpenIDs(dir, o.snap.ID, cut.Cache(), k.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	old := first.order[slices.IndexFunc(first.order, func(i id.ID) bool { return first.blobs[i].Kind == 0 && i != first.order[0] && i != first.order[1] })]
	for i, want := range map[id.ID]bool{first.order[0]: true, o.order[0]: true, o.order[1]: true, o.root(): true, o.snap.ID: false, old: false, first.root(): false} {
		if has, err := l.Has(i); err != nil || has != want {
			t.Errorf("%s: %v %v, want %v", i.Short(), has, err, want)
		}
	}
	if l.Len() != 6 || l.Root() != o.root() { // three chunks, two pages, the index page
		t.Error(l.Len())
	}
}

func TestSkipIfUnchanged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	flags := []string{"--cache", dir, "--skip-if-unchanged"}
	first := quietly(t, content(), flags...)
	if first.snap == nil || !first.end.Unchanged.IsZero() {
		t.Fatal("without a base there is no snapshot")
	}
	base := first.snap.ID
	o := quietly(t, byID(t, remembered(t, dir, base), base), flags...)
	if len(o.order) != 0 || o.end.Unchanged != base || o.end.Entries != 0 {
		t.Fatalf("%d blobs were sent, end %+v", len(o.order), o.end)
	}
	// The cache is now of the later run, its list as it was.
	r, err := job(t, dir, base)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if r.Time().Sec != 10 {
		t.Error(r.Time())
	}
	if o := quietly(t, content(base), flags...); o.end.Unchanged != base {
		t.Error("the list is gone")
	}
	rs := slices.Clone(content(base))
	rs[7] = chunk(0, "other")
	if o := quietly(t, rs, flags...); o.snap == nil || !o.end.Unchanged.IsZero() {
		t.Error("a change was not seen")
	}
	if _, stderr, status := seal(nil, append(writeKey(), "--skip-if-unchanged")...); status != 2 || !strings.Contains(stderr, "--cache") {
		t.Error(status, stderr)
	}
}

// A checkpoint at each cut: each is a whole tree of what came before it, and none
// changes what comes of the run.
func TestCheckpoints(t *testing.T) {
	rs := []rec.Record{head()}
	for i := range 600 {
		rs = append(rs, chunk(0, fmt.Sprint("content", i)), file(fmt.Sprintf("f%05d", i), x(0, 0, 8)), &rec.Cut{})
	}
	rs[1].(*rec.Chunk).Data = []byte("content00")
	for _, r := range rs {
		if e, ok := r.(*rec.Entry); ok && e.Path >= "f00010" {
			e.Size, e.Extents[0].Len = 9, 9
		}
	}
	rs = append(rs, &rec.Names{Users: []rec.Name{{ID: 1, Name: "one"}}}, &rec.End{})
	dir := filepath.Join(t.TempDir(), "cache")
	want := quietly(t, rs, "--cache", filepath.Join(t.TempDir(), "c"))
	out, stderr, status := seal(streamOf(t, rs...), append(writeKey(), "--checkpoint", "1ns", "--cache", dir)...)
	if status != 0 || stderr != "" {
		t.Fatal(status, stderr)
	}
	o := open(t, out)
	in := rec.NewReader(bytes.NewReader(out), rec.Sealed)
	var last *rec.Blob
	var seen []id.ID
	for {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := v.(type) {
		case *rec.Blob:
			last = v
		case *rec.Checkpoint:
			if last.ID != v.ID || last.Kind != rec.KindSnapshot {
				t.Fatal("a checkpoint without its snapshot before it")
			}
			seen = append(seen, v.ID)
			n := uint64(len(seen))
			if n%97 != 1 {
				continue
			}
			if sn := o.plain(o.blobs[v.ID], true); !sn.Partial || sn.Entries != n || sn.Bytes != 8*min(n, 10)+9*(max(n, 10)-10) || sn.Time != head().Time {
				t.Fatalf("%d: %+v", n, sn)
			}
		}
	}
	if len(seen) != 600 || o.root() != want.root() || o.plain(o.snap, false).Users[0].Name != "one" {
		t.Fatalf("%d checkpoints", len(seen))
	}
	// The last two are caches; what was made for them only is in no list.
	for n, i := range seen[598:] {
		if got := remembered(t, dir, i); len(got) != 599+n {
			t.Errorf("%d entries", len(got))
		}
	}
	if len(remembered(t, dir, o.snap.ID)) != 600 {
		t.Error("the cache is not whole")
	}
	k, _, err := key.Load(filepath.Join(keyDir, "cut"))
	if err != nil {
		t.Fatal(err)
	}
	cut, _ := k.Cut()
	l, err := cache.OpenIDs(dir, o.snap.ID, cut.Cache(), k.ID())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Len() != len(want.order)-1 { // but the snapshot
		t.Errorf("the list has %d ids, want %d", l.Len(), len(want.order)-1)
	}
	// A checkpoint is a base: there is no list of it, and nothing is said of that.
	if o := quietly(t, content(seen[599]), "--cache", dir); !o.plain(o.snap, false).Prev.IsZero() {
		t.Error("a partial snapshot is not what a full one builds on")
	}
	for _, never := range []string{"0", "1h"} {
		if o := quietly(t, rs, "--checkpoint", never); len(o.order) != len(want.order) {
			t.Errorf("%s: %d blobs were sent", never, len(o.order))
		}
	}
}

// A cache that cannot be used costs a line, and nothing else.
func TestCacheFails(t *testing.T) {
	base := filepath.Join(t.TempDir(), "cache")
	first := quietly(t, content(), "--cache", base)
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"others write it": {func(dir string) error { return os.Chmod(dir, 0o777) }, "others can write the cache"},
		"a file":          {func(dir string) error { return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, nil, 0o600)) }, "not a directory"},
		"foreign": {func(dir string) error {
			return os.Rename(filepath.Join(dir, "CACHEDIR.PRESERVE"), filepath.Join(dir, "letter"))
		}, "not a cache, and not empty"},
		"list cut off": {func(dir string) error { return os.Truncate(filepath.Join(dir, first.snap.ID.String()+".ids"), 5000) }, "is sealed again"},
		"list of another": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, first.snap.ID.String()+".ids"), make([]byte, 8192), 0o600)
		}, "is sealed again"},
		"page of the list": {func(dir string) error {
			f, err := os.OpenFile(filepath.Join(dir, first.snap.ID.String()+".ids"), os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("damaged"), 5000)
				err = errors.Join(err, f.Close())
			}
			return err
		}, "is sealed again"},
		"list unreadable": {func(dir string) error {
			name := filepath.Join(dir, first.snap.ID.String()+".ids")
			return errors.Join(os.Remove(name), os.Mkdir(name, 0o700))
		}, "is sealed again"},
	} {
		dir := filepath.Join(t.TempDir(), "copy")
		if err := errors.Join(os.CopyFS(dir, os.DirFS(base)), os.Chmod(dir, 0o700)); err != nil {
			t.Fatal(err)
		}
		// CopyFS widens modes.
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			if err := os.Chmod(filepath.Join(dir, f.Name()), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.spoil(dir); err != nil {
			t.Fatal(name, err)
		}
		o, stderr := sealed(t, content(first.snap.ID), "--cache", dir)
		if o.root() != first.root() || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") > 2 {
			t.Errorf("%s: %q", name, stderr)
		}
		if len(o.order) != len(first.order) && name != "foreign" {
			t.Errorf("%s: %d blobs were sent, want %d", name, len(o.order), len(first.order))
		}
	}
}

// While another run writes the cache, this one does without.
func TestCacheBusy(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	k, _, err := key.Load(filepath.Join(keyDir, "cut"))
	if err != nil {
		t.Fatal(err)
	}
	cut, _ := k.Cut()
	w, err := cache.Create(dir, cut.Cache(), cache.JobOf(head(), k.ID()), rec.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, stderr := sealed(t, content(), "--cache", dir); !strings.Contains(stderr, "another run uses the cache") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("%q", stderr)
	}
}

// A stream that does not come to its end leaves no cache, and the checkpoints.
func TestBrokenOff(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cache")
	whole := content()
	for _, c := range []struct {
		flags []string
		want  int
	}{{nil, 0}, {[]string{"--checkpoint", "1ns"}, 1}} {
		_, _, status := seal(streamOf(t, whole[:8]...), append(append(writeKey(), "--cache", dir), c.flags...)...)
		if status != 1 {
			t.Error(status)
		}
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(files) != 3+c.want { // lock and marks
			t.Error(files)
		}
	}
}

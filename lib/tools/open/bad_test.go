package open

import (
	archive "archive/tar"
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/tools/diff"
	"preserve/lib/tools/ls"
	"preserve/lib/tools/tar"
	"preserve/lib/tools/unpack"
)

// serve is pv-get REPO --blobs -, of the blobs of a stream in a file: what --from runs here.
func serve(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	out := rec.NewWriter(os.Stdout)
	blobs := map[id.ID]*rec.Blob{}
	in := rec.NewReader(bytes.NewReader(b), rec.Sealed)
	for {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case *rec.Head, *rec.Session:
			err = out.Write(v)
		case *rec.Blob:
			blobs[v.ID] = v
		}
		if err != nil {
			return err
		}
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		text, copy, _ := strings.Cut(lines.Text(), " ")
		i, err := id.Parse(text)
		if err != nil {
			return err
		}
		var answer rec.Record = &rec.Missing{ID: i}
		if b := blobs[i]; b != nil && copy == "" {
			again := *b
			answer = &again
		}
		if err := out.Write(answer); err != nil {
			return err
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	if err := out.Write(&rec.End{}); err != nil {
		return err
	}
	return out.Flush()
}

// A grove is a snapshot of two index pages with two pages each, and how its blobs hang together.
type grove struct {
	*sealtest.Stream
	pages   [][]*rec.Entry
	contain map[id.ID][]byte // of data blobs
	blobs   map[id.ID]*rec.Blob
	names   map[id.ID]string // of blobs, for messages
	in      []id.ID          // the page that each of pages is
	above   []id.ID          // the index page that it hangs on
	snap    id.ID
	root    id.ID
	foreign *box.Sealer // of another master key; its session comes first, and nothing needs it
}

func newGrove(t *testing.T) *grove {
	other, err := key.FromMaster([32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	g := &grove{Stream: sealtest.New(t, rec.Down), contain: map[id.ID][]byte{}, blobs: map[id.ID]*rec.Blob{}, names: map[id.ID]string{}}
	if g.foreign, err = box.NewSealer(other, box.Fastest); err != nil {
		t.Fatal(err)
	}
	data := func(text string) *rec.Blob {
		b := g.Blob(rec.KindData, []byte(text))
		g.contain[b.ID], g.blobs[b.ID], g.names[b.ID] = []byte(text), b, "data "+text
		return b
	}
	d := []*rec.Blob{data("first, and second"), data("of two names"), data("third"), data("fourth"), data("a large file"), data(", its rest"), data("last")}
	h := file("a/h", x(1, 0, 12))
	h.Links = 2
	large := &rec.Entry{Path: "h", Type: rec.File, Mode: 0o644, UID: h.UID, GID: h.GID, Size: 22, More: true, Extents: []rec.Extent{x(2, 0, 12)}}
	rest := &rec.Entry{Path: "h", Type: rec.File, Size: 22, Off: 12, Extents: []rec.Extent{x(0, 0, 10)}}
	g.pages = [][]*rec.Entry{
		{dir("a"), file("a/1", x(0, 0, 5)), file("a/2", x(0, 11, 6)), h},
		{{Path: "a/l", Type: rec.HardLink, Leader: "a/h"}, {Path: "a/s", Type: rec.Symlink, Target: "1", UID: h.UID, GID: h.GID}, dir("b"), file("b/1", x(0, 0, 5), x(1, 0, 17))},
		{file("b/x", x(0, 0, 6)), dir("c"), file("c/1", x(1, 0, 5)), file("c/empty"), large},
		{rest, dir("y"), dir("y/y"), file("y/y/z", x(1, 0, 4))},
	}
	refs := [][]*rec.Blob{{d[0], d[1]}, {d[2], d[0]}, {d[3], d[0], d[4]}, {d[5], d[6]}}
	node := func(name string, b *rec.Blob) *rec.Blob {
		g.blobs[b.ID], g.names[b.ID] = b, name
		return b
	}
	index := func(name string, kind uint8, keys []page.Key, refs ...*rec.Blob) *rec.Blob {
		return node(name, g.Index(kind, keys, refs...))
	}
	var keys []page.Key
	var leaves []*rec.Blob
	for n, es := range g.pages {
		for _, e := range es {
			if e.Off == 0 && e.Type != rec.HardLink {
				e.MTime = rec.Time{Sec: 1_700_000_000}
				e.UID, e.GID = h.UID, h.GID
			}
		}
		b := node(fmt.Sprint("page ", n), g.Page(es, refs[n]...))
		leaves, keys, g.in = append(leaves, b), append(keys, page.KeyOf(es[0])), append(g.in, b.ID)
	}
	low, high := index("index 0", 2, keys[:2], leaves[:2]...), index("index 1", 2, keys[2:], leaves[2:]...)
	root := index("root", 3, []page.Key{keys[0], keys[2]}, low, high)
	g.above = []id.ID{low.ID, low.ID, high.ID, high.ID}
	top := node("snapshot", g.Snapshot(root, snap.Snapshot{Entries: 16, Bytes: 82, Roots: []rec.Root{{Dir: "/", Path: "a"}}}))
	g.root, g.snap = root.ID, top.ID
	return g
}

// A spoiler is a way in which a blob cannot be had. What it returns is nil if the blob does not come.
type spoiler struct {
	name    string
	spoil   func(g *grove, b *rec.Blob) *rec.Blob
	follows bool // pv-get gives what the blob refers to
}

var spoilers = []spoiler{
	{"missing", func(*grove, *rec.Blob) *rec.Blob { return nil }, false},
	{"with a bit turned over", func(_ *grove, b *rec.Blob) *rec.Blob {
		b.Data = bytes.Clone(b.Data)
		b.Data[len(b.Data)/2] ^= 4
		return b
	}, true},
	{"under the session of another master key", func(g *grove, b *rec.Blob) *rec.Blob {
		b.SID = g.foreign.SID()
		return b
	}, true},
	{"of another kind", func(_ *grove, b *rec.Blob) *rec.Blob {
		b.Kind, b.Refs = 7-b.Kind/9*3, bytes.Repeat(b.ID[:], 1) // 7, and of a snapshot 4
		b.Sig = nil
		return b
	}, false},
	{"too short", func(_ *grove, b *rec.Blob) *rec.Blob {
		b.Data = b.Data[:30]
		return b
	}, true},
}

// with returns the stream of the snapshot, with one blob spoiled: as pv-get gives it, or all blobs as they
// are asked for.
func (g *grove) with(bad id.ID, s spoiler, order string) []byte {
	var out bytes.Buffer
	w := rec.NewWriter(&out)
	put := func(v rec.Record) {
		if err := w.Write(v); err != nil {
			g.T.Fatal(err)
		}
	}
	one := func(i id.ID) (b *rec.Blob, follow bool) {
		again := *g.blobs[i]
		if i != bad {
			return &again, true
		}
		if b = s.spoil(g, &again); b != nil {
			b.CRC = b.Sum()
		}
		return b, s.follows
	}
	put(&rec.Head{Kind: rec.Sealed, Order: order})
	put(&rec.Session{Data: g.foreign.Session()})
	put(&rec.Session{Data: g.Box.Session()})
	var below func(i id.ID)
	below = func(i id.ID) {
		b, follow := one(i)
		if b == nil {
			put(&rec.Missing{ID: i})
		} else {
			put(b)
		}
		for refs := g.blobs[i].Refs; follow && len(refs) > 0; refs = refs[id.Size:] {
			below(id.ID(refs))
		}
	}
	if order == rec.Down {
		below(g.snap)
	} else {
		for i := range g.blobs {
			if b, _ := one(i); b != nil {
				put(b)
			}
		}
	}
	put(&rec.End{})
	return out.Bytes()
}

// A remnant is what can be had of a snapshot without one blob.
type remnant struct {
	files map[string]string // contents, of each name; "-> " and the target of a link
	lost  map[string]bool   // files that are named in a page that can be had, and are lost
	dirs  map[string]bool
	gap   bool
}

func (g *grove) without(bad id.ID) (r remnant) {
	r = remnant{map[string]string{}, map[string]bool{}, map[string]bool{}, false}
	pieces := map[string]uint64{}
	for n, es := range g.pages {
		if g.in[n] == bad || g.above[n] == bad {
			r.gap = true
			continue
		}
		refs := g.blobs[g.in[n]].Refs
		for _, e := range es {
			for p := rec.Parent(e.Path); p != ""; p = rec.Parent(p) {
				r.dirs[p] = true
			}
			content, ok := "", true
			for _, x := range e.Extents {
				i := id.ID(refs[x.N*id.Size:])
				ok = ok && i != bad
				content += string(g.contain[i][x.Off : x.Off+x.Len])
			}
			before, known := r.files[e.Path]
			switch {
			case e.Type == rec.Dir:
				r.dirs[e.Path] = true
			case e.Type == rec.Symlink:
				r.files[e.Path] = "-> " + e.Target
			case e.Type == rec.HardLink:
				if before, known = r.files[e.Leader]; known {
					r.files[e.Path] = before
				} else if r.lost[e.Leader] {
					r.lost[e.Path] = true
				}
			case !ok || r.lost[e.Path]:
				delete(r.files, e.Path)
				r.lost[e.Path] = true
			case e.Off == 0 || known && pieces[e.Path] == e.Off:
				r.files[e.Path] = before + content
				pieces[e.Path] = e.Off + uint64(len(content))
			}
		}
	}
	if len(r.files["h"]) == 12 { // its second piece is in a page that is lost
		delete(r.files, "h")
	}
	return r
}

// treeAt reads a tree as without describes one.
func treeAt(t *testing.T, top string) (r remnant) {
	r = remnant{files: map[string]string{}, dirs: map[string]bool{}}
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(top, p)
		switch {
		case err != nil || name == ".":
		case d.IsDir():
			r.dirs[name] = true
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(p)
			r.files[name] = "-> " + to
			return err
		default:
			b, err := os.ReadFile(p)
			r.files[name] = string(b)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fill makes the whole tree below a directory, each file with an older content of its own.
func (g *grove) fill(top string) remnant {
	old := g.without(id.ID{})
	for name, content := range old.files {
		if !strings.HasPrefix(content, "-> ") {
			old.files[name] = "older " + name
			put(g.T, filepath.Join(top, name), old.files[name])
		}
	}
	if err := os.Symlink("elsewhere", filepath.Join(top, "a/s")); err != nil {
		g.T.Fatal(err)
	}
	old.files["a/s"] = "-> elsewhere"
	return old
}

// Each blob of a snapshot in turn cannot be had, in each way, in each mode, in a stream and asked for: what
// does not need it comes as it is, what does is named, and nothing else comes. Where files are replaced, a
// file that is lost stays as it was.
func TestEachBlobBad(t *testing.T) {
	g := newGrove(t)
	whole := t.TempDir()
	if _, stderr, status := runTool("pv-unpack", unpack.Run, g.with(id.ID{}, spoiler{}, rec.Down), "-q", "-k", sealtest.KeyFile("read"), filepath.Join(whole, "x")); status != 0 {
		t.Fatal(stderr)
	}
	ids := slices.SortedFunc(maps.Keys(g.blobs), func(a, b id.ID) int { return strings.Compare(g.names[a], g.names[b]) })
	for n, bad := range ids {
		for k, s := range spoilers {
			for _, asked := range []bool{false, true} {
				if asked && k != n%len(spoilers) && k != (n+1)%len(spoilers) { // each takes a process
					continue
				}
				p := &badRun{t: t, g: g, bad: bad, without: g.without(bad), whole: filepath.Join(whole, "x")}
				p.what = fmt.Sprintf("%s, %s, asked for %v", g.names[bad], s.name, asked)
				if asked {
					file := filepath.Join(t.TempDir(), "blobs")
					put(t, file, string(g.with(bad, s, rec.Asked)))
					p.from = []string{"--from", fmt.Sprintf("PV_TEST_SERVE=%s exec %s", file, os.Args[0])}
				} else {
					p.in = g.with(bad, s, rec.Down)
				}
				p.modes()
			}
		}
	}
}

// A badRun reads a snapshot without a blob in each mode.
type badRun struct {
	t       *testing.T
	g       *grove
	bad     id.ID
	without remnant
	whole   string // a tree as it would be with all blobs
	what    string
	in      []byte
	from    []string
}

// said is what several write at once.
type said struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.buf.Write(b)
}

// halved reports whether the file of two pieces loses the second one: what has gone to stdout of the first
// cannot be taken back.
func (p *badRun) halved() bool {
	return p.without.lost["h"] && p.g.names[p.bad] == "data , its rest" || p.bad == p.g.in[3]
}

// run runs pv-unpack or pv-open, and reports whether it must have given anything. What is lost must be named.
func (p *badRun) run(mode string, data bool, command func(*tool.Env) error, args ...string) (stdout string, ok bool) {
	p.t.Helper()
	all := append([]string{"-k", sealtest.KeyFile("read"), "--snapshot", p.g.snap.String()}, append(p.from, args...)...)
	var o bytes.Buffer
	var e said // by the command of --from, too
	env := tool.NewEnv("pv-tool", all, bytes.NewReader(p.in), &o, &e)
	status := env.Status(command(env))
	env.Cleanup()
	stdout, stderr := o.String(), e.buf.String()
	want := 3
	switch kind := p.g.blobs[p.bad].Kind; {
	case p.bad == p.g.snap || p.bad == p.g.root:
		want = 1
	case mode == "cat" && p.halved():
		want = 1
	case kind == rec.KindData && !data:
		want = 0
	}
	if status != want || want == 3 && !strings.Contains(stderr, p.bad.Short()) {
		p.t.Errorf("%s: %s: status %d, want %d\n%s", p.what, mode, status, want, stderr)
	}
	for name := range p.without.files {
		if want == 3 && data && (strings.Contains(stderr, " "+name+":") || strings.Contains(stderr, " "+name+"\n") || strings.Contains(stderr, " "+name+",")) {
			p.t.Errorf("%s: %s: %s is named:\n%s", p.what, mode, name, stderr)
		}
	}
	return stdout, status == 3 || status == 0
}

// behind runs a tool behind pv-open, whose stream it gets.
func (p *badRun) behind(mode, stream string, want int, command func(*tool.Env) error, args ...string) (stdout string) {
	p.t.Helper()
	stdout, stderr, status := runTool("pv-behind", command, []byte(stream), args...)
	if status != want {
		p.t.Errorf("%s: %s: status %d, want %d\n%s", p.what, mode, status, want, stderr)
	}
	return stdout
}

func (p *badRun) same(mode string, got, want remnant) {
	p.t.Helper()
	if !maps.Equal(got.files, want.files) || !maps.Equal(got.dirs, want.dirs) {
		p.t.Errorf("%s: %s: there are\n%q %v\nwant\n%q %v", p.what, mode, got.files, got.dirs, want.files, want.dirs)
	}
}

func (p *badRun) modes() {
	top := p.t.TempDir()
	to := filepath.Join(top, "new")
	if _, ok := p.run("restore", true, unpack.Run, to); ok {
		p.same("restore", treeAt(p.t, to), p.without)
	} else if _, err := os.Stat(to); err == nil && p.bad == p.g.snap {
		p.t.Errorf("%s: a directory was made", p.what)
	}

	to = filepath.Join(top, "old")
	want := p.g.fill(to)
	_, ok := p.run("overwrite", true, unpack.Run, "--overwrite", "changed", "--delete", to)
	if ok {
		maps.Copy(want.files, p.without.files)
	}
	p.same("overwrite", treeAt(p.t, to), want)

	if out, ok := p.run("list", false, Run, "--meta"); ok {
		status := 3
		if p.g.blobs[p.bad].Kind == rec.KindData {
			status = 0
		}
		lines := slices.Sorted(strings.Lines(p.behind("ls", out, status, ls.Run)))
		want := slices.Collect(maps.Keys(p.without.files))
		want = slices.AppendSeq(want, maps.Keys(p.without.dirs))
		want = slices.AppendSeq(want, maps.Keys(p.without.lost))
		if p.without.gap && p.bad == p.g.in[3] || p.bad == p.g.above[3] {
			want = p.listed(want)
		}
		slices.Sort(want)
		for i := range lines {
			lines[i] = strings.TrimSuffix(lines[i], "\n")
		}
		if slices.Sort(lines); !slices.Equal(lines, want) {
			p.t.Errorf("%s: list: %q, want %q", p.what, lines, want)
		}
	}
	if out, ok := p.run("stream", true, Run); ok {
		p.stream(out)
		p.piped(top, out)
	}
	p.cat()
	if out, ok := p.run("check", true, Run, "--check", "--bad-ids"); ok {
		for line := range strings.Lines(out) {
			if line != p.bad.String()+"\n" {
				p.t.Errorf("%s: check: %s is named bad", p.what, line)
			}
		}
		if out == "" {
			p.t.Errorf("%s: check: no id is named bad", p.what)
		}
	}
}

// piped gives the content stream to the tools that take one: they make of it what pv-unpack with a key
// makes of the sealed stream.
func (p *badRun) piped(top, stream string) {
	to := filepath.Join(top, "piped")
	p.behind("unpack", stream, 3, unpack.Run, to)
	p.same("unpack", treeAt(p.t, to), p.without)

	to = filepath.Join(top, "piped over")
	want := p.g.fill(to)
	p.behind("unpack over", stream, 3, unpack.Run, "--overwrite", "changed", "--delete", to)
	maps.Copy(want.files, p.without.files)
	p.same("unpack over", treeAt(p.t, to), want)

	status := 3
	if p.halved() {
		status = 1
	}
	if out := p.behind("tar", stream, status, tar.Run, "-c"); status == 3 {
		p.same("tar", p.archive(out), p.without)
	}
	if out := p.behind("diff", stream, 3, diff.Run, "-", p.whole); out != "" {
		p.t.Errorf("%s: diff: %s", p.what, out)
	}
}

// listed adds the file whose first piece is there: a list shows it, with the size that this piece says.
func (p *badRun) listed(names []string) []string {
	if p.bad == p.g.in[3] {
		names = append(names, "h")
	}
	return names
}

// archive reads a tar.
func (p *badRun) archive(b string) remnant {
	r := remnant{files: map[string]string{}, dirs: map[string]bool{}}
	for in := archive.NewReader(strings.NewReader(b)); ; {
		h, err := in.Next()
		if err == io.EOF {
			return r
		}
		if err != nil {
			p.t.Fatalf("%s: tar: %v", p.what, err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			p.t.Fatalf("%s: tar: %v", p.what, err)
		}
		switch h.Typeflag {
		case archive.TypeDir:
			r.dirs[strings.TrimSuffix(h.Name, "/")] = true
		case archive.TypeSymlink:
			r.files[h.Name] = "-> " + h.Linkname
		case archive.TypeLink:
			r.files[h.Name] = r.files[h.Linkname]
		default:
			r.files[h.Name] = string(content)
		}
	}
}

// stream reads a content stream: what is lost is in it, and says so.
func (p *badRun) stream(b string) {
	got := remnant{files: map[string]string{}, dirs: map[string]bool{}}
	var chunks []string
	lost, open := map[string]bool{}, ""
	for in := rec.NewReader(strings.NewReader(b), rec.Content); ; {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			p.t.Fatalf("%s: stream: %v", p.what, err)
		}
		switch v := v.(type) {
		case *rec.Chunk:
			chunks = append(chunks, string(v.Data))
		case *rec.Cut:
			chunks = nil
		case *rec.Missing:
			if open != "" { // the rest of a file
				lost[open] = true
				delete(got.files, open)
				open = ""
			}
		case *rec.Entry:
			if open = ""; v.More {
				open = v.Path
			}
			switch {
			case v.Type == rec.Dir:
				got.dirs[v.Path] = true
			case v.Type == rec.Symlink:
				got.files[v.Path] = "-> " + v.Target
			case v.Err != "":
				lost[v.Path] = true
			case v.Type == rec.HardLink && lost[v.Leader]:
				lost[v.Path] = true
			case v.Type == rec.HardLink:
				got.files[v.Path] = got.files[v.Leader]
			default:
				got.files[v.Path] += ""
				for _, x := range v.Extents {
					got.files[v.Path] += chunks[x.N][x.Off : x.Off+x.Len]
				}
			}
		case *rec.End:
			if (v.Status == 3) != (p.bad != id.ID{}) {
				p.t.Errorf("%s: stream: ends with status %d", p.what, v.Status)
			}
		}
	}
	p.same("stream", got, p.without)
	want := maps.Clone(p.without.lost)
	if p.halved() {
		want["h"] = true // its beginning has come
	}
	if !maps.Equal(lost, want) {
		p.t.Errorf("%s: stream: lost are %v, want %v", p.what, lost, want)
	}
}

// cat asks for files by their names.
func (p *badRun) cat() {
	names, want := []string{"a/1", "a/2", "a/h", "a/l", "b/1", "b/x", "c/1", "c/empty", "h", "y/y/z"}, ""
	for _, n := range names {
		want += p.without.files[n]
	}
	if out, ok := p.run("cat", true, unpack.Run, append([]string{"--cat"}, names...)...); ok && out != want {
		p.t.Errorf("%s: cat: %q, want %q", p.what, out, want)
	}
}

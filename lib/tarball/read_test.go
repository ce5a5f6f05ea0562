package tarball

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"preserve/lib/acl"
	"preserve/lib/rec"
)

// archived is what an archive comes to: a line for each entry, and what was said.
type archived struct {
	lines    []string
	entries  map[string]*rec.Entry
	contents map[string]string
	said     []string
	users    []rec.Name
}

func options(a *archived) Options {
	return Options{
		Warn:   func(name string, err error) { a.said = append(a.said, "warning: "+name+": "+err.Error()) },
		Notice: func(text string) { a.said = append(a.said, "notice: "+text) },
	}
}

// unpacked reads an archive, with a limit of bytes of entries in memory.
func unpacked(src io.Reader, limit int) (*archived, error) {
	got := &archived{entries: map[string]*rec.Entry{}, contents: map[string]string{}}
	a, err := read(src, options(got), limit)
	if err != nil {
		return got, err
	}
	defer a.Close()
	last := ""
	for {
		f, err := a.Next()
		if err == io.EOF {
			got.users, _ = a.Names()
			return got, nil
		}
		if err != nil {
			return got, err
		}
		e := f.Entry
		if err := e.Check(); err != nil {
			return got, err
		}
		if len(got.lines) > 0 && rec.ComparePaths(last, e.Path) >= 0 {
			return got, fmt.Errorf("%q comes behind %q", e.Path, last)
		}
		if p := rec.Parent(e.Path); p != "" && (got.entries[p] == nil || got.entries[p].Type != rec.Dir) {
			return got, fmt.Errorf("%q has no parent", e.Path)
		}
		last = e.Path
		line := e.Path + " " + e.Type.String()
		if e.Type == rec.File {
			content, holes, err := contentOf(f)
			if err != nil {
				return got, err
			}
			got.contents[e.Path] = content
			line += fmt.Sprintf(" %d", e.Size)
			if len(holes) > 0 {
				line += fmt.Sprint(" data ", holes)
			}
		}
		if e.Links > 0 {
			line += fmt.Sprintf(" links %d", e.Links)
		}
		if e.Leader+e.Target != "" {
			line += " -> " + e.Leader + e.Target
		}
		got.lines = append(got.lines, line)
		got.entries[e.Path] = e
	}
}

// contentOf reads a file of up to 2 MiB; of larger ones only the map.
func contentOf(f *File) (content string, data []int64, err error) {
	size := int64(f.Entry.Size)
	var b []byte
	if size <= 2<<20 {
		b = make([]byte, size)
	}
	for off := int64(0); ; {
		start, end, err := f.Segment(off)
		if err == io.EOF {
			if len(data) == 2 && data[0] == 0 && data[1] == size {
				data = nil
			}
			return string(b), data, nil
		}
		if err != nil {
			return "", nil, err
		}
		if start < off || end <= start || end > size {
			return "", nil, fmt.Errorf("data from %d to %d behind %d of %d", start, end, off, size)
		}
		if b != nil {
			if _, err := f.ReadAt(b[start:end], start); err != nil {
				return "", nil, err
			}
		}
		if off = end; len(data) < 100 {
			data = append(data, start, end)
		}
	}
}

// A member for packed; content is that of a file.
type member struct {
	tar.Header
	content string
}

func packed(t testing.TB, members ...member) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, m := range members {
		h := m.Header
		h.Size = int64(len(m.content))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, m.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func file(name, content string) member {
	return member{tar.Header{Typeflag: tar.TypeReg, Name: name}, content}
}

func linkTo(name, target string) member {
	return member{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target}, ""}
}

func of(typ byte, name, target string) member {
	return member{tar.Header{Typeflag: typ, Name: name, Linkname: target, Devmajor: 1, Devminor: 3}, ""}
}

// What archives say, and what becomes of it.
func TestRead(t *testing.T) {
	for name, c := range map[string]struct {
		members []member
		want    []string
		said    []string
	}{
		"in path order, whatever the archive's": {
			[]member{file("b", "1"), file("a-b", "22"), of(tar.TypeDir, "a/", ""), file("a/b", "333"), of(tar.TypeSymlink, "c", "/x"), of(tar.TypeFifo, "f", ""), of(tar.TypeChar, "n", "")},
			[]string{"a dir", "a/b file 3", "a-b file 2", "b file 1", "c symlink -> /x", "f fifo", "n char"}, nil},
		"names from the root, and with dots": {
			[]member{of(tar.TypeDir, "./", ""), file("./a", ""), file("/b", ""), file("c//./d", "")},
			[]string{" dir", "a file 0", "b file 0", "c dir", "c/d file 0"}, nil},
		"names that leave the tree, and none": {
			[]member{file("../a", "x"), file("b/../../c", "x"), file("ok", "x"), file(strings.Repeat("n", 5000), "x"), file("./.", "x")},
			[]string{"ok file 1"},
			[]string{"../a: left out: not a path", "b/../../c: left out: not a path", "nnn: left out: not a path", "./.: left out: not a path"}},
		"the last of a path stays": {
			[]member{file("a", "old"), file("b", "b"), file("a", "newer")},
			[]string{"a file 5", "b file 1"}, nil},
		"directories that are not there": {
			[]member{file("x/y/z/1", ""), file("x/y/2", "")},
			[]string{"x dir", "x/y dir", "x/y/2 file 0", "x/y/z dir", "x/y/z/1 file 0"}, nil},
		"below what is no directory": {
			[]member{of(tar.TypeSymlink, "l", "/etc"), file("l/passwd", "x"), file("l-x", "")},
			[]string{"l symlink -> /etc", "l-x file 0"},
			[]string{"l/passwd: left out: l is no directory"}},
		"the first name leads": {
			[]member{file("m", "content"), linkTo("z", "m"), linkTo("a", "m"), linkTo("c/d", "./m")},
			[]string{"a file 7 links 4", "c dir", "c/d link -> a", "m link -> a", "z link -> a"}, nil},
		"links to links, to symbolic links, to nothing": {
			[]member{of(tar.TypeSymlink, "s", "t"), linkTo("s2", "s"), file("a", "x"), linkTo("b", "a"), linkTo("0", "b"), linkTo("lost", "none"), linkTo("dir/x", "/nothing"), linkTo("up", "../a")},
			[]string{"0 file 1 links 3", "a link -> 0", "b link -> 0", "s symlink links 2 -> t", "s2 link -> s"},
			[]string{"up: left out: hard link: not a path", "dir/x: left out: a hard link to what", "lost: left out: a hard link to what"}},
		"a link to what was replaced later": {
			[]member{file("a", "first"), linkTo("b", "a"), file("a", "second"), linkTo("c", "a"), linkTo("d", "b")},
			[]string{"a file 6 links 2", "b file 5 links 2", "c link -> a", "d link -> b"}, nil},
		"a link that was replaced, one to itself": {
			[]member{file("a", "1"), linkTo("b", "a"), file("b", "22"), linkTo("a", "a")},
			[]string{"a file 1", "b file 2"}, nil},
		"the leader's place is taken by a name that is left out": {
			[]member{file("m", "1"), linkTo("f/x", "m"), of(tar.TypeFifo, "f", "")},
			[]string{"f fifo", "m file 1 links 2"}, []string{"f/x: left out: f is no directory"}},
		"of a type that nobody knows": {
			[]member{{tar.Header{Typeflag: 'Q', Name: "q"}, "content"}, {tar.Header{Typeflag: tar.TypeCont, Name: "c"}, "123"}},
			[]string{"c file 3"}, []string{"q: left out: a member of type 'Q'"}},
		"owners with two names": {
			[]member{{tar.Header{Typeflag: tar.TypeReg, Name: "a", Uid: 7, Uname: "eve", Gname: "g"}, ""}, {tar.Header{Typeflag: tar.TypeReg, Name: "b", Uid: 7, Uname: "bob", Gname: "g"}, ""}},
			[]string{"a file 0", "b file 0"}, []string{"notice: user 7 is called eve and bob"}},
		"an owner that is no number of ours": {
			[]member{{tar.Header{Typeflag: tar.TypeReg, Name: "a", Uid: 1 << 33}, ""}}, nil, []string{"a: left out: the owner"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := packed(t, c.members...)
			for how, src := range sources(t, b) {
				for _, limit := range []int{1, 1500, runBytes} {
					got, err := unpacked(src(), limit)
					if err != nil {
						t.Fatalf("%s: %v", how, err)
					}
					if strings.Join(got.lines, "\n") != strings.Join(c.want, "\n") {
						t.Errorf("%s, limit %d:\n%s\nwant\n%s", how, limit, strings.Join(got.lines, "\n"), strings.Join(c.want, "\n"))
					}
					ok := len(got.said) == len(c.said)
					for i := range min(len(got.said), len(c.said)) {
						ok = ok && strings.Contains(got.said[i], c.said[i])
					}
					if !ok {
						t.Errorf("%s: said %q, want %q", how, got.said, c.said)
					}
				}
			}
		})
	}
}

// sources are the ways in which an archive comes.
func sources(t *testing.T, b []byte) map[string]func() io.Reader {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tar")
	if err := os.WriteFile(name, append([]byte("in front"), b...), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]func() io.Reader{
		"pipe":     func() io.Reader { return bytes.NewReader(b) },
		"bytewise": func() io.Reader { return iotest.OneByteReader(bytes.NewReader(b)) },
		"file": func() io.Reader {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			if _, err := f.Seek(int64(len("in front")), io.SeekStart); err != nil {
				t.Fatal(err)
			}
			return f
		},
	}
}

// What a judge says of an archive, whatever its sizes, is what comes out.
func TestContents(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var ms []member
	want := map[string]string{}
	for i := range 800 {
		b := make([]byte, rnd.IntN(3000))
		if i%100 == 0 {
			b = make([]byte, rnd.IntN(200<<10))
		}
		for j := range b {
			b[j] = byte(rnd.Uint32())
		}
		name := fmt.Sprintf("%d/%s%d", rnd.IntN(20), strings.Repeat("long/", rnd.IntN(60)), i)
		want[name] = string(b)
		ms = append(ms, file(name, string(b)))
	}
	for how, src := range sources(t, packed(t, ms...)) {
		for _, limit := range []int{1, 3000, runBytes} { // 800, some 200 runs, none
			got, err := unpacked(src(), limit)
			if err != nil {
				t.Fatal(how, err)
			}
			if len(got.contents) != len(want) {
				t.Fatalf("%s: %d files, want %d", how, len(got.contents), len(want))
			}
			for name, content := range want {
				if got.contents[name] != content {
					t.Fatalf("%s, limit %d: %s has another content", how, limit, name)
				}
			}
		}
	}
}

// Metadata, as different programs write it.
// The mode of a file with a list has the mask as the rights of its group, as Linux
// has it; bsdtar writes those of the owning group.
func TestModeOfList(t *testing.T) {
	pax := func(name, list string) member {
		return member{tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, Mode: 0o2644, PAXRecords: map[string]string{aclAccess: list}}, ""}
	}
	b := packed(t, pax("masked", "user::rw-,user:7:rw-,group::r--,mask::rw-,other::r--"), pax("plain", "user::rw-,group::r--,other::r--"),
		pax("broken", "user::rwx,user:7:rw-,group::r--,mask::rwx,other::rwx,nonsense"))
	got, err := unpacked(bytes.NewReader(b), runBytes)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]uint32{"masked": 0o2664, "plain": 0o2644, "broken": 0o2644} {
		if m := got.entries[name].Mode; m != want {
			t.Errorf("%s: mode %o, want %o", name, m, want)
		}
	}
}

// A directory that the archive has not is as old as the first entry in it, also
// where that is a hard link.
func TestMadeDirectory(t *testing.T) {
	old := linkTo("d/link", "a")
	old.ModTime = time.Unix(1000, 0)
	for limit := range map[int]bool{runBytes: true, 1: true} {
		got, err := unpacked(bytes.NewReader(packed(t, file("a", "x"), old)), limit)
		if err != nil {
			t.Fatal(err)
		}
		if d, l := got.entries["d"], got.entries["d/link"]; d.MTime.Sec != 1000 || l.Type != rec.HardLink || l.MTime != (rec.Time{}) {
			t.Errorf("%+v, %+v", d, l)
		}
	}
}

func TestMetadata(t *testing.T) {
	b := packed(t,
		member{tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: "a", Mode: 0o4755, Uid: 1000, Gid: 3000000, Uname: "eve", ModTime: time.Unix(-2, 500000000),
			PAXRecords: map[string]string{
				"SCHILY.xattr.user.b": "\x00\xff", "SCHILY.xattr.user.a%3D%25": "", "LIBARCHIVE.xattr.user.c%20d": "AQI",
				"SCHILY.acl.access": "user::rwx,user:eve:r-x,group::r--,user:65534:--x,mask::r-x,other::---",
			}}, "x"},
		member{tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: "plain", PAXRecords: map[string]string{"SCHILY.acl.access": "user::rw-\ngroup::r--\nother::r--\n"}}, ""},
		member{tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: "who", PAXRecords: map[string]string{"SCHILY.acl.access": "user::rw-,user:nobody-knows:r--"}}, ""},
		member{tar.Header{Format: tar.FormatPAX, Typeflag: tar.TypeDir, Name: "d/", PAXRecords: map[string]string{"SCHILY.acl.default": "u::rwx,g::r-x,g:wheel:rwx:10,m::rwx,o::---"}}, ""},
		member{tar.Header{Format: tar.FormatGNU, Typeflag: tar.TypeReg, Name: "gnu", Uid: 1 << 31, ModTime: time.Unix(-100, 0)}, ""},
		member{tar.Header{Format: tar.FormatGNU, Typeflag: tar.TypeChar, Name: "dev", Devmajor: 259, Devminor: 1 << 20}, ""},
	)
	got, err := unpacked(bytes.NewReader(b), runBytes)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.said) != 1 || !strings.Contains(got.said[0], "who: its access control list is left out: ") {
		t.Errorf("said %q", got.said)
	}
	a := got.entries["a"]
	list := []byte{2, 0, 0, 0}
	row := func(tag, perm uint16, id uint32) {
		list = binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(list, tag), perm), id)
	}
	row(1, 7, acl.Undefined)
	row(2, 5, 1000)
	row(2, 1, 65534)
	row(4, 4, acl.Undefined)
	row(16, 5, acl.Undefined)
	row(32, 0, acl.Undefined)
	want := []rec.XAttr{{Name: acl.Access, Value: list}, {Name: "user.a=%", Value: []byte{}}, {Name: "user.b", Value: []byte{0, 255}}, {Name: "user.c d", Value: []byte{1, 2}}}
	if fmt.Sprint(a.XAttrs) != fmt.Sprint(want) {
		t.Errorf("attributes\n%v\nwant\n%v", a.XAttrs, want)
	}
	if a.Mode != 0o4750 || a.UID != 1000 || a.GID != 3000000 || a.MTime != (rec.Time{Sec: -2, Nsec: 500000000}) {
		t.Errorf("%+v", a)
	}
	if len(got.entries["plain"].XAttrs)+len(got.entries["who"].XAttrs) > 0 {
		t.Error("an attribute for a list that says nothing")
	}
	if x := got.entries["d"].XAttrs; len(x) != 1 || x[0].Name != acl.Default || binary.LittleEndian.Uint32(x[0].Value[4+2*8+4:]) != 10 {
		t.Errorf("default list %v", x)
	}
	if g := got.entries["gnu"]; g.UID != 1<<31 || g.MTime.Sec != -100 {
		t.Errorf("%+v", g)
	}
	if d := got.entries["dev"]; d.Major != 259 || d.Minor != 1<<20 {
		t.Errorf("%+v", d)
	}
	if fmt.Sprint(got.users) != "[{1000 eve}]" {
		t.Errorf("users %v", got.users)
	}
}

// An archive that is cut off anywhere before its end is an error, and says so.
func TestCut(t *testing.T) {
	b := packed(t, file("a", strings.Repeat("x", 600)), file("long/"+strings.Repeat("n", 150), "y"))
	end := len(b) - 1024
	for n := 0; n <= end; n += 64 {
		for how, src := range sources(t, b[:n]) {
			if _, err := unpacked(src(), runBytes); !errors.Is(err, ErrCut) {
				t.Fatalf("%s of %d bytes: %v", how, n, err)
			}
		}
	}
	if _, err := unpacked(bytes.NewReader(b[:end+512]), runBytes); err != nil {
		t.Errorf("one block of zeros is an end: %v", err)
	}
	got, err := unpacked(bytes.NewReader(append(b, b...)), runBytes)
	if err != nil || len(got.said) != 1 || !strings.Contains(got.said[0], "more behind its end") {
		t.Errorf("two archives: %v, %q", err, got.said)
	}
	if _, err := unpacked(strings.NewReader("\x1f\x8b\x08"+strings.Repeat("x", 600)), runBytes); err == nil || !strings.Contains(err.Error(), `put "gunzip" before`) {
		t.Errorf("compressed: %v", err)
	}
	b[3] ^= 1
	if _, err := unpacked(bytes.NewReader(b), runBytes); !errors.Is(err, ErrBad) {
		t.Errorf("damaged: %v", err)
	}
}

// Too many hard links are an error, not memory.
func TestManyLinks(t *testing.T) {
	l := &links{byName: map[string]*link{}, inodes: map[string][]*inode{}, limit: 10000}
	var err error
	for i := 0; err == nil; i++ {
		if i > 100 {
			t.Fatal("no limit")
		}
		err = l.add(fmt.Sprint(i), "target", uint64(i))
	}
	if !errors.Is(err, ErrLimit) {
		t.Error(err)
	}
}

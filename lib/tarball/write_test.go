package tarball

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"preserve/lib/acl"
	"preserve/lib/rec"
)

// content gives the data of an extent: what is in a file at off.
func content(off, n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte((off+int64(i))*7/5 + 1)
	}
	return b
}

// put writes an entry with its content.
func put(t *testing.T, w *Writer, e *rec.Entry) {
	t.Helper()
	if err := w.Entry(e); err != nil {
		t.Fatal(e.Path, err)
	}
	if e.Type != rec.File {
		return
	}
	at := int64(0)
	for _, x := range e.Extents {
		var err error
		if x.Hole {
			err = w.Hole(int64(x.Len))
		} else {
			err = w.Data(content(at, int64(x.Len)))
		}
		if err != nil {
			t.Fatal(e.Path, err)
		}
		at += int64(x.Len)
	}
	if short, err := w.Done(); err != nil || short != 0 {
		t.Fatal(e.Path, short, err)
	}
}

func hole(n uint64) rec.Extent { return rec.Extent{Hole: true, Len: n} }
func data(n uint64) rec.Extent { return rec.Extent{Len: n} }

func sized(e rec.Entry) *rec.Entry {
	for _, x := range e.Extents {
		e.Size += x.Len
	}
	return &e
}

var somebody = acl.ACL{{Tag: acl.UserObj, Perm: 6, ID: acl.Undefined}, {Tag: acl.User, Perm: 4, ID: 1000}, {Tag: acl.GroupObj, Perm: 4, ID: acl.Undefined},
	{Tag: acl.Group, Perm: 5, ID: 77}, {Tag: acl.Mask, Perm: 7, ID: acl.Undefined}, {Tag: acl.Other, ID: acl.Undefined}}.Encode()

// One of everything that an archive can hold, in path order.
func everything() []*rec.Entry {
	deep := strings.Repeat(strings.Repeat("d", 99)+"/", 20) + "f"
	var es []*rec.Entry
	for i := range len(deep) {
		if deep[i] == '/' {
			es = append(es, &rec.Entry{Path: deep[:i], Type: rec.Dir, Mode: 0o755})
		}
	}
	t := rec.Time{Sec: 1234567890, Nsec: 123456789}
	return append(es, sized(rec.Entry{Path: deep, Type: rec.File, Mode: 0o600, MTime: t, Extents: []rec.Extent{data(513)}}),
		&rec.Entry{Path: "e", Type: rec.Dir, Mode: 0o1670, MTime: rec.Time{Sec: -2, Nsec: 500000000}, XAttrs: []rec.XAttr{
			{Name: acl.Access, Value: somebody}, {Name: acl.Default, Value: somebody}, {Name: "user.a=b%3Dc%d%25", Value: []byte("\x00\n=")}, {Name: "user.x", Value: []byte{}}}},
		sized(rec.Entry{Path: "e/1", Type: rec.File, Mode: 0o6755, UID: 4294967294, GID: 2097152, MTime: rec.Time{Sec: 1 << 33}, Links: 3, Extents: []rec.Extent{data(512), data(3)}}),
		&rec.Entry{Path: "e/2", Type: rec.HardLink, Leader: "e/1"},
		&rec.Entry{Path: "e/\u00fc", Type: rec.HardLink, Leader: "e/1"},
		&rec.Entry{Path: "e/\xff\xfe", Type: rec.Symlink, Mode: 0o777, MTime: rec.Time{Sec: -5}, Target: "\xfe" + strings.Repeat("t", 200)},
		&rec.Entry{Path: "f", Type: rec.Fifo, Mode: 0o600, UID: 1000, GID: 77, MTime: t},
		&rec.Entry{Path: "g", Type: rec.Char, Mode: 0o600, Major: 300, Minor: 70000, MTime: t},
		&rec.Entry{Path: "h", Type: rec.Block, Mode: 0o600, Major: 4294967295, Minor: 1, MTime: t},
		sized(rec.Entry{Path: "i\n", Type: rec.File, MTime: t}),
		sized(rec.Entry{Path: "j", Type: rec.File, MTime: t, Extents: []rec.Extent{hole(1 << 40)}}),
		sized(rec.Entry{Path: "k" + strings.Repeat("k", 200), Type: rec.File, MTime: t, Extents: []rec.Extent{hole(4096), data(5), hole(4091), data(7), data(1)}}),
		sized(rec.Entry{Path: "l\xff", Type: rec.File, MTime: t, Extents: []rec.Extent{data(700), hole(4091)}}),
	)
}

var someUsers = []rec.Name{{ID: 0, Name: "root"}, {ID: 1000, Name: "e v:\u00e9"}}
var someGroups = []rec.Name{{ID: 77, Name: strings.Repeat("g", 50)}}

// What is written reads as it was: by our own reader, which others judge.
func TestWriteRead(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, someUsers, someGroups)
	want := everything()
	for _, e := range want {
		put(t, w, e)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	a, err := Read(&b, Options{Warn: func(n string, err error) { t.Error(n, err) }, Notice: func(s string) { t.Error(s) }})
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, e := range want {
		f, err := a.Next()
		if err != nil {
			t.Fatal(err)
		}
		extents := e.Extents
		c := *e
		c.Extents = nil
		if !reflect.DeepEqual(f.Entry, &c) {
			t.Errorf("\n%+v, want\n%+v", f.Entry, &c)
		}
		if e.Type != rec.File {
			continue
		}
		at := int64(0)
		for _, x := range extents {
			start, end, err := f.Segment(at)
			if x.Hole {
				if err != io.EOF && start < at+int64(x.Len) {
					t.Errorf("%q: a hole at %d, and data from %d", e.Path, at, start)
				}
			} else if got := make([]byte, x.Len); err != nil || start != at || end < at+int64(x.Len) {
				t.Errorf("%q: data at %d, and it is said to be from %d to %d, %v", e.Path, at, start, end, err)
			} else if _, err := f.ReadAt(got, at); err != nil || !bytes.Equal(got, content(at, int64(x.Len))) {
				t.Errorf("%q: other content at %d, %v", e.Path, at, err)
			}
			at += int64(x.Len)
		}
	}
	if _, err := a.Next(); err != io.EOF {
		t.Error("there is more:", err)
	}
	users, groups := a.Names()
	if !slices.Contains(users, someUsers[1]) || !slices.Contains(groups, someGroups[0]) {
		t.Error(users, groups)
	}
}

// Go's own reader agrees about what it knows.
func TestWriteStandard(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, someUsers, someGroups)
	es := everything()
	for _, e := range es {
		put(t, w, e)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if b.Len()%blockSize != 0 {
		t.Errorf("%d bytes are not whole blocks", b.Len())
	}
	r := tar.NewReader(&b)
	for _, e := range es {
		h, err := r.Next()
		if err != nil {
			t.Fatal(e.Path, err)
		}
		if strings.TrimSuffix(h.Name, "/") != e.Path || h.Linkname != e.Target+e.Leader {
			t.Errorf("%q links to %q, want %q", h.Name, h.Linkname, e.Path)
		}
		if e.Type == rec.HardLink {
			continue
		}
		if h.Uid != int(e.UID) || h.Gid != int(e.GID) || !h.ModTime.Equal(e.MTime.Std()) || h.Mode != int64(e.Mode) || h.Size != int64(e.Size) {
			t.Errorf("%q: %+v", e.Path, h)
		}
		if e.Path == "e" && h.PAXRecords["SCHILY.acl.access"] != `user::rw-,user:e\040v\072é:r--:1000,group::r--,group:`+strings.Repeat("g", 50)+`:r-x:77,mask::rwx,other::---` {
			t.Errorf("%q", h.PAXRecords)
		}
	}
	if _, err := r.Next(); err != io.EOF {
		t.Error(err)
	}
}

// A file whose holes are not known beforehand is written in full, and one that
// turns out shorter than its beginning says is filled up.
func TestWritePieces(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, nil, nil)
	if err := w.Entry(&rec.Entry{Path: "h", Type: rec.File, Size: 100_000, More: true, Extents: []rec.Extent{hole(70_000), data(5)}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Hole(70_000), w.Data([]byte("hello")), w.Hole(5)); err != nil {
		t.Fatal(err)
	}
	if short, err := w.Done(); short != 29990 || err != nil {
		t.Fatal(short, err)
	}
	put(t, w, sized(rec.Entry{Path: "i", Type: rec.File, Extents: []rec.Extent{data(1)}}))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&b)
	if h, err := r.Next(); err != nil || h.Size != 100_000 {
		t.Fatal(h, err)
	}
	got, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(got, append(append(make([]byte, 70_000), "hello"...), make([]byte, 29_995)...)) {
		t.Error(len(got), err)
	}
	if h, err := r.Next(); err != nil || h.Name != "i" {
		t.Error(h, err)
	}
}

func TestWriteRefuses(t *testing.T) {
	var b bytes.Buffer
	w := NewWriter(&b, nil, nil)
	if err := w.Entry(&rec.Entry{Path: "s", Type: rec.Socket, Links: 2}); err != ErrSocket {
		t.Error(err)
	}
	if err := w.Entry(&rec.Entry{Path: "t", Type: rec.HardLink, Leader: "s"}); err != ErrLeader {
		t.Error(err)
	}
	if err := w.Entry(&rec.Entry{Path: "f", Type: rec.File, Size: 3, Extents: []rec.Extent{data(3)}}); err != nil {
		t.Error(err)
	}
	if err := w.Data([]byte("four")); err != ErrGrew {
		t.Error(err)
	}
	// What was given up cannot be taken for whole.
	w = NewWriter(&b, nil, nil)
	b.Reset()
	put(t, w, sized(rec.Entry{Path: "f", Type: rec.File, Extents: []rec.Extent{data(3)}}))
	if err := w.Abandon(); err != nil {
		t.Fatal(err)
	}
	r := tar.NewReader(&b)
	if _, err := r.Next(); err != nil {
		t.Error(err)
	}
	if _, err := r.Next(); err != io.ErrUnexpectedEOF {
		t.Error("an archive that was given up ends with", err)
	}
}

// The times of IEEE Std 1003.1: before 1970, the fraction counts downward.
func TestSeconds(t *testing.T) {
	for want, at := range map[string]rec.Time{
		"0": {}, "1.5": {Sec: 1, Nsec: 500_000_000}, "1.000000001": {Sec: 1, Nsec: 1}, "-1": {Sec: -1}, "-0.5": {Sec: -1, Nsec: 500_000_000},
		"-1.999999999": {Sec: -2, Nsec: 1}, "-9223372036854775808": {Sec: -1 << 63}, "-9223372036854775807.5": {Sec: -1 << 63, Nsec: 500_000_000},
	} {
		got := seconds(at)
		if got != want {
			t.Errorf("%v is %s, not %s", at, got, want)
		}
		if back, err := moment(got); err != nil || back != at {
			t.Errorf("%s reads as %v, %v", got, back, err)
		}
	}
}

// The length of a record counts its own digits.
func TestRecordLength(t *testing.T) {
	for n := range 1200 {
		r := &records{}
		r.add("k", strings.Repeat("v", n))
		var size int
		if _, err := fmt.Sscanf(string(r.b), "%d ", &size); err != nil || size != len(r.b) {
			t.Fatalf("a record of %d bytes says %d", len(r.b), size)
		}
	}
}

func TestCharset(t *testing.T) {
	for name, binary := range map[string]bool{"a": false, "é": false, "e\u0301": true, "\xff": true, "\u1112\u1161": true, "日本": false} {
		r := &records{}
		r.text("path", name)
		if got := strings.Contains(string(r.bytes()), "hdrcharset=BINARY"); got != binary {
			t.Errorf("%q: %v", name, got)
		}
	}
}

func TestFlagWords(t *testing.T) {
	if got := flagWords(0x10 | 0x40 | 0x40000000); got != "schg,nodump" {
		t.Error(got)
	}
}

package tarball

import (
	"bufio"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"preserve/lib/acl"
	"preserve/lib/rec"
)

// Errors of a Writer; match them with errors.Is.
var (
	// ErrSocket is returned for a socket: no archive holds one.
	ErrSocket = errors.New("a tar archive cannot hold a socket")
	// ErrLeader is returned for a hard link to what is not in the archive.
	ErrLeader = errors.New("what it is a hard link to is not in the archive")
	// ErrGrew is returned for more content than was announced.
	ErrGrew = errors.New("the file has more content than its beginning says")
)

// A Writer writes a tar archive in the PAX format, with what star and GNU tar add
// to it: extended attributes (SCHILY.xattr), access control lists as text
// (SCHILY.acl), inode flags (SCHILY.fflags, which bsdtar reads) and files with
// holes (GNU.sparse, version 1.0). It is for one goroutine.
//
// A file is begun by Entry, and its content follows with Data and Hole, in order
// and without a gap, until Done.
type Writer struct {
	w             *bufio.Writer
	users, groups map[uint32]string
	leaders       map[uint64]leader // by a hash of the path: there may be many
	seed          maphash.Seed

	file    bool
	sparse  bool  // holes are not written
	left    int64 // bytes of the file's content still to come
	size    int64 // of the member, without padding
	written int64 // of that
}

// A leader is what the further names of a file have in common with the first.
type leader struct {
	mode, uid, gid uint32
	mtime          rec.Time
}

// NewWriter returns a Writer to w. users and groups give names to owners and to
// those in access control lists.
func NewWriter(w io.Writer, users, groups []rec.Name) *Writer {
	return &Writer{w: bufio.NewWriterSize(w, 256<<10), users: table(users), groups: table(groups), leaders: map[uint64]leader{}, seed: maphash.MakeSeed()}
}

func table(names []rec.Name) map[uint32]string {
	t := make(map[uint32]string, len(names))
	for _, n := range names {
		t[n.ID] = n.Name
	}
	return t
}

// Entry writes an entry, or begins a file: with its Extents if these are all of
// its content, and with More if they are not. Then holes are not known yet, and
// are written as zeros. ErrSocket and ErrLeader are about this entry only: nothing
// was written.
func (w *Writer) Entry(e *rec.Entry) error {
	b := &ustar{name: e.Path, mode: e.Mode, uid: e.UID, gid: e.GID, mtime: e.MTime, major: e.Major, minor: e.Minor}
	var sparse []byte
	switch e.Type {
	case rec.File:
		b.flag, b.size = '0', int64(e.Size)
		w.sparse = false
		if !e.More && e.Err == "" {
			sparse, b.size = sparseMap(e)
			w.sparse = sparse != nil
		}
		w.file, w.left, w.size, w.written = true, int64(e.Size), b.size, 0
	case rec.Dir:
		if b.flag, b.name = '5', e.Path+"/"; e.Path == "" {
			b.name = "./"
		}
	case rec.Symlink:
		b.flag, b.link = '2', e.Target
	case rec.Fifo:
		b.flag = '6'
	case rec.Char:
		b.flag = '3'
	case rec.Block:
		b.flag = '4'
	case rec.HardLink:
		l, ok := w.leaders[maphash.String(w.seed, e.Leader)]
		if !ok {
			return ErrLeader
		}
		b.flag, b.link = '1', e.Leader
		b.mode, b.uid, b.gid, b.mtime = l.mode, l.uid, l.gid, l.mtime
	default:
		return ErrSocket
	}
	if e.Links > 1 {
		w.leaders[maphash.String(w.seed, e.Path)] = leader{e.Mode, e.UID, e.GID, e.MTime}
	}
	b.uname, b.gname = w.users[b.uid], w.groups[b.gid]
	if err := w.header(b, w.records(e, b, sparse != nil)); err != nil {
		return err
	}
	if sparse == nil {
		return nil
	}
	w.written = int64(len(sparse))
	_, err := w.w.Write(sparse)
	return err
}

// records are those of the entry's extended header.
func (w *Writer) records(e *rec.Entry, b *ustar, sparse bool) *records {
	r := &records{}
	if sparse {
		r.add("GNU.sparse.major", "1")
		r.add("GNU.sparse.minor", "0")
		r.text("GNU.sparse.name", e.Path)
		r.add("GNU.sparse.realsize", strconv.FormatUint(e.Size, 10))
		b.name = "GNUSparseFile.0/" + base(e.Path)
	} else if len(b.name) > nameSize || !ascii(b.name) {
		r.text("path", b.name)
	}
	if len(b.link) > nameSize || !ascii(b.link) {
		r.text("linkpath", b.link)
	}
	if len(b.uname) > ownerSize || !ascii(b.uname) {
		r.text("uname", b.uname)
	}
	if len(b.gname) > ownerSize || !ascii(b.gname) {
		r.text("gname", b.gname)
	}
	for _, n := range []struct {
		key   string
		value uint64
		most  uint64
	}{{"uid", uint64(b.uid), maxOctal7}, {"gid", uint64(b.gid), maxOctal7}, {"size", uint64(b.size), maxOctal11},
		{"SCHILY.devmajor", uint64(b.major), maxOctal7}, {"SCHILY.devminor", uint64(b.minor), maxOctal7}} {
		if n.value > n.most {
			r.add(n.key, strconv.FormatUint(n.value, 10))
		}
	}
	if t := b.mtime; t.Nsec != 0 || t.Sec < 0 || t.Sec > maxOctal11 {
		r.add("mtime", seconds(t))
	}
	w.attributes(r, e)
	return r
}

// attributes are the records of extended attributes and flags.
func (w *Writer) attributes(r *records, e *rec.Entry) {
	name := func(t acl.Tag, id uint32) string {
		if t == acl.User {
			return w.users[id]
		}
		return w.groups[id]
	}
	for _, x := range e.XAttrs {
		if acl.Is(x.Name) {
			if list, err := acl.Decode(x.Value); err == nil {
				r.add(map[string]string{acl.Access: aclAccess, acl.Default: aclDefault}[x.Name], list.Text(name))
				continue
			}
		}
		// As GNU tar does, so that the name ends at the first "="; "%" only where it
		// would be taken for one of these two, since bsdtar takes it as it is.
		key := strings.NewReplacer("=", "%3D", "%3D", "%253D", "%25", "%2525").Replace(x.Name)
		r.add(xattrSchily+key, string(x.Value))
	}
	if words := flagWords(e.Flags); words != "" {
		r.add("SCHILY.fflags", words)
	}
}

// base is the last name of a path.
func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func ascii(s string) bool {
	for _, c := range []byte(s) {
		if c == 0 || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// seconds writes a time as PAX does: decimal seconds, before 1970 too.
func seconds(t rec.Time) string {
	sign, sec, nsec := "", uint64(t.Sec), uint64(t.Nsec)
	if t.Sec < 0 {
		sign, sec = "-", -sec
		if nsec > 0 {
			sec, nsec = sec-1, 1e9-nsec
		}
	}
	s := sign + strconv.FormatUint(sec, 10)
	if nsec > 0 {
		s += "." + strings.TrimRight(fmt.Sprintf("%09d", nsec), "0")
	}
	return s
}

// sparseMap returns the map that stands before the data of a file with holes, in
// whole blocks, and how much of the archive map and data take; no map for a file
// without a hole.
func sparseMap(e *rec.Entry) (m []byte, size int64) {
	var rows []int64 // offset, length
	at, holes := int64(0), false
	for _, x := range e.Extents {
		n := len(rows)
		switch {
		case x.Hole:
			holes = true
		case n > 0 && rows[n-2]+rows[n-1] == at:
			rows[n-1] += int64(x.Len)
		default:
			rows = append(rows, at, int64(x.Len))
		}
		at += int64(x.Len)
	}
	if !holes {
		return nil, int64(e.Size)
	}
	if n := len(rows); n == 0 || rows[n-2]+rows[n-1] < at {
		rows = append(rows, at, 0) // so that a hole at the end is one
	}
	m = strconv.AppendInt(nil, int64(len(rows)/2), 10)
	m = append(m, '\n')
	for i, n := range rows {
		m = append(strconv.AppendInt(m, n, 10), '\n')
		if i%2 == 1 {
			size += n
		}
	}
	m = append(m, make([]byte, -len(m)&(blockSize-1))...)
	return m, size + int64(len(m))
}

// Data adds to the content of the file.
func (w *Writer) Data(b []byte) error {
	if w.left -= int64(len(b)); w.left < 0 || !w.file {
		return ErrGrew
	}
	w.written += int64(len(b))
	_, err := w.w.Write(b)
	return err
}

var zeroes [64 << 10]byte

// Hole adds n bytes of hole to the content of the file.
func (w *Writer) Hole(n int64) error {
	if w.sparse {
		if w.left -= n; w.left < 0 || !w.file {
			return ErrGrew
		}
		return nil
	}
	for ; n > 0; n -= int64(len(zeroes)) {
		if err := w.Data(zeroes[:min(n, int64(len(zeroes)))]); err != nil {
			return err
		}
	}
	return nil
}

// Done ends a file. What its beginning announced, and did not come, is filled up
// with zeros: short says how much that is.
func (w *Writer) Done() (short int64, err error) {
	short = w.left
	if err := w.Hole(short); err != nil {
		return short, err
	}
	w.file = false
	_, err = w.w.Write(zeroes[:-w.written&(blockSize-1)])
	return short, err
}

// Close ends the archive.
func (w *Writer) Close() error {
	if _, err := w.w.Write(zeroes[:2*blockSize]); err != nil {
		return err
	}
	return w.w.Flush()
}

// Abandon ends the archive so that every reader sees that it is cut off: many take
// an end of input between two members for the end of the archive. Here it ends in
// the middle of an extended header. A member that is not whole is filled up first, as
// far as that header could be taken for the rest of it.
func (w *Writer) Abandon() error {
	if w.file {
		if rest := w.size - w.written + -w.size&(blockSize-1); rest <= blockSize {
			if _, err := w.w.Write(zeroes[:rest]); err != nil {
				return err
			}
		}
	}
	x := &ustar{name: "PaxHeaders/cut off", flag: 'x', size: blockSize}
	if _, err := w.w.Write(x.encode()); err != nil {
		return err
	}
	return w.w.Flush()
}

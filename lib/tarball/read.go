// Package tarball turns tar archives into entries with their contents, and back: a
// Writer writes what comes in path order as it comes, in the PAX format.
//
// An archive is in any order, and may say several things of one path; our
// streams are in path order, with each path once and each directory before what
// is in it. Read takes a whole archive in: entries are sorted, in runs on disk if
// there are many, and contents wait in a temporary file, or stay in the archive
// if that is a regular file. Then Next returns them in our order.
//
// Read are ustar, GNU (long names, large numbers, sparse files of all four
// formats), PAX and what star, bsdtar and Go make of it: extended attributes
// as SCHILY.xattr and LIBARCHIVE.xattr, access control lists as text and as
// attributes, times to the nanosecond. Written, and not read, are inode flags
// (SCHILY.fflags); neither, times of change and of birth.
//
// An archive is hostile: no name leaves the tree, no size buys memory on its
// word, and what is in memory is bounded whatever it says. Contents in
// temporary files are in the clear, as package spool says.
package tarball

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"preserve/lib/rec"
	"preserve/lib/spool"
)

// Errors of Read and Next; match them with errors.Is.
var (
	// ErrBad is returned for what is no tar archive, or a damaged one.
	ErrBad = errors.New("not a tar archive, or damaged")
	// ErrCut is returned for an archive that does not end as archives do, with
	// a block of zeros: what wrote it died, or the connection broke.
	ErrCut = errors.New("the archive is cut off: it has no end")
	// ErrLimit is returned for an archive with more hard links than memory is
	// spent on.
	ErrLimit = errors.New("too much for memory")

	errEnd = errors.New("end") // of the archive, as it should be
)

// Options of Read. Warn and Notice must not be nil.
type Options struct {
	// Warn hears of what is left out or differs: a member by its name, as the
	// archive spells it, or an entry by its path.
	Warn func(name string, err error)
	// Notice hears of what is worth a remark.
	Notice func(text string)
	// LookUp finds the id of a user's (else a group's) name in an access
	// control list that no member has as owner. It may be nil.
	LookUp func(name string, user bool) (id uint32, ok bool)
}

// An Archive is a tar archive that was read. It is for one goroutine.
type Archive struct {
	o      Options
	raw    *raw
	data   *spool.Spool // contents, of an archive that is a pipe
	maps   *spool.Spool // maps of holes
	global map[string]string
	// extended says that it has extended headers: it is of POSIX.1-2001.
	extended bool
	members  uint64
	sorter   *sorter
	links    links
	users    owners
	groups   owners

	// Of Next.
	items   func() (*item, error)
	ahead   *item    // the next one
	dirs    []string // from the top to the last entry
	barrier string   // the last entry that is no directory
	queue   []*File
}

// Memory for contents and for maps before they go to disk.
const (
	dataMemory = 32 << 20
	mapMemory  = 1 << 20
)

// Read reads an archive to its end. What Warn was told is left out; every error
// is about the whole archive. Close must be called if there is none.
func Read(src io.Reader, o Options) (*Archive, error) { return read(src, o, runBytes) }

func read(src io.Reader, o Options, limit int) (*Archive, error) {
	a := &Archive{o: o, data: spool.New(dataMemory), maps: spool.New(mapMemory), global: map[string]string{}, sorter: newSorter(limit),
		links: links{byName: map[string]*link{}, inodes: map[string][]*inode{}, limit: maxLinks}}
	a.raw = newRaw(src, a.data)
	if err := a.take(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// take reads all members.
func (a *Archive) take() error {
	for {
		err := a.member()
		if errors.Is(err, errEnd) {
			break
		}
		if errors.Is(err, ErrCut) && a.raw.off == 0 {
			return fmt.Errorf("%w: it is empty", ErrCut)
		}
		if err != nil {
			return fmt.Errorf("member %d, at byte %d: %w", a.members+1, a.raw.off, err)
		}
		a.members++
	}
	more, err := a.raw.drain()
	if err != nil {
		return fmt.Errorf("behind the archive's end: %w", err)
	}
	if more {
		a.o.Warn("the archive", fmt.Errorf("there is more behind its end, at byte %d, which is left out: an archive appended to an archive?", a.raw.off))
	}
	if len(a.links.byName) > 0 {
		next, err := a.sorter.all()
		if err != nil {
			return err
		}
		if err := a.links.resolve(next); err != nil {
			return err
		}
	}
	a.items, err = a.sorter.all()
	return err
}

// Close gives up what is left.
func (a *Archive) Close() error {
	return errors.Join(a.data.Close(), a.maps.Close(), a.sorter.store.Close())
}

// Names returns the names of owners, ids ascending.
func (a *Archive) Names() (users, groups []rec.Name) { return a.users.table(), a.groups.table() }

// leftOut is an error about one member, which is left out.
type leftOut struct{ err error }

func (e *leftOut) Error() string { return e.err.Error() }

// member reads the next member.
func (a *Archive) member() error {
	h, err := a.next()
	if err != nil {
		return err
	}
	e := &rec.Entry{Mode: uint32(h.mode) & 0o7777, MTime: h.mtime}
	it := &item{seq: a.members, entry: e}
	sparse, err := a.sparse(h, it)
	if err != nil {
		return err
	}
	physical := h.size
	switch {
	case h.flag == '1' && physical > 0 && a.linkHasData():
		e.Size = uint64(physical) // see describe
		fallthrough
	case h.hasContent():
		if it.at, err = a.raw.keep(physical); err != nil {
			return err
		}
		if err := a.raw.pad(physical); err != nil {
			return err
		}
	default:
		physical = 0
	}
	if !sparse {
		e.Size = uint64(physical)
	}
	err = a.describe(h, it)
	var out *leftOut
	switch {
	case errors.As(err, &out):
		a.o.Warn(h.name, fmt.Errorf("left out: %w", out.err))
		return nil
	case err != nil || e.Type == rec.None:
		return err
	}
	return a.sorter.add(it)
}

// hasContent reports whether content follows a header, as its size says. Links, devices and
// directories have none, whatever their size says; nor have the directories of
// archives before ustar, which are files with a "/" at the end.
func (h *header) hasContent() bool {
	switch h.flag {
	case '1', '2', '3', '4', '5', '6':
		return false
	}
	return h.flag != 0 || !strings.HasSuffix(h.name, "/")
}

// linkHasData reports whether the content of a hard link with a size follows. POSIX.1-2001 has it so,
// "linkdata" of pax; earlier programs wrote a size without content. In an archive with extended
// headers the size is true; elsewhere what follows tells, as for libarchive.
func (a *Archive) linkHasData() bool {
	if a.extended {
		return true
	}
	b, err := a.raw.in.Peek(blockSize)
	if err != nil {
		return false
	}
	var next header
	copy(next.block[:], b)
	return next.block != [blockSize]byte{} && next.checksum() != nil
}

// describe makes an entry of a header. Type None is of what is no file at all.
func (a *Archive) describe(h *header, it *item) error {
	e := it.entry
	if h.flag == 'V' { // a label of the volume
		return nil
	}
	path, err := clean(h.name)
	if err != nil {
		return &leftOut{err}
	}
	e.Path = path
	switch h.flag {
	case 0, '0', '7', 'S':
		e.Type = rec.File
		if h.flag == 0 && strings.HasSuffix(h.name, "/") { // as archives before ustar say directory
			e.Type = rec.Dir
		}
	case '1':
		e.Type, it.link = rec.Fifo, true // only a place, until Next
	case '2':
		e.Type, e.Target = rec.Symlink, h.link
	case '3':
		e.Type = rec.Char
	case '4':
		e.Type = rec.Block
	case '5', 'D':
		e.Type = rec.Dir
	case '6':
		e.Type = rec.Fifo
	default:
		return &leftOut{fmt.Errorf("a member of type %q, which this program does not know", h.flag)}
	}
	linkSize := e.Size
	if e.Type != rec.File {
		e.Size, it.sparse = 0, false
	}
	if err := a.fill(h, e); err != nil {
		return &leftOut{err}
	}
	a.links.replaced(path)
	if it.link {
		target, err := clean(h.link)
		if err != nil {
			return &leftOut{fmt.Errorf("hard link: %w", err)}
		}
		if linkSize > 0 { // what it is if it is a link to nothing
			e.Type, e.Size = rec.File, linkSize
		} else {
			*e = rec.Entry{Path: path, Type: rec.Fifo, MTime: h.mtime} // the time is for directories made for it
		}
		return a.links.add(path, target, it.seq)
	}
	a.users.add(e.UID, h.uname, a.o.Notice, "user")
	a.groups.add(e.GID, h.gname, a.o.Notice, "group")
	return nil
}

// fill takes over owner, device number and attributes, and checks the entry.
func (a *Archive) fill(h *header, e *rec.Entry) error {
	const most = 1<<32 - 1
	for _, n := range []int64{h.uid, h.gid, h.major, h.minor} {
		if n < 0 || n > most {
			return fmt.Errorf("the owner or device number %d cannot be stored", n)
		}
	}
	e.UID, e.GID = uint32(h.uid), uint32(h.gid)
	if e.Type == rec.Char || e.Type == rec.Block {
		e.Major, e.Minor = uint32(h.major), uint32(h.minor)
	}
	var err error
	if e.XAttrs, err = attributes(h.pax); err != nil {
		return err
	}
	return e.Check()
}

// schilyName undoes what some programs do to the names of attributes in keys.
var schilyName = strings.NewReplacer("%3D", "=", "%25", "%")

// attributes finds the extended attributes among the records of a PAX header.
// Lists of access control stay texts until Next, when all names are known.
func attributes(pax map[string]string) ([]rec.XAttr, error) {
	found := map[string]string{}
	for key, value := range pax {
		if name, ok := strings.CutPrefix(key, xattrLibarchive); ok {
			if plain, err := url.PathUnescape(name); err == nil {
				name = plain
			}
			b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(value, "="))
			if err != nil {
				return nil, fmt.Errorf("attribute %q: %w", name, err)
			}
			found[name] = string(b)
		}
	}
	for key, value := range pax {
		name, ok := strings.CutPrefix(key, xattrSchily)
		switch {
		case ok:
			found[schilyName.Replace(name)] = value
		case key == aclAccess, key == aclDefault:
			found[key] = value
		case key == selinux:
			found["security.selinux"] = strings.TrimSuffix(value, "\x00") + "\x00"
		}
	}
	var xs []rec.XAttr
	total := 0
	for name, value := range found {
		total += len(name) + len(value)
		if name == "" || len(name) > rec.MaxName || strings.IndexByte(name, 0) >= 0 {
			return nil, fmt.Errorf("an attribute with a name that cannot be stored: %q", name[:min(len(name), 100)])
		}
		xs = append(xs, rec.XAttr{Name: name, Value: []byte(value)})
	}
	if total > rec.MaxXAttrs || total+16*len(xs) > rec.MaxEntry-4*rec.MaxPath {
		return nil, fmt.Errorf("%d bytes of extended attributes, more than can be stored", total)
	}
	slices.SortFunc(xs, func(a, b rec.XAttr) int { return strings.Compare(a.Name, b.Name) })
	return xs, nil
}

// clean makes a path of a member's name: without a leading "/", without "." and
// empty parts. The result "" is the root.
func clean(name string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("%w: no name", rec.ErrPath)
	}
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." {
			continue
		}
		parts = append(parts, part)
	}
	path := strings.Join(parts, "/")
	return path, rec.CheckPath(path)
}

package test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"preserve/lib/rec"
	"preserve/lib/wire"

	"golang.org/x/sys/unix"
)

// helpers are programs that only scripts use.
var helpers = map[string]func([]string) error{
	"mktree":    mktree,
	"cmptree":   cmptree,
	"cutstream": cutstream,
	"landlock":  landlock, // confined_test.go
	"forge":     forge,    // forge_test.go
	"refused":   refused,  // refused_test.go
	"spoil":     spoil,
}

// mktree DIR: one of everything that a tree can hold; what takes root only for
// root.
func mktree(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: mktree DIR")
	}
	at := func(name string) string { return filepath.Join(args[0], name) }
	var errs []error
	try := func(err error) { errs = append(errs, err) }
	write := func(name string, content []byte, mode fs.FileMode) {
		try(os.WriteFile(at(name), content, 0o600))
		try(os.Chmod(at(name), mode))
	}
	for _, d := range []string{"", "empty", "deep", "deep/er", "deep-er", "sticky", "names"} {
		try(os.MkdirAll(at(d), 0o755))
	}
	write("empty file", nil, 0o644)
	write("small", []byte("small\n"), 0o640)
	write("deep/er/x", []byte("x"), 0o400)
	write("deep-er/x", []byte("y"), 0o755)
	noise := make([]byte, 9<<20) // cut into several chunks, and not compressible
	for i, x := 0, uint64(1); i < len(noise); i++ {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		noise[i] = byte(x)
	}
	write("large", noise, 0o644)
	for i := range 300 {
		write(fmt.Sprintf("names/%03d", i), bytes.Repeat([]byte{byte(i)}, i*7), 0o644)
	}
	for _, n := range []string{"\xff\xfe", "new\nline", "-r", " ", "é", "\x1b[31m", "'\"$`\\"} {
		write("names/"+n, []byte(n), 0o644)
	}
	sparse, err := os.Create(at("sparse"))
	try(err)
	if err == nil {
		_, err = sparse.WriteAt([]byte("in the middle"), 1<<20)
		try(errors.Join(err, sparse.Truncate(3<<20), sparse.Close()))
	}
	try(os.Link(at("small"), at("deep/hard link")))
	try(os.Symlink("small", at("symlink")))
	try(os.Symlink("/nowhere/\xff", at("dangling")))
	try(unix.Mkfifo(at("fifo"), 0o622))
	try(unix.Mknod(at("socket"), unix.S_IFSOCK|0o666, 0))
	try(os.Chmod(at("sticky"), fs.ModeSticky|0o777))
	if hasXAttrs(args[0]) {
		try(unix.Setxattr(at("small"), "user.note", []byte{0, 0xff, 'x'}, 0))
		try(unix.Setxattr(at("empty"), "user.empty", nil, 0))
	}
	if os.Getuid() == 0 {
		try(unix.Mknod(at("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))))
		try(unix.Mknod(at("block"), unix.S_IFBLK|0o600, int(unix.Mkdev(7, 300))))
		write("setuid", []byte("#!"), 0o755)
		try(os.Lchown(at("setuid"), 12345, 54321))
		try(os.Chmod(at("setuid"), fs.ModeSetuid|fs.ModeSetgid|0o755))
		try(os.Lchown(at("symlink"), 12345, 0))
	}
	// Times last, children before their directories.
	var names []string
	try(filepath.WalkDir(args[0], func(p string, _ fs.DirEntry, err error) error {
		names = append(names, p)
		return err
	}))
	for i, p := range slices.Backward(names) {
		t := unix.NsecToTimespec(1_234_567_890_123_456_789 + int64(i)*1_000_000_001)
		try(unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{t, t}, unix.AT_SYMLINK_NOFOLLOW))
	}
	return errors.Join(errs...)
}

func hasXAttrs(dir string) bool {
	f, err := os.CreateTemp(dir, "xattr")
	if err != nil {
		return false
	}
	defer os.Remove(f.Name())
	defer f.Close()
	before, err := os.Stat(dir)
	return err == nil && before.IsDir() && unix.Fsetxattr(int(f.Fd()), "user.x", []byte("x"), 0) == nil
}

// cmptree A B: says every difference between two trees, but for the times of
// reading and of change and for inode numbers.
func cmptree(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: cmptree A B")
	}
	a, err := describe(args[0])
	if err != nil {
		return err
	}
	b, err := describe(args[1])
	if err != nil {
		return err
	}
	if len(a) < 2 {
		return fmt.Errorf("%s is empty: this compares nothing", args[0])
	}
	var diffs []string
	for p, x := range a {
		if y, ok := b[p]; !ok {
			diffs = append(diffs, fmt.Sprintf("%q is missing in %s", p, args[1]))
		} else if x != y {
			diffs = append(diffs, fmt.Sprintf("%q\n  %s\n  %s", p, x, y))
		}
	}
	for p := range b {
		if _, ok := a[p]; !ok {
			diffs = append(diffs, fmt.Sprintf("%q is missing in %s", p, args[0]))
		}
	}
	if len(diffs) > 0 {
		slices.Sort(diffs)
		return fmt.Errorf("%d differences\n%s", len(diffs), strings.Join(diffs, "\n"))
	}
	return nil
}

// describe returns a line for each path below dir that says all that a backup
// keeps.
func describe(dir string) (map[string]string, error) {
	all := map[string]string{}
	first := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		line := fmt.Sprintf("mode %o owner %d:%d time %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			holes, err := segments(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" size %d data %v content %x", st.Size, holes, sum(content))
		case unix.S_IFLNK:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			line += fmt.Sprintf(" target %q", target)
		case unix.S_IFCHR, unix.S_IFBLK:
			line += fmt.Sprintf(" device %d", st.Rdev)
		}
		if st.Mode&unix.S_IFMT != unix.S_IFDIR && st.Nlink > 1 {
			if first[st.Ino] == "" {
				first[st.Ino] = name
			}
			line += fmt.Sprintf(" link to %q", first[st.Ino])
		}
		attrs, err := attributes(p)
		if err != nil {
			return err
		}
		all[name] = line + attrs
		return nil
	})
	return all, err
}

func sum(b []byte) uint64 { // FNV-1a
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// segments returns where a file's data begins and ends.
func segments(p string) (at []int64, err error) {
	f, err := os.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	for off := int64(0); ; {
		start, err := f.Seek(off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return at, nil
		}
		if err != nil {
			return nil, err
		}
		if off, err = f.Seek(start, unix.SEEK_HOLE); err != nil {
			return nil, err
		}
		at = append(at, start, off)
	}
}

func attributes(p string) (string, error) {
	names := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, names)
	if err != nil {
		return "", nil // a file system without attributes
	}
	var lines []string
	for _, name := range strings.Split(strings.TrimSuffix(string(names[:n]), "\x00"), "\x00") {
		if name == "" {
			continue
		}
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(p, name, value)
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf(" %s=%x", name, value[:n]))
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}

// cutstream N: copies the first N records of a stream, and one byte more of the
// next.
func cutstream(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: cutstream N")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	s := wire.NewScanner(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	for range n {
		raw, err := s.Next(nil, rec.MaxRecord)
		if err == io.EOF {
			return errors.New("the stream has no more records")
		}
		if err != nil {
			return err
		}
		_, _ = out.Write(raw) // the error comes with Flush
	}
	_, _ = out.Write(s.Peek(1))
	return out.Flush()
}

// spoil KIND: copies a sealed stream and turns over a bit in each blob of that
// kind, with a checksum that holds: as somebody can who changes a repository
// and has no key.
func spoil(args []string) error {
	if len(args) != 1 {
		return errors.New("usage: spoil KIND <sealed >sealed")
	}
	kind, err := strconv.ParseUint(args[0], 10, 8)
	if err != nil {
		return err
	}
	in, out := rec.NewReader(os.Stdin, rec.Sealed), rec.NewWriter(os.Stdout)
	for {
		v, err := in.Next()
		if err == io.EOF {
			return out.Flush()
		}
		if err != nil {
			return err
		}
		if b, ok := v.(*rec.Blob); ok && uint64(b.Kind) == kind {
			b.Data[len(b.Data)/2] ^= 4
			b.CRC = b.Sum()
		}
		if err := out.Write(v); err != nil {
			return err
		}
	}
}

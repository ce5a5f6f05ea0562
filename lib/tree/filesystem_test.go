package tree

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

func TestFileSystem(t *testing.T) {
	dir := tmp(t)
	write(t, filepath.Join(dir, "f"), "x")
	must(t, os.Symlink("f", filepath.Join(dir, "l")))
	roots := []rec.Root{{Dir: dir}}
	es := walk(t, roots, false)
	open := func() *Source {
		s, err := OpenRoots(roots)
		must(t, err)
		return s
	}
	s := open()
	defer s.Close()
	var st unix.Statfs_t
	must(t, unix.Statfs(dir, &st))
	want := fileSystem(uint32(st.Type))
	for _, path := range []string{"", "f", "l"} {
		if got := s.FileSystem(find(es, path)); got != want {
			t.Errorf("%q: %+v, want %+v", path, got, want)
		}
	}

	// The system is asked once for each device, and what it said of one is not
	// taken for another.
	e := *find(es, "f")
	odd := FileSystem{Network: true}
	s.systems.Store(e.Dev, odd)
	if got := s.FileSystem(&e); got != odd {
		t.Errorf("asked again: %+v", got)
	}
	// Where the answer would be a guess it is the most careful one, and nobody
	// remembers it.
	careful := FileSystem{Inodes: true, Network: true}
	other := e
	other.Dev++
	gone := e
	gone.Path, gone.Dev = "gone", e.Dev+2
	for _, e := range []*rec.Entry{&other, &gone} {
		if got := s.FileSystem(e); got != careful {
			t.Errorf("%s on device %d: %+v, want %+v", e.Path, e.Dev, got, careful)
		}
		if _, ok := s.systems.Load(e.Dev); ok {
			t.Errorf("%s on device %d: the guess is remembered", e.Path, e.Dev)
		}
	}
	// Without a device number the file itself is asked.
	e.Dev = 0
	if got := s.FileSystem(&e); got != want {
		t.Errorf("without device: %+v, want %+v", got, want)
	}
	// So it is through links that the walk followed.
	f := open()
	defer f.Close()
	if err := f.Follow(); err == nil {
		through := *find(es, "f")
		through.Path = "l"
		if got := f.FileSystem(&through); got != want {
			t.Errorf("through a link: %+v, want %+v", got, want)
		}
	}
}

func TestFileSystems(t *testing.T) {
	for name, c := range map[string]struct {
		magic uint32
		want  FileSystem
	}{
		"ext4":  {unix.EXT4_SUPER_MAGIC, FileSystem{Inodes: true}},
		"btrfs": {unix.BTRFS_SUPER_MAGIC, FileSystem{Inodes: true}},
		"xfs":   {unix.XFS_SUPER_MAGIC, FileSystem{Inodes: true}},
		"tmpfs": {unix.TMPFS_MAGIC, FileSystem{Inodes: true}},
		"vfat":  {unix.MSDOS_SUPER_MAGIC, FileSystem{}},
		"exfat": {unix.EXFAT_SUPER_MAGIC, FileSystem{}},
		"fuse":  {unix.FUSE_SUPER_MAGIC, FileSystem{Network: true}},
		"cifs":  {unix.CIFS_SUPER_MAGIC, FileSystem{Network: true}},
		"smb":   {unix.SMB2_SUPER_MAGIC, FileSystem{Network: true}},
		"nfs":   {unix.NFS_SUPER_MAGIC, FileSystem{Inodes: true, Network: true}},
	} {
		if got := fileSystem(c.magic); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

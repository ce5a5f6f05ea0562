package source

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
	"preserve/lib/treetest"
)

func TestFileSystem(t *testing.T) {
	dir := treetest.Tmp(t)
	treetest.Write(t, filepath.Join(dir, "f"), "x")
	treetest.Must(t, os.Symlink("f", filepath.Join(dir, "l")))
	roots := []rec.Root{{Dir: dir}}
	entry := func(path string) *rec.Entry {
		var st inode.Stat
		treetest.Must(t, inode.StatAt(unix.AT_FDCWD, filepath.Join(dir, path), &st))
		e := &rec.Entry{}
		st.Entry(e)
		e.Path = path
		return e
	}
	open := func() *Source {
		s, err := OpenRoots(roots)
		treetest.Must(t, err)
		return s
	}
	s := open()
	defer s.Close()
	var st unix.Statfs_t
	treetest.Must(t, unix.Statfs(dir, &st))
	want := fileSystem(uint32(st.Type))
	if st.Type == unix.OVERLAYFS_SUPER_MAGIC {
		fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		treetest.Must(t, err)
		want, err = ask(fd, 0)
		treetest.Must(t, err)
		treetest.Must(t, unix.Close(fd))
	}
	for _, path := range []string{"", "f", "l"} {
		if got := s.FileSystem(entry(path)); got != want {
			t.Errorf("%q: %+v, want %+v", path, got, want)
		}
	}

	// The system is asked once for each device, and what it said of one is not
	// taken for another.
	e := *entry("f")
	odd := FileSystem{Network: true}
	s.systems.Store(e.Dev, odd)
	if got := s.FileSystem(&e); got != odd {
		t.Errorf("asked again: %+v", got)
	}
	// Where the answer would be a guess it is the most careful one, and nobody
	// remembers it.
	careful := FileSystem{Name: "a file system that cannot be asked", Inodes: true, Network: true}
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
		through := *entry("f")
		through.Path = "l"
		if got := f.FileSystem(&through); got != want {
			t.Errorf("through a link: %+v, want %+v", got, want)
		}
	}
}

func TestFileSystems(t *testing.T) {
	for _, c := range []struct {
		name    string
		magic   uint32
		inodes  bool
		network bool
		times   bool
	}{
		{"ext4", unix.EXT4_SUPER_MAGIC, true, false, true},
		{"btrfs", unix.BTRFS_SUPER_MAGIC, true, false, true},
		{"xfs", unix.XFS_SUPER_MAGIC, true, false, true},
		{"tmpfs", unix.TMPFS_MAGIC, true, false, true},
		{"f2fs", unix.F2FS_SUPER_MAGIC, true, false, true},
		{"zfs", 0x2fc12fc1, true, false, true},
		{"bcachefs", 0xca451a4e, true, false, true},
		{"vfat", unix.MSDOS_SUPER_MAGIC, false, false, false},
		{"exfat", unix.EXFAT_SUPER_MAGIC, false, false, false},
		{"FUSE", unix.FUSE_SUPER_MAGIC, false, true, false},
		{"9p", unix.V9FS_MAGIC, false, true, false},
		{"vboxsf", 0x786f4256, false, true, false},
		{"vmhgfs", 0xbacbacbc, false, true, false},
		{"cifs", unix.CIFS_SUPER_MAGIC, false, true, true},
		{"smb2", unix.SMB2_SUPER_MAGIC, false, true, true},
		{"nfs", unix.NFS_SUPER_MAGIC, true, true, true},
		{"ceph", unix.CEPH_SUPER_MAGIC, true, true, true},
		{"squashfs", 0x73717368, true, false, false},
		{"iso9660", 0x9660, true, false, false},
		{"erofs", 0xe0f5e1e2, true, false, false},
		{"cramfs", 0x28cd3d45, true, false, false},
		{"romfs", 0x7275, true, false, false},
		{"udf", 0x15013346, true, false, false},
		{"overlayfs", 0x794c7630, true, false, false}, // until its layers are asked
		{"a file system of type 0x1234", 0x1234, true, false, false},
	} {
		want := FileSystem{c.name, c.inodes, c.network, c.times}
		if got := fileSystem(c.magic); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
}

func TestLayers(t *testing.T) {
	const mounts = `21 1 8:1 / / rw - ext4 /dev/sda1 rw
30 21 0:50 / /a rw,relatime shared:1 - overlay overlay rw,lowerdir=/l1:/l\0402,upperdir=/u,workdir=/w
31 21 0:51 / /b rw - overlay none rw,lowerdir=/x\134:y:/z\134,z::/data
32 21 0:52 / /c ro - overlay none ro,lowerdir+=/p:q,lowerdir+=/r,datadir+=/s
33 21 0:53 / /d ro - overlay none ro
`
	for id, want := range map[string][]string{
		"30": {"/l1", "/l 2"}, "31": {"/x:y", "/z,z", "/data"}, "32": {"/p:q", "/r", "/s"}, "33": nil, "21": nil, "": nil, "99": nil,
	} {
		if got := layers(mounts, id); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
	if id := mountID("pos:\t0\nflags:\t012\nmnt_id:\t30\nino:\t5\n"); id != "30" {
		t.Errorf("mount %q", id)
	}
	if id := mountID("pos:\t0\n"); id != "" {
		t.Errorf("mount %q", id)
	}
	dir := treetest.Tmp(t)
	for _, layered := range []string{"l", filepath.Join(dir, "absent"), dir} { // relative, gone, empty
		if layer(layered, 1) {
			t.Errorf("%s: a layer with change times", layered)
		}
	}
}

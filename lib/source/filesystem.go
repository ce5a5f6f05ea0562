package source

import (
	"fmt"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// A FileSystem is what the metadata of files on it can be relied on for.
type FileSystem struct {
	Name string
	// Inodes says that a file keeps its inode number: over another mount, and
	// while nobody has it open.
	Inodes bool
	// Network says that another machine's clock may set the times of files, and
	// that they may be seen late.
	Network bool
	// ChangeTimes says that the file system itself sets a file's ctime whenever it
	// changes, and keeps it: it is not that of an image that somebody made, does not
	// follow another time, and is not lost when the file system is mounted again.
	ChangeTimes bool
}

// File systems by what statfs calls them. Some have no name in package unix. What
// is not here has no change times: nobody has looked whether it has.
var fileSystems = map[uint32]FileSystem{
	unix.EXT4_SUPER_MAGIC:     {"ext4", true, false, true}, // and ext2, ext3
	unix.XFS_SUPER_MAGIC:      {"xfs", true, false, true},
	unix.BTRFS_SUPER_MAGIC:    {"btrfs", true, false, true},
	unix.TMPFS_MAGIC:          {"tmpfs", true, false, true},
	unix.RAMFS_MAGIC:          {"ramfs", true, false, true},
	unix.F2FS_SUPER_MAGIC:     {"f2fs", true, false, true},
	unix.REISERFS_SUPER_MAGIC: {"reiserfs", true, false, true},
	unix.NILFS_SUPER_MAGIC:    {"nilfs2", true, false, true},
	unix.JFFS2_SUPER_MAGIC:    {"jffs2", true, false, true},
	0x2fc12fc1:                {"zfs", true, false, true},
	0xca451a4e:                {"bcachefs", true, false, true},
	0x24051905:                {"ubifs", true, false, true},
	0x3153464a:                {"jfs", true, false, true},

	// Other machines write, too.
	unix.NFS_SUPER_MAGIC:   {"nfs", true, true, true},
	unix.CEPH_SUPER_MAGIC:  {"ceph", true, true, true},
	unix.OCFS2_SUPER_MAGIC: {"ocfs2", true, true, true},
	0x01161970:             {"gfs2", true, true, true},
	0x0bd00bd0:             {"lustre", true, true, true},
	0x47504653:             {"gpfs", true, true, true},
	0x20030528:             {"orangefs", true, true, true},
	0x19830326:             {"beegfs", true, true, true},

	// And inode numbers are made up as files are met.
	unix.CIFS_SUPER_MAGIC: {"cifs", false, true, true},
	unix.SMB2_SUPER_MAGIC: {"smb2", false, true, true},
	unix.SMB_SUPER_MAGIC:  {"smbfs", false, true, false},

	// The change time is made up: that of modification, mostly.
	unix.FUSE_SUPER_MAGIC:  {"FUSE", false, true, false}, // sshfs and whatever else somebody wrote
	unix.V9FS_MAGIC:        {"9p", false, true, false},
	0x786f4256:             {"vboxsf", false, true, false},
	0xbacbacbc:             {"vmhgfs", false, true, false},
	unix.AFS_SUPER_MAGIC:   {"afs", true, true, false},
	unix.AFS_FS_MAGIC:      {"afs", true, true, false},
	unix.CODA_SUPER_MAGIC:  {"coda", true, true, false},
	unix.MSDOS_SUPER_MAGIC: {"vfat", false, false, false},
	unix.EXFAT_SUPER_MAGIC: {"exfat", false, false, false},

	// It is what whoever made the image wanted.
	unix.SQUASHFS_MAGIC:       {"squashfs", true, false, false},
	unix.ISOFS_SUPER_MAGIC:    {"iso9660", true, false, false},
	unix.EROFS_SUPER_MAGIC_V1: {"erofs", true, false, false},
	unix.CRAMFS_MAGIC:         {"cramfs", true, false, false},
	0x7275:                    {"romfs", true, false, false},
	unix.UDF_SUPER_MAGIC:      {"udf", true, false, false},

	// As its layers are: see layered.
	unix.OVERLAYFS_SUPER_MAGIC: {"overlayfs", true, false, false},
}

// fileSystem judges a file system by what statfs calls it.
func fileSystem(magic uint32) FileSystem {
	if what, ok := fileSystems[magic]; ok {
		return what
	}
	return FileSystem{Name: fmt.Sprintf("a file system of type %#x", magic), Inodes: true}
}

// ask judges the file system of an open file.
func ask(fd, depth int) (FileSystem, error) {
	var fs unix.Statfs_t
	for {
		err := unix.Fstatfs(fd, &fs)
		if err == nil {
			break
		}
		if err != unix.EINTR {
			return FileSystem{}, err
		}
	}
	what := fileSystem(uint32(fs.Type))
	if fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
		what.ChangeTimes = layered(fd, depth)
	}
	return what, nil
}

// FileSystem says what the file system of an entry can be relied on for. It asks
// the system once for each device (of an entry that does not say its device,
// each time). Where it cannot be asked the answer is the most careful one: inode
// numbers are to be compared, times taken for another machine's, and change times
// not relied on.
func (s *Source) FileSystem(e *rec.Entry) FileSystem {
	if e.Dev != 0 {
		if known, ok := s.systems.Load(e.Dev); ok {
			return known.(FileSystem)
		}
	}
	what, err := s.ask(e)
	if err != nil {
		return FileSystem{Name: "a file system that cannot be asked", Inodes: true, Network: true}
	}
	if e.Dev != 0 {
		s.systems.Store(e.Dev, what)
	}
	return what
}

// ask judges the file system that an entry is on, as long as the entry is what the
// walk saw.
func (s *Source) ask(e *rec.Entry) (FileSystem, error) {
	var fd int
	var err error
	if s.follow {
		fd, err = s.place(e)
	} else {
		var dirfd int
		if dirfd, err = s.dir(e.Path); err == nil {
			fd, err = inode.OpenBeneath(dirfd, e.Path, inode.OpenPath)
		}
	}
	if err != nil {
		return FileSystem{}, err
	}
	defer inode.Close(fd)
	var st inode.Stat
	if err := inode.StatAt(fd, "", &st); err != nil {
		return FileSystem{}, err
	}
	if e.Dev != 0 && st.Dev != e.Dev {
		return FileSystem{}, inode.ErrReplaced
	}
	return ask(fd, 0)
}

package tree

import (
	"golang.org/x/sys/unix"

	"preserve/lib/rec"
)

// A FileSystem is what the metadata of files on it can be relied on for.
type FileSystem struct {
	// Inodes says that a file keeps its inode number: over another mount, and
	// while nobody has it open.
	Inodes bool
	// Network says that another machine's clock may set the times of files, and
	// that they may be seen late.
	Network bool
}

// File systems that have neither, or not both, by what statfs calls them. Some
// have no name in package unix.
var fileSystems = map[uint32]FileSystem{
	// Inode numbers are made up as files are met.
	unix.FUSE_SUPER_MAGIC:  {Network: true}, // sshfs and whatever else somebody wrote
	unix.CIFS_SUPER_MAGIC:  {Network: true},
	unix.SMB2_SUPER_MAGIC:  {Network: true},
	unix.SMB_SUPER_MAGIC:   {Network: true},
	unix.V9FS_MAGIC:        {Network: true},
	0x786f4256:             {Network: true}, // vboxsf
	0xbacbacbc:             {Network: true}, // vmhgfs
	unix.MSDOS_SUPER_MAGIC: {},
	unix.EXFAT_SUPER_MAGIC: {},

	// They last, but other machines write too.
	unix.NFS_SUPER_MAGIC:   {Inodes: true, Network: true},
	unix.CEPH_SUPER_MAGIC:  {Inodes: true, Network: true},
	unix.AFS_SUPER_MAGIC:   {Inodes: true, Network: true},
	unix.AFS_FS_MAGIC:      {Inodes: true, Network: true},
	unix.CODA_SUPER_MAGIC:  {Inodes: true, Network: true},
	unix.OCFS2_SUPER_MAGIC: {Inodes: true, Network: true},
	0x01161970:             {Inodes: true, Network: true}, // gfs2
	0x0bd00bd0:             {Inodes: true, Network: true}, // lustre
	0x47504653:             {Inodes: true, Network: true}, // gpfs
	0x20030528:             {Inodes: true, Network: true}, // orangefs
	0x19830326:             {Inodes: true, Network: true}, // beegfs
}

// fileSystem judges a file system by what statfs calls it.
func fileSystem(magic uint32) FileSystem {
	if what, ok := fileSystems[magic]; ok {
		return what
	}
	return FileSystem{Inodes: true}
}

// FileSystem says what the file system of an entry can be relied on for. It asks
// the system once for each device (of an entry that does not say its device,
// each time). Where it cannot be asked the answer is the most careful one: inode
// numbers are to be compared, and times taken for another machine's.
func (s *Source) FileSystem(e *rec.Entry) FileSystem {
	if e.Dev != 0 {
		if known, ok := s.systems.Load(e.Dev); ok {
			return known.(FileSystem)
		}
	}
	magic, err := s.magic(e)
	if err != nil {
		return FileSystem{Inodes: true, Network: true}
	}
	what := fileSystem(magic)
	if e.Dev != 0 {
		s.systems.Store(e.Dev, what)
	}
	return what
}

// magic returns what statfs calls the file system that an entry is on, as long as
// the entry is what the walk saw.
func (s *Source) magic(e *rec.Entry) (uint32, error) {
	var fd int
	var err error
	if s.follow {
		fd, err = s.place(e)
	} else {
		var dirfd int
		if dirfd, err = s.dir(e.Path); err == nil {
			fd, err = openBeneath(dirfd, e.Path, openPath)
		}
	}
	if err != nil {
		return 0, err
	}
	defer closeFD(fd)
	var st Stat
	if err := statAt(fd, "", &st); err != nil {
		return 0, err
	}
	if e.Dev != 0 && st.Dev != e.Dev {
		return 0, ErrReplaced
	}
	var fs unix.Statfs_t
	for {
		if err := unix.Fstatfs(fd, &fs); err != unix.EINTR {
			return uint32(fs.Type), err
		}
	}
}

package scan

import (
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/source"
)

// mounts are the mount points of this process, so that a walk of one file system knows
// them before it looks at them: the server of one may not answer, and looking at another
// would mount something. By the directory that they are in, then by name: the mounts that
// they are on.
type mounts map[string]map[string][]uint64

// readMounts reads /proc/self/mountinfo, proc_pid_mountinfo(5). Without it there are no mounts to be
// known beforehand.
func readMounts() mounts {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil
	}
	return parseMounts(string(b))
}

func parseMounts(text string) mounts {
	m := mounts{}
	for line := range strings.Lines(text) {
		fields := strings.Fields(line) // id, parent, device, root, mount point, …
		if len(fields) < 5 {
			continue
		}
		on, err := strconv.ParseUint(fields[1], 10, 64)
		at := source.Unescape(fields[4])
		if err != nil || at == "/" {
			continue
		}
		dir, name := path.Split(at)
		dir = path.Clean(dir)
		if m[dir] == nil {
			m[dir] = map[string][]uint64{}
		}
		m[dir][name] = append(m[dir][name], on)
	}
	return m
}

// markMounts marks the names of a directory where another file system is mounted. A mount point
// that an outer mount hides has the same path: so the mount must be on that which the directory is
// on.
func (w *walker) markMounts(l *level, fd int) {
	if !w.OneFileSystem {
		return
	}
	here := w.mounts[path.Join(w.out.dir, l.path)]
	if here == nil {
		return
	}
	var x unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, unix.STATX_MNT_ID, &x); err != nil || x.Mask&unix.STATX_MNT_ID == 0 {
		return
	}
	for i := range l.List {
		d := &l.List[i]
		for _, on := range here[string(l.Bytes(*d))] {
			d.Mount = d.Mount || on == x.Mnt_id
		}
	}
}

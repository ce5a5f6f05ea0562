package tree

import "golang.org/x/sys/unix"

// CacheMarker is the name of an empty file that makes a directory known as a
// cache of Preserve, which no walk descends into.
const CacheMarker = "CACHEDIR.PRESERVE"

// configMagic is how a repository's config begins, behind the byte that says
// how many keys it has: its first key.
const configMagic = "\xa8preserve"

// ours says why a directory below a source is not to be descended into: that it
// is a repository or a cache of Preserve. A backup must not eat its own tail.
func (l *level) ours(fd int) string {
	if l.Has(CacheMarker) {
		return "it is a cache of Preserve"
	}
	if l.Has("config") && l.Has("packs") && l.Has("index") && l.Has("snapshots") && isConfig(fd) {
		return "it is a repository of Preserve"
	}
	return ""
}

// isConfig reports whether the directory's file "config" is a repository's.
func isConfig(dirfd int) bool {
	fd, err := quietly(openAt, dirfd, "config", openFile)
	if err != nil {
		return false
	}
	defer closeFD(fd)
	var buf [1 + len(configMagic)]byte
	n, err := unix.Pread(fd, buf[:], 0)
	return err == nil && n == len(buf) && matchConfig(buf[:])
}

// matchConfig knows the first bytes of a config: a map of up to 15 pairs.
func matchConfig(b []byte) bool {
	return b[0]&0xf0 == 0x80 && string(b[1:]) == configMagic
}

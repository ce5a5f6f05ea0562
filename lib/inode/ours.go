package inode

import (
	"golang.org/x/sys/unix"
)

// CacheMarker is the name of an empty file that makes a directory known as a
// cache of Preserve, which no walk descends into.
const CacheMarker = "CACHEDIR.PRESERVE"

// configMagic is how a repository's config begins, behind the byte that says
// how many keys it has: its first key.
const configMagic = "\xa8preserve"

// IsConfig reports whether the directory's file "config" is a repository's.
func IsConfig(dirfd int) bool {
	fd, err := Quietly(OpenAt, dirfd, "config", OpenFile)
	if err != nil {
		return false
	}
	defer Close(fd)
	var buf [1 + len(configMagic)]byte
	n, err := unix.Pread(fd, buf[:], 0)
	return err == nil && n == len(buf) && matchConfig(buf[:])
}

// matchConfig knows the first bytes of a config: a map of up to 15 pairs.
func matchConfig(b []byte) bool {
	return b[0]&0xf0 == 0x80 && string(b[1:]) == configMagic
}

package scan

import (
	"preserve/lib/inode"
)

// ours says why a directory below a source is not to be descended into: that it
// is a repository or a cache of Preserve. A backup must not eat its own tail.
func (l *level) ours(fd int) string {
	if l.Has(inode.CacheMarker) {
		return "it is a cache of Preserve"
	}
	if l.Has("config") && l.Has("packs") && l.Has("index") && l.Has("snapshots") && inode.IsConfig(fd) {
		return "it is a repository of Preserve"
	}
	return ""
}

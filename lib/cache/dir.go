package cache

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
	"preserve/lib/id"
)

// unixStat is what a file's owner stands in.
type unixStat = syscall.Stat_t

// Names in a cache's directory, beside those of snapshots.
const (
	lockName   = "lock"
	markerName = "CACHEDIR.PRESERVE" // pv-scan never descends
	tagName    = "CACHEDIR.TAG"      // nor does what follows https://bford.info/cachedir/
	idsSuffix  = ".ids"
)

const tag = `Signature: 8a477f597d28d172789f06886806bc55
# This is a change cache of Preserve backups. It may be deleted at any time.
`

// prepare makes dir a cache, if it is not one, and takes its lock.
func prepare(dir string) (lock *os.File, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := safe(dir); err != nil {
		return nil, err
	}
	_, err = os.Lstat(filepath.Join(dir, markerName))
	if errors.Is(err, fs.ErrNotExist) {
		err = mark(dir)
	}
	if err != nil {
		return nil, err
	}
	return lockDir(dir)
}

// mark marks an empty directory as a cache. One with files in it may be anything,
// and would no longer be backed up.
func mark(dir string) error {
	names, err := namesIn(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n != tagName && n != markerName && n != lockName {
			return fmt.Errorf("%q: %w: name a directory for the cache alone", dir, ErrForeign)
		}
	}
	for _, f := range []struct{ name, text string }{{tagName, tag}, {markerName, ""}} {
		err := durable.WriteFile(filepath.Join(dir, f.name), []byte(f.text), 0o600)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

func namesIn(dir string) ([]string, error) {
	f, err := os.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Readdirnames(-1)
}

// removeTemporaries removes what writers that were killed left behind: who has the
// lock is the only writer.
func removeTemporaries(dir string) error {
	names, err := namesIn(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if strings.HasPrefix(n, durable.TempPrefix) {
			if err := remove(filepath.Join(dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove removes a file, if it is there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// others is how many caches are kept besides the new one and those of the bases.
const others = 2

// prune removes old caches: it keeps the new one, the bases, and the newest others.
// What is not named like a cache it leaves alone.
func (w *Writer) prune(made id.ID) error {
	names, err := namesIn(w.dir)
	if err != nil {
		return err
	}
	type old struct {
		id   id.ID
		time int64
	}
	var rest []old
	keep := map[id.ID]bool{made: true}
	for _, b := range w.bases {
		keep[b] = true
	}
	for _, n := range names {
		i, err := id.Parse(n)
		if err != nil || n != i.String() || keep[i] {
			continue
		}
		if st, err := os.Lstat(filepath.Join(w.dir, n)); err == nil {
			rest = append(rest, old{i, st.ModTime().UnixNano()})
		}
	}
	// The checkpoints of a run are one file, and as old as each other.
	slices.SortFunc(rest, func(a, b old) int {
		return cmp.Or(cmp.Compare(b.time, a.time), cmp.Compare(slices.Index(w.made, b.id), slices.Index(w.made, a.id)))
	})
	for _, o := range rest[:min(len(rest), others)] {
		keep[o.id] = true
	}
	for _, n := range names {
		i, err := id.Parse(strings.TrimSuffix(n, idsSuffix))
		if err != nil || keep[i] || strings.TrimSuffix(n, idsSuffix) != i.String() {
			continue
		}
		if err := remove(filepath.Join(w.dir, n)); err != nil {
			return err
		}
	}
	return nil
}

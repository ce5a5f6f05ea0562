package chunk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A new mode does not hide that the content was written while it was read, and
// alone does not make a file inconsistent.
func TestTouched(t *testing.T) {
	written := changes["written, with its mtime set back"]
	for _, c := range []struct {
		name         string
		size         int
		small        bool // pieces are sent before the file has been read
		write        bool
		times        int
		inconsistent bool
	}{
		{"small, written", 5000, false, true, 1, false},
		{"small, written each time", 5000, false, true, 100, true},
		{"small, mode only, each time", 5000, false, false, 100, false},
		{"large, written", 300 << 10, false, true, 1, false},
		{"large, written each time", 300 << 10, false, true, 100, true},
		{"large, mode only, each time", 300 << 10, false, false, 100, false},
		{"huge, written", 12 << 20, true, true, 1, true},
		{"huge, mode only", 12 << 20, true, false, 1, false},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "f")
		last := random(1, c.size)
		write(t, file, last)
		stream := scanned(t, dir, nil)
		r := &settling{small: c.small, real: true, at: func(what, _ string, n int) {
			if what != "read" || n > c.times {
				return
			}
			if c.write {
				last = written(t, file, n)
			}
			must(t, os.Chmod(file, os.FileMode(0o600+n%8)))
		}}
		p := r.run(t, stream)
		e := p.entries["f"]
		if e == nil || e.Err != "" {
			t.Errorf("%s: entry %+v", c.name, e)
			continue
		}
		status := 0
		if c.inconsistent {
			status = 3
		}
		if r.status != status || (r.said != "") != c.inconsistent {
			t.Errorf("%s: status %d, said %q", c.name, r.status, r.said)
		}
		if !c.inconsistent && !bytes.Equal(p.data["f"], last) {
			t.Errorf("%s: not what the file is", c.name)
		}
	}
}

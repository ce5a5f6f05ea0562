package store

import (
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"preserve/lib/objects"
	"testing"

	"golang.org/x/sys/unix"
)

// modes returns the modes of all that is in a repository.
func modes(t *testing.T, dir string) map[string]os.FileMode {
	t.Helper()
	all := map[string]os.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := os.Lstat(path)
		if err == nil {
			all[path] = st.Mode()
		}
		return err
	})
	if err != nil || len(all) < 10 {
		t.Fatal(len(all), err)
	}
	return all
}

// What is made in a group's repository is the group's, whatever the umask; what is made in
// any other is its owner's alone.
func TestSharing(t *testing.T) {
	for _, c := range []struct {
		name      string
		above     os.FileMode // 0: the repository's directory is there
		dir       os.FileMode
		umask     int
		file, sub os.FileMode // what is to be
	}{
		{"a group's directory above", 0o770 | os.ModeSetgid, 0, 0o007, 0o660, 0o770},
		{"and others may read", 0o775 | os.ModeSetgid, 0, 0o002, 0o664, 0o775},
		{"anybody may write there", 0o777 | os.ModeSetgid, 0, 0, 0o664, 0o775},
		{"the umask keeps the group out", 0o770 | os.ModeSetgid, 0, 0o022, 0o600, 0o700},
		{"no setgid above", 0o770, 0, 0o007, 0o600, 0o700},
		{"the group may not write above", 0o750 | os.ModeSetgid, 0, 0o007, 0o600, 0o700},
		{"a group's own directory", 0, 0o770, 0o077, 0o660, 0o770},
		{"readable for all", 0, 0o755, 0o022, 0o600, 0o700},
		{"private", 0, 0o700, 0, 0o600, 0o700},
	} {
		above := t.TempDir()
		dir := filepath.Join(above, "repo")
		var err error
		if c.above != 0 {
			err = os.Chmod(above, c.above)
		} else if err = os.Mkdir(dir, 0o700); err == nil {
			err = os.Chmod(dir, c.dir)
		}
		if err != nil {
			t.Fatal(err)
		}
		before := unix.Umask(c.umask)
		r, err := Create(dir, Options{})
		if err == nil {
			err = r.PutKey("k", pem.EncodeToMemory(&pem.Block{Type: wrappedKey, Bytes: append([]byte(wrappedMagic), make([]byte, 300)...)}))
		}
		if err == nil {
			var f objects.Temp
			w := r.o.Writer()
			if f, err = w.Create(); err == nil {
				if err = w.Publish(f, "packs/ab/x"); err == nil {
					_, err = w.Create()
				}
			}
		}
		unix.Umask(before)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		r.Close()
		for path, mode := range modes(t, dir) {
			want := c.file
			if mode.IsDir() {
				want = c.sub
				if path == dir && c.dir != 0 {
					want = c.dir
				}
				if c.file&0o020 != 0 && path != dir && mode&os.ModeSetgid == 0 {
					t.Errorf("%s: %s is not setgid", c.name, path)
				}
			}
			if mode.Perm() != want {
				t.Errorf("%s: %s has mode %o, not %o", c.name, path, mode.Perm(), want)
			}
		}
	}
}

//go:build system

package systest

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// version is one state of a file: the sum of the rest, its number, and bytes that
// follow from both.
func version(file, n, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint64(b[sha256.Size:], uint64(n))
	_, _ = rand.NewChaCha8([32]byte{byte(file), byte(n), byte(n >> 8)}).Read(b[sha256.Size+8:]) // it never fails
	sum := sha256.Sum256(b[sha256.Size:])
	copy(b, sum[:])
	return b
}

// whole reports whether the content of a file is one version.
func whole(b []byte) bool {
	if len(b) < sha256.Size {
		return false
	}
	sum := sha256.Sum256(b[sha256.Size:])
	return bytes.Equal(sum[:], b[:sha256.Size])
}

// writer writes one version after the other until stop is closed: in place, in two
// halves or one, with or without the time of modification that it had, or by a new
// file that takes the old one's place. A change of mode ends each: whoever has read
// a mixture will find another ctime.
func writer(path string, file, size int, stop chan struct{}) error {
	pause := 2500
	if file%8 >= 3 {
		pause = 30_000
	}
	for n := 1; ; n++ {
		select {
		case <-stop:
			return nil
		case <-time.After(time.Duration(rand.IntN(pause)) * time.Millisecond):
		}
		b := version(file, n, size)
		if file%4 == 0 {
			if err := os.WriteFile(path+".new", b, 0o644); err != nil {
				return err
			}
			if err := os.Rename(path+".new", path); err != nil {
				return err
			}
			continue
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		st, err := f.Stat()
		half := size / (1 + file%2)
		if err == nil {
			_, err = f.WriteAt(b[:half], 0)
		}
		if err == nil && half < size {
			_, err = f.WriteAt(b[half:], int64(half))
		}
		if err == nil && file%4 == 3 {
			err = os.Chtimes(path, st.ModTime(), st.ModTime())
		}
		if err == nil {
			err = f.Chmod(os.FileMode(0o600 + n%2*0o40))
		}
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return err
		}
	}
}

// TestChangingTree backs up a tree several times while it changes everywhere: each
// file comes back as one of its versions, or is said to be inconsistent.
func TestChangingTree(t *testing.T) {
	b := newBench(t)
	b.need(false, "stress-ng")
	src := b.path("src")
	const files = 48
	sizes := []int{700, 20 << 10, 250 << 10, 900 << 10}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name := func(i int) string { return fmt.Sprintf("d%d/f%d", i%5, i) }
	for i := range files {
		must(os.MkdirAll(filepath.Join(src, fmt.Sprintf("d%d", i%5)), 0o755))
		must(os.WriteFile(filepath.Join(src, name(i)), version(i, 0, sizes[i%3+i%2]), 0o644))
	}
	must(os.Mkdir(filepath.Join(src, "load"), 0o755))
	load := exec.Command("stress-ng", "--quiet", "--temp-path", filepath.Join(src, "load"), "--hdd", "1", "--hdd-bytes", "8m", "--rename", "1", "--link", "1", "--timeout", "240")
	load.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(load.Start())
	stop := make(chan struct{})
	var wg sync.WaitGroup
	end := sync.OnceFunc(func() {
		close(stop)
		wg.Wait()
		_ = syscall.Kill(-load.Process.Pid, syscall.SIGTERM) // it may have ended
		_ = load.Wait()
	})
	defer end()
	for i := range files {
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := writer(filepath.Join(src, name(i)), i, sizes[i%3+i%2], stop); err != nil {
				t.Errorf("%s: %v", name(i), err)
			}
		}()
	}
	marked := regexp.MustCompile(`(?m)^pv-chunk: src/(d\d/f\d+): changed .* marked inconsistent$`)
	const runs = 4
	var said [runs]string
	for i := range runs {
		_, stderr, status := b.sh(fmt.Sprintf("pv-scan src | pv-chunk -k write.key --settle 2 | pv-seal -k write.key | pv-put repo >id%d", i))
		if status != 0 && status != 3 {
			t.Fatalf("status %d: %s", status, stderr)
		}
		said[i] = stderr
	}
	end()
	for i := range runs {
		out := fmt.Sprintf("out%d", i)
		_, stderr, status := b.sh(fmt.Sprintf("pv-get repo $(cat id%d) | pv-unpack -q -k read.key --snapshot $(cat id%d) %s", i, i, out))
		if status != 0 && status != 3 {
			t.Fatalf("restore: status %d: %s", status, stderr)
		}
		inconsistent := map[string]bool{}
		for _, m := range marked.FindAllStringSubmatch(said[i], -1) {
			inconsistent[m[1]] = true
		}
		good, changed := 0, 0
		for k := range files {
			got, err := os.ReadFile(b.path(filepath.Join(out, "src", name(k))))
			must(err)
			switch {
			case whole(got):
				good++
				if !bytes.Equal(got, version(k, 0, len(got))) {
					changed++
				}
			case !inconsistent[name(k)]:
				t.Errorf("run %d: %s is a mixture, and nobody says so\n%s", i, name(k), said[i])
			}
			// Who restores is told again.
			if inconsistent[name(k)] && !regexp.MustCompile(`src/`+name(k)+`\b.*(inconsistent|changed)`).MatchString(stderr) {
				t.Errorf("run %d: the restore does not name %s: %s", i, name(k), stderr)
			}
		}
		t.Logf("run %d: %d files whole, %d of them changed since the beginning, %d inconsistent", i, good, changed, len(inconsistent))
		if good == 0 {
			t.Errorf("run %d: no file is whole", i)
		}
	}
}

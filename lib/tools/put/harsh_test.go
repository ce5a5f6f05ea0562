package put_test

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/rec"
	"preserve/lib/store"
	"preserve/lib/store/storetest"
	"preserve/lib/tool"
	"preserve/lib/tools/get"
	"preserve/lib/tools/put"
)

func TestStall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cmd, w, errs := start(t, "--stall", "50ms", dir)
	b := upStream(t, storetest.New(1).Tree(1, 1, 2, 10))
	if _, err := w.Write(b[:len(b)-10]); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || !strings.Contains(errs.String(), "nothing arrived for too long") || snapshots(dir) != 0 {
		t.Fatal(code, errs)
	}
}

// tmpfs mounts a small file system, as root.
func tmpfs(t *testing.T, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestDiskFull(t *testing.T) {
	t.Parallel()
	for _, size := range []int{300, 60000, 3 << 20} {
		mount := tmpfs(t, "size=6m")
		dir := filepath.Join(mount, "repo")
		tree := storetest.New(1).Tree(4, max(2, 8<<20/size/4), 2, size)
		in := upStream(t, tree)
		r := runPut(in, "-v", dir)
		if r.status != 1 || r.out != "" || !regexp.MustCompile(`the file system of ".*repo" is full: \d+ KiB are free`).MatchString(r.err) {
			t.Fatalf("%d: %+v", size, r)
		}
		if n := len(files(filepath.Join(dir, "index"))); n != 1 || snapshots(dir) != 0 || len(files(filepath.Join(dir, "tmp"))) != 0 {
			t.Fatalf("%d: %q", size, files(dir))
		}
		if !regexp.MustCompile(`[1-9]\d* new blobs, \d+ bytes, in [12] packs`).MatchString(r.err) {
			t.Fatalf("%d: nothing was kept: %s", size, r.err)
		}
		if err := unix.Mount("tmpfs", mount, "tmpfs", unix.MS_REMOUNT, "size=64m"); err != nil {
			t.Fatal(err)
		}
		r = runPut(in, "-v", dir)
		if r.status != 0 || !regexp.MustCompile(`; [1-9]\d* blobs, .* were there already`).MatchString(r.err) {
			t.Fatalf("%d: %+v", size, r)
		}
	}
}

func TestNoInodes(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(tmpfs(t, "size=20m,nr_inodes=14"), "repo")
	r := runPut(upStream(t, storetest.New(1).Tree(4, 4, 2, 10)), dir)
	if r.status != 1 || snapshots(dir) != 0 {
		t.Fatalf("%+v", r)
	}
	if !strings.Contains(r.err, "no inodes left") && !strings.Contains(r.err, "no space left on device") {
		t.Fatalf("%+v", r)
	}
}

// A stdout that is lost after the commit is a warning.
func TestLostStdout(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree := storetest.New(1).Tree(1, 1, 2, 10)
	var errs bytes.Buffer
	e := tool.NewEnv("pv-put", []string{dir}, bytes.NewReader(upStream(t, tree)), brokenPipe{}, &errs)
	if status := e.Status(put.Run(e)); status != 3 || snapshots(dir) != 1 || !strings.Contains(errs.String(), tree.Snapshot().ID.String()) {
		t.Fatal(status, errs.String())
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, unix.EPIPE }

// TestMain lets the test binary be pv-put, to be killed.
func TestMain(m *testing.M) {
	if os.Getenv("BE_PV_PUT") != "" {
		tool.Main("pv-put", put.Run)
	}
	os.Exit(m.Run())
}

// start starts a pv-put in a process of its own.
func start(t *testing.T, args ...string) (*exec.Cmd, io.WriteCloser, *bytes.Buffer) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "BE_PV_PUT=1")
	errs := &bytes.Buffer{}
	cmd.Stderr = errs
	w, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, w, errs
}

// A pv-put that is told to end leaves no temporaries; one that is killed leaves
// nothing that counts.
func TestSignals(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(4, 4, 2, 100)
	in := upStream(t, tree)
	for _, sig := range []os.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGKILL} {
		dir := filepath.Join(t.TempDir(), "repo")
		cmd, w, errs := start(t, dir)
		if _, err := w.Write(in[:len(in)-20]); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(20 * time.Second); len(files(filepath.Join(dir, "tmp"))) < 2; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no packs are being written")
			}
		}
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); sig != unix.SIGKILL && (code != 1 || errs.Len() != 0 || len(files(filepath.Join(dir, "tmp"))) != 0) {
			t.Fatalf("%v: exit %d, %q, left %q", sig, code, errs.String(), files(dir))
		}
		if snapshots(dir) != 0 {
			t.Fatalf("%v: committed", sig)
		}
		if r := runPut(in, dir); r.status != 0 {
			t.Fatalf("%v: the next run: %+v", sig, r)
		}
	}
}

// Whatever comes, put commits only what can be got again, and leaves no
// temporaries.
func FuzzPut(f *testing.F) {
	m := storetest.New(1)
	tree := &storetest.Tree{Session: m.Session}
	tree.Blobs = m.Data(2, 5)
	tree.Blobs = append(tree.Blobs, m.Blob(1, 5, tree.Blobs...))
	tree.Blobs = append(tree.Blobs, m.Blob(9, 5, tree.Blobs[2]))
	f.Add(upStream(f, tree))
	loose, _ := stream(f, storetest.Loose(m.Session, tree.Blobs...))
	f.Add(loose)
	marks, _ := stream(f, m.Run(2, 1, 2, 5).Stream())
	f.Add(marks)
	f.Fuzz(func(t *testing.T, b []byte) {
		dir, err := os.MkdirTemp("/dev/shm", "fuzz-put-")
		if err != nil {
			dir = t.TempDir()
		}
		defer os.RemoveAll(dir)
		r := runPut(fixSums(b), dir)
		if n := len(files(filepath.Join(dir, "tmp"))); n != 0 {
			t.Fatalf("%d temporaries", n)
		}
		repo, err := store.Open(dir, store.Options{})
		if err != nil {
			return
		}
		defer repo.Close()
		list, err := repo.Snapshots()
		if err != nil || len(list) > 1 || (len(list) == 1) != (r.out != "" && !strings.HasPrefix(r.out, "missing")) {
			t.Fatal(list, err, r)
		}
		for _, i := range list {
			if g := run("pv-get", get.Run, nil, dir, i.String()); g.status != 0 {
				t.Fatal(g.err)
			}
		}
	})
}

// fixSums gives blobs the checksums that they should have, or no changed one
// would get far.
func fixSums(b []byte) []byte {
	r := rec.NewReader(bytes.NewReader(b), rec.Sealed)
	r.Several()
	var out bytes.Buffer
	w := rec.NewWriter(&out)
	for {
		v, err := r.Next()
		if err != nil {
			break
		}
		if x, ok := v.(*rec.Blob); ok {
			x.CRC = x.Sum()
		}
		if w.Write(v) != nil {
			break
		}
	}
	if w.Flush() != nil {
		return b
	}
	return out.Bytes()
}

package confine

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// In a process of its own, since nothing is taken back: what a confined process tries in
// DIR, and what comes of it.
func TestMain(m *testing.M) {
	dir := os.Getenv("CONFINE_IN")
	if dir == "" {
		os.Exit(m.Run())
	}
	err := To(Limits{Write: []string{dir + "/mine", dir + "/none"}, Read: []string{dir + "/read", dir + "/one"}, ReadAll: os.Getenv("CONFINE_READ_ALL") != ""})
	if err != nil {
		fmt.Println("unsupported:", err)
		os.Exit(0)
	}
	// Whatever thread does it.
	for range 8 {
		done := make(chan bool)
		go func() {
			runtime.LockOSThread()
			if os.WriteFile(dir+"/other/thread", nil, 0o600) == nil {
				fmt.Println("a thread is not confined")
			}
			close(done)
		}()
		<-done
	}
	for name, try := range map[string]func() error{
		"write mine":       func() error { return os.WriteFile(dir+"/mine/a", []byte("x"), 0o600) },
		"move in mine":     func() error { return os.Rename(dir+"/mine/old", dir+"/mine/sub/new") },
		"link in mine":     func() error { return os.Link(dir+"/mine/keep", dir+"/mine/sub/link") },
		"fifo in mine":     func() error { return unix.Mkfifo(dir+"/mine/fifo", 0o600) },
		"truncate mine":    func() error { return os.Truncate(dir+"/mine/keep", 0) },
		"remove mine":      func() error { return os.Remove(dir + "/mine/gone") },
		"read mine":        func() error { _, err := os.ReadDir(dir + "/mine"); return err },
		"write other":      func() error { return os.WriteFile(dir+"/other/a", nil, 0o600) },
		"append other":     func() error { _, err := os.OpenFile(dir+"/other/old", os.O_WRONLY, 0); return err },
		"truncate other":   func() error { return os.Truncate(dir+"/other/old", 0) },
		"remove other":     func() error { return os.Remove(dir + "/other/old") },
		"move out":         func() error { return os.Rename(dir+"/mine/keep", dir+"/other/keep") },
		"through a link":   func() error { return os.WriteFile(dir+"/mine/out/a", nil, 0o600) },
		"write read":       func() error { return os.WriteFile(dir+"/read/a", nil, 0o600) },
		"read read":        func() error { _, err := os.ReadFile(dir + "/read/old"); return err },
		"read one":         func() error { _, err := os.ReadFile(dir + "/one"); return err },
		"read other":       func() error { _, err := os.ReadFile(dir + "/other/old"); return err },
		"run":              func() error { return exec.Command("/bin/true").Run() },
		"run mine":         func() error { return exec.Command(dir + "/mine/true").Run() },
		"connect over TCP": func() error { _, err := net.Dial("tcp", os.Getenv("CONFINE_PORT")); return err },
		"listen on TCP": func() error {
			// Not net.Listen, which prefers MPTCP: Landlock does not know that.
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			return unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: 47111})
		},
	} {
		err := try()
		switch {
		case err == nil:
			fmt.Println(name + ": done")
		case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EXDEV):
			fmt.Println(name + ": denied")
		default:
			fmt.Println(name+":", err)
		}
	}
	os.Exit(0)
}

// child confines a process in a new directory and returns what it says.
func child(t *testing.T, env ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, d := range []string{"mine/sub", "other", "read"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"mine/old", "mine/keep", "mine/gone", "other/old", "read/old", "one"} {
		if err := os.WriteFile(filepath.Join(dir, f), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program, err := os.ReadFile("/bin/true")
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "mine/true"), program, 0o700)
	}
	if err == nil {
		err = os.Symlink(dir+"/other", dir+"/mine/out")
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "CONFINE_IN="+dir, "CONFINE_PORT="+l.Addr().String()), env...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if strings.HasPrefix(string(out), "unsupported: ") {
		if os.Getenv("PV_NO_SKIP") == "1" {
			t.Fatal(string(out))
		}
		t.Skip(strings.TrimSpace(string(out)))
	}
	return string(out)
}

func TestConfined(t *testing.T) {
	for _, all := range []bool{false, true} {
		env := "CONFINE_READ_ALL="
		other := "denied"
		if all {
			env += "yes"
			other = "done"
		}
		got := child(t, env)
		want := map[string]string{"read other": other}
		for _, name := range []string{"write mine", "move in mine", "link in mine", "fifo in mine", "truncate mine", "remove mine", "read mine", "read read", "read one"} {
			want[name] = "done"
		}
		for _, name := range []string{"write other", "append other", "truncate other", "remove other", "move out", "through a link", "write read", "run", "run mine", "connect over TCP", "listen on TCP"} {
			want[name] = "denied"
		}
		for name, what := range want {
			if !strings.Contains("\n"+got, "\n"+name+": "+what+"\n") {
				t.Errorf("reading everything %v: %s is not %s", all, name, what)
			}
		}
		if strings.Count(got, "\n") != len(want) {
			t.Errorf("it says\n%s", got)
		}
	}
}

package key

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A held key is read as often as one likes, by its descriptor's name, and by nobody else.
func TestHold(t *testing.T) {
	k, err := New()
	if err != nil {
		t.Fatal(err)
	}
	f, err := k.Hold()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	name := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	for range 3 {
		got, warning, err := Load(name)
		if err != nil || warning != "" || !bytes.Equal(got.body(), k.body()) {
			t.Fatalf("%v, %q", err, warning)
		}
	}
	if st, err := f.Stat(); err != nil || st.Mode() != 0o400 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("it can be changed")
	}
	if err := f.Truncate(0); err == nil {
		t.Error("it can be cut")
	}
	if link, err := os.Readlink(name); err != nil || link != "/memfd:key (deleted)" {
		t.Errorf("it is in the file system: %q, %v", link, err)
	}
	many := &Revoked{}
	for n := range 300 {
		if err := many.Read("", []byte(fmt.Sprintf("%064x", n))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Carrying(many).Hold(); !errors.Is(err, ErrSize) {
		t.Errorf("more than a key file may have: %v", err)
	}
}

// What a tool starts does not inherit the descriptor that its key came by.
func TestKeyDescriptorIsNotInherited(t *testing.T) {
	k, err := New()
	if err != nil {
		t.Fatal(err)
	}
	f, err := k.Hold()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, dir := range []string{"/dev/fd", "/proc/self/fd"} {
		fd, err := unix.Dup(int(f.Fd())) // open for children
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Load(fmt.Sprintf("%s/%d", dir, fd)); err != nil {
			t.Fatal(err)
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
			t.Errorf("%s: flags %d, %v", dir, flags, err)
		}
		_ = unix.Close(fd)
	}
}

// What systemd makes for a service shows a group that may read, and nobody is in it.
func TestCredential(t *testing.T) {
	dir := t.TempDir()
	k, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if err := k.Save(dir + "/key"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		credentials string
		mode        os.FileMode
		warns       bool
	}{{"", 0o440, true}, {dir, 0o440, false}, {dir + "/", 0o400, false}, {dir, 0o444, true}, {dir, 0o460, true}, {dir + "x", 0o440, true}} {
		t.Setenv("CREDENTIALS_DIRECTORY", c.credentials)
		if err := os.Chmod(dir+"/key", c.mode); err != nil {
			t.Fatal(err)
		}
		if _, warning, err := Load(dir + "/key"); err != nil || (warning != "") != c.warns {
			t.Errorf("%q, %o: %q, %v", c.credentials, c.mode, warning, err)
		}
	}
}

package store

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestKeys(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "repo")
	r := mustCreate(t, dir)
	if names, err := r.Keys(); err != nil || len(names) != 0 {
		t.Errorf("%v, %v", names, err)
	}
	block := func(label, magic string, n int) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: append([]byte(magic), make([]byte, n-len(magic))...)})
	}
	wrapped := append([]byte("for people\n"), block(wrappedKey, wrappedMagic, 300)...)
	headed := pem.EncodeToMemory(&pem.Block{Type: wrappedKey, Headers: map[string]string{"A": "b"}, Bytes: append([]byte(wrappedMagic), make([]byte, 300)...)})
	for range 2 { // the second time it is there
		if err := r.PutKey("b", wrapped); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.PutKey("b", append(wrapped, '\n')); !errors.Is(err, ErrKeyExists) {
		t.Errorf("another key: %v", err)
	}
	if got, err := r.Key("b"); err != nil || !bytes.Equal(got, wrapped) {
		t.Errorf("%q, %v", got, err)
	}
	if st, err := os.Stat(dir + "/keys/b"); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", st, err)
	}
	for _, name := range []string{"", ".", "..", ".hidden", "a/b", "../x", "é", "a b", strings.Repeat("x", 65)} {
		if err := r.PutKey(name, wrapped); !errors.Is(err, ErrKeyName) {
			t.Errorf("%q: %v", name, err)
		}
		if _, err := r.Key(name); !errors.Is(err, ErrKeyName) {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, data := range []string{"", "text", "-----BEGIN PRESERVE MASTER KEY-----\nAAAA\n", string(wrapped) + string(wrapped),
		"-----BEGIN PRESERVE MASTER KEY-----\n" + string(wrapped), strings.Repeat("x", maxKeyFile) + string(wrapped),
		string(wrapped[:len(wrapped)/2]), string(wrapped[:len(wrapped)-10]), string(wrapped) + "more", string(headed),
		string(block(wrappedKey, "PVW2", 300)), string(block(wrappedKey, wrappedMagic, wrappedLeast-1)), string(block("PRESERVE MASTER KEY", wrappedMagic, 300))} {
		if err := r.PutKey("c", []byte(data)); !errors.Is(err, ErrNoWrapped) {
			t.Errorf("%.50q: %v", data, err)
		}
	}
	if _, err := r.Key("c"); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	if err := unix.Mkfifo(dir+"/keys/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Key("fifo"); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
	if err := os.RemoveAll(dir + "/keys"); err != nil { // a copy may have left the empty directory out
		t.Fatal(err)
	}
	if err := r.PutKey("a", wrapped); err != nil {
		t.Error(err)
	}
	if names, err := r.Keys(); err != nil || len(names) != 1 || names[0] != "a" {
		t.Errorf("%v, %v", names, err)
	}
}

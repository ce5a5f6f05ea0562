package key

import (
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRevoked(t *testing.T) {
	keys := all(t)
	line, err := keys[Write].Revocation(made)
	if err != nil || !strings.Contains(line, "# writer laptop of ee88-199d-94b3-2368, revoked "+made.UTC().Format("2006-01-02")) {
		t.Fatalf("%q, %v", line, err)
	}
	writer, _ := keys[Write].WriterPublic()
	master, _ := keys[Master].WriterPublic()
	other := strings.Repeat("0", 63) + "1"
	var r Revoked
	text := "# stolen in May\r\n\n  " + strings.ToUpper(other) + "\t#no blank\r\n" + strings.TrimSuffix(line, "\n")
	if err := r.Read("F", []byte(text)); err != nil {
		t.Fatal(err)
	}
	if where, ok := r.Find(writer); !ok || where != "F, line 4" {
		t.Errorf("%q, %v", where, ok)
	}
	if b, _ := hex.DecodeString(other); r.Len() != 2 {
		t.Errorf("%d writers", r.Len())
	} else if _, ok := r.Find(b); !ok {
		t.Error("capitals or a remark hide a writer")
	}
	for _, none := range [][]byte{master, nil, writer[:31]} {
		if _, ok := r.Find(none); ok {
			t.Errorf("%x is revoked", none)
		}
	}
	var none *Revoked
	if _, ok := none.Find(writer); ok {
		t.Error("nil revokes")
	}
	for kind, k := range keys {
		if _, err := k.Revocation(made); (err == nil) != (kind == Write || kind == Master) || err != nil && !errors.Is(err, ErrNoWriter) {
			t.Errorf("%s key: %v", kind, err)
		}
	}
}

// What is no list of public keys revokes nobody, and is never taken for an empty one.
func TestRevokedRefuses(t *testing.T) {
	pk := strings.Repeat("ab", 32)
	for _, text := range []string{"laptop", pk[1:], pk + "0", pk + " laptop", "x" + pk[1:], pk + "\n" + pk[:62], pk + "," + pk, "\xef\xbb\xbf" + pk, "-----BEGIN PRESERVE WRITE KEY-----\n", pk + "\x00"} {
		var r Revoked
		if err := r.Read("F", []byte(text)); !errors.Is(err, ErrRevokedLine) || r.Len() != 0 {
			t.Errorf("%q: %v, %d writers", text, err, r.Len())
		}
	}
	var r Revoked
	if err := r.Read("F", make([]byte, MaxRevoked+1)); !errors.Is(err, ErrRevokedSize) {
		t.Error(err)
	}
}

func TestRevokedFiles(t *testing.T) {
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "read.key")
	var r Revoked
	if warning, err := r.LoadBeside(keyFile); warning != "" || err != nil {
		t.Errorf("no file: %q, %v", warning, err)
	}
	if _, err := r.Load(keyFile + RevokedSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(keyFile+".revoked", []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if warning, err := r.LoadBeside(keyFile); warning != "" || err != nil || r.Len() != 1 {
		t.Errorf("%q, %v, %d writers", warning, err, r.Len())
	}
	if err := os.Chmod(keyFile+".revoked", 0o620); err != nil {
		t.Fatal(err)
	}
	if warning, err := r.LoadBeside(keyFile); !strings.Contains(warning, "can be changed by others") || err != nil {
		t.Errorf("%q, %v", warning, err)
	}
	if err := os.Remove(keyFile + ".revoked"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(keyFile+".revoked", 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := r.LoadBeside(keyFile); err == nil {
		t.Error("a directory is taken for no file")
	}
}

// What is read has just the keys that a slow reading of it has, whatever comes.
func FuzzRevoked(f *testing.F) {
	pk := strings.Repeat("ab", 32)
	for _, s := range []string{"", "# x\n", pk, pk + " # x\r\n\n" + strings.ToUpper(pk), pk + pk, "#" + pk} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var r Revoked
		if err := r.Read("F", text); err != nil {
			if r.Len() != 0 {
				t.Error("an error, and writers")
			}
			return
		}
		want := map[string]bool{}
		for _, line := range strings.Split(string(text), "\n") {
			line, _, _ = strings.Cut(line, "#")
			if line = strings.TrimSpace(line); line != "" {
				want[strings.ToLower(line)] = true
			}
		}
		if len(want) != r.Len() {
			t.Fatalf("%d writers, not %d", r.Len(), len(want))
		}
		for s := range want {
			b, err := hex.DecodeString(s)
			if _, ok := r.Find(b); !ok || err != nil || len(b) != 32 {
				t.Errorf("%q is not found", s)
			}
		}
	})
}

package key

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
	if warnings, err := r.LoadBeside(keyFile); len(warnings) > 0 || err != nil {
		t.Errorf("no file: %q, %v", warnings, err)
	}
	if _, err := r.Load(keyFile + RevokedSuffix); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err := os.WriteFile(keyFile+".revoked", []byte(strings.Repeat("ab", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	if warnings, err := r.LoadBeside(keyFile); len(warnings) > 0 || err != nil || r.Len() != 1 {
		t.Errorf("%q, %v, %d writers", warnings, err, r.Len())
	}
	if err := os.Chmod(keyFile+".revoked", 0o620); err != nil {
		t.Fatal(err)
	}
	if warnings, err := r.LoadBeside(keyFile); len(warnings) != 1 || !strings.Contains(warnings[0], "can be changed by others") || err != nil {
		t.Errorf("%q, %v", warnings, err)
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

// Who gives a link to a key file gives what stands beside the file that it leads to.
func TestRevokedBesideTheLinksTarget(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"keys/read.key": "", "keys/read.key.revoked": strings.Repeat("ab", 32), "current.key.revoked": strings.Repeat("cd", 32),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "current.key")
	for _, target := range []string{"keys/read.key", filepath.Join(dir, "keys/read.key")} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		var r Revoked
		if warnings, err := r.LoadBeside(link); len(warnings) > 0 || err != nil || r.Len() != 2 {
			t.Errorf("%s: %q, %v, %d writers", target, warnings, err, r.Len())
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	// A link that leads nowhere has nothing beside its end.
	if err := os.Symlink("none", link); err != nil {
		t.Fatal(err)
	}
	var r Revoked
	if _, err := r.LoadBeside(link); err != nil || r.Len() != 1 {
		t.Errorf("%v, %d writers", err, r.Len())
	}
}

// A key file may name revoked writers above the key. They stay with the key.
func TestKeyFileCarriesRevoked(t *testing.T) {
	m, err := New()
	if err != nil {
		t.Fatal(err)
	}
	read, err := m.Derive(Read, "")
	if err != nil {
		t.Fatal(err)
	}
	a, b := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	text := string(read.Marshal(time.Now()))
	k, err := Parse([]byte("revoked " + a + " # stolen\nrevokedx y\n\trevoked\t" + b + "\r\n" + text))
	if err != nil || k.Revoked().Len() != 2 {
		t.Fatalf("%v, %d writers", err, k.Revoked().Len())
	}
	if where, ok := k.Revoked().Find(bytes.Repeat([]byte{0xcd}, 32)); !ok || !strings.Contains(where, "line 3") {
		t.Errorf("%q, %v", where, ok)
	}
	more := &Revoked{}
	if err := more.Read("beside\n", []byte(strings.Repeat("ef", 32))); err != nil {
		t.Fatal(err)
	}
	again, err := Parse(k.Carrying(more).Marshal(time.Now()))
	if err != nil || again.Revoked().Len() != 3 {
		t.Fatalf("%v, %d writers", err, again.Revoked().Len())
	}
	if k.Revoked().Len() != 2 {
		t.Error("Carrying has changed the key that it was called of")
	}
	if none, err := Parse([]byte(text)); err != nil || none.Revoked().Len() != 0 {
		t.Errorf("%v, %d writers", err, none.Revoked().Len())
	}
	if _, err := Parse([]byte("revoked the laptop\n" + text)); !errors.Is(err, ErrRevokedLine) {
		t.Errorf("a line that names nobody: %v", err)
	}
}

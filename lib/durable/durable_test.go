package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// names returns what is in dir.
func names(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return out
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestWriteFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	for _, data := range []string{"", "whole"} {
		if err := WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := content(t, path); got != data {
			t.Fatalf("read %q, wrote %q", got, data)
		}
		st, err := os.Stat(path)
		if err != nil || st.Mode() != 0o600 {
			t.Fatalf("mode %v, %v", st.Mode(), err)
		}
		if err := WriteFile(path, []byte("other"), 0o600); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("second write: %v, want fs.ErrExist", err)
		}
		if got := content(t, path); got != data {
			t.Fatalf("replaced by %q", got)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Fatalf("left behind: %q", got)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A name can be taken by more than a file.
func TestNothingIsReplaced(t *testing.T) {
	makers := map[string]func(path string) error{
		"directory":     func(p string) error { return os.Mkdir(p, 0o700) },
		"dangling link": func(p string) error { return os.Symlink("nowhere", p) },
		"file":          func(p string) error { return os.WriteFile(p, []byte("old"), 0o600) },
	}
	publish := map[string]func(tmp, final string) error{
		"rename": Publish, "link": publishByLink, "plain": publishByRename, "sync": PublishAndSync,
	}
	for what, mk := range makers {
		dir := t.TempDir()
		tmp, final := filepath.Join(dir, "tmp"), filepath.Join(dir, "final")
		if err := errors.Join(mk(final), os.WriteFile(tmp, []byte("new"), 0o600)); err != nil {
			t.Fatal(err)
		}
		for how, fn := range publish {
			if err := fn(tmp, final); !errors.Is(err, fs.ErrExist) {
				t.Errorf("%s over a %s: %v, want fs.ErrExist", how, what, err)
			}
		}
		if err := WriteFile(final, []byte("new"), 0o600); !errors.Is(err, fs.ErrExist) {
			t.Errorf("write over a %s: %v, want fs.ErrExist", what, err)
		}
		if got := names(t, dir); len(got) != 2 {
			t.Errorf("%s: afterwards there is %q", what, got)
		}
	}
}

func TestPublish(t *testing.T) {
	for how, fn := range map[string]func(tmp, final string) error{
		"rename": Publish, "link": publishByLink, "plain": publishByRename, "sync": PublishAndSync,
	} {
		dir := t.TempDir()
		tmp, final := filepath.Join(dir, "tmp"), filepath.Join(dir, "final")
		if err := os.WriteFile(tmp, []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := fn(tmp, final); err != nil {
			t.Fatalf("%s: %v", how, err)
		}
		if got := names(t, dir); len(got) != 1 || content(t, final) != "new" {
			t.Errorf("%s: afterwards there is %q", how, got)
		}
		if err := fn(tmp, filepath.Join(dir, "other")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s of nothing: %v, want fs.ErrNotExist", how, err)
		}
	}
}

// A link whose success was not reported is found done.
func TestPublishByLinkTwice(t *testing.T) {
	dir := t.TempDir()
	tmp, final := filepath.Join(dir, "tmp"), filepath.Join(dir, "final")
	if err := errors.Join(os.WriteFile(tmp, nil, 0o600), os.Link(tmp, final)); err != nil {
		t.Fatal(err)
	}
	if err := publishByLink(tmp, final); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != 1 || got[0] != "final" {
		t.Fatalf("afterwards there is %q", got)
	}
}

// Of many writers of one name exactly one wins, and its bytes are the file.
func TestOneWriterWins(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	var won atomic.Int32
	var winner atomic.Value
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			data := strings.Repeat(string(rune('a'+n)), 10000)
			switch err := WriteFile(path, []byte(data), 0o600); {
			case err == nil:
				won.Add(1)
				winner.Store(data)
			case !errors.Is(err, fs.ErrExist):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || content(t, path) != winner.Load() {
		t.Fatalf("%d writers won", won.Load())
	}
	if got := names(t, dir); len(got) != 1 {
		t.Fatalf("left behind: %q", got)
	}
}

func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if err := WriteFile(filepath.Join(dir, "no", "f"), nil, 0o600); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a directory that is not there: %v", err)
	}
	if err := SyncDir(filepath.Join(dir, "no")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncDir of nothing: %v", err)
	}
	file := filepath.Join(dir, "f")
	if err := WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := SyncDir(file); err == nil {
		t.Error("SyncDir of a file succeeds")
	}
	if err := SyncDir(dir); err != nil {
		t.Error(err)
	}
}

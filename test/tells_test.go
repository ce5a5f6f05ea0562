package test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"hash"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"preserve/lib/key"
	"preserve/lib/tool"
	"preserve/lib/tools/chunk"
	"preserve/lib/tools/put"
	"preserve/lib/tools/scan"
	"preserve/lib/tools/seal"
)

// TestRepositoryTellsNothing looks for names, contents and hashes of contents in all
// that a store gets: none of them is there, in no form that needs no key.
func TestRepositoryTellsNothing(t *testing.T) {
	dir := t.TempDir()
	m, err := key.New()
	if err != nil {
		t.Fatal(err)
	}
	keyFile, source, repo := filepath.Join(dir, "k"), filepath.Join(dir, "a source of ours"), filepath.Join(dir, "repo")
	if err := m.Save(keyFile); err != nil {
		t.Fatal(err)
	}
	someSource(t, m, source)
	content := tools(t, scan.Run, []string{source}, chunk.Run, []string{"-k", keyFile})
	sealed := tools(t, func(e *tool.Env) error { _, err := e.Stdout.Write(content); return err }, []string{},
		seal.Run, []string{"-k", keyFile, "--label", "label of ours", "--tag", "tag of ours"})
	tools(t, func(e *tool.Env) error { _, err := e.Stdout.Write(sealed); return err }, []string{}, put.Run, []string{repo})
	stored := bytes.Clone(sealed)
	words := map[string][]byte{"the label": []byte("label of ours"), "the tag": []byte("tag of ours"), "the source": []byte(source), "its name": []byte("a source of ours")}
	if host, err := os.Hostname(); err == nil && len(host) > 4 {
		words["the host"] = []byte(host)
	}
	for _, tree := range []string{repo, source} {
		err := filepath.WalkDir(tree, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(p)
			if err != nil || tree == repo {
				stored = append(append(stored, p[len(dir):]...), b...)
				return err
			}
			name := d.Name()
			if len(name) > 4 {
				words["the name "+name] = []byte(name)
			}
			if len(b) < 8 {
				return nil
			}
			words["content of "+name] = b[:min(len(b), 32)]
			words["end of "+name] = b[max(0, len(b)-32):]
			for name, h := range map[string]hash.Hash{"MD5": md5.New(), "SHA-1": sha1.New(), "SHA-256": sha256.New(), "SHA-512": sha512.New()} {
				h.Write(b)
				sum := h.Sum(nil)[:16]
				words[name+" of "+d.Name()] = sum
				words[name+" in hex of "+d.Name()] = []byte(hex.EncodeToString(sum))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(words) < 50 || len(stored) < 2*len(sealed) {
		t.Fatalf("%d words in %d bytes", len(words), len(stored))
	}
	for what, word := range words {
		if bytes.Contains(stored, word) {
			t.Errorf("what is stored has %s", what)
		}
	}
	// In the stream before the seal, they are there: names and contents.
	for _, what := range []string{"the name empty", "content of a", "its name"} {
		if !bytes.Contains(content, words[what]) {
			t.Errorf("%s is not even in the content stream: this test looks for the wrong thing", what)
		}
	}
}

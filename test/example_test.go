package test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/pack"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/wire"
)

var updateExample = flag.Bool("example.update", false, "write testdata/example/repo anew, and log the blocks of docs/format/example.md")

const exampleDir = "../testdata/example/repo"

// An exampleRepo is the repository of docs/format/example.md: the example of snapshots.md, sealed
// under the first session of testdata/vectors/crypto/sessions.txt with nonces that are chosen.
type exampleRepo struct {
	t          *testing.T
	key        *key.Key
	session    *rec.Session
	sid        id.ID
	meta, data []byte            // the session's secrets
	files      map[string][]byte // by path
	blocks     map[string]string // what the page has, by what it is
}

// exampleSession reads the session of suite 1 from the vectors.
func exampleSession(t *testing.T) (session, meta, data []byte) {
	text, err := os.ReadFile("../testdata/vectors/crypto/sessions.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, c, found := strings.Cut(string(text), "case = \"suite 1\"\n")
	if !found {
		t.Fatal("no session")
	}
	c, _, _ = strings.Cut(strings.ReplaceAll(c, "\n ", ""), "\n\n")
	field := func(name string) []byte {
		m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` = ([0-9a-f]+)$`).FindStringSubmatch(c)
		if m == nil {
			t.Fatal("no " + name)
		}
		b, err := hex.DecodeString(m[1])
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	return field("session"), field("s.meta"), field("s.data")
}

func sequence(first byte, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = first + byte(i)
	}
	return b
}

// block keeps what the page shows.
func (x *exampleRepo) block(what, text string) { x.blocks[what] = text }

func (x *exampleRepo) dump(what string, b []byte, at int) {
	var out strings.Builder
	for n := 0; n < len(b); n += 16 {
		line := b[n:min(n+16, len(b))]
		text := slices.Clone(line)
		for k, c := range text {
			if c < 0x20 || c > 0x7e {
				text[k] = '.'
			}
		}
		fmt.Fprintf(&out, "    %5d  %-47s  %s\n", at+n, fmt.Sprintf("% x", line), text)
	}
	x.block(what, out.String())
}

// seal seals a blob that is not compressed, with a nonce of its own, and shows how.
func (x *exampleRepo) seal(what string, kind uint8, refs, plain []byte, nonce byte) *rec.Blob {
	naming, _ := x.key.IDMeta()
	secret := x.meta
	if kind == rec.KindData {
		naming, _ = x.key.IDData()
		secret = x.data
	}
	head := append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(refs)/32)), refs...)
	i := id.ID(mac(naming.Bytes(), head, plain))
	k := mac(secret, []byte("preserve/v1/blob"), x.sid[:], i[:])
	cipherBlock, _ := aes.NewCipher(k) // 32 bytes are a key
	aead, _ := cipher.NewGCM(cipherBlock)
	n := sequence(nonce, 12)
	b := &rec.Blob{ID: i, Kind: kind, SID: x.sid, Refs: refs, Data: aead.Seal(slices.Clone(n), n, stored(plain), head)}
	x.block(what+": id", fmt.Sprintf("    id         %x\n", i[:]))
	x.block(what+": k", fmt.Sprintf("    k          %x\n", k))
	x.block(what+": inside", fmt.Sprintf("    inside     %x %08x …   %d + 5 bytes, padded to %d\n", 0, len(plain), len(plain), len(stored(plain))))
	return b
}

// newExample makes all files of the repository.
func newExample(t *testing.T) *exampleRepo {
	master, err := key.FromMaster([32]byte(sequence(0, 32)))
	if err != nil {
		t.Fatal(err)
	}
	session, meta, data := exampleSession(t)
	x := &exampleRepo{t: t, key: master, session: &rec.Session{Data: session}, sid: sha256.Sum256(session), meta: meta, data: data,
		files: map[string][]byte{}, blocks: map[string]string{}}
	x.block("sid", fmt.Sprintf("    sid        %x\n", x.sid[:]))
	mtime := rec.Time{Sec: 1699999000}
	later := rec.Time{Sec: 1699999000, Nsec: 250000000}
	w := wire.NewWriter()
	page.Encode(w, []*rec.Entry{
		{Path: "eve", Type: rec.Dir, Mode: 0o755, UID: 1000, GID: 1000, MTime: mtime},
		{Path: "eve/a", Type: rec.File, Mode: 0o644, UID: 1000, GID: 1000, MTime: later, Size: 6, Links: 2, Extents: []rec.Extent{{Len: 6}}},
		{Path: "eve/b", Type: rec.HardLink, Leader: "eve/a"},
		{Path: "eve/c", Type: rec.Symlink, Mode: 0o777, UID: 1000, GID: 1000, MTime: mtime, Target: "a"},
	})
	hello := x.seal("data", rec.KindData, nil, []byte("hello\n"), 0xb0)
	root := x.seal("page", rec.KindPage, hello.ID[:], w.Take(), 0xc0)
	signer, name, cert, _ := master.Writer()
	eve := []rec.Name{{ID: 1000, Name: "eve"}}
	plain, err := (&snap.Snapshot{WriterKey: signer.Public().(ed25519.PublicKey), WriterName: name, WriterCert: cert, Label: "home",
		Time: rec.Time{Sec: 1700000000, Nsec: 5}, Host: "nas", User: "eve", Roots: []rec.Root{{Dir: "/home", Path: "eve"}},
		Chunker: rec.Chunker{Name: "gear1", Min: 262144, Avg: 1048576, Max: 4194304}, Entries: 4, Bytes: 6, Users: eve, Groups: eve}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	top := x.seal("snapshot", rec.KindSnapshot, root.ID[:], plain, 0xd0)
	top.Sig = ed25519.Sign(signer, append([]byte("preserve/v1/snapshot\x00"), top.ID[:]...))
	x.block("sig", fmt.Sprintf("    sig        %x\n               %x\n", top.Sig[:32], top.Sig[32:]))
	for _, b := range []*rec.Blob{hello, root, top} {
		b.CRC = b.Sum()
	}
	x.config()
	lists := []pack.List{x.pack("data pack", 0xe0, hello), x.pack("metadata pack", 0xf0, root, top)}
	segment, hash, err := pack.EncodeSegment(lists)
	if err != nil {
		t.Fatal(err)
	}
	x.files["index/"+hash.String()] = segment
	x.dump("segment", segment, 0)
	x.object(top)
	var list strings.Builder
	for _, f := range x.names() {
		fmt.Fprintf(&list, "    %6d  %s\n", len(x.files[f]), f)
	}
	x.block("files", list.String())
	return x
}

func (x *exampleRepo) names() (names []string) {
	for f := range x.files {
		names = append(names, f)
	}
	slices.Sort(names)
	return names
}

func (x *exampleRepo) config() {
	w := wire.NewWriter()
	w.Map(4)
	w.Str("preserve")
	w.Uint(1)
	w.Str("repository")
	w.Bin(sequence(0x10, 16))
	w.Str("needs")
	w.Array(0)
	sum := crc32.Checksum(w.Bytes(), crc32.MakeTable(crc32.Castagnoli))
	w.Str("crc")
	w.Uint(uint64(sum))
	x.files["config"] = w.Take()
	x.dump("config", x.files["config"], 0)
}

func (x *exampleRepo) pack(what string, nonce byte, blobs ...*rec.Blob) pack.List {
	var b bytes.Buffer
	p, err := pack.NewWriter(&b, [rec.NonceSize]byte(sequence(nonce, rec.NonceSize)))
	if err == nil {
		err = p.Session(x.session)
	}
	for _, blob := range blobs {
		if err == nil {
			err = p.Blob(blob)
		}
	}
	if err != nil {
		x.t.Fatal(err)
	}
	name, err := p.Close()
	if err != nil {
		x.t.Fatal(err)
	}
	for n, e := range p.Entries()[1:] {
		x.dump(fmt.Sprintf("%s: blob %d", what, n), b.Bytes()[e.Offset:e.Offset+e.Length], int(e.Offset))
	}
	x.files["packs/"+name.String()[:2]+"/"+name.String()] = b.Bytes()
	return pack.List{Pack: pack.Pack{Name: name, Size: uint64(b.Len())}, Entries: p.Entries()}
}

// object makes the snapshot object.
func (x *exampleRepo) object(top *rec.Blob) {
	said := &rec.Stored{ID: top.ID, Received: rec.Time{Sec: 1700000060}, As: "laptop"}
	var b bytes.Buffer
	w := rec.NewWriter(&b)
	var at []int
	for _, v := range []rec.Record{&rec.Head{Kind: rec.Sealed, Order: rec.Loose, Nonce: sequence(0x80, rec.NonceSize)}, said, x.session, top,
		&rec.End{Entries: 1, Bytes: uint64(len(top.Data))}} {
		at = append(at, b.Len())
		if err := w.Write(v); err != nil {
			x.t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			x.t.Fatal(err)
		}
	}
	x.dump("object: head and stored", b.Bytes()[:at[2]], 0)
	x.dump("object: the session's beginning", b.Bytes()[at[2]:at[2]+48], at[2])
	x.dump("object: the end", b.Bytes()[at[4]:], at[4])
	x.files["snapshots/"+top.ID.String()] = b.Bytes()
}

// The example repository is what the documents say: its files are made again from the vectors'
// master key, and docs/format/example.md shows their bytes.
func TestExampleRepository(t *testing.T) {
	x := newExample(t)
	if *updateExample {
		if err := os.RemoveAll(exampleDir); err != nil {
			t.Fatal(err)
		}
		for name, b := range x.files {
			file := filepath.Join(exampleDir, name)
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for what, text := range x.blocks {
			t.Logf("%s\n%s", what, text)
		}
	}
	seen := 0
	err := fs.WalkDir(os.DirFS(exampleDir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		seen++
		b, err := os.ReadFile(filepath.Join(exampleDir, name))
		if err == nil && !bytes.Equal(b, x.files[name]) {
			t.Errorf("%s differs", name)
		}
		return err
	})
	if err != nil || seen != len(x.files) {
		t.Errorf("%d files, want %d: %v", seen, len(x.files), err)
	}
	doc, err := os.ReadFile("../docs/format/example.md")
	if err != nil {
		t.Fatal(err)
	}
	crypto, err := os.ReadFile("../docs/format/crypto.md")
	if err != nil || !strings.Contains(string(crypto), strings.TrimSpace(x.blocks["snapshot: id"])) || !strings.Contains(string(crypto), x.blocks["sig"]) {
		t.Errorf("crypto.md has another example: %v, want\n%s%s", err, x.blocks["snapshot: id"], x.blocks["sig"])
	}
	for what, text := range x.blocks {
		if !strings.Contains(string(doc), text) {
			t.Errorf("%s: the page does not have\n%s", what, text)
		}
	}
}

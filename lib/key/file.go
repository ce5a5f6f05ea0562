package key

import (
	"bytes"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
)

// MaxFile is the most bytes that a key file may have.
const MaxFile = 16 << 10

// What Parse, Load and Save refuse; match with errors.Is.
var (
	ErrSize     = errors.New("larger than any key file (16 KiB)")
	ErrNotKey   = errors.New("not a key file, or cut short")
	ErrTrailing = errors.New("more than one key, or something behind it")
	ErrVersion  = errors.New("a key file of another version")
	ErrChecksum = errors.New("checksum differs: the file is damaged")
	ErrKind     = errors.New("the key inside is of another kind than its label")
	ErrLength   = errors.New("wrong length for a key of its kind")
	ErrID       = errors.New("the key id is not that of this master key")
	ErrField    = errors.New("holds a public key that is none")
	ErrExists   = errors.New("exists, and a key file is never overwritten")
	ErrReadBack = errors.New("read back, it differs from what was written: do not use it")
)

// The body of a key file (docs/format/crypto.md, "Keys"):
//
//	"PVK1" ‖ u8 kind ‖ key id ‖ u8 len ‖ name ‖ fields ‖ H(all before)[:8]
const (
	magic    = "PVK1"
	sumSize  = 8
	headSize = len(magic) + 1 + IDSize + 1
)

// body returns the body of k's key file.
func (k *Key) body() []byte {
	b := append([]byte(magic), byte(k.kind))
	b = append(b, k.id[:]...)
	name := k.fileName()
	b = append(b, byte(len(name)))
	b = append(b, name...)
	for _, f := range layouts[k.kind] {
		b = append(b, k.field(f)...)
	}
	return append(b, checksum(b)...)
}

// fileName returns the name in k's file: only a write key has one.
func (k *Key) fileName() string {
	if k.kind == Write {
		return k.name
	}
	return ""
}

func checksum(b []byte) []byte {
	h := sha256.Sum256(b)
	return h[:sumSize]
}

// parseBody is the inverse of body. b is the caller's; the Key holds copies.
func parseBody(b []byte) (*Key, error) {
	switch {
	case len(b) < headSize+sumSize || string(b[:3]) != magic[:3]:
		return nil, ErrNotKey
	case string(b[:len(magic)]) != magic:
		return nil, ErrVersion
	}
	b, sum := bytes.Clone(b[:len(b)-sumSize]), b[len(b)-sumSize:]
	if !Equal(checksum(b), sum) {
		return nil, ErrChecksum
	}
	kind, id := Kind(b[len(magic)]), ID(b[len(magic)+1:])
	n, rest := int(b[headSize-1]), b[headSize:]
	if !kind.valid() {
		return nil, ErrKind
	}
	want := n
	for _, f := range layouts[kind] {
		want += fieldSizes[f]
	}
	if len(rest) != want {
		return nil, ErrLength
	}
	name, rest := string(rest[:n]), rest[n:]
	if kind == Write && !ValidName(name) || kind != Write && n > 0 {
		return nil, fmt.Errorf("name %q of a %s key: %w", name, kind, ErrName)
	}
	v := &values{}
	for _, f := range layouts[kind] {
		v.fields[f], rest = rest[:fieldSizes[f]:fieldSizes[f]], rest[fieldSizes[f]:]
	}
	if kind == Master {
		name = masterName
		if id != masterID(v.fields[fMaster]) {
			return nil, ErrID
		}
	}
	k, err := newKey(kind, id, name, v)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrField, err)
	}
	return k, nil
}

// The label of a key file is "PRESERVE … KEY".
const (
	labelBegin = "PRESERVE "
	labelEnd   = " KEY"
	pemBegin   = "-----BEGIN "
)

func (k *Key) label() string { return labelBegin + strings.ToUpper(k.kind.String()) + labelEnd }

// Marshal returns k's key file: lines for people, then the key in PEM. made is
// the date that the lines tell; no program reads them.
func (k *Key) Marshal(made time.Time) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Preserve %s key", k.kind)
	if name := k.fileName(); name != "" {
		fmt.Fprintf(&b, " of the writer %s", name)
	}
	fmt.Fprintf(&b, "\nkey id  %s\nmade    %s\n", k.id, made.UTC().Format(time.DateOnly))
	fmt.Fprintf(&b, "can     %s\ncannot  %s\n", k.kind.Can(), k.kind.Cannot())
	for _, line := range k.carried.lines() {
		b.WriteString(revokedWord + "  " + line)
	}
	b.WriteByte('\n')
	b.Write(pem.EncodeToMemory(&pem.Block{Type: k.label(), Bytes: k.body()}))
	return b.Bytes()
}

// Parse reads a key file. Of the text above the key only lines that begin with the
// word "revoked" are looked at (docs/format/revoked.md); behind it only white space
// may stand. Parse keeps nothing of data.
//
// Errors: ErrSize, ErrNotKey, ErrTrailing, ErrVersion, ErrChecksum, ErrKind,
// ErrLength, ErrName, ErrID, ErrField, ErrWrapped, ErrRevokedLine.
func Parse(data []byte) (*Key, error) {
	block, err := decodePEM(data)
	switch {
	case err != nil:
		return nil, err
	case block != nil && block.Type == wrapLabel:
		return nil, ErrWrapped
	case block == nil, !strings.HasPrefix(block.Type, labelBegin) || !strings.HasSuffix(block.Type, labelEnd):
		return nil, ErrNotKey
	}
	k, err := parseBody(block.Bytes)
	if err != nil {
		return nil, err
	}
	if block.Type != k.label() {
		return nil, fmt.Errorf("%q holds a %s key: %w", block.Type, k.kind, ErrKind)
	}
	k.carried, err = carried(data)
	return k, err
}

// white is the white space of key files; no other counts as such.
const white = " \t\r\n"

// decodePEM returns the one block of data, nil if there is none without headers.
// Errors: ErrSize, ErrTrailing.
func decodePEM(data []byte) (*pem.Block, error) {
	if len(data) > MaxFile {
		return nil, ErrSize
	}
	if n := bytes.Count(data, []byte(pemBegin)); n > 1 {
		return nil, ErrTrailing
	}
	block, rest := pem.Decode(data)
	switch {
	case block == nil || len(block.Headers) > 0:
		return nil, nil
	case len(bytes.Trim(rest, white)) > 0:
		return nil, ErrTrailing
	}
	return block, nil
}

// Load reads the key file path, after Seclude. The warning, if there is one, is for
// the user: others may read the file. Errors name the file, and are those of Parse,
// of Seclude and of the file system.
//
// path may be a pipe or a descriptor, which is read once and to its end. A descriptor
// that was handed down by its number is closed in whatever this process starts: those
// commands need no key.
func Load(path string) (k *Key, warning string, err error) {
	data, warning, err := ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	if k, err = Parse(data); err != nil {
		return nil, "", fmt.Errorf("key file %q: %w", path, err)
	}
	return k, warning, nil
}

// ReadFile is Load, and returns the bytes for Parse or ParseWrapped: at most one more
// than MaxFile.
func ReadFile(path string) (data []byte, warning string, err error) {
	if err := Seclude(); err != nil {
		return nil, "", fmt.Errorf("key file %q: %w", path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("open key file %q: %w", path, cause(err))
	}
	defer f.Close() // read only: nothing to lose
	st, err := f.Stat()
	if err != nil {
		return nil, "", fmt.Errorf("key file %q: %w", path, cause(err))
	}
	if mode := st.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 && !credential(path, mode) {
		warning = fmt.Sprintf("key file %q is open to others (mode %04o): chmod 600 it", path, mode.Perm())
	}
	if data, err = io.ReadAll(io.LimitReader(f, MaxFile+1)); err != nil {
		return nil, "", fmt.Errorf("key file %q: %w", path, cause(err))
	}
	keep(path)
	return data, warning, nil
}

// credential reports whether path is a credential that systemd has made for this
// service. Its mode shows a group that may read, which is the mask of an access list
// with the service's user in it and nobody else.
func credential(path string, mode os.FileMode) bool {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	return dir != "" && filepath.Dir(path) == filepath.Clean(dir) && mode.Perm()&0o037 == 0
}

// keep lets no command that this process starts inherit the descriptor that path
// names, if it names one.
func keep(path string) {
	for _, dir := range []string{"/dev/fd/", "/proc/self/fd/"} {
		if n, err := strconv.Atoi(strings.TrimPrefix(path, dir)); err == nil && strings.HasPrefix(path, dir) && n > 2 {
			unix.CloseOnExec(n)
		}
	}
}

// Save writes k's key file to path, readable by its owner only, and returns when
// it is durable and, read back, the same. It never replaces anything: ErrExists.
// After another error there is no file, or one that must not be used.
func (k *Key) Save(path string) error { return k.save(path, os.ReadFile) }

// save is Save; readFile reads back what was written.
func (k *Key) save(path string, readFile func(string) ([]byte, error)) error {
	data := k.Marshal(time.Now())
	err := durable.WriteFile(path, data, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("key file %q: %w", path, ErrExists)
	}
	if err != nil {
		return fmt.Errorf("write key file %q: %w", path, cause(err))
	}
	got, err := readFile(path)
	if err != nil {
		return fmt.Errorf("read back key file %q: %w", path, cause(err))
	}
	if !Equal(got, data) {
		return fmt.Errorf("key file %q: %w", path, ErrReadBack)
	}
	return nil
}

// cause drops operation and path from an error of the file system: the message
// around it has them.
func cause(err error) error {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return pathErr.Err
	}
	return err
}

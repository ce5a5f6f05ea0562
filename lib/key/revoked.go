package key

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"
)

// MaxRevoked is the most bytes that a file of revoked writers may have.
const MaxRevoked = 1 << 20

// RevokedSuffix is what the name of a file of revoked writers has behind that of the
// key file that it stands beside.
const RevokedSuffix = ".revoked"

// What reading revoked writers refuses, and Revocation.
var (
	ErrRevokedSize = errors.New("larger than any file of revoked writers (1 MiB)")
	ErrRevokedLine = errors.New("not a writer's public key: 64 hex digits, and nothing else but a # and a remark")
	ErrNoWriter    = errors.New("signs nothing: there is no writer to revoke")
)

// Revoked are writers of whom nothing is believed any more
// (docs/format/revoked.md). The zero value and nil have none. It is filled before it
// is used by several goroutines.
type Revoked struct {
	where map[[ed25519.PublicKeySize]byte]string
}

// Find reports whether a writer is revoked, and by which file and line.
func (r *Revoked) Find(writer []byte) (where string, ok bool) {
	if r == nil || len(writer) != ed25519.PublicKeySize {
		return "", false
	}
	where, ok = r.where[[ed25519.PublicKeySize]byte(writer)]
	return where, ok
}

// Len returns how many writers there are.
func (r *Revoked) Len() int { return len(r.where) }

// Read adds what text says; name is the file's, for messages. After an error
// nothing was added. Errors: ErrRevokedSize, ErrRevokedLine.
func (r *Revoked) Read(name string, text []byte) error {
	if len(text) > MaxRevoked {
		return fmt.Errorf("revoked writers %q: %w", name, ErrRevokedSize)
	}
	found := map[[ed25519.PublicKeySize]byte]string{}
	n := 0
	for line := range bytes.Lines(text) {
		n++
		digits, _, _ := bytes.Cut(line, []byte{'#'})
		if digits = bytes.Trim(digits, white); len(digits) == 0 {
			continue
		}
		writer, err := ParseWriter(string(digits))
		if err != nil {
			return fmt.Errorf("revoked writers %q, line %d: %w", name, n, err)
		}
		found[[ed25519.PublicKeySize]byte(writer)] = fmt.Sprintf("%s, line %d", name, n)
	}
	if r.where == nil {
		r.where = map[[ed25519.PublicKeySize]byte]string{}
	}
	for writer, where := range found {
		r.where[writer] = where
	}
	return nil
}

// Add adds what other has, which may be nil.
func (r *Revoked) Add(other *Revoked) {
	if other == nil {
		return
	}
	if r.where == nil {
		r.where = map[[ed25519.PublicKeySize]byte]string{}
	}
	maps.Copy(r.where, other.where)
}

// lines returns a line for each writer, with the place that it is known from.
func (r *Revoked) lines() (lines []string) {
	if r == nil {
		return nil
	}
	for writer, where := range r.where {
		lines = append(lines, fmt.Sprintf("%x  # %s\n", writer, strings.Map(func(c rune) rune {
			if unicode.IsControl(c) {
				return '?'
			}
			return c
		}, where)))
	}
	slices.Sort(lines)
	return lines
}

// revokedWord begins the lines above a key that name revoked writers.
const revokedWord = "revoked"

// carried returns the writers that the lines above the key in a key file revoke.
func carried(data []byte) (*Revoked, error) {
	above, _, _ := bytes.Cut(data, []byte(pemBegin))
	var text []byte
	for line := range bytes.Lines(above) {
		rest, ok := bytes.CutPrefix(bytes.Trim(line, white), []byte(revokedWord))
		if ok && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t') {
			text = append(text, rest...)
		}
		text = append(text, '\n') // lines are counted as in the file
	}
	r := &Revoked{}
	return r, r.Read("the key file", text)
}

// Revoked returns the writers that k's file revokes, in lines above the key.
func (k *Key) Revoked() *Revoked { return k.carried }

// Carrying returns k with these revoked writers in its file, and those that are there.
func (k *Key) Carrying(r *Revoked) *Key {
	with := *k
	with.carried = &Revoked{}
	with.carried.Add(k.carried)
	with.carried.Add(r)
	return &with
}

// Load adds the writers of a file. The warning, if there is one, is for the user:
// others may change the file. Errors name the file, and are those of Read and of
// the file system.
func (r *Revoked) Load(path string) (warning string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("open revoked writers %q: %w", path, cause(err))
	}
	defer f.Close() // read only: nothing to lose
	st, err := f.Stat()
	if err != nil {
		return "", fmt.Errorf("revoked writers %q: %w", path, cause(err))
	}
	if mode := st.Mode(); mode.IsRegular() && mode.Perm()&0o022 != 0 {
		warning = fmt.Sprintf("the file of revoked writers %q can be changed by others (mode %04o): chmod 644 it", path, mode.Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, MaxRevoked+1))
	if err != nil {
		return "", fmt.Errorf("read revoked writers %q: %w", path, cause(err))
	}
	return warning, r.Read(path, text)
}

// LoadBeside adds the writers of the files that stand beside a key file: under the name
// that it was given by, and, if a link leads to it, under its own name too. Neither need
// be there. The warnings are those of Load.
func (r *Revoked) LoadBeside(keyFile string) (warnings []string, err error) {
	names := []string{keyFile + RevokedSuffix}
	if own, err := filepath.EvalSymlinks(keyFile); err == nil && own != filepath.Clean(keyFile) {
		names = append(names, own+RevokedSuffix)
	}
	for _, name := range names {
		warning, err := r.Load(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return warnings, err
		}
		if warning != "" {
			warnings = append(warnings, warning)
		}
	}
	return warnings, nil
}

// ParseWriter reads a writer's public key as 64 hex digits: ErrRevokedLine.
func ParseWriter(s string) (ed25519.PublicKey, error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != ed25519.PublicKeySize {
		return nil, ErrRevokedLine
	}
	return b, nil
}

// WriterPublic returns the public key of the writer that k is: master, write.
func (k *Key) WriterPublic() (pk ed25519.PublicKey, ok bool) {
	sk, _, _, ok := k.Writer()
	if !ok {
		return nil, false
	}
	return sk.Public().(ed25519.PublicKey), true
}

// Revocation returns the line that revokes k's writer. The error is ErrNoWriter
// for a key that signs nothing.
func (k *Key) Revocation(when time.Time) (string, error) {
	pk, ok := k.WriterPublic()
	if !ok {
		return "", fmt.Errorf("a %s key: %w", k.kind, ErrNoWriter)
	}
	return RevocationOf(pk, fmt.Sprintf("writer %s of %s", k.name, k.id), when), nil
}

// RevocationOf returns the line that revokes a writer. about must not have a
// newline in it.
func RevocationOf(writer ed25519.PublicKey, about string, when time.Time) string {
	return fmt.Sprintf("%x  # %s, revoked %s\n", []byte(writer), about, when.UTC().Format(time.DateOnly))
}

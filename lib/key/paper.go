package key

import (
	"bytes"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A master key on paper (docs/format/crypto.md, "On paper"): 32 bytes of key and 8
// of checksum are 64 digits of base32, written in 16 groups of four digits and one
// that checks the group, behind "PV1".
const (
	paperMagic  = "PV1"
	paperGroups = 16
	groupDigits = 4
	paperLines  = 4
)

// PaperGroups is how many groups a key on paper has.
const PaperGroups = paperGroups

var base32Digits = base32.StdEncoding.WithPadding(base32.NoPadding)

// What FromPaper refuses, beside *GroupError.
var (
	ErrNotPaper = errors.New("no key as on paper: \"PV1\" and 16 groups of five letters and digits")
	ErrPaper    = errors.New("each group is right by itself, but not all together: are groups of two papers mixed?")
)

// A GroupError says which group of a key on paper is wrong.
type GroupError struct {
	Group int    // from 1
	Text  string // as it was read
	Why   string
}

func (e *GroupError) Error() string {
	return fmt.Sprintf("group %d, %q: %s", e.Group, e.Text, e.Why)
}

func paperSum(master []byte) []byte {
	h := sha256.New()
	h.Write([]byte("preserve/v1/paper\x00"))
	h.Write(master)
	return h.Sum(nil)[:sumSize]
}

// checkDigit is the fifth digit of a group; n counts from 0.
func checkDigit(n int, digits string) byte {
	h := sha256.Sum256(append([]byte("preserve/v1/paper group\x00"), append([]byte{byte(n)}, digits...)...))
	return "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[h[0]>>3]
}

// PaperText returns the groups of a master key, four on a line. The error is
// ErrDerive for any other key.
func (k *Key) PaperText() (string, error) {
	if k.kind != Master {
		return "", fmt.Errorf("a %s key: %w", k.kind, ErrDerive)
	}
	m := k.field(fMaster)
	all := base32Digits.EncodeToString(append(bytes.Clone(m), paperSum(m)...))
	var b strings.Builder
	for n := range paperGroups {
		digits := all[n*groupDigits : (n+1)*groupDigits]
		switch {
		case n == 0:
			b.WriteString(paperMagic + "  ")
		case n%(paperGroups/paperLines) == 0:
			b.WriteString("\n     ")
		default:
			b.WriteString(" ")
		}
		b.WriteString(digits)
		b.WriteByte(checkDigit(n, digits))
	}
	return b.String() + "\n", nil
}

// Paper returns a page to print and keep. The error is ErrDerive for any but a
// master key.
func (k *Key) Paper(made time.Time) ([]byte, error) {
	text, err := k.PaperText()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "PRESERVE: MASTER KEY %s                      written %s\n\n", k.id, made.UTC().Format(time.DateOnly))
	b.WriteString(`Whoever has this page can read every backup made under this key, and without it or a
copy of the key no backup can be read. Keep it where you keep deeds and passports, and
not with the computer.

`)
	for line := range strings.Lines(text) {
		b.WriteString("        " + line)
	}
	b.WriteString(`
To get the key back, on any machine that has Preserve:

        pv-key from-paper -o master.key

and type the groups. Capitals and small letters are the same, spaces and lines do not
matter. There is no 0, 1, 8 or 9: what looks like one is O, I, B or another letter. Each
group has its own check, so that a slip of the pen is found where it is. Then:

        pv-restore -r REPOSITORY -k master.key latest DIRECTORY
`)
	return b.Bytes(), nil
}

// ParseGroup checks one group, n counting from 0, and returns its digits. The
// error is a *GroupError.
func ParseGroup(n int, text string) (string, error) {
	group := strings.ToUpper(text)
	bad := func(why string) error { return &GroupError{n + 1, text, why} }
	if len(group) != groupDigits+1 {
		return "", bad(fmt.Sprintf("%d letters and digits where five belong", len(group)))
	}
	for _, c := range []byte(group) {
		if (c < 'A' || c > 'Z') && (c < '2' || c > '7') {
			return "", bad(fmt.Sprintf("%q is never used: A to Z and 2 to 7 are", string(rune(c))))
		}
	}
	if checkDigit(n, group[:groupDigits]) != group[groupDigits] {
		return "", bad("its check does not fit: compare it with the paper once more")
	}
	return group[:groupDigits], nil
}

// FromPaper returns the master key that groups were written from; text is what
// stands behind "PV1", in any number of lines. Errors: ErrNotPaper, ErrPaper, a
// *GroupError for the first group that is wrong.
func FromPaper(text string) (*Key, error) {
	words := strings.Fields(text)
	if len(words) > 0 && strings.ToUpper(words[0]) == paperMagic {
		words = words[1:]
	}
	var all strings.Builder
	for n, word := range words {
		if n == paperGroups {
			return nil, fmt.Errorf("%w: there are %d", ErrNotPaper, len(words))
		}
		digits, err := ParseGroup(n, word)
		if err != nil {
			return nil, err
		}
		all.WriteString(digits)
	}
	if len(words) != paperGroups {
		return nil, fmt.Errorf("%w: there are %d", ErrNotPaper, len(words))
	}
	b, err := base32Digits.DecodeString(all.String())
	if err != nil {
		return nil, ErrNotPaper
	}
	if m := b[:SecretSize]; Equal(paperSum(m), b[SecretSize:]) {
		return FromMaster([SecretSize]byte(m))
	}
	return nil, ErrPaper
}

package key

import (
	"bytes"
	"crypto/rand"
	_ "embed" // for the list of words
	"encoding/binary"
	"errors"
	"strings"
)

// wordList are the 2048 English words of BIP 39: no two begin with the same four
// letters, so that few are mistaken for each other when they are read aloud or
// off paper.
//
//go:embed words.txt
var wordList string

// PhraseWords is how many words NewPhrase takes: 88 bits, which the work that Wrap
// puts before each guess puts out of reach.
const PhraseWords = 8

// MaxPhrase is the most bytes that a passphrase may have.
const MaxPhrase = 4 << 10

// ErrPhrase is a passphrase that cannot be one.
var ErrPhrase = errors.New("a passphrase is needed, of at most 4096 bytes")

// NewPhrase returns a fresh passphrase: words with one space between.
func NewPhrase() []byte {
	words := strings.Fields(wordList)
	var b [2 * PhraseWords]byte
	rand.Read(b[:]) // never fails: crypto/rand
	phrase := make([]string, PhraseWords)
	for i := range phrase {
		phrase[i] = words[binary.BigEndian.Uint16(b[2*i:])%uint16(len(words))]
	}
	return []byte(strings.Join(phrase, " "))
}

// normal is the form of a passphrase that counts: without white space around it,
// and one space where there is any in it.
func normal(phrase []byte) ([]byte, error) {
	p := bytes.Join(bytes.Fields(phrase), []byte{' '})
	if len(p) == 0 || len(p) > MaxPhrase {
		return nil, ErrPhrase
	}
	return p, nil
}

// SamePhrase reports whether two passphrases count as the same.
func SamePhrase(a, b []byte) bool {
	x, errX := normal(a)
	y, errY := normal(b)
	return errX == nil && errY == nil && Equal(x, y)
}

package tool

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestLines(t *testing.T) {
	const said = "first\r\n\x1b]52;c;ZXZpbA==\x07\n\nüb\u202eer\xff\r\rhalf"
	const want = "first\n\\x1b]52;c;ZXZpbA==\\a\n\nüb\\u202eer\\xff\\r\\rhalf\n"
	for size := 1; size <= len(said); size++ {
		var out bytes.Buffer
		l := &Lines{Out: &out}
		for at := 0; at < len(said); at += size {
			part := []byte(said[at:min(at+size, len(said))])
			if n, err := l.Write(part); n != len(part) || err != nil {
				t.Fatal(n, err)
			}
			for i := range part {
				part[i] = '!' // it must not be kept
			}
		}
		l.Flush()
		l.Flush()
		if out.String() != want {
			t.Fatalf("in parts of %d: %q, want %q", size, out.String(), want)
		}
	}
	var out bytes.Buffer
	l := &Lines{Out: &out}
	_, _ = l.Write([]byte(strings.Repeat("x", 2*maxLine+1) + "\n"))
	if got := out.String(); got != strings.Repeat(strings.Repeat("x", maxLine)+"\n", 2)+"x\n" {
		t.Errorf("a long line: %d bytes, %d lines", len(got), strings.Count(got, "\n"))
	}
	// Who reads an answer may go away. Nobody need read messages.
	if _, err := (&Lines{Out: gone{}, Strict: true}).Write([]byte("a\n")); !errors.Is(err, errGone) {
		t.Errorf("an answer that nobody takes: %v", err)
	}
	// A bound of an answer.
	l = &Lines{Out: &out, Most: 5}
	if _, err := l.Write([]byte("abc\n")); err != nil {
		t.Error(err)
	}
	if _, err := l.Write([]byte("de")); !errors.Is(err, ErrTooMuch) {
		t.Errorf("more than its bound: %v", err)
	}
	if n, err := (&Lines{Out: gone{}}).Write([]byte("a\n")); n != 2 || err != nil {
		t.Errorf("a message that nobody takes: %d, %v", n, err)
	}
}

var errGone = errors.New("gone")

type gone struct{}

func (gone) Write([]byte) (int, error) { return 0, errGone }

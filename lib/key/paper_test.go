package key

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// The text of the master key 00 01 … 1f (docs/format/crypto.md, "On paper").
const paperOfVectors = `PV1  AAAQN EAYEO AUDAW OCAJH
     BIFQJ YDIO2 B4IBT CEQTY
     CQKRW MFYYI DENB4 WHA5M
     DYP54 LVJXZ CVFOL 6OPGL
`

func TestPaperText(t *testing.T) {
	k := all(t)[Master]
	text, err := k.PaperText()
	if err != nil || text != paperOfVectors {
		t.Errorf("%v, %v", text, err)
	}
	for _, s := range []string{text, strings.ToLower(text), strings.Join(strings.Fields(text)[1:], "\n")} {
		got, err := FromPaper(s)
		if err != nil || !bytes.Equal(got.body(), k.body()) {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	page, err := k.Paper(made)
	if err != nil || !strings.Contains(string(page), k.ID().String()) {
		t.Errorf("%s, %v", page, err)
	}
	for kind, other := range all(t) {
		if _, err := other.Paper(made); (err != nil) != (kind != Master) || err != nil && !errors.Is(err, ErrDerive) {
			t.Errorf("%v: %v", kind, err)
		}
	}
}

// One digit that is wrong, or two groups in each other's place, is an error, and
// nearly always one that names the group.
func TestPaperErrors(t *testing.T) {
	text, err := all(t)[Master].PaperText()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(text)[1:]
	tried, located := 0, 0
	for n, word := range words {
		for at := range word {
			for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567" {
				if rune(word[at]) == c {
					continue
				}
				wrong := append([]string{}, words...)
				wrong[n] = word[:at] + string(c) + word[at+1:]
				_, err := FromPaper(strings.Join(wrong, " "))
				var group *GroupError
				switch tried++; {
				case err == nil:
					t.Errorf("group %d is %s: no error", n+1, wrong[n])
				case errors.As(err, &group):
					located++
					if group.Group != n+1 || !strings.Contains(err.Error(), fmt.Sprint(n+1)) {
						t.Errorf("group %d is %s: %v", n+1, wrong[n], err)
					}
				}
			}
		}
	}
	if located < tried*9/10 || tried != 16*5*31 {
		t.Errorf("%d of %d errors were located", located, tried)
	}
	words[3], words[4] = words[4], words[3]
	if _, err := FromPaper(strings.Join(words, " ")); err == nil {
		t.Error("groups in each other's place: no error")
	}
	for in, want := range map[string]error{
		"":                             ErrNotPaper,
		"PV1":                          ErrNotPaper,
		strings.Join(words[:3], " "):   ErrNotPaper,
		paperOfVectors + " AAAAA":      ErrNotPaper,
		"PV1 " + paperOfVectors:        nil,
		strings.Repeat("AAAQP ", 1<<9): nil,
	} {
		var group *GroupError
		if _, err := FromPaper(in); err == nil || want != nil && !errors.Is(err, want) || want == nil && !errors.As(err, &group) {
			t.Errorf("%.40q: %v", in, err)
		}
	}
}

func FuzzFromPaper(f *testing.F) {
	f.Add(paperOfVectors)
	f.Add("PV1 AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := FromPaper(text)
		if err != nil {
			return
		}
		again, err := k.PaperText()
		if err != nil {
			t.Fatal(err)
		}
		same := func(s string) string {
			return strings.TrimPrefix(strings.Join(strings.Fields(strings.ToUpper(s)), ""), "PV1")
		}
		if same(again) != same(text) {
			t.Errorf("%q is read, and written as %q", text, again)
		}
	})
}

package visible

import (
	"strconv"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestQuote(t *testing.T) {
	for in, want := range map[string]string{
		"": `""`, "a b/é": "a b/é", "日本/ü": "日本/ü", "[a]*?{}'": "[a]*?{}'",
		"a\x1b[2J": `"a\x1b[2J"`, "\xff": `"\xff"`, "a\nb\t": `"a\nb\t"`, "\x7f": `"\x7f"`, "a\u009bb": `"a\u009bb"`,
		"\ufffd": `"\ufffd"`, `a"b`: `"a\"b"`, `a\b`: `"a\\b"`,
		"a\u202eb": `"a\u202eb"`, "a\u200bb": `"a\u200bb"`, "a\u200fb": `"a\u200fb"`, "a\u2060b": `"a\u2060b"`, "\ufeffa": `"\ufeffa"`,
		"a\u061cb": `"a\u061cb"`, "a\u00adb": `"a\u00adb"`, "a\ufff9b": `"a\ufff9b"`, "a\U000e0001b": `"a\U000e0001b"`,
		"a\u00a0b": `"a\u00a0b"`, "a\u3000b": `"a\u3000b"`, "a\u3164b": `"a\u3164b"`, "a\u115fb": `"a\u115fb"`, "a\uffa0b": `"a\uffa0b"`,
		"a\ufe0fb": `"a\ufe0fb"`, "a\U000e0100b": `"a\U000e0100b"`, "a\u034fb": `"a\u034fb"`, "a\u2800b": `"a\u2800b"`, "a\u180eb": `"a\u180eb"`,
		"a\ue000b": `"a\ue000b"`, "a ": `"a "`, " a": `" a"`,
	} {
		if got := Quote(in); got != want {
			t.Errorf("Quote(%+q) = %s, want %s", in, got, want)
		}
		if want[0] == '"' {
			if back, err := strconv.Unquote(want); err != nil || back != in {
				t.Errorf("%s is not %+q again: %+q, %v", want, in, back, err)
			}
		}
	}
}

func TestText(t *testing.T) {
	for in, want := range map[string]string{
		"": "", " a\\b \"c\" ": " a\\b \"c\" ", "a\r\nb": `a\r\nb`, "\x1b]0;x\x07": `\x1b]0;x\a`, "a\u202e\xffb": `a\u202e\xffb`, "ü\u200b": `ü\u200b`,
	} {
		if got := Text(in); got != want {
			t.Errorf("Text(%+q) = %s, want %s", in, got, want)
		}
	}
}

// No character that Unicode knows as a control, a format character, a separator other than the
// space, ignorable, or unknown passes; every letter, digit and sign that is in use does.
func TestEveryRune(t *testing.T) {
	for r := rune(0); r <= unicode.MaxRune; r++ {
		hidden := unicode.In(r, unicode.C, unicode.Z, unicode.Bidi_Control, unicode.Join_Control, unicode.Pattern_White_Space,
			unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) && r != ' '
		if !utf8.ValidRune(r) || !unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Zs) {
			hidden = true
		}
		if hidden && Rune(r) {
			t.Fatalf("U+%04X shows nothing, and passes", r)
		}
		if !hidden && !Rune(r) && r != utf8.RuneError && r != 0x2800 && r != 0x1d159 {
			t.Fatalf("U+%04X is escaped", r)
		}
	}
}

package vectors

import (
	"bytes"
	"testing"
)

func TestWrittenAndRead(t *testing.T) {
	long := bytes.Repeat([]byte{0xab, 0}, 77)
	w := Render("one\ntwo\n", []Fields{{{"case", "a \"case\"\n"}, {"bytes", long}}, {{"case", "empty"}, {"bytes", []byte{}}}})
	w.WriteString("\ncase = \"for the eye\"\nbytes =\n a1 b2\n  c3\nrecord = {\"a\": 'b'}\nrecord = [1,\n 2]\n")
	cases, err := parse(w.String())
	if err != nil || len(cases) != 3 {
		t.Fatalf("%d cases, %v\n%s", len(cases), err, w)
	}
	if cases[0].Text("case") != "a \"case\"\n" || !bytes.Equal(cases[0]["bytes"], long) || cases[1]["bytes"] == nil || len(cases[1]["bytes"]) != 0 {
		t.Errorf("%q", cases)
	}
	if r := cases[2].Records(); !bytes.Equal(cases[2]["bytes"], []byte{0xa1, 0xb2, 0xc3}) || len(r) != 2 || r[1] != "[1, 2]" || cases[0].Records() != nil {
		t.Errorf("%q, %q", cases[2], r)
	}
}

func TestBadFilesFail(t *testing.T) {
	for _, text := range []string{"", "# only a comment\n", "case\n", "case = \"a\"\ncase = \"b\"\n", "bytes = abc\n", "case = \"a\n"} {
		if cases, err := parse(text); err == nil {
			t.Errorf("%q: %q", text, cases)
		}
	}
}

package key

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"testing"

	"preserve/lib/vectors"
)

func recordPaper(t *testing.T) {
	var w vectors.Writer
	w.WriteString("# Master keys on paper: docs/format/crypto.md, \"On paper\". Those with an error are refused;\n" +
		"# \"group\" is the first that is wrong, from 1. Written again, a key is the paper of its first case.\n" + vectors.Form)
	put := func(name, err, group, paper string, master []byte) {
		w.WriteString("\n")
		w.Text("case", name)
		if err != "" {
			w.Text("error", err)
		}
		if group != "" {
			w.Text("group", group)
		}
		w.Text("paper", paper)
		if err == "" {
			w.Hex("master", master)
		}
	}
	paper := func(master []byte) string {
		k, err := FromMaster([SecretSize]byte(master))
		if err != nil {
			t.Fatal(err)
		}
		s, err := k.PaperText()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	zeros, counted := make([]byte, 32), all(t)[Master].field(fMaster)
	good := paper(counted)
	groups := strings.Fields(good)
	with := func(n int, group string) string {
		g := append([]string(nil), groups...)
		g[n] = group
		return strings.Join(g, " ")
	}
	// A last group whose own check is right, so that only the sum tells.
	sum := "AAAA"
	sum += string(checkDigit(15, sum))

	put("the master key of the other vectors", "", "", good, counted)
	put("zeros", "", "", paper(zeros), zeros)
	put("ones", "", "", paper(bytes.Repeat([]byte{255}, 32)), bytes.Repeat([]byte{255}, 32))
	put("small letters, one line, a tab", "", "", strings.ToLower(strings.Join(groups, "\t")), counted)
	put("no PV1", "", "", strings.Join(groups[1:], "\n"), counted)
	put("one digit is another", "ErrGroup", "1", with(1, "BAAQN"), nil)
	put("the check of a group is another", "ErrGroup", "16", with(16, groups[16][:4]+"A"), nil)
	put("two are wrong: the first is named", "ErrGroup", "3", strings.ReplaceAll(with(9, "AAAAA"), groups[3], "AAAAA"), nil)
	put("groups exchanged", "ErrGroup", "2", strings.Join(append([]string{"PV1", groups[1], groups[3], groups[2]}, groups[4:]...), " "), nil)
	put("a digit that base32 has not", "ErrGroup", "2", with(2, groups[2][:4]+"1"), nil)
	put("a group of four", "ErrGroup", "5", with(5, groups[5][:4]), nil)
	put("groups that are right, of two papers", "ErrPaper", "", with(16, sum), nil)
	put("a group is absent", "ErrNotPaper", "", strings.Join(groups[:16], " "), nil)
	put("a group too many", "ErrNotPaper", "", good+groups[16], nil)
	put("nothing", "ErrNotPaper", "", "", nil)
	w.Save(t, "crypto/paper.txt")
}

func TestPaperVectors(t *testing.T) {
	if *record {
		recordPaper(t)
	}
	good, bad := map[string]string{}, 0
	for _, v := range vectors.Read(t, "crypto/paper.txt") {
		k, err := FromPaper(string(v["paper"]))
		var group *GroupError
		switch want := string(v["error"]); {
		case want == "":
			if err != nil || !bytes.Equal(k.field(fMaster), v["master"]) {
				t.Errorf("%s: %v", v["case"], err)
				continue
			}
			again, err := k.PaperText()
			if first, known := good[string(v["master"])]; err != nil || known && again != first || !known && again != string(v["paper"]) {
				t.Errorf("%s: written again it is %q, %v", v["case"], again, err)
			}
			good[string(v["master"])] = again
			continue
		case want == "ErrGroup" && errors.As(err, &group):
			if string(v["group"]) != strconv.Itoa(group.Group) {
				t.Errorf("%s: group %d", v["case"], group.Group)
			}
		case want == "ErrPaper" && errors.Is(err, ErrPaper), want == "ErrNotPaper" && errors.Is(err, ErrNotPaper):
		default:
			t.Errorf("%s: %v, want %s", v["case"], err, want)
		}
		bad++
	}
	if len(good) < 3 || bad < 6 {
		t.Errorf("%d keys, %d bad ones", len(good), bad)
	}
}

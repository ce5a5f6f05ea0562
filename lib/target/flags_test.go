package target

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// The inode flags of docs/format/entries.md are those that are stored and set, and no other is
// ever set.
func TestFlagsOfTheFormat(t *testing.T) {
	doc, err := os.ReadFile("../../docs/format/entries.md")
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("The mask is %#x:", uint32(inode.SettableFlags)); !strings.Contains(string(doc), want) {
		t.Errorf("the page does not say %q", want)
	}
	var all uint32
	for _, m := range regexp.MustCompile(`(0x[0-9a-f]+) \| (\w)\b`).FindAllStringSubmatch(string(doc), -1) {
		bit, err := strconv.ParseUint(m[1], 0, 32)
		if err != nil || inode.FlagNames(uint32(bit)) != m[2] {
			t.Errorf("%s is %s in the page, and %s here", m[1], m[2], inode.FlagNames(uint32(bit)))
		}
		all |= uint32(bit)
	}
	if all != inode.SettableFlags {
		t.Errorf("the page's table has %#x", all)
	}
	m := meta{e: &rec.Entry{Flags: 1<<32 - 1}}
	if got := m.wantFlags(); got != inode.SettableFlags {
		t.Errorf("of all flags %#x would be set", got)
	}
}

package job

import (
	"slices"
	"strings"
	"testing"
)

// Which snapshots of a list are verified.
func TestListed(t *testing.T) {
	list := `{"id":"` + sid(1) + `","writer":"a"}` + "\n" + `{"id":"` + sid(2) + `","revoked":true}` + "\n" + `{"id":"` + sid(3) + `","unread":"key"}` + "\n" + `{"id":"` + sid(4) + `","unread":"forged"}` + "\n"
	for _, c := range []struct {
		allow   bool
		want    []string
		revoked int
	}{{false, []string{sid(1)}, 1}, {true, []string{sid(1), sid(2)}, 0}} {
		if l, err := listed(strings.NewReader(list), c.allow); err != nil || l.revoked != c.revoked || !slices.Equal(l.ids, c.want) || l.unread != 2 || l.first != sid(3) || l.why != "key" {
			t.Errorf("%v: %+v, %v", c.allow, l, err)
		}
	}
	if l, err := listed(strings.NewReader(""), false); err != nil || len(l.ids) != 0 {
		t.Errorf("nothing: %+v, %v", l, err)
	}
	for _, bad := range []string{"x\n", `{"id":"12"}` + "\n", list + "\n", list[:len(list)-9]} {
		if l, err := listed(strings.NewReader(bad), false); err == nil {
			t.Errorf("%q: %+v", bad, l)
		}
	}
}

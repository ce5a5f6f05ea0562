package job

import (
	"slices"
	"strings"
	"testing"
)

// Which snapshots of a list are verified.
func TestListed(t *testing.T) {
	list := `{"id":"` + sid(1) + `","writer":"a"}` + "\n" + `{"id":"` + sid(2) + `","revoked":true}` + "\n" + `{"id":"` + sid(3) + `","unread":"key"}` + "\n"
	for _, c := range []struct {
		allow   bool
		want    []string
		revoked int
	}{{false, []string{sid(1), sid(3)}, 1}, {true, []string{sid(1), sid(2), sid(3)}, 0}} {
		if ids, revoked, err := listed(strings.NewReader(list), c.allow); err != nil || revoked != c.revoked || !slices.Equal(ids, c.want) {
			t.Errorf("%v: %q, %d, %v", c.allow, ids, revoked, err)
		}
	}
	if ids, _, err := listed(strings.NewReader(""), false); err != nil || len(ids) != 0 {
		t.Errorf("nothing: %q, %v", ids, err)
	}
	for _, bad := range []string{"x\n", `{"id":"12"}` + "\n", list + "\n", list[:len(list)-9]} {
		if ids, _, err := listed(strings.NewReader(bad), false); err == nil {
			t.Errorf("%q: %q", bad, ids)
		}
	}
}

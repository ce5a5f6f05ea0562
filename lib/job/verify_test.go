package job

import (
	"errors"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// Which snapshots of a list are verified.
func TestListed(t *testing.T) {
	text := `{"id":"` + sid(1) + `","writer":"a"}` + "\n" + `{"id":"` + sid(2) + `","revoked":true}` + "\n" + `{"id":"` + sid(3) + `","unread":"key"}` + "\n" + `{"id":"` + sid(4) + `","unread":"forged"}` + "\n" + `{"id":"` + sid(5) + `","partial":true}` + "\n"
	for _, c := range []struct {
		allow   bool
		want    []string
		revoked int
	}{{false, []string{sid(1)}, 1}, {true, []string{sid(1), sid(2)}, 0}} {
		l := &list{allow: c.allow}
		if err := take(l, text, 7); err != nil || l.revoked != c.revoked || !slices.Equal(l.ids, c.want) || l.unread != 2 || l.partial != 1 || l.first != sid(3) || l.why != "key" {
			t.Errorf("%v: %+v, %v", c.allow, l, err)
		}
	}
	l := &list{all: true, allow: true}
	if err := take(l, text, 1000); err != nil || !slices.Equal(l.ids, []string{sid(1), sid(2), sid(3), sid(4), sid(5)}) {
		t.Errorf("without a key: %+v, %v", l, err)
	}
	l = &list{}
	if err := take(l, "", 1); err != nil || len(l.ids) != 0 {
		t.Errorf("nothing: %+v, %v", l, err)
	}
	for _, bad := range []string{"x\n", `{"id":"12"}` + "\n", text + "\n", text[:len(text)-9]} {
		l := &list{}
		if err := take(l, bad, 9); !errors.Is(err, errListLine) {
			t.Errorf("%q: %+v, %v", bad, l, err)
		}
	}
}

// take gives a text to a list, in parts of so many bytes.
func take(l *list, text string, size int) error {
	for part := range slices.Chunk([]byte(text), size) {
		if _, err := l.Write(part); err != nil {
			return err
		}
	}
	return l.end()
}

// TestListedMemory: what snapshots say of themselves is not kept, however much it is. A line may
// be longer than a scanner takes: the rest of the list is not lost for that.
func TestListedMemory(t *testing.T) {
	l := &list{}
	fat := `","tags":["` + strings.Repeat("x", 1<<20) + `"]}` + "\n"
	const n = 100
	for i := range n {
		for _, part := range []string{`{"id":"`, sid(i), fat} {
			if _, err := l.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if err := l.end(); err != nil || len(l.ids) != n || l.ids[n-1] != sid(n-1) || m.HeapAlloc > 32<<20 {
		t.Errorf("%d of %d snapshots, %d bytes held: %v", len(l.ids), n, m.HeapAlloc, err)
	}
	if err := take(&list{}, strings.Repeat("x", maxListLine+1), 1<<20); !errors.Is(err, errListLine) {
		t.Errorf("a line without end: %v", err)
	}
}

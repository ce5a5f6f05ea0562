package job

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

func sid(n int) string { return fmt.Sprintf("%064x", n) }

func TestMemory(t *testing.T) {
	m := &memory{}
	m.took("", "/a", sid(1)) // before its id is known
	m.took("A", "/a", sid(2))
	m.took("B", "/b", sid(2))
	if len(m.Repositories) != 2 || m.of("A", "") == nil || !slices.Equal(m.of("A", "").Snapshots, []string{sid(1), sid(2)}) {
		t.Fatalf("%+v", m)
	}
	if m.at("/a").ID != "A" || m.at("/b").ID != "B" || m.at("/c") != nil {
		t.Errorf("%+v", m)
	}
	m.took("B", "/a", sid(3)) // B was moved to where A was
	if m.at("/a").ID != "B" || len(m.of("A", "").Where) != 0 {
		t.Errorf("%+v", m)
	}
	m.took("B", "/b", sid(2)) // taken again: the newest of all
	if got := m.of("B", "").Snapshots; !slices.Equal(got, []string{sid(3), sid(2)}) || !slices.Equal(m.Order, []string{sid(1), sid(3), sid(2)}) {
		t.Errorf("%q %q", got, m.Order)
	}
	for i := range 3 * remembered {
		m.took("B", fmt.Sprint("/", i), sid(i))
	}
	if b := m.of("B", ""); len(b.Snapshots) != remembered || len(b.Where) != maxWhere || len(m.Order) != remembered {
		t.Errorf("%d snapshots, %d names, %d in order", len(b.Snapshots), len(b.Where), len(m.Order))
	}
}

func TestMemoryFile(t *testing.T) {
	dir := t.TempDir()
	if m, err := recall(dir); err != nil || len(m.Order) != 0 {
		t.Fatalf("%+v, %v", m, err)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			if err := change(dir, func(m *memory) { m.took("A", "/a", sid(i)) }); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	m, err := recall(dir)
	if err != nil || len(m.Order) != 20 {
		t.Errorf("%d of 20 runs are remembered, %v", len(m.Order), err)
	}
	for _, text := range []string{"", "{", `{"order":"x"}`, "\x00"} {
		if err := os.WriteFile(memoryPath(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := recall(dir); !errors.Is(err, errMemory) || len(m.Order) != 0 {
			t.Errorf("%q: %+v, %v", text, m, err)
		}
	}
	if err := change(dir, func(m *memory) { m.took("A", "/a", sid(1)) }); err != nil { // replaces it
		t.Fatal(err)
	}
	if m, err := recall(dir); err != nil || !slices.Equal(m.Order, []string{sid(1)}) {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzMemory(f *testing.F) {
	f.Add(`{"order":["` + sid(1) + `","x"],"repositories":[{"id":"A","where":["/a"],"snapshots":["--new"]}]}`)
	f.Add(`null`)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(memoryPath(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, _ := recall(dir)
		lists := [][]string{m.Order}
		for _, r := range m.Repositories {
			lists = append(lists, r.Snapshots)
		}
		for _, list := range lists { // they become arguments
			if i := slices.IndexFunc(list, func(s string) bool { return !isID(s) }); i >= 0 {
				t.Errorf("%q is no id", list[i])
			}
		}
		m.took("A", "/a", sid(2))
		if m.at("/a") == nil || m.of("A", "/a") == nil {
			t.Errorf("%+v", m)
		}
	})
}

func TestReport(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report")
	read := func(targets, status int, text string) []answer {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return readReport(file, targets, status)
	}
	if a := read(1, 3, "welcome\nmissing "+sid(9)+"\n"+sid(1)+"\n"); a[0].id != sid(1) || !slices.Equal(a[0].missing, []string{sid(9)}) || !slices.Equal(a[0].other, []string{"welcome"}) || a[0].status != 3 {
		t.Errorf("%+v", a)
	}
	if a := read(1, 0, sid(1)[:63]); a[0].id != "" {
		t.Errorf("a line that was cut off: %+v", a)
	}
	if a := read(1, 0, "exit 1\n"); a[0].status != 0 {
		t.Errorf("one target: %+v", a)
	}
	a := read(3, 1, "1 "+sid(1)+"\n2 missing "+sid(2)+"\n1 exit 0\n4 exit 0\n0 exit 0\nx\n2 exit 1\n")
	if a[0].id != sid(1) || a[0].status != 0 || a[1].id != "" || len(a[1].missing) != 1 || a[1].status != 1 || a[2].status != 1 {
		t.Errorf("%+v", a)
	}
	if a := read(1, 0, strings.Repeat("noise\n", 1000)); len(a[0].other) != maxOther {
		t.Errorf("%d lines of somebody else", len(a[0].other))
	}
	if a := readReport(file+".none", 2, 0); a[0].status != 1 || a[1].status != 1 {
		t.Errorf("none: %+v", a)
	}
}

func FuzzReport(f *testing.F) {
	f.Add("1 exit 0\n2 "+sid(1)+"\n", 2)
	f.Add(sid(1)+"\nmissing "+sid(2)+"\n", 1)
	file := filepath.Join(f.TempDir(), "report")
	f.Fuzz(func(t *testing.T, text string, targets int) {
		if targets < 1 || targets > 9 || os.WriteFile(file, []byte(text), 0o600) != nil {
			return
		}
		for _, a := range readReport(file, targets, 0) {
			if a.id != "" && !isID(a.id) || !slices.Equal(a.missing, onlyIDs(slices.Clone(a.missing))) {
				t.Errorf("%+v", a)
			}
		}
	})
}

func TestSimilar(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"/mnt/backup", "/mnt/backup", false},
		{"/mnt/backup", "/mnt/bakcup", true},
		{"/mnt/backup", "/mnt/backp", true},
		{"/mnt/backup", "/mnt/backups", true},
		{"/mnt/backup", "/mnt/bacjup", true},
		{"/mnt/backup", "/mnt/backup2", false},
		{"/mnt/backup1", "/mnt/backup2", false},
		{"/mnt/backup", "/mnt/other", false},
		{"/m/a", "/m/b", false}, // too short to tell
		{"", "", false},
		{"", "/mnt/backup", false},
	} {
		if similar(c.a, c.b) != c.want || similar(c.b, c.a) != c.want {
			t.Errorf("%s, %s: not %v", c.a, c.b, c.want)
		}
	}
}

func TestJobDirectory(t *testing.T) {
	if jobName("a", []string{"b"}) == jobName("a", []string{"b", ""}) || jobName("", []string{"ab"}) == jobName("", []string{"a", "b"}) || jobName("a", []string{"b"}) == jobName("b", []string{"a"}) {
		t.Error("two jobs have one name")
	}
	dir := filepath.Join(t.TempDir(), "deep", "job")
	for range 2 { // made, and found
		if err := makeJob(dir); err != nil {
			t.Fatal(err)
		}
	}
	list, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	for _, n := range []string{tagName, markerName} {
		if _, err := os.Lstat(filepath.Join(dir, n)); err != nil {
			t.Error(err)
		}
	}
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "letter"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := makeJob(home); !errors.Is(err, errForeign) {
		t.Errorf("a directory with something in it: %v", err)
	}
}

func TestIDs(t *testing.T) {
	text := "welcome\n" + sid(1) + "\n" + strings.Repeat("x", 70) + "\n" + sid(2)[:63] + "\n" + sid(3) + "\n" + sid(4)
	for _, cut := range []int{1, 7, 64, 65, len(text)} {
		var out bytes.Buffer
		l := &idLines{out: bufio.NewWriter(&out), left: int64(len(text))}
		for part := range slices.Chunk([]byte(text), cut) {
			if _, err := l.Write(part); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.out.Flush(); err != nil || out.String() != sid(1)+"\n"+sid(3)+"\n" {
			t.Errorf("in parts of %d: %q, %v", cut, out.String(), err)
		}
	}
	dir := t.TempDir()
	for _, c := range [][3][]int{{{1, 2, 4}, {2, 3, 4}, {2, 4}}, {{}, {1}, {}}, {{1}, {}, {}}, {{1, 2}, {1, 2}, {1, 2}}} {
		a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
		for file, list := range map[string][]int{a: c[0], b: c[1]} {
			text := ""
			for _, n := range list {
				text += sid(n) + "\n"
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want := ""
		for _, n := range c[2] {
			want += sid(n) + "\n"
		}
		if err := intersect(a, b); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(a); err != nil || string(got) != want {
			t.Errorf("%v: %q, %v", c, got, err)
		}
	}
}

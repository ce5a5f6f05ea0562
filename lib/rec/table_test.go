package rec

import (
	"os"
	"strings"
	"testing"

	"preserve/lib/wire"
)

// The table "Kinds of entries" of docs/format/README.md says which key an entry may have, must
// have, and must not have.
func TestKindsOfEntries(t *testing.T) {
	kinds := map[string][]Entry{
		"file":          {{Type: File, Size: 2, Extents: []Extent{{Hole: true, Len: 2}}}},
		"further piece": {{Type: File, Size: 9, Off: 7, Extents: []Extent{{Hole: true, Len: 2}}}},
		"dir":           {{Type: Dir}},
		"symlink":       {{Type: Symlink, Target: "t"}},
		"fifo, socket":  {{Type: Fifo}, {Type: Socket}},
		"char, block":   {{Type: Char}, {Type: Block}},
		"link":          {{Type: HardLink, Leader: "a"}},
	}
	rows := entryTable(t)
	seen := map[string]bool{}
	for kind, examples := range kinds {
		for _, e := range examples {
			e.Path = "p"
			for key, cells := range rows {
				seen[key] = true
				cell, ok := cells[kind]
				if !ok {
					t.Fatalf("the table has no column %q", kind)
				}
				if got := allowance(t, e, key); got != cell {
					t.Errorf("%s of a %s (%s): %q, and the table says %q", key, kind, e.Type, got, cell)
				}
			}
		}
	}
	for _, key := range entryKeys[1:] { // but "t"
		if !seen[key] {
			t.Errorf("the table has no row for %s", key)
		}
	}
}

// entryTable returns the table's cells by key and column.
func entryTable(t *testing.T) map[string]map[string]string {
	doc, err := os.ReadFile("../../docs/format/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(doc), "\n## Kinds of entries\n")
	if !found {
		t.Fatal("no table of entries")
	}
	text, _, _ = strings.Cut(text, "\n## ")
	var columns []string
	rows := map[string]map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|--") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if columns == nil {
			columns = cells
			continue
		}
		for key := range strings.SplitSeq(cells[0], ", ") {
			rows[key] = map[string]string{}
			for i, c := range cells[1:] {
				rows[key][columns[i+1]] = c
			}
		}
	}
	return rows
}

// allowance finds out whether a key is required ("r") or allowed ("o") in an entry like e, or
// neither, by what Decode says of its canonical form with the key and without it.
func allowance(t *testing.T, e Entry, key string) string {
	with, without := accepts(t, e, key, true), accepts(t, e, key, false)
	switch {
	case with && without:
		return "o"
	case with:
		return "r"
	case !without:
		t.Errorf("%s: refused with %s and without it", e.Type, key)
	}
	return ""
}

// sayings has a value for each key that says something.
var sayings = Entry{Path: "p", Mode: 0o600, UID: 1, GID: 2, MTime: Time{1, 2}, Size: 2, Off: 7, More: true, Links: 2, Target: "t",
	Leader: "a", Major: 1, Minor: 2, Flags: 1, XAttrs: []XAttr{{"user.a", []byte("b")}}, Omitted: []string{"user.b"}, Err: "no", Inconsistent: true, Way: true, Skipped: true,
	Unread: true, Extents: []Extent{{Hole: true, Len: 2}}, CTime: Time{1, 2}, BTime: Time{1, 2}, Ino: 1, Dev: 1, Alone: true}

func accepts(t *testing.T, e Entry, key string, on bool) bool {
	k := -1
	var has [28]bool
	for i, name := range entryKeys {
		if name == key {
			k = i
		}
	}
	if k < 0 {
		t.Fatalf("no key %q", key)
	}
	form := AtRest
	if k >= kCTime {
		form = Streamed
	}
	for i := range entryKeys {
		has[i] = baseKey(&e, i)
	}
	has[kT] = form == Streamed
	has[k] = on
	e.Size, e.MTime = sayings.Size, sayings.MTime
	if key == "err" && on {
		has[kExt] = false // one excludes the other
	}
	w := wire.NewWriter()
	n := 0
	for _, h := range has {
		if h {
			n++
		}
	}
	w.Map(n)
	for i, name := range entryKeys {
		if !has[i] {
			continue
		}
		w.Str(name)
		value := &sayings
		if i == kType {
			value = &e
		}
		value.encodeField(w, i)
	}
	c := wire.NewCursor(w.Bytes(), form == AtRest)
	_, err := DecodeEntry(c, form)
	return err == nil
}

// baseKey reports whether the canonical form of e has a key.
func baseKey(e *Entry, k int) bool {
	switch k {
	case kPath, kType:
		return true
	case kMode, kUID, kGID, kMTime:
		return e.plain()
	case kSize:
		return e.Type == File
	case kOff:
		return e.Off != 0
	case kTarget:
		return e.Target != ""
	case kLeader:
		return e.Leader != ""
	case kRdev:
		return e.Type == Char || e.Type == Block
	case kExt:
		return len(e.Extents) > 0
	}
	return false
}

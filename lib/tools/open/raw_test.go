package open

import (
	"strings"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/sealtest"
	"preserve/lib/snap"
	"preserve/lib/visible"
)

// TestNoRawText: whatever a snapshot, and the store, say of it, no list, choice or message has a
// character that does not show.
func TestNoRawText(t *testing.T) {
	const raw = "\x1b]0;owned\x07\r\x1b[2K\u009b1m\u202etxt.exe\u200b\xff\ttab\nline"
	s := sealtest.New(t, rec.Loose)
	p := s.Page([]*rec.Entry{dir("a")})
	named := func(label string, prev id.ID) *rec.Blob {
		b := s.Snapshot(p, snap.Snapshot{
			Label: label, Host: raw, User: raw, Prev: prev, Tags: []string{raw}, Chunker: snap.Snapshot{}.Chunker, Entries: 1,
			Warnings: 1, Warned: []string{raw}, Roots: []rec.Root{{Dir: "/" + strings.ReplaceAll(raw, "\x00", ""), Path: raw}},
		})
		s.Put(&rec.Stored{ID: b.ID, As: raw}, b)
		return b
	}
	named(raw, id.ID{1})
	last := named("home", id.ID{2})
	s.Put(&rec.Missing{ID: id.ID{3}}, &rec.End{Status: 3, Warnings: 1, Warned: []string{raw}})
	for _, args := range [][]string{
		{"-l"}, {}, {"--pick", "latest", "-l"}, {"--pick", "home", "-l"}, {"--pick", raw, "-l"}, {"--pick", raw + "not", "-l"}, {"--pick", last.ID.String()[:9], "-l"},
	} {
		for _, key := range []string{"list", "write"} {
			out, said, _ := run(s.Out.Bytes(), append([]string{"-k", sealtest.KeyFile(key), "--snapshots"}, args...)...)
			if out == "" && said == "" {
				t.Errorf("%q with a %s key: nothing", args, key)
			}
			for _, r := range out + said {
				if r != '\n' && !visible.Rune(r) && !(r == '\t' && len(args) == 3) {
					t.Errorf("%q with a %s key: %q in\n%q\n%q", args, key, r, out, said)
					break
				}
			}
		}
	}
}

package keep

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"preserve/lib/tool"
)

// Days and hours are those of the local time zone.
func init() { time.Local = time.UTC }

func run(in string, args ...string) (status int, out, errs string) {
	var o, e bytes.Buffer
	env := tool.NewEnv("pv-keep", args, strings.NewReader(in), &o, &e)
	status = env.Status(Run(env))
	env.Cleanup()
	return status, o.String(), e.String()
}

func name(n int) string { return fmt.Sprintf("%064x", n) }

// line is a snapshot received on day n of 2026 at noon; more is further fields.
func one(n int, more string) string {
	when := time.Date(2026, 1, n, 12, 0, 0, 0, time.UTC).Format(time.RFC3339Nano)
	return fmt.Sprintf(`{"id":%q,"received":%q,"writer":"w","writer_key":"00","time":%q%s}`+"\n", name(n), when, when, more)
}

func TestGroups(t *testing.T) {
	list := one(1, `,"as":"a"`) + one(2, `,"as":"b"`) + one(3, `,"as":"a","host":"h"`) + one(4, `,"sources":["/x","/y"],"label":"l"`) +
		one(5, `,"sources":["/y", "/x"],"tags":["t"]`) + one(6, `,"writer_key":"01"`)
	for by, gone := range map[string][]int{
		"as,writer,sources": {1, 4}, "": {1, 2, 3, 4, 5}, "as": {1, 4, 5}, "writer": {1, 2, 3, 4}, "sources": {1, 2, 3, 4},
		"host": {1, 2, 4, 5}, "label": {1, 2, 3, 5}, "tags": {1, 2, 3, 4},
	} {
		want := ""
		for _, n := range gone {
			want += name(n) + "\n"
		}
		if status, out, errs := run(list, "--daily", "1", "--group-by", by); status != 0 || out != want || errs != "" {
			t.Errorf("%q: %d, %s\n%s", by, status, out, errs)
		}
	}
}

// What is not vouched for counts for nothing, is not let go, and is named.
func TestAside(t *testing.T) {
	unread := fmt.Sprintf(`{"id":%q,"received":"2026-01-02T00:00:00Z","unread":"another master's"}`+"\n", name(2))
	for _, c := range []struct {
		name, line, says string
		status           int
	}{
		{"unread", unread, "1 snapshot was not opened with the key of this list", 0},
		{"revoked", one(2, `,"revoked":true`), "", 0},
		{"partial", one(2, `,"partial":true`), "", 0},
		{"sources that are not listed", one(2, `,"more_sources":3`), "", 0},
		{"received before it was made", strings.Replace(one(2, ""), `"time":"2026-01-02`, `"time":"2026-01-04`, 1), "a clock is wrong", 0},
		{"unknown", strings.Replace(one(2, ""), `"received":"2026-01-02T12:00:00Z"`, `"received":"1970-01-01T00:00:00Z"`, 1), "when 1 of the snapshots were received is not known", 3},
	} {
		status, out, errs := run(one(1, "")+c.line+one(3, ""), "--daily", "1")
		if status != c.status || out != name(1)+"\n" || !strings.Contains(errs, c.says) || c.says == "" && errs != "" {
			t.Errorf("%s: %d, %q, %q", c.name, status, out, errs)
		}
		if _, _, errs := run(c.line, "--daily", "1", "-v"); !strings.Contains(errs, "it counts for nothing") {
			t.Errorf("%s: %q", c.name, errs)
		}
	}
	if status, out, errs := run(unread, "--daily", "1"); status != 0 || out != "" || !strings.Contains(errs, "make the list with a list or read key") {
		t.Error(status, out, errs)
	}
	late := strings.Replace(one(3, ""), `"time":"2026-01-03`, `"time":"2026-01-01`, 1)
	if status, out, errs := run(one(1, "")+late, "--daily", "1"); status != 0 || out != name(1)+"\n" || !strings.Contains(errs, "received more than a day after the time claimed") {
		t.Error(status, out, errs)
	}
}

func TestWhyEachStays(t *testing.T) {
	status, out, errs := run(one(1, "")+one(2, "")+one(3, `,"tags":["x"]`), "--daily", "2", "--tag", "x", "-v")
	want := fmt.Sprintf("pv-keep: %.12s, received 2026-01-01 12:00:00, is let go\npv-keep: %.12s, received 2026-01-02 12:00:00, stays: daily\n"+
		"pv-keep: %.12s, received 2026-01-03 12:00:00, stays: daily, tag, newest of its group\n", name(1), name(2), name(3))
	if status != 0 || out != name(1)+"\n" || errs != want {
		t.Errorf("%d, %q\n%s", status, out, errs)
	}
}

// A list that is not one is refused as a whole: nothing is let go.
func TestRefused(t *testing.T) {
	good := one(1, "") + one(2, "")
	for text, says := range map[string]string{
		good + `{"id":"`:                         "line 3 of the list: no newline at its end: list truncated",
		good[:len(good)-1]:                       "line 2 of the list: no newline at its end: list truncated",
		good + "\n":                              "line 3 of the list: not a snapshot",
		good + one(1, ""):                        "stands twice in the list",
		good + `{"id":"12"}` + "\n":              "not an id",
		good + `{"id":"` + name(3) + `"}` + "\n": `has no "received"`,
		good + `{"id":"` + name(3) + `","received":"2026-01-01T00:00:00Z"}` + "\n": `has neither a writer nor "unread"`,
		good + `{"id":"` + name(3) + `","received":"yesterday"}` + "\n":            "line 3 of the list: not a snapshot",
	} {
		if status, out, errs := run(text, "--daily", "1"); status != 1 || out != "" || !strings.Contains(errs, says) {
			t.Errorf("%q: %d, %q, %q", says, status, out, errs)
		}
	}
	if status, out, errs := run("", "--daily", "1"); status != 0 || out != "" || errs != "" {
		t.Error(status, out, errs)
	}
	for _, args := range [][]string{{}, {"--daily", "0"}, {"--daily", "-1"}, {"--last", "x"}, {"--within", "3"}, {"--tag", ""}, {"--tag", "a,"}, {"--daily", "1", "--group-by", "size"}, {"--daily", "1", "word"}} {
		if status, out, errs := run(good, args...); status != 2 || out != "" || strings.Count(errs, "\n") != 1 {
			t.Errorf("%q: %d, %q, %q", args, status, out, errs)
		}
	}
}

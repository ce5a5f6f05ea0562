package tool

import (
	"runtime/debug"
	"testing"
)

func TestVersionNamesCommitAndDate(t *testing.T) {
	clean := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.time", Value: "2026-12-01T06:09:21Z"}}
	for want, settings := range map[string][]debug.BuildSetting{
		"":                                      {{Key: "GOOS", Value: "linux"}},
		"commit 0123456789ab, 2026-12-01":       append(clean[:2:2], debug.BuildSetting{Key: "vcs.modified", Value: "false"}),
		"commit 0123456789ab-dirty, 2026-12-01": append(clean[:2:2], debug.BuildSetting{Key: "vcs.modified", Value: "true"}),
		"commit 0, ":                            {{Key: "vcs.revision", Value: "0"}},
	} {
		if got := built(settings); got != want {
			t.Errorf("%v: %q, want %q", settings, got, want)
		}
	}
	defer func() { stamp = "" }()
	stamp = "commit abc, 2026-01-02"
	if got, want := version("pv-x"), "pv-x "+Version+" (commit abc, 2026-01-02)\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

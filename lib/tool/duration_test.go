package tool

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{
		"0": 0, "1": time.Second, "60": time.Minute, "1.5": 1500 * time.Millisecond, ".5": 500 * time.Millisecond,
		"90s": 90 * time.Second, "30m": 30 * time.Minute, "1h30m": 90 * time.Minute, "250ms": 250 * time.Millisecond, "0s": 0,
	} {
		if d, err := ParseDuration(s); err != nil || d != want {
			t.Errorf("%q: %v %v, want %v", s, d, err, want)
		}
	}
	for _, s := range []string{"", " ", "-1", "+1", "-1s", "+1s", "1d", "s", "1 s", "1e3", "0x10", "inf", "NaN", ".", "1.2.3", "99999999999999999999", "1_000"} {
		if d, err := ParseDuration(s); err == nil {
			t.Errorf("%q: %v, want an error", s, d)
		}
	}
}

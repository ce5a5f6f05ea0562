package tool

import "testing"

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"0": 0, "500": 500, "1K": 1 << 10, "10k": 10 << 10, "3M": 3 << 20, "2G": 2 << 30, "8388607T": 8388607 << 40,
		"": -1, "K": -1, "-1": -1, "+1": -1, "1KK": -1, "1 K": -1, "1.5G": -1, "8388608T": -1, "9223372036854775808": -1, "x": -1,
	} {
		got, err := ParseSize(s)
		if err != nil {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

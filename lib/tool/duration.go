package tool

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

var errDuration = errors.New("not a time: seconds as a number, or a number with a unit (90s, 30m, 2h)")

// ParseDuration reads a time as people write it on a command line: seconds as a
// number (0, 1.5, 60), or what time.ParseDuration takes (90s, 1h30m). It is not
// negative.
func ParseDuration(s string) (time.Duration, error) {
	if digits := strings.Trim(s, "0123456789"); digits == "" || digits == "." {
		if _, err := strconv.ParseFloat(s, 64); err == nil {
			s += "s"
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || s[0] == '+' || s[0] == '-' {
		return 0, errDuration
	}
	return d, nil
}

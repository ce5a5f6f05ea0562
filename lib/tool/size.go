package tool

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

var errSize = errors.New("not a size: a number of bytes, or one with K, M, G or T behind it")

// ParseSize reads a number of bytes as people write it: 500, 10K, 20M, 30G, 4T,
// of 1024 each.
func ParseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "KMGTkmgt")
	shift := 0
	if unit := s[len(digits):]; len(unit) == 1 {
		shift = 10 * (1 + strings.Index("KMGT", strings.ToUpper(unit)))
	} else if len(unit) > 1 {
		return 0, errSize
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || digits[0] == '+' || n > math.MaxInt64>>shift {
		return 0, errSize
	}
	return n << shift, nil
}

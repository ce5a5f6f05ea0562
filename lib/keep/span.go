package keep

import (
	"errors"
	"time"
)

// A Span is a length of time as people count it.
type Span struct{ Years, Months, Days, Hours int }

var errSpan = errors.New("not a span: numbers with the units y, m, d and h, as in 1y5m7d2h")

// maxSpan bounds each number of a span.
const maxSpan = 1_000_000

// ParseSpan reads a span: numbers, each with its unit y (years), m (months), d (days)
// or h (hours), each unit once, not all 0.
func ParseSpan(text string) (s Span, err error) {
	fields := map[byte]*int{'y': &s.Years, 'm': &s.Months, 'd': &s.Days, 'h': &s.Hours}
	n, digits := 0, 0
	for _, c := range []byte(text) {
		if c >= '0' && c <= '9' {
			if n, digits = n*10+int(c-'0'), digits+1; n > maxSpan {
				return Span{}, errSpan
			}
			continue
		}
		field := fields[c]
		if field == nil || digits == 0 {
			return Span{}, errSpan
		}
		*field, n, digits = n, 0, 0
		delete(fields, c)
	}
	if digits > 0 || s == (Span{}) {
		return Span{}, errSpan
	}
	return s, nil
}

// before returns the time that is the span before t.
func (s Span) before(t time.Time) time.Time {
	return t.AddDate(-s.Years, -s.Months, -s.Days).Add(-time.Duration(s.Hours) * time.Hour)
}

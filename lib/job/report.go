package job

import (
	"bytes"
	"strconv"
	"strings"
)

// An answer is what one pv-put has printed.
type answer struct {
	id      string   // the last id
	missing []string // ids of blobs that the snapshot needs
	other   []string // lines of somebody else: of a login script over there
	status  int
}

// maxOther bounds how many lines of somebody else are shown.
const maxOther = 20

// readReport reads what the last stage of a pass has printed: pv-put for one target, or, if
// there are several, pv-tee: then each line begins with the place of the target, from 1, and
// "N exit STATUS" ends what it has printed. status is that of the last stage. A target
// that has said nothing has failed.
func readReport(file string, targets, status int) []answer {
	answers := make([]answer, targets)
	for n := range answers {
		answers[n].status = 1
	}
	if targets == 1 {
		answers[0].status = status
	}
	text, _ := readRoom(file, maxReport) // what cannot be read says nothing
	for line := range bytes.Lines(text) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // cut off
		}
		words, place := strings.TrimSuffix(string(line), "\n"), 0
		if targets > 1 {
			number, rest, _ := strings.Cut(words, " ")
			n, err := strconv.Atoi(number)
			if err != nil || n < 1 || n > targets {
				continue
			}
			words, place = rest, n-1
		}
		answers[place].line(words, targets > 1)
	}
	return answers
}

// line takes one line of a target.
func (a *answer) line(words string, several bool) {
	kind, rest, _ := strings.Cut(words, " ")
	switch n, err := strconv.Atoi(rest); {
	case isID(words):
		a.id = words
	case kind == "missing" && isID(rest):
		a.missing = append(a.missing, rest)
	case several && kind == "exit" && err == nil:
		a.status = n
	case len(a.other) < maxOther:
		a.other = append(a.other, words)
	}
}

package keep

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"preserve/lib/id"
	"preserve/lib/keep"
	"preserve/lib/tool"
)

// Limits of a list.
const (
	maxLine   = 64 << 20
	maxListed = 1 << 20
)

// day is how far the clocks of a client and of a repository may be apart.
const day = 24 * time.Hour

// A grouping is a set of fields: what snapshots of one group have in common.
type grouping uint8

var groupings = []string{"as", "writer", "host", "label", "sources", "tags"}

const (
	byAs grouping = 1 << iota
	byWriter
	byHost
	byLabel
	bySources
	byTags
)

func parseGrouping(s string) (g grouping, err error) {
	if s == "" {
		return 0, nil
	}
	for _, name := range strings.Split(s, ",") {
		at := slices.Index(groupings, name)
		if at < 0 {
			return 0, tool.Usagef("--group-by: %q is none of %s", name, strings.Join(groupings, ", "))
		}
		g |= 1 << at
	}
	return g, nil
}

// A line is one snapshot of the list that pv-open --snapshots prints.
type line struct {
	ID          string            `json:"id"`
	Received    *time.Time        `json:"received"`
	Time        *time.Time        `json:"time"`
	As          string            `json:"as"`
	Unread      string            `json:"unread"`
	Key         string            `json:"writer_key"`
	Revoked     bool              `json:"revoked"`
	Partial     bool              `json:"partial"`
	Host        string            `json:"host"`
	Label       string            `json:"label"`
	Sources     []json.RawMessage `json:"sources"`
	MoreSources int               `json:"more_sources"`
	Tags        []string          `json:"tags"`
	MoreTags    int               `json:"more_tags"`
}

// A list is what was read.
type list struct {
	snapshots []keep.Snapshot
	late      []id.ID // received more than a day after the time that they claim
	early     []id.ID // received more than a day before it
	unopened  int
	unknown   []id.ID // of which it is not known when they were received
}

// readList reads the whole list. A line that is not one, and a last line without its
// newline, are errors: a list that was cut off is none.
func readList(in io.Reader, g grouping, tags bool) (*list, error) {
	l := &list{}
	var seen id.Set
	r := bufio.NewReaderSize(in, 64<<10)
	for n := 1; ; n++ {
		text, err := readLine(r)
		if err == io.EOF {
			return l, nil
		}
		if err == nil {
			err = l.take(text, g, tags, &seen)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d of the list: %w", n, err)
		}
	}
}

// readLine returns a line without its newline, or io.EOF.
func readLine(r *bufio.Reader) ([]byte, error) {
	var all []byte
	for {
		part, err := r.ReadSlice('\n')
		if len(all)+len(part) > maxLine {
			return nil, fmt.Errorf("over the limit of %d bytes", maxLine)
		}
		all = append(all, part...)
		switch {
		case err == nil:
			return all[:len(all)-1], nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(all) > 0:
			return nil, errors.New("no newline at its end: list truncated")
		default:
			return nil, err
		}
	}
}

// take adds a line.
func (l *list) take(text []byte, g grouping, tags bool, seen *id.Set) error {
	var v line
	if err := json.Unmarshal(text, &v); err != nil {
		return fmt.Errorf("not a snapshot as pv-open --snapshots prints it: %w", err)
	}
	i, err := id.Parse(v.ID)
	switch {
	case err != nil:
		return err
	case v.Received == nil:
		return fmt.Errorf("snapshot %s has no \"received\"", i)
	case !seen.Add(i):
		return fmt.Errorf("snapshot %s stands twice in the list", i)
	case len(l.snapshots) == maxListed:
		return fmt.Errorf("more than %d snapshots", maxListed)
	}
	s := keep.Snapshot{ID: i, Received: v.Received.Local(), Group: v.group(g)}
	if tags {
		s.Tags = v.Tags
	}
	switch {
	case v.Unread != "":
		s.Aside = v.Unread
		l.unopened++
	case v.Key == "" || v.Time == nil:
		return fmt.Errorf("snapshot %s has neither a writer nor \"unread\"", i)
	case v.Revoked:
		s.Aside = "its writer is revoked"
	case v.Partial:
		s.Aside = "a checkpoint, which is not a whole snapshot"
	case v.Received.Unix() == 0:
		s.Aside, s.Received = "when it was received is not known", time.Time{}
		l.unknown = append(l.unknown, i)
	case v.MoreSources > 0 && g&bySources != 0, v.MoreTags > 0 && (tags || g&byTags != 0):
		s.Aside = "the list does not show all its sources and tags"
	case v.Received.Before(v.Time.Add(-day)): // it was received before it was made
		s.Aside = "it was received more than a day before the time that it claims"
		l.early = append(l.early, i)
	case v.Received.After(v.Time.Add(day)):
		s.Late = true
		l.late = append(l.late, i)
	}
	l.snapshots = append(l.snapshots, s)
	return nil
}

// group hashes the fields of a grouping, each with its length before it.
func (v *line) group(g grouping) [16]byte {
	h := sha256.New()
	field := func(by grouping, values ...string) {
		if g&by == 0 {
			values = nil
		}
		b := binary.BigEndian.AppendUint64(nil, uint64(len(values)))
		for _, s := range values {
			b = append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...)
		}
		h.Write(b)
	}
	field(byAs, v.As)
	field(byWriter, v.Key)
	field(byHost, v.Host)
	field(byLabel, v.Label)
	var sources []string
	for _, raw := range v.Sources {
		var b bytes.Buffer
		_ = json.Compact(&b, raw) // Unmarshal has checked it
		sources = append(sources, b.String())
	}
	slices.Sort(sources)
	field(bySources, sources...)
	tags := slices.Clone(v.Tags)
	slices.Sort(tags)
	field(byTags, tags...)
	return [16]byte(h.Sum(nil))
}

// maxNamed bounds the ids in a message.
const maxNamed = 10

// notices says what the policy could not go by.
func (l *list) notices(env *tool.Env) {
	if n := len(l.snapshots); n > 0 && l.unopened == n {
		env.Notice("no snapshot of the list was opened, so that none is let go: make the list with a list or read key")
	} else if l.unopened > 0 {
		env.Notice("%s not opened with the key of this list: they count for nothing, and stay", were(l.unopened))
	}
	if n := len(l.late); n > 0 {
		env.Notice("%s received more than a day after the time claimed (copied from another repository, or a clock is wrong); the rules use the time received: %s", were(n), some(l.late))
	}
	if n := len(l.early); n > 0 {
		env.Notice("%s received more than a day before the time claimed, so a clock is wrong: they count for nothing, and stay: %s", were(n), some(l.early))
	}
	if n := len(l.unknown); n > 0 {
		env.Warn("when %d of the snapshots were received is not known: they count for nothing, and stay: %s", n, some(l.unknown))
	}
}

func were(n int) string {
	if n == 1 {
		return "1 snapshot was"
	}
	return fmt.Sprintf("%d snapshots were", n)
}

func some(list []id.ID) string {
	var b strings.Builder
	for n, i := range list[:min(len(list), maxNamed)] {
		if n > 0 {
			b.WriteString(", ")
		}
		b.WriteString(i.Short())
	}
	if more := len(list) - maxNamed; more > 0 {
		fmt.Fprintf(&b, " and %d more", more)
	}
	return b.String()
}

package unpack

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
	"time"

	"preserve/lib/box"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// A found is a snapshot of a list: what the store says, and what the key opens.
type found struct {
	stored rec.Stored
	snap   *snap.Snapshot // nil if the key does not open it
	why    string         // then: why not
	// revoked says by which file and line its writer is revoked; empty if it is not.
	revoked string
}

// snapshots prints a list of snapshots, or picks one of it.
func snapshots(env *tool.Env, o options, in *rec.Reader) error {
	open, k, why, err := opener(env, o.key)
	if err != nil {
		return err
	}
	revoked, err := o.trust.load(env, o.key, k)
	if err != nil {
		return err
	}
	list, err := readSnapshots(env, in, open, revoked, why)
	if err != nil {
		return explain(err)
	}
	sort.SliceStable(list, func(i, j int) bool {
		a, b := list[i].stored, list[j].stored
		if c := a.Received.Std().Compare(b.Received.Std()); c != 0 {
			return c < 0
		}
		return a.ID.String() < b.ID.String()
	})
	if o.pick != "" {
		i, passed, err := pick(list, o.pick, why, o.trust.allow)
		passedOver(env, passed, i)
		if err != nil {
			return err
		}
		if !o.list.long {
			_, err = fmt.Fprintln(env.Stdout, i)
			return err
		}
		return writePicked(env.Stdout, list, i, o.trust.allow)
	}
	out := bufio.NewWriter(env.Stdout)
	if o.list.long {
		if why != "" {
			env.Notice("only ids and times of arrival can be shown: %s", why)
		}
		writeTable(out, list)
	} else {
		for _, f := range list {
			writeJSON(out, f)
		}
	}
	return out.Flush()
}

// opener makes an Opener of the key file, if there is one that can read lists;
// why says why not.
func opener(env *tool.Env, file string) (open *box.Opener, k *key.Key, why string, err error) {
	if file == "" {
		return nil, nil, "without a key", nil
	}
	k, warning, err := key.Load(file)
	if warning != "" {
		env.Say("%s", warning)
	}
	if err != nil {
		return nil, nil, "", err
	}
	if !k.CanReadMeta() {
		return nil, k, fmt.Sprintf("key file %q is a %s key, and only a list, read or master key opens names and labels", file, k.Kind()), nil
	}
	open, err = box.NewOpener(k)
	return open, k, "", err
}

// readSnapshots reads a stream of pv-get --snapshots.
func readSnapshots(env *tool.Env, in *rec.Reader, open *box.Opener, revoked *key.Revoked, why string) (list []found, err error) {
	foreign := map[id.ID]string{} // sessions that the key does not open
	var stored *rec.Stored
	for {
		v, err := in.Next()
		if err == io.EOF {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case *rec.Head:
			if v.Order != rec.Loose {
				err = fmt.Errorf("%w: a stream in order %q is no list of snapshots: use pv-get REPO --snapshots", walk.ErrOrder, v.Order)
			}
		case *rec.Stored:
			stored = v
		case *rec.Session:
			if open == nil {
				break
			}
			sid, serr := open.AddSession(v.Data)
			var wrong *box.WrongKeyError
			if errors.As(serr, &wrong) {
				foreign[sha256.Sum256(v.Data)] = wrong.Error()
			} else if serr != nil {
				env.Warn("session %s: %s", sid.Short(), serr)
			}
		case *rec.Blob:
			if stored == nil || stored.ID != v.ID || v.Kind != rec.KindSnapshot {
				v.Free()
				return nil, in.Wrap(fmt.Errorf("%w: blob %s in a list of snapshots", walk.ErrUnexpected, v.ID.Short()))
			}
			f := found{stored: *stored, why: why}
			if reason, ok := foreign[v.SID]; ok {
				f.why = reason
			} else if open != nil {
				if f.snap, err = walk.OpenSnapshot(open, v); err != nil {
					env.Warn("%s: it is left out of the list", err)
					err = nil
					v.Free()
					break
				}
				f.revoked, _ = revoked.Find(f.snap.WriterKey)
			}
			v.Free()
			list = append(list, f)
		case *rec.End:
			if v.Status == 3 {
				env.SetWarned()
			}
		}
		if err != nil {
			return nil, in.Wrap(err)
		}
	}
}

// pick returns the id of the snapshot that name means. A label and "latest" pass
// over snapshots of revoked writers, if those are not allowed: passed are those
// that would have been meant, the newest last.
func pick(list []found, name, why string, allow bool) (i id.ID, passed []found, err error) {
	var byLabel, byPrefix []id.ID
	lower := strings.ToLower(name)
	for _, f := range list {
		readable := f.snap != nil && !f.snap.Partial
		switch {
		case !readable || name != "latest" && f.snap.Label != name:
		case f.revoked != "" && !allow:
			passed = append(passed, f)
		default:
			byLabel, passed = append(byLabel, f.stored.ID), nil
		}
		if len(name) >= 4 && name != "latest" && strings.HasPrefix(f.stored.ID.String(), lower) {
			byPrefix = append(byPrefix, f.stored.ID)
		}
	}
	switch {
	case len(byLabel) > 0 && len(byPrefix) > 0:
		return i, nil, fmt.Errorf("%q is both a label and the beginning of snapshot %s: give more of the id", name, byPrefix[0])
	case len(byPrefix) > 1:
		return i, nil, fmt.Errorf("%q is the beginning of %d snapshots: give more of the id", name, len(byPrefix))
	case len(byPrefix) == 1:
		return byPrefix[0], nil, nil
	case len(byLabel) > 0:
		return byLabel[len(byLabel)-1], passed, nil // the list is in order of arrival
	}
	return i, passed, none(list, fmt.Sprintf("%q", name), why)
}

// writePicked prints what was picked, and behind it what else might have been meant: the
// newest snapshot of each other writer, host and label, and that of the picked one's own if
// it is newer. In columns with tabs between: id, time, writer, host, label; "-" stands for
// what there is not.
func writePicked(out io.Writer, list []found, picked id.ID, allow bool) error {
	type job struct{ key, host, label string }
	jobOf := func(f found) job { return job{string(f.snap.WriterKey), f.snap.Host, f.snap.Label} }
	line := func(f found) string {
		return fmt.Sprintf("%s\t%s\t%s\t%s\t%s\n", f.stored.ID, f.snap.Time.Std().Local().Format(time.DateTime),
			tool.Mask(f.snap.WriterName), tool.Mask(cmp.Or(f.snap.Host, "-")), tool.Mask(cmp.Or(f.snap.Label, "-")))
	}
	first, rest, seen := fmt.Sprintf("%s\t-\t-\t-\t-\n", picked), "", map[job]bool{}
	for _, f := range slices.Backward(list) { // the newest first
		switch {
		case f.snap == nil || f.snap.Partial:
		case f.stored.ID == picked:
			first, seen[jobOf(f)] = line(f), true
		case !seen[jobOf(f)] && (f.revoked == "" || allow):
			seen[jobOf(f)] = true
			rest += line(f)
		}
	}
	_, err := io.WriteString(out, first+rest)
	return err
}

// passedOver says which snapshots a label or "latest" would have meant, had their
// writers not been revoked. What is picked is older than all of them.
func passedOver(env *tool.Env, passed []found, picked id.ID) {
	if len(passed) == 0 {
		return
	}
	f := passed[len(passed)-1]
	what := "snapshot " + f.stored.ID.Short()
	if n := len(passed); n > 1 {
		what = fmt.Sprintf("%d snapshots, the newest", n) + " " + f.stored.ID.Short()
	}
	env.Say("passed over: %s of %s, received at %s: its writer %q, key %x, has been revoked (%s)",
		what, stamp(f.snap.Time), stamp(f.stored.Received), f.snap.WriterName, f.snap.WriterKey, f.revoked)
	if !picked.IsZero() {
		env.Notice("taken instead: snapshot %s", picked.Short())
	}
}

func none(list []found, name, why string) error {
	err := fmt.Errorf("no snapshot is meant by %s among the %d in the repository", name, len(list))
	if len(name) < 4+2 && strings.Trim(name, `"0123456789abcdefABCDEF`) == "" {
		return &tool.Hint{Err: err, Text: "the beginning of an id takes 4 digits or more"}
	}
	if why != "" && len(list) > 0 {
		return &tool.Hint{Err: err, Text: "labels and \"latest\" cannot be read: " + why}
	}
	if len(list) > 0 && list[len(list)-1].why != "" {
		return &tool.Hint{Err: err, Text: list[len(list)-1].why}
	}
	return err
}

// text is bytes as JSON: a string if it is UTF-8, else {"b64": …}, as pv-json
// writes them.
func text(s string) any {
	if strings.ToValidUTF8(s, "") == s {
		return s
	}
	return map[string][]byte{"b64": []byte(s)}
}

func writeJSON(out io.Writer, f found) {
	line := struct {
		ID       string   `json:"id"`
		Received string   `json:"received"`
		As       string   `json:"as,omitempty"`
		Unread   string   `json:"unread,omitempty"`
		Writer   string   `json:"writer,omitempty"`
		Label    string   `json:"label,omitempty"`
		Time     string   `json:"time,omitempty"`
		Key      string   `json:"writer_key,omitempty"`
		Revoked  bool     `json:"revoked,omitempty"`
		Partial  bool     `json:"partial,omitempty"`
		Host     string   `json:"host,omitempty"`
		User     string   `json:"user,omitempty"`
		Sources  []any    `json:"sources,omitempty"`
		Tags     []string `json:"tags,omitempty"`
		Entries  *uint64  `json:"entries,omitempty"`
		Bytes    *uint64  `json:"bytes,omitempty"`
		Warnings uint64   `json:"warnings,omitempty"`
	}{ID: f.stored.ID.String(), Received: stamp(f.stored.Received), As: f.stored.As, Unread: f.why}
	if s := f.snap; s != nil {
		line.Unread = ""
		line.Key, line.Revoked = hex.EncodeToString(s.WriterKey), f.revoked != ""
		line.Writer, line.Label, line.Time, line.Partial = s.WriterName, s.Label, stamp(s.Time), s.Partial
		line.Host, line.User, line.Tags, line.Warnings = s.Host, s.User, s.Tags, s.Warnings
		line.Entries, line.Bytes = &s.Entries, &s.Bytes
		for _, p := range s.Sources() {
			line.Sources = append(line.Sources, text(p))
		}
	}
	b, _ := jsonLine(line) // of such a value there always is one
	_, _ = out.Write(b)    // a bufio.Writer's error comes with Flush
}

// writeTable prints a line for each snapshot, for people.
func writeTable(out io.Writer, list []found) {
	for _, f := range list {
		when := f.stored.Received.Std().Local().Format(time.DateTime)
		if s := f.snap; s != nil {
			var sources []string
			for _, p := range s.Sources() {
				sources = append(sources, rec.Quote(p))
			}
			label := s.Label
			if label == "" {
				label = "-"
			}
			if f.revoked != "" {
				label += "  (REVOKED writer " + s.WriterName + ")"
			}
			fmt.Fprintf(out, "%s  %s  %s  %s  %d entries  %s  %s\n", f.stored.ID.Short(), when, tool.Mask(s.Host), tool.Mask(label), s.Entries, size(s.Bytes), strings.Join(sources, " "))
			continue
		}
		fmt.Fprintf(out, "%s  %s  (%s)\n", f.stored.ID.Short(), when, tool.Mask(f.why))
	}
}

// size writes a number of bytes in units of 1024, three digits.
func size(n uint64) string {
	units := "KMGTPE"
	v, u := float64(n), -1
	for v >= 1000 && u < len(units)-1 {
		v /= 1024
		u++
	}
	switch {
	case u < 0:
		return fmt.Sprintf("%d B", n)
	case v < 10:
		return fmt.Sprintf("%.1f %ciB", v, units[u])
	}
	return fmt.Sprintf("%.0f %ciB", v, units[u])
}

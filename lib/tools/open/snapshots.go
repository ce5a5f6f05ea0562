package open

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"preserve/lib/box"
	"preserve/lib/confine"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/spool"
	"preserve/lib/tool"
	"preserve/lib/unseal"
	"preserve/lib/walk"
)

const (
	// maxListed is how many snapshots a list may have.
	maxListed = 1 << 20
	// maxReasons bounds the different reasons why snapshots do not open that are kept.
	maxReasons = 1000
	// listedInMemory is how much of what is printed is kept in memory, and listedWhole how
	// much is kept at all before sources and tags are cut short.
	listedInMemory = 8 << 20
	listedWhole    = 256 << 20
)

// A found is a snapshot of a list: what the store says, and of what the key opens as much as
// is compared. Its size does not depend on what a snapshot says; the line that is printed of
// it is in a spool.
type found struct {
	id       id.ID
	received rec.Time
	why      string // why the key does not open it; one string for all that have this reason
	opened   bool
	partial  bool
	labelled bool   // it has the label that is looked for
	gap      string // it follows a snapshot that "is not here", or "does not open"

	// If it is opened:
	time    rec.Time
	prev    id.ID
	key     [32]byte // the writer's public key
	writer  string   // 32 bytes at most
	job     [16]byte // a hash of writer, host and label
	revoked string   // by which file and line its writer is; empty if it is not

	at     int64 // of its line in the spool
	length int
}

// whole reports whether a label or "latest" may mean the snapshot.
func (f *found) whole() bool { return f.opened && !f.partial }

// A snapshotList is read from a stream of pv-get --snapshots. What grows with the number
// of snapshots is a few hundred bytes for each; what they say is not kept.
type snapshotList struct {
	env     *tool.Env
	open    *box.Opener // nil: nothing opens
	revoked *key.Revoked
	why     string // then: why not
	label   string // that is looked for
	line    func(l *snapshotList, f *found, as string, s *snap.Snapshot) []byte

	list      []found
	forgotten id.Set            // marked in the repository
	foreign   map[id.ID]string  // sessions that the key does not open
	reasons   map[string]string // each reason once
	kept      *spool.Spool
	unsigned  int // snapshots that are not what their writers signed, or do not open though the key is theirs
	first     string
}

// snapshots prints a list of snapshots, or picks one of it.
func snapshots(env *tool.Env, o options, in *rec.Reader) (err error) {
	open, k, why, err := opener(env, o.seal.Key)
	if err != nil {
		return err
	}
	revoked, err := o.seal.Trust.Load(env, o.seal.Key, k)
	if err != nil {
		return err
	}
	env.Confine(confine.Limits{ReadAll: true, Write: []string{os.TempDir()}})
	l := &snapshotList{env: env, open: open, revoked: revoked, why: why, label: o.pick, kept: spool.New(listedInMemory)}
	defer func() { err = errors.Join(err, l.kept.Close()) }()
	switch {
	case o.pick != "" && o.long:
		l.line = (*snapshotList).choice
	case o.pick != "":
	case o.long:
		l.line = (*snapshotList).row
	default:
		l.line = (*snapshotList).object
	}
	if err := l.read(in); err != nil {
		return unseal.Explain(env.Name, err)
	}
	l.chains()
	if l.unsigned > 0 {
		env.Notice("%s; the first: %s", plural(l.unsigned, "snapshot is not signed by a writer of this master key and counts for nothing", "snapshots are not signed by a writer of this master key and count for nothing"), l.first)
	}
	if o.pick != "" {
		return l.pickOne(o.pick, o.seal.Trust.Allow, o.long)
	}
	if o.long && why != "" {
		env.Notice("only ids and times of arrival can be shown: %s", why)
	}
	l.tellGaps(func(*found) bool { return true })
	return l.print(o.long)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
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

// read reads the stream, and puts the list in order of arrival.
func (l *snapshotList) read(in *rec.Reader) error {
	l.foreign, l.reasons = map[id.ID]string{}, map[string]string{}
	var stored *rec.Stored
	var listed id.Set
	for {
		v, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch v := v.(type) {
		case *rec.Head:
			if v.Order != rec.Loose {
				err = fmt.Errorf("%w: a stream in order %q is no list of snapshots: use pv-get REPO --snapshots", walk.ErrOrder, v.Order)
			}
		case *rec.Stored:
			stored = v
		case *rec.Missing: // in a list: the repository has a mark that it is forgotten
			l.forgotten.Add(v.ID)
			if l.forgotten.Len() > maxListed {
				err = fmt.Errorf("more than %d marks of snapshots that are forgotten", maxListed)
			}
		case *rec.Session:
			err = l.session(v)
		case *rec.Blob:
			if stored == nil || stored.ID != v.ID || v.Kind != rec.KindSnapshot {
				err = fmt.Errorf("%w: blob %s in a list of snapshots", walk.ErrUnexpected, v.ID.Short())
			} else if len(l.list) == maxListed {
				err = fmt.Errorf("more than %d snapshots in one list", maxListed)
			} else if !listed.Add(v.ID) {
				err = fmt.Errorf("%w: snapshot %s comes twice in the list", walk.ErrUnexpected, v.ID.Short())
			} else {
				err = l.take(stored, v)
			}
			v.Free()
			stored = nil
		case *rec.End:
			if v.Status == 3 {
				l.env.SetWarned()
			}
		}
		if err != nil {
			return in.Wrap(err)
		}
	}
	slices.SortStableFunc(l.list, func(a, b found) int {
		return cmp.Or(a.received.Std().Compare(b.received.Std()), slices.Compare(a.id[:], b.id[:]))
	})
	return nil
}

// session takes a session. That one does not open is a matter of the snapshots under it.
func (l *snapshotList) session(v *rec.Session) error {
	if l.open == nil {
		return nil
	}
	_, err := l.open.AddSession(v.Data)
	var wrong *box.WrongKeyError
	if errors.As(err, &wrong) {
		l.foreign[sha256.Sum256(v.Data)] = l.reason(wrong.Error())
	}
	if len(l.foreign) > maxListed {
		return fmt.Errorf("more than %d sessions of other keys", maxListed)
	}
	return nil
}

// reason returns one copy of a text, or if there are too many, another text.
func (l *snapshotList) reason(text string) string {
	if have, ok := l.reasons[text]; ok {
		return have
	}
	if len(l.reasons) >= maxReasons {
		return "the key does not open it"
	}
	text = strings.Clone(text)
	l.reasons[text] = text
	return text
}

// take takes a snapshot, which it does not keep.
func (l *snapshotList) take(stored *rec.Stored, v *rec.Blob) error {
	f := found{id: stored.ID, received: stored.Received, why: l.why}
	var s *snap.Snapshot
	if reason, ok := l.foreign[v.SID]; ok {
		f.why = reason
	} else if l.open != nil {
		var err error
		if s, err = walk.OpenSnapshot(l.open, v); err != nil {
			f.why = l.reason(unsigned(err))
			if l.unsigned++; l.unsigned == 1 {
				l.first = err.Error()
			}
		}
	}
	if s != nil {
		f.opened, f.partial, f.labelled = true, s.Partial, s.Label == l.label
		f.time, f.prev, f.key, f.writer = s.Time, s.Prev, [32]byte(s.WriterKey), s.WriterName
		f.job = jobOf(s)
		f.revoked, _ = l.revoked.Find(s.WriterKey)
	}
	if l.line != nil {
		b := l.line(l, &f, stored.As, s)
		at, err := l.kept.Append(b)
		if err != nil {
			return fmt.Errorf("keep the list: %w", err)
		}
		f.at, f.length = at, len(b)
	}
	l.list = append(l.list, f)
	return nil
}

// unsigned says in a few words, the same for many, why a snapshot is not believed.
func unsigned(err error) string {
	for _, e := range []error{box.ErrCert, box.ErrSignature, box.ErrSealed, box.ErrNoSession, box.ErrID, box.ErrPadding, box.ErrCodec, snap.ErrSnapshot} {
		if errors.Is(err, e) {
			return e.Error()
		}
	}
	return "the key does not open it"
}

// jobOf hashes what makes snapshots those of one job: writer, host and label. No length is
// beyond 1024, so that the texts cannot run into each other.
func jobOf(s *snap.Snapshot) [16]byte {
	h := sha256.New()
	fmt.Fprintf(h, "%x %d %s %s", s.WriterKey, len(s.Host), s.Host, s.Label)
	return [16]byte(h.Sum(nil))
}

// print prints the lines that were kept.
func (l *snapshotList) print(long bool) error {
	out := bufio.NewWriter(l.env.Stdout)
	for i := range l.list {
		f := &l.list[i]
		b, err := l.lineOf(f)
		if err != nil {
			return err
		}
		_, _ = out.Write(b) // an error comes with Flush
		switch {
		case long && f.gap != "":
			_, _ = fmt.Fprintf(out, "  (follows %s, which %s)", f.prev.Short(), f.gap)
		case !long && f.gap != "":
			_, _ = out.WriteString(`,"prev_missing":true}`)
		case !long:
			_ = out.WriteByte('}')
		}
		_ = out.WriteByte('\n')
	}
	return out.Flush()
}

// lineOf returns the line that was kept of a snapshot.
func (l *snapshotList) lineOf(f *found) ([]byte, error) {
	b := make([]byte, f.length)
	if _, err := l.kept.ReadAt(b, f.at); err != nil {
		return nil, fmt.Errorf("read back the list: %w", err)
	}
	return b, nil
}

// room is how many bytes of sources or tags a line may have.
func (l *snapshotList) room() int {
	if l.kept.Len() < listedWhole {
		return snap.MaxPlain
	}
	return 1 << 10
}

// text is bytes as JSON: a string if it is UTF-8, else {"b64": …}, as pv-json
// writes them.
func text(s string) any {
	if strings.ToValidUTF8(s, "") == s {
		return s
	}
	return map[string][]byte{"b64": []byte(s)}
}

// object returns a snapshot as a line of JSON, without its end.
func (l *snapshotList) object(f *found, as string, s *snap.Snapshot) []byte {
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
		NSources int      `json:"more_sources,omitempty"`
		Tags     []string `json:"tags,omitempty"`
		NTags    int      `json:"more_tags,omitempty"`
		Entries  *uint64  `json:"entries,omitempty"`
		Bytes    *uint64  `json:"bytes,omitempty"`
		Warnings uint64   `json:"warnings,omitempty"`
		Prev     string   `json:"prev,omitempty"`
	}{ID: f.id.String(), Received: stamp(f.received), As: as, Unread: f.why}
	if s != nil {
		line.Unread = ""
		line.Key, line.Revoked = hex.EncodeToString(s.WriterKey), f.revoked != ""
		line.Writer, line.Label, line.Time, line.Partial = s.WriterName, s.Label, stamp(s.Time), s.Partial
		line.Host, line.User, line.Warnings = s.Host, s.User, s.Warnings
		line.Entries, line.Bytes = &s.Entries, &s.Bytes
		if !s.Prev.IsZero() {
			line.Prev = s.Prev.String()
		}
		var sources []string
		sources, line.NSources = some(s.Sources(), l.room())
		for _, p := range sources {
			line.Sources = append(line.Sources, text(p))
		}
		line.Tags, line.NTags = some(s.Tags, l.room())
	}
	b, _ := jsonLine(line) // of such a value there always is one
	return b[:len(b)-len("}\n")]
}

// some returns the first texts that have no more than so many bytes together, and how
// many more there are.
func some(texts []string, room int) (first []string, more int) {
	for n, s := range texts {
		if room -= len(s); room < 0 {
			return texts[:n], len(texts) - n
		}
	}
	return texts, 0
}

// maxRow bounds the sources in a line for people.
const maxRow = 4 << 10

// row returns a line for people.
func (l *snapshotList) row(f *found, _ string, s *snap.Snapshot) []byte {
	when := f.received.Std().Local().Format(time.DateTime)
	if s == nil {
		return fmt.Appendf(nil, "%s  %s  (%s)", f.id.Short(), when, tool.Mask(f.why))
	}
	sources, more := some(s.Sources(), min(maxRow, l.room()))
	for i, p := range sources {
		sources[i] = rec.Quote(p)
	}
	if more > 0 {
		sources = append(sources, fmt.Sprintf("and %d more", more))
	}
	label := cmp.Or(s.Label, "-")
	if f.revoked != "" {
		label += "  (REVOKED writer " + s.WriterName + ")"
	}
	if s.Partial {
		label += "  (PARTIAL)"
	}
	return fmt.Appendf(nil, "%s  %s  %s  %s  %d entries  %s  %s", f.id.Short(), when, tool.Mask(s.Host), tool.Mask(label), s.Entries, size(s.Bytes), strings.Join(sources, " "))
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

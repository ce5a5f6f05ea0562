// Package unseal gets a snapshot out of its seal: it loads the key, takes a sealed
// stream from stdin or asks a command for what is needed, and walks (package walk).
// pv-open and pv-unpack -k have it in common.
package unseal

import (
	"errors"
	"flag"
	"fmt"
	"io"

	"preserve/lib/box"
	"preserve/lib/content"
	"preserve/lib/id"
	"preserve/lib/key"
	"preserve/lib/reading"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// Options is what the user said of a snapshot, and of where it comes from.
type Options struct {
	Key     string
	Want    id.ID
	Wants   []id.ID // all that were named; Want is the first
	Several bool    // they may be several, if a command is asked
	Partial bool    // a checkpoint will do
	From    string  // the command that is asked; empty: the stream is on stdin
	Follow  bool    // copies in the place of symbolic links
	Unshare bool    // files of their own in the place of hard links
	Trust   Trust

	want []string
}

// Flags adds the flags of it.
func (o *Options) Flags(fs *flag.FlagSet) {
	fs.StringVar(&o.Key, "k", "", "")
	fs.Func("snapshot", "", func(s string) error { o.want = append(o.want, s); return nil })
	fs.BoolVar(&o.Partial, "partial", false, "")
	fs.Func("from", "", func(s string) error {
		if o.From = s; s == "" {
			return errors.New("the command is empty")
		}
		return nil
	})
	fs.BoolVar(&o.Follow, "dereference", false, "")
	fs.BoolVar(&o.Unshare, "hard-dereference", false, "")
	o.Trust.Flags(fs)
}

// Keyless refuses what makes no sense without a key.
func (o *Options) Keyless() error {
	for _, f := range []struct {
		flag  string
		given bool
	}{
		{"--snapshot", len(o.want) > 0}, {"--partial", o.Partial}, {"--from", o.From != ""}, {"--dereference", o.Follow},
		{"--hard-dereference", o.Unshare}, {"--revoked", len(o.Trust.Files) > 0}, {"--allow-revoked", o.Trust.Allow},
	} {
		if f.given {
			return tool.Usagef("%s needs a key: -k KEY (without one a content stream is read, as pv-open writes it)", f.flag)
		}
	}
	return nil
}

// Told reports whether the user named the snapshot.
func (o *Options) Told() bool { return len(o.want) > 0 }

// Check refuses what does not go together. A list of paths may come on stdin
// only if the stream does not.
func (o *Options) Check(c *reading.Choice) (err error) {
	for _, want := range o.want {
		i, err := id.Parse(want)
		if err != nil {
			return tool.Usagef("--snapshot takes a full id of 64 hex digits, not %q", want)
		}
		o.Wants = append(o.Wants, i)
	}
	if len(o.Wants) > 0 {
		o.Want = o.Wants[0]
	}
	switch {
	case len(o.Wants) > 1 && !o.Several:
		return tool.Usagef("--snapshot: one snapshot at a time; pv-open --check --from takes several")
	case len(o.Wants) > 1 && o.From == "":
		return tool.Usagef("several snapshots need --from REPO|CMD")
	case o.From != "" && len(o.want) == 0:
		return tool.Usagef("--from needs --snapshot ID: the snapshot that is to be asked for")
	case o.From == "" && c.Stdin():
		return tool.Usagef("--files-from - needs --from CMD: the stream comes on stdin")
	case o.From == "" && o.Follow:
		return tool.Usagef("--dereference needs --from CMD: what a link leads to may have gone by in a stream, or is still to come")
	case o.From == "" && o.Unshare:
		return tool.Usagef("--hard-dereference needs --from CMD: the content of a file has gone by in a stream when its further names come")
	}
	return nil
}

// A Source is a snapshot that comes sealed.
type Source struct {
	env     *tool.Env
	o       *Options
	choose  *reading.Chooser
	in      *rec.Reader // nil: a command is asked
	open    *box.Opener
	revoked *key.Revoked
	key     *key.Key
	checked *walk.Checked // nil: nothing was looked at before
}

// Open loads the key and opens the input. data says that a list key will not do.
func Open(env *tool.Env, o *Options, choose *reading.Chooser, data bool) (*Source, error) {
	s := &Source{env: env, o: o, choose: choose}
	var err error
	if o.From == "" {
		if s.in, err = Input(env); err != nil {
			return nil, err
		}
	}
	k, warning, err := key.Load(o.Key)
	if warning != "" {
		env.Say("%s", warning)
	}
	if err != nil {
		return nil, err
	}
	s.key = k
	if s.revoked, err = o.Trust.Load(env, o.Key, k); err != nil {
		return nil, err
	}
	if err := s.opener(); err != nil {
		return nil, err
	}
	if data && !k.CanReadData() {
		return nil, fmt.Errorf("key file %q: a %s key cannot open file contents: a read or master key is needed", o.Key, k.Kind())
	}
	return s, nil
}

// opener makes a new Opener: it keeps the sessions of one snapshot.
func (s *Source) opener() (err error) {
	if s.open, err = box.NewOpener(s.key); err != nil {
		return fmt.Errorf("key file %q: %w", s.o.Key, err)
	}
	if !s.o.Trust.Allow {
		s.open.Refuse(s.revoked)
	}
	return nil
}

// Next turns to another of the snapshots that were named. Data that was opened for one is not asked
// for again, and Walk does not give it to the sink.
func (s *Source) Next(want id.ID, choose *reading.Chooser) error {
	if s.checked == nil {
		s.checked = &walk.Checked{}
	}
	o := *s.o
	o.Want = want
	s.o, s.choose = &o, choose
	return s.opener()
}

// Input returns the sealed stream on stdin.
func Input(env *tool.Env) (*rec.Reader, error) {
	stdin, err := env.Input()
	if err != nil {
		return nil, err
	}
	return newReader(stdin), nil
}

// newReader returns the reader of a sealed stream, from whoever has the repository.
func newReader(from io.Reader) *rec.Reader {
	in := rec.NewReader(from, rec.Sealed)
	in.SetStall(reading.Stall)
	in.SetIdle(reading.Idle)
	return in
}

// Asks reports whether a command is asked.
func (s *Source) Asks() bool { return s.in == nil }

// Walk implements reading.Source.
func (s *Source) Walk(meta bool, choose content.Chooser, sink content.Sink) error {
	o := walk.Options{Want: s.o.Want, Partial: s.o.Partial, Choose: choose, MetaOnly: meta, Checked: s.checked}
	sink = &announcer{sink, s}
	if s.in == nil {
		return Explain(s.env.Name, driven{s.env, s.o.From, s.o.Follow, s.o.Unshare, s.open, s.choose}.walk(o, sink))
	}
	return Explain(s.env.Name, walk.Run(s.in, s.open, o, sink))
}

// An announcer says whose snapshot comes.
type announcer struct {
	content.Sink
	src *Source
}

func (a *announcer) Snapshot(i id.ID, s *snap.Snapshot) error {
	env := a.src.env
	text := fmt.Sprintf("snapshot %s by writer %q, host %q, at %s", i, s.WriterName, s.Host, reading.Stamp(s.Time))
	where, revoked := a.src.revoked.Find(s.WriterKey) // it comes here only if it is allowed
	if revoked {
		env.Say("%s: its writer, key %x, has been revoked (%s), which --allow-revoked overrules", text, s.WriterKey, where)
	}
	switch {
	case s.Partial:
		env.Notice("%s: PARTIAL: a checkpoint of a run that did not end, not a whole snapshot", text)
	case revoked: // said
	case !a.src.o.Want.IsZero():
		env.Log.Debug(text)
	default:
		env.Notice("%s", text)
	}
	return a.Sink.Snapshot(i, s)
}

// Explain adds what to do next where we know it.
func Explain(name string, err error) error {
	var wrong *box.WrongKeyError
	if errors.As(err, &wrong) {
		return &tool.Hint{Err: err, Text: "pv-key show FILE prints the key id of a key file"}
	}
	if errors.Is(err, box.ErrRevoked) {
		return &tool.Hint{Err: err, Text: "if you know that it was there before the key was lost, --allow-revoked takes it"}
	}
	if errors.Is(err, walk.ErrPartial) {
		return &tool.Hint{Err: err, Text: "--partial takes it as far as it goes"}
	}
	if errors.Is(err, walk.ErrEndless) {
		return &tool.Hint{Err: err, Text: "--from REPO (pv-unpack, pv-open), or pv-restore with a PATTERN, asks for what it needs alone"}
	}
	var order *walk.OrderError
	if errors.As(err, &order) && order.Order == rec.Up {
		return &tool.Hint{Err: err, Text: `pv-seal writes this order. To read a stream kept in FILE, store it in a new directory TMP: pv-get TMP "$(pv-put TMP <FILE)" | ` + name + " …"}
	}
	return err
}

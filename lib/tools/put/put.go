// Package put is the command pv-put: a sealed stream into a repository.
//
// It needs no key. A snapshot is committed only after the stream's end record
// arrived and everything that the snapshot reaches is durable in the
// repository; then its id is printed. The rules are in docs/format/protocol.md
// and in package store; this is the loop over the stream.
package put

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"preserve/lib/confine"
	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/remote"
	"preserve/lib/store"
	"preserve/lib/tool"
)

const usage = `usage: pv-put [--as LABEL] [--existing] [--max-bytes SIZE] [--stall DURATION]
              [--idle DURATION] [--checkpoint DURATION] [--log] [--no-loose]
              REPO <sealed
       pv-put --key NAME REPO <wrapped

  stdin: sealed stream  ->  REPO  ->  stdout: the snapshot's id

  --as LABEL        what the repository calls the client, in its lists
  --existing        make no repository: one that is not there is not mounted
  --max-bytes SIZE  store no more when the files of REPO would have more in all:
                    bytes, or a number with K, M, G or T
  --stall DURATION  give up when nothing arrives, or a repository behind ssh takes
                    nothing, for so long (default 15m)
  --idle DURATION   give up when no blob arrives, or nobody takes what is said,
                    for so long (default: never)
  --checkpoint DURATION
                    write a checkpoint at most so often (default 1m)
  --log             write into REPO/log what this run stores
  --no-loose        refuse blobs that belong to no snapshot
  --key NAME        store a wrapped key (pv-key wrap) under that name
  -v, -q            say more, say less

REPO is a directory, or ssh://[user@]host[:port]/path: pv-put runs there,
through ssh or $PV_SSH. A missing or empty REPO is made if the stream rests on
no earlier snapshot. A stream in order loose (packs, healing) commits nothing:
its blobs are added where no good copy is there. What comes before a checkpoint
in the stream stays, whatever happens to the rest; it is no snapshot. On stdout
"missing HEX" names a blob that the snapshot needs and that is not in REPO: then
nothing is committed.
`

var errQuota = errors.New("not a size above 0: bytes, or with K, M, G or T behind")

// maxLabel bounds the label of --as.
const maxLabel = 255

// options are what the command line says.
type options struct {
	at                      remote.Address
	label, quota, key       string
	stall, idle, checkpoint time.Duration
	existing, log, noLoose  bool
	maxBytes                int64
}

func parse(env *tool.Env) (*options, error) {
	fs := env.Flags()
	o := &options{}
	fs.StringVar(&o.label, "as", "", "")
	fs.StringVar(&o.quota, "max-bytes", "", "")
	fs.StringVar(&o.key, "key", "", "")
	fs.BoolVar(&o.existing, "existing", false, "")
	fs.BoolVar(&o.log, "log", false, "")
	fs.BoolVar(&o.noLoose, "no-loose", false, "")
	stall := tool.Duration(fs, "stall", stallDefault)
	idle := tool.Duration(fs, "idle", 0)
	checkpoint := tool.Duration(fs, "checkpoint", checkpointDefault)
	words, err := env.Parse(fs, usage)
	if err != nil {
		return nil, err
	}
	o.stall, o.idle, o.checkpoint = *stall, *idle, *checkpoint
	switch {
	case len(words) != 1 || words[0] == "":
		return nil, tool.Usagef("give one repository")
	case o.stall <= 0:
		return nil, tool.Usagef("--stall must be more than nothing")
	case len(o.label) > maxLabel || strings.ContainsFunc(o.label, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar }):
		return nil, tool.Usagef("--as takes at most %d bytes of text without control characters", maxLabel)
	}
	if plain := (&options{key: o.key, stall: stallDefault, checkpoint: checkpointDefault}); o.key != "" && *o != *plain {
		return nil, tool.Usagef("--key goes with no other option")
	}
	if o.quota != "" {
		if o.maxBytes, err = tool.ParseSize(o.quota); err != nil || o.maxBytes == 0 {
			return nil, tool.Usagef("--max-bytes %s: %v", o.quota, errQuota)
		}
	}
	o.at, err = remote.Parse(words[0])
	if err == nil && o.at.Remote() && (o.log || o.noLoose) {
		err = tool.Usagef("--log and --no-loose go with a repository of this machine")
	}
	return o, err
}

// Run is the command.
func Run(env *tool.Env) error {
	env.DropKey()
	o, err := parse(env)
	if err != nil {
		return err
	}
	if o.at.Remote() {
		return o.at.Feed(env, o.stall, answerTime, "pv-put", o.there()...)
	}
	if o.key != "" {
		return putKey(env, o.key, o.at.Path)
	}
	in, err := env.Input()
	if err != nil {
		return err
	}
	env.IdleOutput(o.idle)
	r := rec.NewReader(in, rec.Sealed)
	r.SetStall(o.stall)
	l := &loop{env: env, r: r, idle: o.idle}
	l.alive()
	h, err := r.Head()
	if err != nil {
		return l.late(err)
	}
	if h.Order == rec.Down {
		return fmt.Errorf("a stream in order %q is for pv-open: pv-put takes the orders %q and %q", h.Order, rec.Up, rec.Loose)
	}
	if h.Order != rec.Up && o.noLoose {
		return &tool.Hint{Err: fmt.Errorf("a stream in order %q: not allowed here", h.Order), Text: "the server's administrator allows it with pv-serve --allow put,heal"}
	}
	repo, err := open(o.at.Path, h, o.existing, store.Options{Writes: true, Warn: env.Warn, Note: env.Notice})
	if err != nil {
		return err
	}
	defer repo.Close()
	env.Confine(confine.Limits{Write: repo.Places()})
	p, err := repo.NewPut(h.Base, store.PutOptions{
		As: o.label, MaxBytes: o.maxBytes, CheckpointEvery: o.checkpoint, Log: o.log, Client: os.Getenv("SSH_CONNECTION"),
		Missing: func(i id.ID) error {
			_, err := fmt.Fprintf(env.Stdout, "missing %s\n", i)
			return err
		},
	})
	if err != nil {
		return rest(err)
	}
	defer env.OnExit(p.Abort)() // taken back after Close
	defer p.Close()
	l.p, l.order = p, h.Order
	if h.Order == rec.Up {
		return l.logged(l.commit())
	}
	return l.logged(l.heal())
}

// open opens the repository, or makes it if the stream rests on nothing.
func open(dir string, h *rec.Head, existing bool, o store.Options) (*store.Repo, error) {
	if len(h.Base) == 0 && !existing {
		return create(dir, o)
	}
	r, err := store.Open(dir, o)
	if len(h.Base) == 0 && errors.Is(err, store.ErrNone) {
		return r, &tool.Hint{Err: err, Text: "not mounted? --existing makes no repository"}
	}
	if errors.Is(err, store.ErrNone) {
		err = &tool.Hint{Err: fmt.Errorf("the stream rests on an earlier snapshot, but %w", err), Text: "not the repository of the last run, or not mounted?"}
	}
	return r, err
}

// create is store.Create, and says what may be wrong about the place.
func create(dir string, o store.Options) (*store.Repo, error) {
	r, err := store.Create(dir, o)
	if errors.Is(err, store.ErrNoParent) {
		err = &tool.Hint{Err: err, Text: "is its disk mounted? If so, make the directory above first: mkdir -p " + filepath.Dir(filepath.Clean(dir))}
	}
	return r, err
}

// What holds unless options say otherwise: how long nothing may arrive, and how much time
// lies between two checkpoints.
const (
	stallDefault      = 15 * time.Minute
	checkpointDefault = time.Minute
)

// answerTime is how long a pv-put elsewhere may take to commit what it has got: what a snapshot
// reaches may be much.
const answerTime = 24 * time.Hour

// there is what pv-put is told on the machine of a repository behind ssh: no more than
// was said here, so that a pv-serve over there recognises it.
func (o *options) there() (words []string) {
	for _, w := range []struct{ name, value string }{{"--as", o.label}, {"--max-bytes", o.quota}, {"--key", o.key}} {
		if w.value != "" {
			words = append(words, w.name, w.value)
		}
	}
	if o.stall != stallDefault {
		words = append(words, "--stall", o.stall.String())
	}
	if o.idle != 0 {
		words = append(words, "--idle", o.idle.String())
	}
	if o.checkpoint != checkpointDefault {
		words = append(words, "--checkpoint", o.checkpoint.String())
	}
	if o.existing {
		words = append(words, "--existing")
	}
	return words
}

func rest(err error) error {
	if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrForgotten) {
		return &tool.Hint{Err: err, Text: "make the stream again without it: pv-chunk without --base, pv-get --copy without --since"}
	}
	return err
}

// A loop stores one input.
type loop struct {
	env    *tool.Env
	r      *rec.Reader
	p      *store.Put
	order  string
	healed uint64
	idle   time.Duration // how long no blob may come; 0: for ever
}

// commit stores a stream in order up and commits its snapshot.
func (l *loop) commit() error {
	end, err := l.each(l.p.Blob)
	if err != nil {
		return l.keep(err)
	}
	i, did := end.Unchanged, "is unchanged"
	if i.IsZero() {
		did = "was committed"
		if i, err = l.p.Commit(); errors.Is(err, store.ErrTaken) {
			err = &tool.Hint{Err: err, Text: fmt.Sprintf("what is there does not restore (pv-verify): remove snapshots/%s and checkpoints/%[1]s there, and store it again", i)}
		}
	} else {
		err = l.wrap(l.p.Unchanged(i))
	}
	if err != nil {
		return l.keep(err)
	}
	l.count()
	if _, err := fmt.Fprintln(l.env.Stdout, i); err != nil {
		l.env.Warn("snapshot %s %s, but its id could not be written: %v", i, did, err)
	}
	if end.Status != 0 {
		return tool.ErrPartial
	}
	return nil
}

// heal stores streams in order loose.
func (l *loop) heal() error {
	l.r.Several()
	end, err := l.each(func(b *rec.Blob) error {
		stored, err := l.p.Heal(b)
		if stored {
			l.healed++
		}
		return err
	})
	if kerr := l.p.Keep(); err == nil {
		err = kerr
	}
	l.count()
	if err != nil {
		return fmt.Errorf("%w (%s)", err, l.added())
	}
	l.env.Notice("%s", l.added())
	if end.Status != 0 {
		return tool.ErrPartial
	}
	return nil
}

func (l *loop) added() string {
	return fmt.Sprintf("blobs added: %d, there before: %d; no snapshot was committed", l.healed, l.p.Count.Had)
}

// each calls blob with every blob of the input and returns the last end record,
// with the worst status of all.
func (l *loop) each(blob func(*rec.Blob) error) (*rec.End, error) {
	var end *rec.End
	status := 0
	l.alive()
	for {
		v, err := l.r.Next()
		if err == io.EOF {
			end.Status = status
			return end, nil
		}
		if err != nil {
			return nil, l.late(err)
		}
		switch v := v.(type) {
		case *rec.Blob:
			err = blob(v)
			v.Free()
			l.alive()
		case *rec.Session:
			err = l.p.Session(v)
		case *rec.Checkpoint:
			err = l.checkpoint(v.ID)
			l.alive()
		case *rec.Missing:
			l.env.Warn("blob %s was missing where the stream was made", v.ID)
		case *rec.Stored, *rec.Toc:
			if l.order == rec.Up {
				err = fmt.Errorf("a record that a stream in order %q does not have: %w", rec.Up, rec.ErrBad)
			}
		case *rec.Head:
			l.p.NextStream()
			err = takes(v)
		case *rec.End:
			end, status = v, max(status, v.Status)
			if l.order != rec.Up && !v.Unchanged.IsZero() {
				err = fmt.Errorf("an end that only a stream in order %q has: %w", rec.Up, rec.ErrBad)
			}
		case *rec.Tick:
			err = l.p.Turn()
		}
		if err != nil {
			return nil, l.wrap(err)
		}
	}
}

// alive lets the peer have its time again: for the next blob, however it comes.
func (l *loop) alive() {
	if l.idle > 0 {
		l.r.SetUntil(time.Now().Add(l.idle))
	}
}

// late says of a peer whose time was over what it has not done.
func (l *loop) late(err error) error {
	if errors.Is(err, rec.ErrLate) {
		return fmt.Errorf("the peer is alive, but has sent no blob for %v", l.idle)
	}
	return err
}

// checkpoint makes durable what came so far.
func (l *loop) checkpoint(i id.ID) error {
	if l.order != rec.Up {
		return fmt.Errorf("a record that only a stream in order %q has: %w", rec.Up, rec.ErrBad)
	}
	passed, err := l.p.Checkpoint(i)
	if err != nil {
		return err
	}
	if passed == "" {
		l.env.Log.Debug(fmt.Sprintf("checkpoint %s: what came so far stays, whatever happens to the rest", i))
	} else {
		l.env.Log.Debug(fmt.Sprintf("checkpoint %s was passed over: %s", i, passed))
	}
	return nil
}

// wrap says where in the input an error lies that is the input's.
func (l *loop) wrap(err error) error {
	for _, e := range []error{store.ErrChecksum, store.ErrConflict, store.ErrOrder, rec.ErrBad, rec.ErrTwice} {
		if errors.Is(err, e) {
			return l.r.Wrap(err)
		}
	}
	return err
}

// takes refuses a further stream that has another order.
func takes(h *rec.Head) error {
	if h.Order != rec.Loose && h.Order != rec.Asked {
		return fmt.Errorf("a stream in order %q behind one in order %q: %w", h.Order, rec.Loose, store.ErrOrder)
	}
	return nil
}

// keep makes durable what arrived, so that the next run need not send it again,
// and returns the error that ended this one.
func (l *loop) keep(err error) error {
	if kerr := l.p.Keep(); kerr != nil {
		l.env.Log.Debug(fmt.Sprintf("not all that arrived was kept: %v", kerr))
	}
	l.count()
	return err
}

// logged lets the log of puts say how the run has ended, and returns the error of that.
func (l *loop) logged(err error) error {
	status, text := 0, ""
	switch {
	case errors.Is(err, tool.ErrPartial), err == nil && l.env.Warned():
		status = 3
	case err != nil:
		status, text = 1, err.Error()
	}
	if lerr := l.p.LogEnd(status, text); lerr != nil {
		l.env.Warn("how this run ended is not in the log of puts: %v", lerr)
	}
	return err
}

func (l *loop) count() {
	c := l.p.Count
	if c.Adopted > 0 {
		l.env.Log.Debug(fmt.Sprintf("%d packs of a run that was killed are listed now", c.Adopted))
	}
	l.env.Log.Debug(fmt.Sprintf("%d new blobs, %d bytes, in %d packs; %d blobs, %d bytes were there already", c.New, c.NewBytes, c.Packs, c.Had, c.HadBytes))
}

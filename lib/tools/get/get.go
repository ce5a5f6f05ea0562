// Package get is the command pv-get: a sealed stream, or a list of ids, out of a
// repository.
//
// It needs no key. What the repository cannot give becomes a missing record in
// the stream and a line on stderr, and the run ends with exit status 3. The
// orders are specified in docs/format/protocol.md.
package get

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"preserve/lib/confine"
	"preserve/lib/id"
	"preserve/lib/rec"
	"preserve/lib/remote"
	"preserve/lib/store"
	"preserve/lib/tool"
)

const usage = `usage: pv-get REPO ID [--meta] >sealed
       pv-get REPO --copy ID [--since ID[,ID]] [--known FILE|-] >sealed
       pv-get REPO --blobs - <ids >sealed
       pv-get REPO --snapshots >sealed
       pv-get REPO --ids >ids
       pv-get REPO [--id] --has ID[,ID]... >ids
       pv-get REPO --id
       pv-get REPO --keys >names
       pv-get REPO --key NAME >wrapped

  REPO  ->  stdout: sealed stream, or ids: 64 hex digits and a newline each

  REPO         a directory, or ssh://[user@]host[:port]/path: pv-get runs there,
               through ssh or $PV_SSH

  ID           the snapshot and all that it reaches, parents first
  --meta       without the data
  --copy ID    the same, for another pv-put: children first, each blob once
  --since LIST with --copy: without what these snapshots reach, one or two; the
               other repository must have them, too
  --known FILE with --copy: without the blobs whose ids are in FILE (-: stdin),
               as pv-get --ids of the other repository writes them
  --blobs -    the blobs whose ids arrive on stdin, in their order
  --snapshots  the snapshots' own blobs
  --ids        the ids of all blobs that are there, sorted
  --has LIST   those of these snapshots that are there; "checkpoint ID" where no
               more than a checkpoint is: a stream may rest on it
  --id         "repository" and the repository's own id; with --has in front
  --keys       the names of the wrapped keys
  --key NAME   the wrapped key of that name, for pv-key unwrap
  --idle TIME  give up when the peer neither asks nor takes anything for so long
               (default: never)
  -v, -q       say more, say less
`

// asked is what the command line says.
type asked struct {
	repo, id         string
	meta             bool
	copy             string
	since            string
	known            string
	blobs            string
	snapshots        bool
	ids              bool
	has              string
	key              string
	keys             bool
	about            bool // its own id
	idle             time.Duration
	sinceIDs, hasIDs []id.ID
}

func parse(env *tool.Env) (*asked, error) {
	a := &asked{}
	fs := env.Flags()
	fs.BoolVar(&a.meta, "meta", false, "")
	fs.StringVar(&a.copy, "copy", "", "")
	fs.StringVar(&a.since, "since", "", "")
	fs.StringVar(&a.known, "known", "", "")
	fs.StringVar(&a.blobs, "blobs", "", "")
	fs.BoolVar(&a.snapshots, "snapshots", false, "")
	fs.BoolVar(&a.ids, "ids", false, "")
	fs.StringVar(&a.has, "has", "", "")
	fs.StringVar(&a.key, "key", "", "")
	fs.BoolVar(&a.keys, "keys", false, "")
	fs.BoolVar(&a.about, "id", false, "")
	idle := tool.Duration(fs, "idle", 0)
	words, err := env.Parse(fs, usage)
	if err != nil {
		return nil, err
	}
	modes := 0
	for _, on := range []bool{len(words) > 1, a.copy != "", a.blobs != "", a.snapshots, a.ids, a.has != "", a.key != "", a.keys, a.about && a.has == ""} {
		if on {
			modes++
		}
	}
	switch {
	case len(words) == 0 || words[0] == "":
		return nil, tool.Usagef("give a repository")
	case len(words) > 2:
		return nil, tool.Usagef("give one repository and one snapshot id")
	case modes != 1:
		return nil, tool.Usagef("give a snapshot id, or one of --copy, --blobs, --snapshots, --ids, --has, --id, --key, --keys")
	case a.meta && len(words) != 2:
		return nil, tool.Usagef("--meta goes with a snapshot id")
	case a.blobs != "" && a.blobs != "-":
		return nil, tool.Usagef("--blobs takes -, for stdin")
	case (a.since != "" || a.known != "") && a.copy == "":
		return nil, tool.Usagef("--since and --known go with --copy")
	}
	a.idle = *idle
	if a.repo = words[0]; len(words) == 2 {
		a.id = words[1]
	}
	if a.sinceIDs, err = parseIDs(a.since); err == nil {
		a.hasIDs, err = parseIDs(a.has)
	}
	if err == nil && len(a.sinceIDs) > rec.MaxBase {
		err = tool.Usagef("--since takes at most %d snapshots", rec.MaxBase)
	}
	return a, err
}

// Run is the command.
func Run(env *tool.Env) (err error) {
	env.DropKey()
	if !slices.ContainsFunc(env.Args, plain) {
		defer env.Refuse(&err, rec.Refused)
	}
	a, err := parse(env)
	if err != nil {
		return err
	}
	at, err := remote.Parse(a.repo)
	if err != nil {
		return err
	}
	if a.repo = at.Path; at.Remote() {
		return a.there(env, at)
	}
	env.Idle(a.idle)
	o := store.Options{Warn: env.Warn, Note: env.Notice}
	switch {
	case a.has != "", a.about:
		return runHas(env, a, o)
	case a.ids:
		return runIDs(env, a.repo, o)
	case a.keys:
		return runKeys(env, a.repo, o)
	case a.key != "":
		return runKey(env, a.repo, a.key, o)
	case a.snapshots:
		return runSnapshots(env, a.repo, o)
	case a.blobs != "":
		return runBlobs(env, a.repo, o)
	case a.copy != "":
		i, err := parseID(a.copy)
		if err != nil {
			return err
		}
		return runCopy(env, a, i, o)
	}
	i, err := parseID(a.id)
	if err != nil {
		return err
	}
	return runDown(env, a.repo, i, a.meta, o)
}

// plain reports whether an argument asks for lines of text, or a wrapped key, where the
// others ask for a stream.
func plain(arg string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return arg[:min(1, len(arg))] == "-" && slices.Contains([]string{"ids", "has", "keys", "key"}, name)
}

func parseID(s string) (id.ID, error) {
	i, err := id.Parse(s)
	if err != nil {
		return i, tool.Usagef("%v; the scripts (pv-restore, pv-list) take a prefix, a label or latest", err)
	}
	return i, nil
}

// open opens a repository, and lets the process reach nothing else.
func open(env *tool.Env, dir string, o store.Options) (*store.Repo, error) {
	repo, err := store.Open(dir, o)
	if err == nil {
		env.Confine(confine.Limits{Read: repo.Places(), Write: []string{os.TempDir()}})
	}
	return repo, err
}

// parseIDs reads a list with commas between, "" as the empty one.
func parseIDs(list string) (ids []id.ID, err error) {
	if list == "" {
		return nil, nil
	}
	for _, s := range strings.Split(list, ",") {
		i, err := parseID(s)
		if err != nil {
			return nil, err
		}
		ids = append(ids, i)
	}
	return ids, nil
}

func runHas(env *tool.Env, a *asked, o store.Options) error {
	repo, err := open(env, a.repo, o)
	if err != nil {
		return err
	}
	defer repo.Close()
	if a.about {
		if _, err := fmt.Fprintf(env.Stdout, "repository %x\n", repo.ID()); err != nil {
			return err
		}
	}
	for _, i := range a.hasIDs {
		has, err := repo.HasSnapshot(i)
		if err != nil {
			return err
		}
		if !has {
			continue
		}
		whole, err := repo.IsCommitted(i)
		if err != nil {
			return err
		}
		line := i.String() + "\n"
		if !whole {
			line = "checkpoint " + line
		}
		if _, err := io.WriteString(env.Stdout, line); err != nil {
			return err
		}
	}
	return nil
}

func runIDs(env *tool.Env, dir string, o store.Options) error {
	repo, err := open(env, dir, o)
	if err != nil {
		return err
	}
	defer repo.Close()
	w := bufio.NewWriterSize(env.Stdout, 64<<10)
	line := make([]byte, 0, 2*id.Size+1)
	err = repo.IDs(func(i id.ID) error {
		_, err := w.Write(append(hex.AppendEncode(line, i[:]), '\n'))
		return err
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

// An output is the stream that a run writes.
type output struct {
	env   *tool.Env
	w     *rec.Writer
	sent  store.Recent // sessions
	end   rec.End
	named uint64        // missing blobs
	blobs atomic.Uint64 // given
	bytes atomic.Uint64
}

// withStream begins a stream, opens the repository and calls work. Whatever
// fails behind the head is told in the stream, too.
func withStream(env *tool.Env, dir string, h rec.Head, so store.Options, work func(*output, *store.Repo) error) error {
	out, err := env.Records()
	if err != nil {
		return err
	}
	h.Kind = rec.Sealed
	o := &output{env: env, w: rec.NewWriter(out)}
	if err := o.w.Write(&h); err != nil {
		return err
	}
	if h.Order != rec.Asked { // there it waits for its input
		o.w.Tick(nil, func() (files, bytes uint64) { return 0, o.bytes.Load() })
	}
	repo, err := open(env, dir, so)
	if err == nil {
		err = work(o, repo)
		repo.Close()
	}
	return o.close(err)
}

// maxNamed is how many missing blobs are named on stderr; the stream names all.
const maxNamed = 100

// answer writes a blob and its other copies, each behind its session if that was not
// sent, or that it is missing.
func (o *output) answer(a *store.Answer) error {
	if a.Blob == nil {
		text := fmt.Sprintf("blob %s: %v", a.ID, a.Err)
		if o.named++; o.named <= maxNamed {
			o.env.Say("%s", text)
		}
		o.env.SetWarned()
		o.end.Warn(text)
		return o.w.Write(&rec.Missing{ID: a.ID})
	}
	err := o.blob(a.Blob, a.Session)
	for _, other := range a.More {
		if err == nil {
			err = o.blob(other.Blob, other.Session)
		}
	}
	return err
}

func (o *output) blob(b *rec.Blob, s *rec.Session) error {
	if fresh, _ := o.sent.Add(b.SID); fresh {
		if err := o.w.Write(s); err != nil {
			return err
		}
	}
	o.blobs.Add(1)
	o.bytes.Add(uint64(len(b.Data)))
	return o.w.Write(b)
}

// close ends the stream after the work returned err.
func (o *output) close(err error) error {
	if o.named > maxNamed {
		o.env.Say("%d blobs are missing in all", o.named)
	}
	o.end.Entries, o.end.Bytes = o.blobs.Load(), o.bytes.Load()
	if err == nil {
		if o.env.Warned() {
			o.end.Status = 3
		}
		err = o.w.Write(&o.end)
	}
	o.env.Log.Debug(fmt.Sprintf("%d blobs, %d bytes; %d missing", o.end.Entries, o.end.Bytes, o.named))
	return o.w.Close(o.env.Name, err)
}

func runDown(env *tool.Env, dir string, i id.ID, meta bool, so store.Options) error {
	return withStream(env, dir, rec.Head{Order: rec.Down, Meta: meta}, so, func(o *output, repo *store.Repo) error {
		s, err := repo.Snapshot(i)
		if err != nil {
			return err
		}
		return repo.Down(s, meta, o.answer)
	})
}

func runBlobs(env *tool.Env, dir string, so store.Options) error {
	in, err := env.Input()
	if err != nil {
		return err
	}
	lines := bufio.NewReaderSize(in, 64<<10)
	return withStream(env, dir, rec.Head{Order: rec.Asked}, so, func(o *output, repo *store.Repo) error {
		if err := o.w.Flush(); err != nil {
			return err
		}
		return repo.Asked(func() (id.ID, int, error) { return nextWant(lines) }, o.answer, o.w.Flush)
	})
}

// nextWant reads one line: an id, and perhaps the number of a copy. A last line without
// its newline was cut off.
func nextWant(r *bufio.Reader) (i id.ID, n int, err error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == io.EOF && len(line) == 0:
		return i, 0, io.EOF
	case err == io.EOF:
		return i, 0, errors.New("the list of ids ends inside a line")
	case err != nil && !errors.Is(err, bufio.ErrBufferFull):
		return i, 0, err
	}
	text, number, numbered := strings.Cut(strings.TrimSuffix(string(line), "\n"), " ")
	if numbered {
		if n, err = strconv.Atoi(number); err != nil || strconv.Itoa(n) != number || n < 0 || n > maxCopy {
			return i, 0, fmt.Errorf("%q is no number of a copy: they begin with 0 and end with %d", number, maxCopy)
		}
	}
	i, err = id.Parse(text)
	return i, n, err
}

// maxCopy is the largest number of a copy that may be asked for.
const maxCopy = 999

func runSnapshots(env *tool.Env, dir string, so store.Options) error {
	return withStream(env, dir, rec.Head{Order: rec.Loose, Meta: true}, so, (*output).snapshots)
}

func (o *output) snapshots(repo *store.Repo) error {
	ids, err := repo.Snapshots()
	if err != nil {
		return err
	}
	for _, i := range ids {
		s, err := repo.Snapshot(i)
		if errors.Is(err, store.ErrMissing) || errors.Is(err, store.ErrForgotten) {
			continue // since the list was read
		}
		if err != nil {
			o.env.Warn("%v", err)
			o.end.Warn(err.Error())
			continue
		}
		if err := o.w.Write(&s.Stored); err != nil {
			return err
		}
		if err := o.answer(&store.Answer{ID: i, Blob: s.Blob, Session: s.Session}); err != nil {
			return err
		}
	}
	// Marks explain why a snapshot that another one follows is not here.
	gone, err := repo.Forgotten()
	if err != nil {
		return err
	}
	for _, i := range gone {
		if err := o.w.Write(&rec.Missing{ID: i}); err != nil {
			return err
		}
	}
	return nil
}

package job

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/remote"
)

// How long a repository may take to answer a question. A person at a terminal may be typing a
// password meanwhile.
const (
	patience       = 20 * time.Second
	patienceTyping = 2 * time.Minute
)

// Bounds of what one question may bring into memory: of the answer, if it is kept there, and
// of the messages.
const (
	maxAnswer = 4 << 20
	maxSaid   = 64 << 10
)

// What an answer can be, beside lines.
var (
	errAbsent  = errors.New("no repository there")
	errRefused = errors.New("the repository does not answer such questions")
)

// ask runs pv-get with a question and returns the lines of its answer. limit bounds the time. What
// pv-get says is printed, unless it says that there is no repository (errAbsent), or that pv-serve
// over there refuses the question (errRefused).
func (r *Run) ask(a remote.Address, limit time.Duration, words ...string) ([]string, error) {
	var out bytes.Buffer
	err := r.question(a, limit, &out, words...)
	return strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n"), err
}

// question is ask with the answer written to out, at most maxAnswer if that is a Buffer.
func (r *Run) question(a remote.Address, limit time.Duration, out io.Writer, words ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	words = append([]string{a.Text}, words...)
	if strings.HasPrefix(words[0], "-") {
		words[0] = a.Path
	}
	if r.Talk != "" {
		words = append([]string{r.Talk}, words...)
	}
	cmd := exec.CommandContext(ctx, "pv-get", words...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it ends what it has started
	cmd.WaitDelay = 3 * time.Second
	said := &head{left: maxSaid}
	cmd.Stdout, cmd.Stderr = out, said
	if b, is := out.(*bytes.Buffer); is {
		cmd.Stdout = &bounded{w: b, left: maxAnswer}
	}
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		r.env.Say("%s: no answer within %v", a, limit)
		return ErrFailed
	case err == nil:
	case bytes.HasPrefix(said.Bytes(), []byte("pv-serve: ")):
		return errRefused
	case bytes.Contains(said.Bytes(), []byte(" is not a Preserve repository")):
		return errAbsent
	}
	_, _ = r.env.Stderr.Write(said.Bytes()) // pv-get has escaped it
	if said.cut > 0 {
		r.env.Say("%s: %d more bytes of messages", a, said.cut)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		return nil // something is damaged, and was named
	}
	if err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("ask %s: %w", a, err)
	}
	if err != nil {
		return ErrFailed
	}
	return nil
}

// bounded refuses more than a number of bytes.
type bounded struct {
	w    io.Writer
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return b.w.Write(p)
}

// A head is the first bytes of a text. It takes the rest, too, and counts it.
type head struct {
	buf       bytes.Buffer
	left, cut int
}

func (h *head) Bytes() []byte { return h.buf.Bytes() }

func (h *head) Write(p []byte) (int, error) {
	n := min(len(p), h.left)
	h.left -= n
	h.cut += len(p) - n
	_, _ = h.buf.Write(p[:n]) // it never fails
	return len(p), nil
}

// limit is how long an answer may take.
func limit() time.Duration {
	tty, err := os.Open("/dev/tty")
	if err != nil {
		return patience
	}
	_ = tty.Close()
	return patienceTyping
}

// look asks every target, at the same time, what it is and which of the snapshots that are
// cached or remembered it has. A target that cannot be used, or is not what it was in the last
// run, is named and gets Status 1.
func (b *Backup) look(r *Run, m *memory) {
	asked := b.cached(m)
	for i := range m.Repositories {
		asked = append(asked, m.Repositories[i].Snapshots...)
	}
	asked = unique(asked)
	var all sync.WaitGroup
	for _, t := range r.Targets {
		all.Go(func() { t.look(r, b, m, asked) })
	}
	all.Wait()
}

var repositoryLine = regexp.MustCompile(`^repository ([0-9a-f]{32})$`)

func (t *Target) look(r *Run, b *Backup, m *memory, asked []string) {
	t.Has = map[string]bool{}
	err := t.inquire(r, asked)
	before := m.at(t.Where)
	switch {
	case errors.Is(err, errRefused):
		// It takes snapshots and says nothing: pv-put will notice.
		if before != nil {
			for _, i := range before.Snapshots {
				t.Has[i] = true
			}
		}
		return
	case errors.Is(err, errAbsent):
		t.absent(r, b, m, before)
		return
	case err != nil:
		if !errors.Is(err, ErrFailed) {
			r.env.Say("%v", err)
		}
		t.Status = 1
		return
	}
	t.Known = m.of(t.ID, t.Where) != nil
	if before != nil && before.ID != t.ID && m.of(t.ID, "") == nil && !b.NewRepo && (before.ID != "" || !t.hasAny(before.Snapshots)) {
		r.env.Say("%s: not the repository of the last run: none of its snapshots is there. Another disk?", t.Repo)
		r.env.Say("hint: --new-repository goes on with this one")
		t.Status = 1
		return
	}
	if mine := m.of(t.ID, t.Where); mine != nil && len(mine.Snapshots) > 0 {
		newest := mine.Snapshots[len(mine.Snapshots)-1]
		if !t.committed(newest) {
			what := "none of this job's snapshots is there any more"
			if t.hasAny(mine.Snapshots) {
				what = "an older one is there"
			}
			r.env.Say("%s: snapshot %s of the last run is gone, and %s: somebody removed it, or this is an old state of the repository", t.Repo, newest, what)
		}
	}
}

func (t *Target) hasAny(snapshots []string) bool {
	return slices.ContainsFunc(snapshots, t.committed)
}

// committed reports whether the target has a snapshot, and not only a checkpoint.
func (t *Target) committed(i string) bool { return t.Has[i] && !t.Only[i] }

// took notes that the target has got a snapshot.
func (t *Target) took(i string) {
	t.Has[i] = true
	delete(t.Only, i)
}

// inquire asks one target.
func (t *Target) inquire(r *Run, asked []string) error {
	if !t.Repo.Remote() {
		if _, err := os.Lstat(t.Repo.Path + "/config"); err != nil {
			return errAbsent
		}
	}
	words := []string{"--id"}
	if len(asked) > 0 {
		words = []string{"--id", "--has", strings.Join(asked, ",")}
	}
	lines, err := r.ask(t.Repo, limit(), words...)
	for _, line := range lines {
		if found := repositoryLine.FindStringSubmatch(line); found != nil {
			t.ID = found[1]
			continue
		}
		i, only := strings.CutPrefix(line, "checkpoint ")
		if !isID(i) {
			continue
		}
		t.Has[i] = true
		if only {
			if t.Only == nil {
				t.Only = map[string]bool{}
			}
			t.Only[i] = true
		}
	}
	return err
}

// absent decides what to do where there is no repository.
func (t *Target) absent(r *Run, b *Backup, m *memory, before *taken) {
	switch near := ""; {
	case before != nil && !b.NewRepo:
		r.env.Say("%s: not the repository of the last run: there is none. Not mounted?", t.Repo)
		r.env.Say("hint: --new-repository begins one")
		t.Status = 1
	case b.Existing:
		r.env.Say("%s: no repository there, and --existing makes none. Not mounted?", t.Repo)
		t.Status = 1
	case !t.Repo.Remote() && !b.NewRepo:
		if _, err := os.Lstat(t.Repo.Path); err == nil {
			return
		}
		for _, o := range m.Repositories {
			for _, w := range o.Where {
				with := slices.ContainsFunc(r.Targets, func(t *Target) bool { return t.Where == w })
				if !with && similar(w, t.Where) {
					near = w
				}
			}
		}
		if near != "" {
			r.env.Say("%s: does not exist, and this job's repository is %s: mistyped?", t.Repo, near)
			r.env.Say("hint: --new-repository begins a second one")
			t.Status = 1
		}
	}
}

// similar reports whether one name may be the other, mistyped: one letter is added, left out or
// changed, or two stand in each other's place.
func similar(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	i := 0
	for i < len(a) && a[i] == b[i] {
		i++
	}
	switch rest := len(b) - len(a); {
	case a == b || rest > 1 || len(filepath.Base(a)) < 4:
		return false
	case rest == 1:
		return a[i:] == b[i+1:] && !strings.ContainsAny(b[i:i+1], "0123456789/") // disk, disk2: no mistake
	case a[i+1:] == b[i+1:]:
		return !strings.ContainsAny(a[i:i+1]+b[i:i+1], "0123456789/")
	}
	return i+2 <= len(a) && a[i] == b[i+1] && a[i+1] == b[i] && a[i+2:] == b[i+2:]
}

// learn puts the ids of all blobs that every one of these targets has into the file "known", and
// returns its name; empty if one of them does not say.
func (r *Run) learn(targets ...*Target) string {
	known := r.path("known")
	for n, t := range targets {
		if !t.Repo.Remote() {
			if _, err := os.Lstat(t.Repo.Path + "/config"); err != nil {
				return ""
			}
		}
		into := r.path(fmt.Sprintf("ids.%d", n))
		if err := r.ids(t, into); err != nil {
			if !errors.Is(err, errRefused) && !errors.Is(err, errAbsent) && !errors.Is(err, ErrFailed) {
				r.env.Say("%v", err)
			}
			return ""
		}
		var err error
		if n == 0 {
			err = os.Rename(into, known)
		} else {
			err = intersect(known, into)
		}
		if err != nil {
			r.env.Notice("what is stored already is not known: %v", err)
			return ""
		}
	}
	return known
}

// ids writes the ids of a target's blobs to a file. They are sorted, and take no more than half
// of the room that is free.
func (r *Run) ids(t *Target, file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	if err = unix.Fstatfs(int(f.Fd()), &st); err != nil {
		_ = f.Close()
		return err
	}
	w := &idLines{out: bufio.NewWriterSize(f, 64<<10), left: int64(st.Bavail) * st.Bsize / 2}
	err = r.question(t.Repo, time.Hour, w, "--ids")
	if ferr := w.out.Flush(); err == nil {
		err = ferr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// idLines passes on the lines that are ids: a login script over there may print more.
type idLines struct {
	out  *bufio.Writer
	left int64 // how many bytes there may still be
	part []byte
}

// errRoom is a list that is larger than any that the disk can take.
var errRoom = errors.New("the list takes more than half of the room that was free")

func (l *idLines) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, whole := bytes.Cut(p, []byte{'\n'})
		if len(l.part) <= 64 {
			l.part = append(l.part, line[:min(len(line), 65)]...)
		}
		if !whole {
			break
		}
		if isID(string(l.part)) {
			if l.left -= int64(len(l.part) + 1); l.left < 0 {
				return 0, errRoom
			}
			if _, err := l.out.Write(append(l.part, '\n')); err != nil {
				return 0, err
			}
		}
		l.part, p = l.part[:0], rest
	}
	return n, nil
}

// intersect leaves in a sorted file of lines those that another one has too.
func intersect(file, other string) error {
	a, err := os.Open(file)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := os.Open(other)
	if err != nil {
		return err
	}
	defer b.Close()
	out, err := os.OpenFile(file+".both", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(out)
	x, y := bufio.NewScanner(a), bufio.NewScanner(b)
	for more := x.Scan() && y.Scan(); more; {
		switch c := strings.Compare(x.Text(), y.Text()); {
		case c == 0:
			_, _ = w.WriteString(x.Text() + "\n") // an error comes with Flush
			more = x.Scan() && y.Scan()
		case c < 0:
			more = x.Scan()
		default:
			more = y.Scan()
		}
	}
	err = errors.Join(x.Err(), y.Err(), w.Flush(), out.Close())
	if err == nil {
		err = os.Rename(file+".both", file)
	}
	return err
}

func unique(list []string) []string {
	seen := map[string]bool{}
	var out []string
	for _, s := range list {
		if !seen[s] {
			seen[s] = true
			out = append(out, s)
		}
	}
	return out
}

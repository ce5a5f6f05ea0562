package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"preserve/lib/durable"
)

// remembered is how many snapshots are remembered for each repository, and in all.
const remembered = 64

// Names in a job's directory, beside those of caches and runs.
const (
	memoryName   = "memory"
	remindedName = "reminded"
)

// A memory is what a job knows of its runs before this one. It is a file in the job's
// directory, as JSON; it is read and written under a lock, and replaced whole. Nothing but time, and
// a warning, is lost with it.
type memory struct {
	// What the job is, for people.
	Label   string   `json:"label"`
	Sources []string `json:"sources"`
	// Broken: a run has not come to its end since the last that did.
	Broken bool `json:"broken,omitempty"`
	// Order is the snapshots of the job, the newest last.
	Order []string `json:"order"`
	// Repositories is what each has taken.
	Repositories []taken `json:"repositories"`
}

// taken is what one repository has taken.
type taken struct {
	ID        string   `json:"id,omitempty"` // empty while it is not known
	Where     []string `json:"where"`        // under which names it was given, the last one last
	Snapshots []string `json:"snapshots"`    // the newest last
}

// maxWhere bounds the names of one repository.
const maxWhere = 8

// errMemory is a memory that cannot be read as one.
var errMemory = errors.New("what the job remembers is damaged")

// recall reads the memory of a job's directory. There may be none: then it is empty.
func recall(dir string) (*memory, error) {
	m := &memory{}
	b, err := os.ReadFile(memoryPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		if err = json.Unmarshal(b, m); err != nil {
			err = fmt.Errorf("%w: %s: %w", errMemory, memoryPath(dir), err)
		}
	}
	if err != nil {
		return &memory{}, err
	}
	m.Order = onlyIDs(m.Order)
	for i := range m.Repositories {
		m.Repositories[i].Snapshots = onlyIDs(m.Repositories[i].Snapshots)
	}
	return m, nil
}

func memoryPath(dir string) string { return dir + "/" + memoryName }

// change reads the memory, lets fn change it, and writes it again: one run at a time. What
// cannot be read is replaced.
func change(dir string, fn func(*memory)) error {
	lock, err := os.OpenFile(memoryPath(dir)+".lock", os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil && !errors.Is(err, unix.ENOLCK) && !errors.Is(err, unix.EOPNOTSUPP) {
		return err
	}
	m, err := recall(dir)
	if err != nil && !errors.Is(err, errMemory) {
		return err
	}
	fn(m)
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return durable.ReplaceFile(memoryPath(dir), append(b, '\n'), 0o600)
}

// of returns the repository with an id, or if it has none yet under a name; nil if there
// is none.
func (m *memory) of(id, where string) *taken {
	for i := range m.Repositories {
		if t := &m.Repositories[i]; id != "" && t.ID == id {
			return t
		}
	}
	for i := range m.Repositories {
		if t := &m.Repositories[i]; (t.ID == "" || id == "") && slices.Contains(t.Where, where) {
			return t
		}
	}
	return nil
}

// at returns what was last stored under a name; nil if there is nothing.
func (m *memory) at(where string) *taken {
	var last *taken
	for i := range m.Repositories {
		t := &m.Repositories[i]
		switch n := len(t.Where); {
		case n > 0 && t.Where[n-1] == where:
			return t
		case last == nil && slices.Contains(t.Where, where):
			last = t
		}
	}
	return last
}

// took notes that a repository has taken a snapshot.
func (m *memory) took(id, where, snapshot string) {
	t := m.of(id, where)
	if t == nil {
		m.Repositories = append(m.Repositories, taken{})
		t = &m.Repositories[len(m.Repositories)-1]
	}
	if id != "" {
		t.ID = id
	}
	for i := range m.Repositories { // another repository stood under this name before
		if o := &m.Repositories[i]; o != t {
			o.Where = slices.DeleteFunc(o.Where, func(w string) bool { return w == where })
		}
	}
	t.Where = last(t.Where, where, maxWhere)
	t.Snapshots = last(t.Snapshots, snapshot, remembered)
	m.Order = last(m.Order, snapshot, remembered)
}

// last moves s to the end of a list of at most n.
func last(list []string, s string, n int) []string {
	list = slices.DeleteFunc(list, func(o string) bool { return o == s })
	list = append(list, s)
	return list[max(0, len(list)-n):]
}

// onlyIDs leaves out what is not an id.
func onlyIDs(list []string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return !isID(s) })
}

func isID(s string) bool { return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == "" }

// Package job is what one run of a script does: which passes it makes, what each stage
// is told in a pass, what a pass has come to, and what is remembered for the next run.
// The scripts are pipelines and nothing else:
//
//	run=$(pv-job begin backup "$@")      a Run, in a private directory
//	while pass=$(pv-job next "$run" …)   Next: prepares a pass and names it
//	    pv-scan @"$run/scan" | …         the stages read their arguments there
//	pv-job end "$run"                    End: the id, the exit status
//
// A Run is a directory that holds a file of arguments for each stage, the report that the
// last stage writes, and the state between two calls. A lock on it, which the script's own
// open file holds, says that somebody is at work; nothing asks for process ids. The room for
// report and state is taken in the beginning, so that a disk that fills up later takes
// neither away.
//
// A backup's Run belongs to a job: a directory that holds the caches of pv-seal and the
// memory of what was stored where (memory.go). A job is known by its label and its
// sources, not by how a repository's path is spelled nor by the host's name.
//
// The package holds no key: it passes the name of a key file on. It knows no stream: it
// reads the lines that pv-put, pv-tee and pv-get print.
package job

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"preserve/lib/remote"
	"preserve/lib/tool"
)

// ErrDone says that there is no further pass.
var ErrDone = errors.New("no further pass")

// ErrFailed is a run that has failed; why has been said.
var ErrFailed = tool.ErrTold

// A Target is a repository of a run, and how far it has come.
type Target struct {
	Repo  remote.Address
	Where string // what memory knows it by, until its id is known
	ID    string // of the repository; empty while it is not known
	Known bool   // memory has snapshots that this repository took
	// Has is which of the snapshots that are cached or remembered it has: a run may rest on
	// them. Of those in Only it has no more than a checkpoint, and no list of it shows them.
	Has  map[string]bool
	Only map[string]bool
	// Snapshot is what it has got in this run; empty while it has none.
	Snapshot string
	Status   int // of what was done for it
}

// A State is a run between two calls of pv-job.
type State struct {
	Verb    string
	Talk    string // -v, -q or empty
	Targets []*Target

	Passes []string // of a run that is not a backup: those still to come
	Worst  int      // of such a run's passes
	Locked bool     // a recovery that waits for its key
	Kept   string   // where a recovery leaves the key

	Backup *Backup
	Copy   *Copy
	First  *First
}

// A Run is one run of a script.
type Run struct {
	env         *tool.Env
	dir         string
	interrupted bool
	notWhole    bool // a list of snapshots lacked some, or some could not be read
	State
}

// Names in a run's directory, beside those of the stages' arguments.
const (
	stateName  = "state"
	reportName = "report"
	lockName   = "lock"
	inputName  = "input"
)

// Room taken for the report and the state: a pass that names more blobs as missing than
// fit in the report names the others in the next pass.
const (
	reportRoom = 256 << 10
	stateRoom  = 256 << 10
)

func (r *Run) path(name string) string { return filepath.Join(r.dir, name) }

// Dir is the run's directory.
func (r *Run) Dir() string { return r.dir }

// Open reads the run in a directory.
func Open(env *tool.Env, dir string) (*Run, error) {
	r := &Run{env: env, dir: dir}
	b, err := readRoom(r.path(stateName), math.MaxInt64)
	if err == nil {
		err = json.Unmarshal(b, &r.State)
	}
	if err != nil {
		return nil, fmt.Errorf("run directory %q: %w", dir, err)
	}
	return r, nil
}

// save keeps the state for the next call.
func (r *Run) save() error {
	b, err := json.Marshal(&r.State)
	if err == nil {
		err = writeRoom(r.path(stateName), b)
	}
	if err != nil {
		return fmt.Errorf("run directory %q: %w", r.dir, err)
	}
	return nil
}

// Next looks at what the pass before has come to, whose last stage ended with status, and
// prepares the next one, whose name it returns. ErrDone: there is none.
func (r *Run) Next(status int) (pass string, err error) {
	r.hold()
	switch {
	case r.Backup != nil:
		pass, err = r.backup(status)
	case r.Copy != nil:
		pass, err = r.copy(status)
	case len(r.Passes) == 0:
		switch worst := r.exit(status); {
		case status == 2: // a wrong pattern, say
			r.Worst = 2
		case worst != 0:
			r.Worst = worst
		}
		err = ErrDone
	default:
		pass, r.Passes = r.Passes[0], r.Passes[1:]
	}
	if err == nil {
		err = clearRoom(r.path(reportName), reportRoom)
	}
	if serr := r.save(); serr != nil && (err == nil || errors.Is(err, ErrDone)) {
		err = serr
	}
	return pass, err
}

// End says what the run has come to, forgets its directory and returns its exit status.
func (r *Run) End(interrupted bool) error {
	defer func() { _ = os.RemoveAll(r.dir) }() // what stays goes with the next run
	if interrupted {
		r.endStages()
	}
	if interrupted || r.Worst == 1 || r.Worst == 2 {
		r.kept(r.Kept)
	}
	if r.First != nil {
		r.endFirst()
	}
	switch {
	case interrupted && r.Backup == nil:
		return ErrFailed
	case r.Backup != nil:
		return r.endBackup(interrupted)
	case r.Worst == 3:
		return tool.ErrPartial
	case r.Worst == 2:
		return tool.ErrUsage
	case r.Worst != 0:
		return ErrFailed
	}
	return nil
}

// endStages ends the stages of this run and waits a while for them to remove their temporaries. Stages are
// the processes that hold the run's lock, but for the script and pv-job. The last one goes first, so that
// none sees another end and speaks of it; what a stage has started it ends itself.
func (r *Run) endStages() {
	begun := time.Now()
	for time.Since(begun) < stageGrace {
		stages := r.stages()
		if len(stages) == 0 {
			return
		}
		last := 0
		for pid, parent := range stages {
			if _, inside := stages[parent]; !inside {
				last = max(last, pid)
			}
		}
		for pid := range stages {
			if pid == last || time.Since(begun) > stageGrace/2 {
				_ = syscall.Kill(pid, syscall.SIGTERM) // it may have ended
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// stages is the processes that hold the run's lock, with their parents.
func (r *Run) stages() map[int]int {
	stages := map[int]int{}
	procs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil
	}
	for _, proc := range procs {
		pid, err := strconv.Atoi(filepath.Base(proc))
		if err == nil && pid != os.Getpid() && pid != os.Getppid() && r.holds(proc) {
			stages[pid] = parent(proc)
		}
	}
	return stages
}

// stageGrace is how long stages may take to end.
const stageGrace = 10 * time.Second

// parent is the number of a process's parent; 0 if it is not to be had. See proc_pid_stat(5).
func parent(proc string) int {
	b, err := os.ReadFile(proc + "/stat")
	at := strings.LastIndexByte(string(b), ')')
	if err != nil || at < 0 {
		return 0
	}
	fields := strings.Fields(string(b[at+1:]))
	if len(fields) < 2 {
		return 0
	}
	n, _ := strconv.Atoi(fields[1]) // 0 if it is none
	return n
}

// holds reports whether a process has the run's lock open.
func (r *Run) holds(proc string) bool {
	file, err := os.Stat(fmt.Sprintf("%s/fd/%d", proc, lockFD))
	ours, oerr := os.Stat(r.path(lockName))
	return err == nil && oerr == nil && os.SameFile(file, ours)
}

// exit makes of a stage's exit status, as a shell gives it, one of ours: 0, 1 or 3. It says
// so when the stage could not speak for itself.
func (r *Run) exit(status int) int {
	switch {
	case status == 0, status == 3:
		return status
	case status > 128:
		r.env.Say("the last stage was killed by signal %d", status-128)
	case status == 126, status == 127:
		r.env.Say("the last stage could not be started")
	}
	return 1
}

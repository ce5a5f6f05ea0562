package scan

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// Where the system does not have the inodes in memory, a walk waits for a disk or
// a server again and again, for one answer at a time. Then a large directory is
// looked at by several workers, and helpers look at the directories that come
// next, only so that the system has them when the walk gets there: what they find
// is thrown away, and the walk is the same with them and without. Where the
// system has the inodes, all that would only cost time.
const (
	helpers  = 8    // that look at once
	maxAhead = 1024 // directories that wait for them
)

// coldAfter is how long the system takes for one inode, on average, if it has to
// ask a disk or a server.
var coldAfter = 25 * time.Microsecond

// An ahead is the helpers of a walk and their work.
type ahead struct {
	cost time.Duration          // of one inode, a running average; only the walk looks at it
	skip func(*inode.Stat) bool // what the walk will not enter; only the walk calls it

	mu     sync.Mutex
	more   *sync.Cond
	todo   []string // directories, the next one last
	at     string   // where the walk is
	rootfd int      // what the paths begin from
	closed bool
	wg     sync.WaitGroup
	begun  bool // there are helpers
}

func newAhead() *ahead {
	a := &ahead{skip: func(*inode.Stat) bool { return false }}
	a.more = sync.NewCond(&a.mu)
	return a
}

// after takes in how long it took one worker to look at the inodes of l's batch,
// and hands the directories among them to the helpers if it took long. It is called between begin and
// end, by the goroutine that calls those.
func (a *ahead) after(took time.Duration, l *level) {
	n := time.Duration(len(l.batch))
	if n == 0 {
		return
	}
	a.cost += (took/n - a.cost) * min(n, 16) / 64
	if a.cost < coldAfter && !a.begun {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at = l.path
	if a.cost < coldAfter {
		return
	}
	for i := len(l.batch) - 1; i >= 0; i-- {
		if b := &l.batch[i]; b.err == nil && !b.out && b.st.Type == rec.Dir && !a.skip(&b.st) {
			a.todo = append(a.todo, inode.Join(l.path, l.Name(b.index)))
		}
	}
	if len(a.todo) == 0 {
		return
	}
	if over := len(a.todo) - maxAhead; over > 0 {
		a.todo = append(a.todo[:0], a.todo[over:]...)
	}
	if !a.begun {
		a.begun = true
		for range helpers {
			a.wg.Go(a.help)
		}
	}
	a.more.Broadcast()
}

// workers says how many should look at the next of n inodes at once.
func (a *ahead) workers(n int) int {
	if a.cost < coldAfter {
		return 1
	}
	return max(1, min(n/4, helpers))
}

// begin says where paths begin from now on.
func (a *ahead) begin(rootfd int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rootfd, a.closed, a.begun, a.todo, a.at = rootfd, false, false, nil, ""
}

// end waits for the helpers to end: the directory that begin was given can be
// closed.
func (a *ahead) end() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.more.Broadcast()
	a.wg.Wait()
}

// help looks at one directory after the other.
func (a *ahead) help() {
	buf := make([]byte, 32<<10)
	var l level
	var x unix.Statx_t
	for {
		path, ok := a.next()
		if !ok {
			return
		}
		fd, err := inode.Quietly(inode.OpenBeneath, a.rootfd, path, inode.OpenDir)
		if err != nil {
			continue // the walk will say so
		}
		l.Clear()
		if l.Read(fd, buf) == nil && len(l.List) <= batchSize {
			for i := range l.List {
				if a.passed(path) {
					break
				}
				_ = inode.StatRaw(fd, l.CName(i), &x) // the walk will say so
			}
		}
		inode.Close(fd)
	}
}

// next waits for a directory that the walk has not come to yet.
func (a *ahead) next() (path string, ok bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.closed {
		for len(a.todo) > 0 {
			path = a.todo[len(a.todo)-1]
			a.todo = a.todo[:len(a.todo)-1]
			if rec.ComparePaths(path, a.at) > 0 {
				return path, true
			}
		}
		a.more.Wait()
	}
	return "", false
}

// passed reports whether nobody needs to look at a directory any more.
func (a *ahead) passed(path string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed || rec.ComparePaths(path, a.at) <= 0
}

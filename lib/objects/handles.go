package objects

import (
	"os"
	"sync"
)

// maxHandles is how many files are kept open: a thousand segments and packs are
// usual, and so is a limit of a thousand open files.
const maxHandles = 64

// handles reads parts of files and keeps some of them open. It may be used by
// many goroutines.
type handles struct {
	mu   sync.Mutex
	open map[string]*handle
	tick uint64
}

type handle struct {
	f    *os.File
	used int    // readers at work
	last uint64 // when it was used last
}

func newHandles() *handles { return &handles{open: map[string]*handle{}} }

// readAt is File.ReadAt of the file at path.
func (h *handles) readAt(path string, p []byte, off int64) (int, error) {
	e, err := h.get(path)
	if err != nil {
		return 0, err
	}
	n, err := e.f.ReadAt(p, off)
	h.mu.Lock()
	e.used--
	h.mu.Unlock()
	return n, err
}

func (h *handles) get(path string) (*handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tick++
	e := h.open[path]
	if e == nil {
		f, _, err := openFile(path)
		if err != nil {
			return nil, err
		}
		h.evict()
		e = &handle{f: f}
		h.open[path] = e
	}
	e.used++
	e.last = h.tick
	return e, nil
}

// evict closes the idle file that was used least recently, if there are many.
func (h *handles) evict() {
	if len(h.open) < maxHandles {
		return
	}
	oldest := ""
	for path, e := range h.open {
		if e.used == 0 && (oldest == "" || e.last < h.open[oldest].last) {
			oldest = path
		}
	}
	if e := h.open[oldest]; e != nil {
		_ = e.f.Close() // it was only read
		delete(h.open, oldest)
	}
}

func (h *handles) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for path, e := range h.open {
		_ = e.f.Close() // it was only read
		delete(h.open, path)
	}
}

package objectstest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"preserve/lib/objects"
)

// A Mem is a Store in memory, with a clock that tests set.
type Mem struct {
	mu      sync.Mutex
	objects map[string]mem
	readers int
	alone   bool
	// Clock is the store's time. It may be called by many goroutines.
	Clock func() time.Time
	hook  func(step string) error
}

type mem struct {
	data []byte
	at   time.Time
}

// NewMem returns an empty Mem with the clock of this machine.
func NewMem() *Mem { return &Mem{objects: map[string]mem{}, Clock: time.Now} }

func missing(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

func (m *Mem) get(op, name string) (mem, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[name]
	if !ok {
		return o, missing(op, name)
	}
	return o, nil
}

func (o mem) info() objects.Info { return objects.Info{Size: int64(len(o.data)), Time: o.at} }

type open struct {
	*bytes.Reader
	info objects.Info
}

func (o open) Info() objects.Info { return o.info }
func (open) Close() error         { return nil }

// String implements objects.Store.
func (m *Mem) String() string { return "memory" }

// Open implements objects.Store.
func (m *Mem) Open(name string) (objects.Object, error) {
	o, err := m.get("open", name)
	if err != nil {
		return nil, err
	}
	return open{bytes.NewReader(o.data), o.info()}, nil
}

// ReadAt implements objects.Store.
func (m *Mem) ReadAt(name string, p []byte, off int64) (int, error) {
	o, err := m.get("open", name)
	if err != nil {
		return 0, err
	}
	return bytes.NewReader(o.data).ReadAt(p, off)
}

// Stat implements objects.Store.
func (m *Mem) Stat(name string) (objects.Info, error) {
	o, err := m.get("stat", name)
	return o.info(), err
}

// List implements objects.Store.
func (m *Mem) List(dir string) ([]string, error) {
	if err := m.step("list", dir); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	prefix := ""
	if dir != "" {
		prefix = dir + "/"
	}
	found := map[string]bool{}
	for name := range m.objects {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			first, _, _ := strings.Cut(rest, "/")
			found[first] = true
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// Put implements objects.Store.
func (m *Mem) Put(name string, data []byte) error {
	if err := m.step("publish", name); err != nil {
		return err
	}
	return m.put(name, data, m.Clock())
}

// SetBefore lets hook, if it is not nil, be called with each step that changes something before it is taken, and
// with "list DIR"; its error is the step's. It may use the store, and is called by many goroutines.
func (m *Mem) SetBefore(hook func(step string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hook = hook
}

// Before returns what SetBefore has set.
func (m *Mem) Before() func(step string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hook
}

func (m *Mem) step(what, name string) error {
	hook := m.Before()
	if hook == nil {
		return nil
	}
	return hook(what + " " + name)
}

// Names returns the names of all objects, in order.
func (m *Mem) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.objects))
}

func (m *Mem) put(name string, data []byte, at time.Time) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; ok {
		return &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	m.objects[path.Clean(name)] = mem{bytes.Clone(data), at}
	return nil
}

// Delete implements objects.Store.
func (m *Mem) Delete(name string) error {
	if err := m.step("unlink", name); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.objects[name]; !ok {
		return missing("remove", name)
	}
	delete(m.objects, name)
	return nil
}

// Lock implements objects.Store.
func (m *Mem) Lock(alone bool) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.alone || alone && m.readers > 0 {
		return nil, fmt.Errorf("memory is %w", objects.ErrLocked)
	}
	if alone {
		m.alone = true
	} else {
		m.readers++
	}
	return &memLock{m: m, alone: alone}, nil
}

type memLock struct {
	m     *Mem
	alone bool
	once  sync.Once
}

func (l *memLock) Close() error {
	l.once.Do(func() {
		l.m.mu.Lock()
		defer l.m.mu.Unlock()
		if l.alone {
			l.m.alone = false
		} else {
			l.m.readers--
		}
	})
	return nil
}

// Space implements objects.Store.
func (m *Mem) Space() (objects.Space, error) { return objects.Space{Free: math.MaxInt64}, nil }

// Places implements objects.Store.
func (m *Mem) Places() []string { return nil }

// Used implements objects.Store.
func (m *Mem) Used() (n int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.objects {
		n += (int64(len(o.data)) + objects.Block - 1) / objects.Block * objects.Block
	}
	return n, nil
}

// Close implements objects.Store.
func (m *Mem) Close() {}

// Writer implements objects.Store.
func (m *Mem) Writer() objects.Writer { return &memWriter{m: m} }

type memWriter struct {
	m       *Mem
	mu      sync.Mutex
	written int64
	aborted bool
}

type memTemp struct {
	w       *memWriter
	b       bytes.Buffer
	undated bool
	at      time.Time // zero for that of publishing
	done    bool
}

func (t *memTemp) Write(p []byte) (int, error) {
	t.w.add(int64(len(p)))
	return t.b.Write(p)
}

func (t *memTemp) Begin(int64, int64) {}
func (t *memTemp) Undated() error     { t.undated = true; return nil }
func (t *memTemp) Dated(at time.Time) error {
	t.at = at
	return nil
}
func (t *memTemp) Written() int64 { return int64(t.b.Len()) }

func (w *memWriter) add(n int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.written += n
}

func (w *memWriter) gone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.aborted
}

func (w *memWriter) Create() (objects.Temp, error) {
	if err := w.m.step("create", ""); err != nil {
		return nil, err
	}
	if w.gone() {
		return nil, objects.ErrAborted
	}
	w.add(objects.Block)
	return &memTemp{w: w}, nil
}

func (w *memWriter) Publish(x objects.Temp, name string) error {
	t := x.(*memTemp)
	if w.gone() {
		return objects.ErrAborted
	}
	if err := w.m.step("publish", name); err != nil {
		return err
	}
	at := t.at
	if at.IsZero() && !t.undated {
		at = w.m.Clock()
	}
	err := w.m.put(name, t.b.Bytes(), at)
	t.done = err == nil
	return err
}

func (w *memWriter) Put(name string, data []byte) error {
	x, err := w.Create()
	if err != nil {
		return err
	}
	defer w.Drop(x)
	if _, err := x.Write(data); err != nil {
		return err
	}
	err = w.Publish(x, name)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if serr := w.Sync(path.Dir(name)); serr != nil {
		return serr
	}
	return err
}

func (w *memWriter) Sync(dirs ...string) error { return w.m.step("sync", strings.Join(dirs, " ")) }

func (w *memWriter) Date(name string) error {
	if err := w.m.step("date", name); err != nil {
		return err
	}
	w.m.mu.Lock()
	defer w.m.mu.Unlock()
	o, ok := w.m.objects[name]
	if !ok {
		return missing("open", name)
	}
	if o.at.IsZero() {
		o.at = w.m.Clock()
		w.m.objects[name] = o
	}
	return nil
}

func (w *memWriter) Delete(name string) error {
	err := w.m.Delete(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (w *memWriter) Drop(x objects.Temp) {
	if t := x.(*memTemp); !t.done {
		t.done = true
		w.add(-objects.Block - int64(t.b.Len()))
	}
}

func (w *memWriter) Now() (time.Time, error) { return w.m.Clock(), nil }

func (w *memWriter) Written() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}

func (w *memWriter) Sweep() int { return 0 }

func (w *memWriter) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.aborted = true
}

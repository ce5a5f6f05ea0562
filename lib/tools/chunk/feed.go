package chunk

import (
	"errors"
	"io"
	"sync"

	"preserve/lib/bounds"
	"preserve/lib/par"
	"preserve/lib/rec"
)

// A job goes through the parallel map: the file of an entry that is to be opened,
// or a run of entries for which nothing is. Handing entries over one by one would
// cost more than all else that is done for an unchanged file.
type job struct {
	file  *file
	ready []*rec.Entry
}

// Files are opened ahead by a few goroutines; what they hold is bounded in
// number and in bytes.
const (
	readers  = 4
	ahead    = 48
	inFlight = 8 << 20
)

// Bounds of a run of entries.
const (
	maxRun       = 256
	maxRunWeight = 256 << 10
)

var runs = sync.Pool{New: func() any { return &job{ready: make([]*rec.Entry, 0, maxRun)} }}

// do opens the file of a job.
func (r *reader) do(j *job) (*job, error) {
	if j.file == nil {
		return j, nil
	}
	f, err := r.prepare(j.file.entry)
	j.file = f
	return j, err
}

// emit takes the files and entries of a job.
func (a *assembler) emit(j *job) error {
	if j.file != nil {
		return a.take(j.file)
	}
	if err := a.due(); err != nil {
		return err
	}
	for _, e := range j.ready {
		if err := a.ready(e); err != nil {
			return err
		}
	}
	clear(j.ready)
	j.ready = j.ready[:0]
	runs.Put(j)
	return nil
}

// readFiles hands all files of a tree stream to a, and returns the end record.
func readFiles(in *rec.Reader, out *rec.Writer, a *assembler, old *caches) (*rec.End, error) {
	m := par.New(readers, ahead, inFlight, a.reader.do, a.emit)
	f := &feeder{in: in, out: out, to: m, a: a, caches: old}
	before, err := f.feed()
	if cerr := m.Close(); cerr != nil {
		return nil, cerr
	}
	return before, err
}

// A feeder reads a tree stream and hands its entries to the map.
type feeder struct {
	in     *rec.Reader
	out    *rec.Writer
	to     *par.Map[*job, *job]
	a      *assembler
	caches *caches

	run    *job // of entries that wait for company
	weight int64
}

// feed hands entries over in order until the end record came, which it returns.
func (f *feeder) feed() (before *rec.End, err error) {
	for {
		v, err := f.in.Next()
		if err == io.EOF {
			return before, f.flush()
		}
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case *rec.Entry:
			err = f.entry(v)
		case *rec.Names:
			err = f.in.Wrap(f.a.names.add(v.Users, v.Groups))
		case *rec.Missing:
			err = f.in.Wrap(errors.New("entries are lost in this tree stream: what it names is not the whole tree"))
		case *rec.Note:
			err = f.out.Write(v)
		case *rec.Tick:
			if err = f.flush(); err == nil {
				err = f.out.Pulse(f.a.progress())
			}
		case *rec.End:
			before = v
			err = f.in.Wrap(f.a.names.add(v.Users, v.Groups))
		}
		if err != nil {
			return nil, err
		}
	}
}

func (f *feeder) entry(e *rec.Entry) error {
	if f.a.sources != nil {
		f.a.sources.Entry(e)
	}
	if e.Err != "" || e.Type == rec.HardLink {
		return f.ready(e)
	}
	from, ok, err := f.caches.vouch(e)
	if err != nil {
		return err
	}
	if ok {
		if err := f.ready(e); err != nil {
			return err
		}
		for e.More {
			if e, err = from.piece(e); err == nil {
				err = f.ready(e)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if err := f.flush(); err != nil {
		return err
	}
	weight := int64(4096)
	if e.Type == rec.File && e.Size <= bounds.SmallFile {
		weight += int64(e.Size)
	}
	return f.to.Put(&job{file: &file{entry: e}}, weight)
}

// ready adds an entry for which nothing is to be opened to the run.
func (f *feeder) ready(e *rec.Entry) error {
	if f.run == nil {
		f.run = runs.Get().(*job)
	}
	f.run.ready = append(f.run.ready, e)
	f.weight += 512 + int64(sizeOf(e)) + 64*int64(len(e.Extents))
	if len(f.run.ready) < maxRun && f.weight < maxRunWeight {
		return nil
	}
	return f.flush()
}

// flush hands the run over.
func (f *feeder) flush() error {
	if f.run == nil {
		return nil
	}
	j, weight := f.run, f.weight
	f.run, f.weight = nil, 0
	return f.to.Put(j, weight)
}

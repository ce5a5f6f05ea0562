package chunk

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"preserve/lib/bounds"
	"preserve/lib/rec"
	"preserve/lib/spool"
	"preserve/lib/tool"
)

// keepMemory is what chunks may take in memory between two cuts of the input;
// beyond it they are in a temporary file.
const keepMemory = 64 << 20

// maxKept bounds what they may take there.
const maxKept = 8 << 30

// errContent is what is wrong with a content stream that cannot be cut again.
var errContent = errors.New("not a content stream that can be cut again")

// A recut reads a content stream as files for an assembler. It is the content
// of the large file at hand.
type recut struct {
	in     *rec.Reader
	out    *rec.Writer
	a      *assembler
	kept   *spool.Spool
	chunks []kept // that can be named
	held   int64  // bytes of them
	end    *rec.End

	// The file at hand.
	file         *file
	places       []place // of data that was not read yet
	saved        []place // of data from before a cut
	early        []byte  // that data
	length       int64   // of the pieces so far
	last         bool    // they are all
	inconsistent bool
}

// kept is where a chunk lies in the spool.
type kept struct{ at, len int64 }

// A place is where a stretch of a file's data lies.
type place struct {
	segment
	at    int64
	early bool // in early, not in the spool
}

// cutAgain hands all files of a content stream to a, and returns the end record.
func cutAgain(in *rec.Reader, out *rec.Writer, a *assembler) (*rec.End, error) {
	r := &recut{in: in, out: out, a: a, kept: spool.New(keepMemory)}
	defer r.kept.Close()
	for {
		e, err := r.next()
		if err == io.EOF {
			return r.end, nil
		}
		if err != nil {
			return nil, err
		}
		f, err := r.begin(e)
		if err == nil {
			err = a.take(f)
		}
		if err != nil {
			return nil, err
		}
	}
}

// next reads up to the next entry, and io.EOF behind the end record.
func (r *recut) next() (*rec.Entry, error) {
	for {
		v, err := r.in.Next()
		if err != nil {
			return nil, err
		}
		switch v := v.(type) {
		case *rec.Chunk:
			err = r.keep(v)
		case *rec.Entry:
			return v, r.in.Wrap(r.check(v))
		case *rec.Cut:
			err = r.cut(v.Keep)
		case *rec.Names:
			err = r.in.Wrap(r.a.names.add(v.Users, v.Groups))
		case *rec.Missing:
			err = r.missing()
		case *rec.Note:
			err = r.out.Write(v)
		case *rec.Tick:
			err = r.out.Pulse(r.a.progress())
		case *rec.End:
			r.end = v
			err = r.in.Wrap(r.a.names.add(v.Users, v.Groups))
		}
		if err != nil {
			return nil, err
		}
	}
}

// missing takes note of a loss. Where a file announced another piece, its content is lost, and what
// has gone on of it cannot be taken back. Else entries are lost, which the end record counts.
func (r *recut) missing() error {
	if r.file == nil || r.last {
		return nil
	}
	return &tool.Hint{
		Err:  r.in.Wrap(fmt.Errorf("entry %s: its content is lost from byte %d on", rec.Quote(r.file.entry.Path), r.length)),
		Text: "leave the file out: pv-open --exclude",
	}
}

func (r *recut) keep(c *rec.Chunk) error {
	defer c.Free()
	switch {
	case c.N != uint64(len(r.chunks)): // and so there are never more than numbers
		return r.in.Wrap(fmt.Errorf("%w: chunk %d comes where chunk %d belongs", errContent, c.N, len(r.chunks)))
	case r.held+int64(len(c.Data)) > maxKept:
		return r.in.Wrap(fmt.Errorf("%w: more than %d bytes of chunks that no cut has let go", errContent, int64(maxKept)))
	}
	at, err := r.kept.Append(c.Data)
	r.chunks = append(r.chunks, kept{at, int64(len(c.Data))})
	r.held += int64(len(c.Data))
	return err
}

// cut lets all chunks go but the newest.
func (r *recut) cut(keep uint64) error {
	if keep > uint64(len(r.chunks)) {
		return r.in.Wrap(fmt.Errorf("%w: a cut keeps %d chunks, and only %d can be named", errContent, keep, len(r.chunks)))
	}
	if keep == 0 {
		r.chunks, r.held = r.chunks[:0], 0
		return r.kept.Reset()
	}
	n := len(r.chunks) - int(keep)
	for _, c := range r.chunks[:n] {
		r.kept.Free(c.at, c.len)
		r.held -= c.len
	}
	r.chunks = r.chunks[:copy(r.chunks, r.chunks[n:])]
	return nil
}

// check says whether what an entry says of its content is there.
func (r *recut) check(e *rec.Entry) error {
	if err := e.CheckContent(); err != nil {
		return fmt.Errorf("entry %s: %w", rec.Quote(e.Path), err)
	}
	for i, x := range e.Extents {
		switch {
		case x.Hole:
		case !x.ID.IsZero():
			return fmt.Errorf("entry %s: %w: extent %d names a blob of a repository, and its data is not here: make the stream without a cache", rec.Quote(e.Path), errContent, i)
		case x.N >= uint64(len(r.chunks)):
			return fmt.Errorf("entry %s: %w: extent %d names chunk %d, and only %d can be named", rec.Quote(e.Path), errContent, i, x.N, len(r.chunks))
		case x.Off+x.Len > uint64(r.chunks[x.N].len): // CheckContent has bounded both
			return fmt.Errorf("entry %s: %w: extent %d ends at byte %d of a chunk of %d", rec.Quote(e.Path), errContent, i, x.Off+x.Len, r.chunks[x.N].len)
		}
	}
	return nil
}

// begin makes a file of its first entry, with the data if it is small. For that
// further pieces may have to be read.
func (r *recut) begin(e *rec.Entry) (*file, error) {
	if e.Off != 0 {
		return nil, r.in.Wrap(fmt.Errorf("entry %s: %w: a piece without the one before", rec.Quote(e.Path), errContent))
	}
	f := &file{entry: e}
	r.a.omit.Apply(e)
	if e.Type != rec.File || e.Err != "" {
		return f, nil
	}
	r.file, r.saved, r.early, r.inconsistent = f, nil, r.early[:0], false
	r.load(e)
	for !r.last && r.length <= bounds.SmallFile {
		if err := r.save(); err != nil {
			return nil, err
		}
		if err := r.pull(); err != nil {
			return nil, err
		}
	}
	r.places = append(r.saved, r.places...)
	e.Extents, e.More, e.Inconsistent = nil, false, false
	if r.length > bounds.SmallFile {
		f.large = r
		return f, nil
	}
	e.Size, e.Inconsistent = uint64(r.length), r.inconsistent
	return f, r.small(f)
}

// load takes over the content of a piece.
func (r *recut) load(e *rec.Entry) {
	pos := int64(e.Off)
	r.places = r.places[:0]
	for _, x := range e.Extents {
		if !x.Hole {
			r.places = append(r.places, place{segment: segment{pos, int64(x.Len)}, at: r.chunks[x.N].at + int64(x.Off)})
		}
		pos += int64(x.Len)
	}
	r.length, r.last = pos, !e.More
	r.inconsistent = r.inconsistent || e.Inconsistent
}

// pull reads the next piece of the file at hand. What was loaded before has been
// read, or saved.
func (r *recut) pull() error {
	e, err := r.next()
	path := r.file.entry.Path
	switch {
	case err == io.EOF:
		return r.in.Wrap(fmt.Errorf("entry %s: %w: its next piece is absent", rec.Quote(path), errContent))
	case err != nil:
		return err
	case e.Path != path || e.Type != rec.File || e.Off == 0 || int64(e.Off) != r.length:
		return r.in.Wrap(fmt.Errorf("entry %s: %w: the next piece of %s at %d belongs here", rec.Quote(e.Path), errContent, rec.Quote(path), r.length))
	}
	r.load(e)
	r.foreign(e.X)
	return nil
}

// maxForeign is how many foreign keys an entry can have.
const maxForeign = 64

// foreign adds the foreign keys of a further piece to the piece that is being
// made, unless it has them.
func (r *recut) foreign(xs []rec.XField) {
	e := r.file.entry
	for _, x := range xs {
		if len(e.X) == maxForeign || slices.ContainsFunc(e.X, func(y rec.XField) bool { return y.Key == x.Key }) {
			continue
		}
		e.X = append(e.X, x)
		if r.file.large != nil {
			r.a.page.bytes += len(x.Key) + len(x.Raw) + 5
		}
	}
	slices.SortFunc(e.X, func(a, b rec.XField) int { return strings.Compare(a.Key, b.Key) })
}

// save reads the data of a small beginning of a file before a cut takes it away.
func (r *recut) save() error {
	for _, p := range r.places {
		at := len(r.early)
		r.early = slices.Grow(r.early, int(p.len))[:at+int(p.len)]
		if err := r.read(r.early[at:], p, 0); err != nil {
			return err
		}
		p.at, p.early = int64(at), true
		r.saved = append(r.saved, p)
	}
	return nil
}

// small reads the data of a small file. Of one with more holes than an entry
// takes, they are data.
func (r *recut) small(f *file) error {
	for _, p := range r.places {
		if n := len(f.segs); n > 0 && f.segs[n-1].off+f.segs[n-1].len == p.off {
			f.segs[n-1].len += p.len
			continue
		}
		f.segs = append(f.segs, p.segment)
	}
	f.grab(r.length)
	f.data = (*f.buf)[:0]
	dense := len(f.segs) > maxSegments
	if dense {
		f.segs = []segment{{0, r.length}}
		f.data = f.data[:r.length]
		clear(f.data)
	}
	for _, p := range r.places {
		at := len(f.data)
		if dense {
			at = int(p.off)
		} else {
			f.data = f.data[:at+int(p.len)]
		}
		if err := r.read(f.data[at:at+int(p.len)], p, 0); err != nil {
			return err
		}
	}
	return nil
}

// read reads from a place, skip bytes behind its beginning.
func (r *recut) read(b []byte, p place, skip int64) error {
	if p.early {
		copy(b, r.early[p.at+skip:])
		return nil
	}
	if _, err := r.kept.ReadAt(b, p.at+skip); err != nil {
		return fmt.Errorf("read what was kept: %w", err)
	}
	return nil
}

func (r *recut) more(off int64) (bool, error) {
	for off >= r.length && !r.last {
		if err := r.pull(); err != nil {
			return false, err
		}
	}
	return off < r.length, nil
}

func (r *recut) segment(off int64) (start, end int64, err error) {
	for {
		for len(r.places) > 0 && off >= r.places[0].off+r.places[0].len {
			r.places = r.places[1:]
		}
		if len(r.places) > 0 {
			p := r.places[0]
			return max(off, p.off), p.off + p.len, nil
		}
		if r.last {
			return r.length, r.length, io.EOF
		}
		if err := r.pull(); err != nil {
			return 0, 0, err
		}
	}
}

func (r *recut) ReadAt(b []byte, off int64) (int, error) {
	p := r.places[0]
	return len(b), r.read(b, p, off-p.off)
}

func (r *recut) size() int64 { return r.length }

func (r *recut) judge(f *file, _ *flow, _ bool) bool {
	f.entry.Inconsistent = r.inconsistent
	return false
}

func (r *recut) broken(_ *file, _ int64, err error) error { return err }

func (r *recut) Close() error { return nil }

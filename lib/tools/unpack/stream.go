package unpack

import (
	"errors"
	"fmt"
	"path"
	"strings"
	"sync/atomic"

	"preserve/lib/id"
	"preserve/lib/page"
	"preserve/lib/rec"
	"preserve/lib/snap"
	"preserve/lib/tool"
	"preserve/lib/walk"
)

// What the content stream of --stream holds between two cuts: so much its
// reader may have to keep (docs/format/streams.md, "Uncut").
const (
	streamChunk   = 1 << 20 // bytes of a chunk
	streamPage    = 4 << 20 // bytes of chunks, or a little more
	streamEntries = 1000
	streamChunks  = 1000
	streamExtents = 1000    // of an entry
	streamBytes   = 1 << 20 // of extended attributes and the like in entries
)

// contents writes an uncut content stream, for pv-chunk to cut it under another
// key.
func contents(env *tool.Env, o options, src source, b base) error {
	stdout, err := env.Records()
	if err != nil {
		return err
	}
	s := &streamer{base: b, out: rec.NewWriter(stdout)}
	err = walk.InOrder(s, wholeFiles, func(sink walk.Sink) error {
		return src.walk(walk.Options{Want: o.want, Partial: o.partial, Choose: b.choose.chooser()}, sink)
	})
	if err == nil {
		err = s.finish()
	}
	return s.out.Close(env.Name, err)
}

type streamer struct {
	base
	out    *rec.Writer
	headed bool

	entry  rec.Entry // the file that was begun, or a further piece of it
	pos    uint64    // where its content ends so far
	buf    []byte    // the next chunk
	chunks uint64    // since the last cut
	bytes  int       // of chunks
	extras int       // bytes of entries, roughly
	count  int       // of entries

	end           rec.End
	files, length atomic.Uint64
}

// head writes the stream's head, once the first path is known.
func (s *streamer) head(first string) error {
	if s.headed {
		return nil
	}
	s.headed = true
	err := s.out.Write(&rec.Head{Kind: rec.Content, Host: s.snap.Host, User: s.snap.User, Time: s.snap.Time, Roots: stripped(s.snap.Roots, s.choose.strip)})
	s.out.Tick(nil, func() (uint64, uint64) { return s.files.Load(), s.length.Load() })
	return err
}

func (s *streamer) Snapshot(i id.ID, sn *snap.Snapshot) error {
	s.end.Warnings, s.end.Warned = sn.Warnings, sn.Warned
	return s.base.Snapshot(i, sn)
}

func (s *streamer) Entry(e *rec.Entry) error {
	if err := s.head(e.Path); err != nil {
		return err
	}
	s.entry, s.pos = *e, 0
	s.entry.Extents, s.entry.More, s.entry.Inconsistent = nil, false, false
	if e.Type == rec.File {
		return nil // Done writes it, and its verdict: it may become several pieces
	}
	return s.write()
}

func (s *streamer) Data(_ int64, b []byte) error {
	s.length.Add(uint64(len(b)))
	for len(b) > 0 {
		if err := s.room(); err != nil {
			return err
		}
		n := min(len(b), streamChunk-len(s.buf))
		s.extent(rec.Extent{N: s.chunks, Off: uint64(len(s.buf)), Len: uint64(n)})
		if s.buf == nil {
			s.buf = make([]byte, 0, streamChunk)
		}
		s.buf = append(s.buf, b[:n]...)
		b = b[n:]
		if len(s.buf) == streamChunk {
			if err := s.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *streamer) Hole(_, n int64) error {
	if err := s.room(); err != nil {
		return err
	}
	s.extent(rec.Extent{Hole: true, Len: uint64(n)})
	return nil
}

// extent adds to the entry's content; what goes on where the last extent ended
// makes that longer.
func (s *streamer) extent(x rec.Extent) {
	s.pos += x.Len
	if n := len(s.entry.Extents); n > 0 {
		last := &s.entry.Extents[n-1]
		if last.Hole && x.Hole || !last.Hole && !x.Hole && last.N == x.N && last.Off+last.Len == x.Off {
			last.Len += x.Len
			return
		}
	}
	s.entry.Extents = append(s.entry.Extents, x)
}

// room ends a piece and a page if there is enough in them.
func (s *streamer) room() error {
	if s.bytes < streamPage && s.chunks < streamChunks && len(s.entry.Extents) < streamExtents {
		return nil
	}
	if len(s.entry.Extents) > 0 {
		next := rec.Entry{Path: s.entry.Path, Type: rec.File, Size: s.entry.Size, Off: s.pos}
		s.entry.More = true
		if err := s.write(); err != nil {
			return err
		}
		s.entry = next
	}
	return s.cut()
}

// flush writes the chunk that was gathered.
func (s *streamer) flush() error {
	if len(s.buf) == 0 {
		return nil
	}
	err := s.out.Write(&rec.Chunk{N: s.chunks, Data: s.buf})
	s.chunks++
	s.bytes += len(s.buf)
	s.buf = s.buf[:0]
	return err
}

// write writes the entry at hand behind the chunks that it uses.
func (s *streamer) write() error {
	if err := s.flush(); err != nil {
		return err
	}
	e := s.entry
	if err := s.out.Write(&e); err != nil {
		return fmt.Errorf("%s: %w", rec.Quote(e.Path), err)
	}
	if e.Off == 0 {
		s.files.Add(1)
	}
	s.count++
	s.extras += len(e.Path) + len(e.Target) + len(e.Leader) + len(e.Err)
	for _, x := range e.XAttrs {
		s.extras += len(x.Name) + len(x.Value)
	}
	if s.count >= streamEntries || s.extras >= streamBytes || s.bytes >= streamPage || s.chunks >= streamChunks {
		return s.cut()
	}
	return nil
}

// cut lets the numbers of chunks begin anew.
func (s *streamer) cut() error {
	if s.count == 0 {
		return nil
	}
	s.chunks, s.bytes, s.extras, s.count = 0, 0, 0, 0
	return s.out.Write(&rec.Cut{})
}

func (s *streamer) Done(e *rec.Entry) error {
	s.entry.Size, s.entry.Inconsistent = e.Size, e.Inconsistent
	return s.write()
}

// Lost keeps the name of a file that has lost its content: without it, the file
// would look deleted.
func (s *streamer) Lost(e *rec.Entry, l walk.Loss, begun bool) error {
	if begun {
		return cutShort(e, l)
	}
	if err := s.head(e.Path); err != nil {
		return err
	}
	text := fmt.Sprintf("%s: data blob %s %s: the content is left out", rec.Quote(e.Path), l.ID.Short(), l)
	s.env.Warn("%s", text)
	s.end.Warn(text)
	s.entry = *e
	s.entry.Extents, s.entry.More, s.entry.Inconsistent = nil, false, false
	s.entry.Err = fmt.Sprintf("lost: data blob %s %s", l.ID.Short(), l)
	return s.write()
}

// Gap counts what base says.
func (s *streamer) Gap(first page.Key, next *page.Key, l walk.Loss) error {
	s.end.Warn(fmt.Sprintf("page %s %s, from %s on", l.ID.Short(), l, first))
	return s.base.Gap(first, next, l)
}

// finish writes the last cut, the names and the end.
func (s *streamer) finish() error {
	if !s.headed {
		return errors.New("nothing was chosen: there is no stream without entries")
	}
	if err := s.cut(); err != nil {
		return err
	}
	names, users, groups := rec.SplitNames(s.snap.Users, s.snap.Groups)
	for _, n := range names {
		if err := s.out.Write(n); err != nil {
			return err
		}
	}
	s.end.Entries, s.end.Bytes, s.end.Users, s.end.Groups = s.files.Load(), s.length.Load(), users, groups
	if s.env.Warned() {
		s.end.Status = 3
	}
	return s.out.Write(&s.end)
}

// stripped is the roots of a tree of which n names are taken off the front of each path: they
// become part of the directory that a root was found in.
func stripped(roots []rec.Root, n int) []rec.Root {
	if n == 0 {
		return roots
	}
	var out []rec.Root
	for _, r := range roots {
		names := strings.Split(r.Path, "/")
		k := min(n, len(names))
		r = rec.Root{Dir: path.Join(r.Dir, path.Join(names[:k]...)), Path: strings.Join(names[k:], "/")}
		if len(out) == 0 || out[len(out)-1] != r {
			out = append(out, r)
		}
	}
	return out
}

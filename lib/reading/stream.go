package reading

import (
	"io"

	"preserve/lib/content"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// A Stream is a snapshot, or any other tree, that comes as a content stream.
type Stream struct {
	in     *rec.Reader
	choose *Chooser
}

// OpenStream opens the content stream on stdin. Where no data is needed, a tree stream will do.
func OpenStream(env *tool.Env, choose *Chooser) (*Stream, error) {
	stdin, err := env.Input()
	if err != nil {
		return nil, err
	}
	return NewStream(stdin, choose), nil
}

// NewStream returns the Stream that comes from in.
func NewStream(in io.Reader, choose *Chooser) *Stream {
	r := rec.NewReader(in, rec.Content)
	r.SetStall(Stall)
	return &Stream{r, choose}
}

// Walk implements Source.
func (s *Stream) Walk(meta bool, choose content.Chooser, sink content.Sink) error {
	return content.Read(s.in, content.ReadOptions{Choose: choose, Meta: meta, Trees: meta, Late: s.choose.late}, sink)
}

// Either gives sink all that the stream holds: of a tree stream metadata, of a content stream data too.
func (s *Stream) Either(choose content.Chooser, sink content.Sink) error {
	return content.Read(s.in, content.ReadOptions{Choose: choose, Trees: true, Late: s.choose.late}, sink)
}

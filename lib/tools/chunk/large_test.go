package chunk

import (
	"bytes"
	"io"
	"testing"

	"preserve/lib/bounds"
	"preserve/lib/rec"
	"preserve/lib/tool"
)

// A restless is a large file of zeros that is to be read again once: meanwhile it got
// another owner, and attributes that cannot be read.
type restless struct{ length int64 }

func (r *restless) more(off int64) (bool, error)             { return off < r.length, nil }
func (r *restless) segment(off int64) (int64, int64, error)  { return off, r.length, nil }
func (r *restless) ReadAt(p []byte, _ int64) (int, error)    { return len(p), nil }
func (r *restless) size() int64                              { return r.length }
func (r *restless) broken(_ *file, _ int64, err error) error { return err }
func (r *restless) Close() error                             { return nil }

func (r *restless) judge(f *file, _ *flow, mayAgain bool) bool {
	if f.reads++; f.reads > 1 || !mayAgain {
		return false
	}
	f.owned, f.unsure = true, true
	return true
}

// What reading a large file again has brought to light counts as if it had been so the
// first time: no later run takes it from a cache, and its new owner has a name.
func TestRenewedWhilePoured(t *testing.T) {
	var out, errs bytes.Buffer
	env := tool.NewEnv("pv-chunk", nil, bytes.NewReader(nil), &out, &errs)
	w := rec.NewWriter(&out)
	if err := w.Write(&rec.Head{Kind: rec.Content}); err != nil {
		t.Fatal(err)
	}
	a := newAssembler(env, &reader{}, w, plain())
	n := int64(bounds.SmallFile) + 1
	e := &rec.Entry{Path: "f", Type: rec.File, Size: uint64(n), CTime: rec.Time{Sec: 7}}
	if err := a.take(&file{entry: e, large: &restless{n}}); err != nil {
		t.Fatal(err)
	}
	if err := a.finish(&rec.End{}); err != nil {
		t.Fatal(err)
	}
	if len(a.end.Users) != 1 || a.end.Users[0].Name != "root" {
		t.Error(a.end.Users)
	}
	if e.CTime != (rec.Time{}) || errs.Len() > 0 {
		t.Errorf("%+v %s", e, &errs)
	}
}

// That a file is inconsistent may be known before its first piece ends. Its last one says so.
func TestLastPieceIsInconsistent(t *testing.T) {
	var out, errs bytes.Buffer
	env := tool.NewEnv("pv-chunk", nil, bytes.NewReader(nil), &out, &errs)
	w := rec.NewWriter(&out)
	if err := w.Write(&rec.Head{Kind: rec.Content}); err != nil {
		t.Fatal(err)
	}
	rules := plain()
	rules.pageData = 1 // a piece for each chunk
	a := newAssembler(env, &reader{}, w, rules)
	n := int64(3 * rules.chunk)
	e := &rec.Entry{Path: "f", Type: rec.File, Size: uint64(n), Inconsistent: true}
	if err := a.take(&file{entry: e, large: &restless{n}}); err != nil {
		t.Fatal(err)
	}
	if err := a.finish(&rec.End{}); err != nil {
		t.Fatal(err)
	}
	r := rec.NewReader(&out, rec.Content)
	var pieces []rec.Entry
	for {
		v, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := v.(*rec.Entry); ok {
			pieces = append(pieces, *e)
		}
	}
	for i, p := range pieces {
		if last := i == len(pieces)-1; p.More == last || p.Inconsistent != last {
			t.Errorf("piece %d of %d: more %v, inconsistent %v", i, len(pieces), p.More, p.Inconsistent)
		}
	}
	if len(pieces) < 2 {
		t.Errorf("%d pieces", len(pieces))
	}
}

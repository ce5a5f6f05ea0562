package get_test

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"preserve/lib/rec"
	"preserve/lib/store/storetest"
	"preserve/lib/tool"
)

// A reader that asks for something, and then for nothing more, holds a repository for as
// long as --idle says.
func TestIdleReader(t *testing.T) {
	t.Parallel()
	tree := storetest.New(1).Tree(1, 1, 2, 10)
	dir := fill(t, tree)
	in, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer w.Close()
	if _, err := w.WriteString(tree.Blobs[0].ID.String() + "\n"); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(20*time.Second, func() { w.Close() }).Stop() // should it wait for ever
	status, out, errs := runGet(in, dir, "--blobs", "-", "--idle", "100ms")
	if status != 1 || errs != "pv-get: "+tool.ErrIdle.Error()+" for 100ms\n" {
		t.Fatal(status, errs)
	}
	types := recordTypes(t, out)
	if !slices.Equal(types, []string{"head", "session", "blob", "fail"}) {
		t.Fatal(types)
	}
}

// recordTypes returns the types of the records of a stream.
func recordTypes(t *testing.T, stream []byte) (types []string) {
	t.Helper()
	r := rec.NewReader(strings.NewReader(string(stream)), rec.Sealed)
	for {
		v, err := r.Next()
		switch v.(type) {
		case *rec.Head:
			types = append(types, "head")
		case *rec.Session:
			types = append(types, "session")
		case *rec.Blob:
			types = append(types, "blob")
		}
		if err != nil {
			if _, is := err.(*rec.FailError); is {
				types = append(types, "fail")
			}
			return types
		}
	}
}

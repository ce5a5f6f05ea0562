package store

import (
	"testing"

	"preserve/lib/objects/objectstest"
	"preserve/lib/store/storetest"
)

// A repository needs no directory: all that it does goes through objects.Store.
func TestAnywhere(t *testing.T) {
	t.Parallel()
	m := objectstest.NewMem()
	if err := Make(m); err != nil {
		t.Fatal(err)
	}
	tree := storetest.New(1).Tree(5, 3, 2, 3000)
	for range 2 {
		r, err := OpenStore(m, Options{})
		if err != nil {
			t.Fatal(err)
		}
		p := mustPut(t, r, nil)
		if err := send(p, tree); err != nil {
			t.Fatal(err)
		}
		i, err := p.Commit()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := walkAll(r, i, false); err != nil || !same(got, downOrder(tree, false)) {
			t.Fatal(err)
		}
		if fresh, err := r.Forget(i); err != nil || !fresh {
			t.Fatal(fresh, err)
		}
		if had, err := r.Unforget(i); err != nil || !had {
			t.Fatal(had, err)
		}
		r.Close()
	}
}

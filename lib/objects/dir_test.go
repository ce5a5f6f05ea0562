package objects_test

import (
	"path/filepath"
	"testing"

	"preserve/lib/objects"
	"preserve/lib/objects/objectstest"
)

func TestDir(t *testing.T) {
	objectstest.Suite(t, func(t *testing.T) objects.Store {
		dir := filepath.Join(t.TempDir(), "repo")
		if made, err := objects.MakeDir(dir); err != nil || !made {
			t.Fatal(made, err)
		}
		d, err := objects.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return d
	})
}

func TestMem(t *testing.T) {
	objectstest.Suite(t, func(t *testing.T) objects.Store { return objectstest.NewMem() })
}

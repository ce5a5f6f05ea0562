package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"preserve/lib/id"
	"preserve/lib/objects"
)

// object is the name of an object in one of the directories whose objects are named by ids.
func object(dir string, i id.ID) string { return dir + "/" + i.String() }

// packName is the name of a pack's object.
func packName(name id.ID) string {
	hex := name.String()
	return "packs/" + hex[:2] + "/" + hex
}

// isPackDir reports whether packs may lie in a directory below packs.
func isPackDir(name string) bool {
	digit := func(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }
	return len(name) == 2 && digit(name[0]) && digit(name[1])
}

// damaged says of what is no file that it is damaged.
func damaged(err error) error {
	if errors.Is(err, objects.ErrNotFile) {
		return fmt.Errorf("%w: %w", err, ErrDamaged)
	}
	return err
}

// open opens an object. What is no file is ErrDamaged.
func (r *Repo) open(name string) (objects.Object, error) {
	f, err := r.o.Open(name)
	return f, damaged(err)
}

// readAll reads an object. What is no file, or over the limit, is ErrDamaged.
func readAll(s objects.Store, name string, limit int64) ([]byte, error) {
	f, err := s.Open(name)
	if err != nil {
		return nil, damaged(err)
	}
	defer f.Close() // it was only read
	b, err := io.ReadAll(io.NewSectionReader(f, 0, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("over %d bytes: %w", limit, ErrDamaged)
	}
	return b, err
}

// A part is an object as an io.ReaderAt, of which the store keeps open what it likes.
type part struct {
	o    objects.Store
	name string
}

func (p part) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.o.ReadAt(p.name, b, off)
	return n, damaged(err)
}

// names returns the ids that name the objects in a directory, sorted. Other names are foreign.
func (r *Repo) names(dir string) ([]id.ID, error) {
	list, err := r.o.List(dir)
	if err != nil {
		return nil, fmt.Errorf("read the repository: %w", err)
	}
	var ids []id.ID
	for _, name := range list {
		if i, err := id.Parse(name); err == nil && i.String() == name {
			ids = append(ids, i)
		}
	}
	return ids, nil
}

// write makes a small object that is there, whole, after power loss. If it is there already it is left
// as it is.
func (p *Put) write(name string, data []byte) error {
	_, err := p.create(name, data)
	return err
}

// create is write, and reports whether the object was not there.
func (p *Put) create(name string, data []byte) (made bool, err error) {
	err = p.w.Put(name, data)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	}
	return err == nil, p.spaceError(err)
}

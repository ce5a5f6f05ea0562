package seal

import (
	"fmt"
	"os"

	"preserve/lib/id"
)

// An idFile is where the id of the snapshot is written, for whoever compares it with what a
// store says that it has stored. nil: nowhere.
type idFile struct{ f *os.File }

// openID opens the file before the process confines itself. What is in it stays until write: a
// room that was taken for it on a disk is not given back.
func openID(name string) (*idFile, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--id-file: %w", err)
	}
	return &idFile{f}, nil
}

// write writes the id in the place of all that is in the file.
func (o *idFile) write(i id.ID) error {
	if o == nil {
		return nil
	}
	line := i.String() + "\n"
	_, err := o.f.WriteAt([]byte(line), 0)
	if err == nil {
		err = o.f.Truncate(int64(len(line)))
	}
	if err != nil {
		return fmt.Errorf("--id-file: %w", err)
	}
	return nil
}

func (o *idFile) close() {
	if o != nil {
		_ = o.f.Close() // write has reported what matters
	}
}

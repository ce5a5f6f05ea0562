package inode

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strconv"

	"preserve/lib/rec"
)

// Accounts are the users and groups that the system has, by name and by number.
// It asks no directory service: what is not in the two files has no name here.
type Accounts struct{ Users, Groups AccountTable }

// An AccountTable is the users, or the groups, of a system. The zero value has
// none.
type AccountTable struct {
	names map[uint32]string
	ids   map[string]uint32
}

// ID returns the number of a name.
func (t AccountTable) ID(name string) (id uint32, ok bool) { id, ok = t.ids[name]; return }

// Name returns the name of a number.
func (t AccountTable) Name(id uint32) (name string, ok bool) { name, ok = t.names[id]; return }

// SystemAccounts reads /etc/passwd and /etc/group, once and whole. A system
// without one of these files has no such names.
func SystemAccounts() (*Accounts, error) { return readAccounts("/etc/passwd", "/etc/group") }

func readAccounts(passwd, group string) (*Accounts, error) {
	a := &Accounts{}
	for _, f := range []struct {
		path string
		to   *AccountTable
	}{{passwd, &a.Users}, {group, &a.Groups}} {
		b, err := os.ReadFile(f.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		*f.to = parseAccounts(b)
	}
	return a, nil
}

// parseAccounts reads lines "name:password:id…". Where a name or an id comes
// twice, the first line is right, as it is for the system.
func parseAccounts(b []byte) AccountTable {
	a := AccountTable{map[uint32]string{}, map[string]uint32{}}
	for line := range bytes.Lines(b) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		_, rest, _ = bytes.Cut(rest, []byte(":"))
		number, _, found := bytes.Cut(rest, []byte(":"))
		id, err := strconv.ParseUint(string(number), 10, 32)
		// A "+" or "-" in front stands for a directory service.
		if !found || err != nil || id == NoID || len(name) == 0 || len(name) > rec.MaxName || bytes.IndexByte([]byte("+-#"), name[0]) >= 0 {
			continue
		}
		if _, ok := a.names[uint32(id)]; !ok {
			a.names[uint32(id)] = string(name)
		}
		if _, ok := a.ids[string(name)]; !ok {
			a.ids[string(name)] = uint32(id)
		}
	}
	return a
}

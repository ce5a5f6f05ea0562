package tree

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
type Accounts struct{ users, groups accounts }

type accounts struct {
	names map[uint32]string
	ids   map[string]uint32
}

// SystemAccounts reads /etc/passwd and /etc/group, once and whole. A system
// without one of these files has no such names.
func SystemAccounts() (*Accounts, error) { return readAccounts("/etc/passwd", "/etc/group") }

func readAccounts(passwd, group string) (*Accounts, error) {
	a := &Accounts{}
	for _, f := range []struct {
		path string
		to   *accounts
	}{{passwd, &a.users}, {group, &a.groups}} {
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
func parseAccounts(b []byte) accounts {
	a := accounts{map[uint32]string{}, map[string]uint32{}}
	for line := range bytes.Lines(b) {
		name, rest, _ := bytes.Cut(line, []byte(":"))
		_, rest, _ = bytes.Cut(rest, []byte(":"))
		number, _, found := bytes.Cut(rest, []byte(":"))
		id, err := strconv.ParseUint(string(number), 10, 32)
		// A "+" or "-" in front stands for a directory service.
		if !found || err != nil || id == noID || len(name) == 0 || len(name) > rec.MaxName || bytes.IndexByte([]byte("+-#"), name[0]) >= 0 {
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

// User returns the number of a user.
func (a *Accounts) User(name string) (id uint32, ok bool) { id, ok = a.users.ids[name]; return }

// Group returns the number of a group.
func (a *Accounts) Group(name string) (id uint32, ok bool) { id, ok = a.groups.ids[name]; return }

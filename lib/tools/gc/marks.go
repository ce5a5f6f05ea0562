package gc

import (
	"bufio"
	"errors"
	"fmt"

	"preserve/lib/id"
	"preserve/lib/store"
	"preserve/lib/tool"
)

// A marker makes and removes marks.
type marker struct {
	env   *tool.Env
	repo  *store.Repo
	stdin bool // the ids come from another program
}

// forget checks all ids and then marks them. A snapshot that is kept is an error, but in a
// list from another program, which does not know of it: there it is left out.
func (m *marker) forget(list []id.ID) error {
	kept, err := m.repo.Kept()
	if err != nil {
		return err
	}
	var keep id.Set
	for _, i := range kept {
		keep.Add(i)
	}
	rest := list[:0:0]
	for _, i := range list {
		if !keep.Has(i) {
			rest = append(rest, i)
			continue
		}
		if !m.stdin {
			return &tool.Hint{Err: fmt.Errorf("snapshot %s is %w: no snapshot was marked", i, store.ErrKept), Text: "pv-gc unkeep removes the mark"}
		}
		m.env.Notice("snapshot %s is marked to be kept: it is not forgotten", i)
	}
	if err := m.there(rest, true); err != nil {
		return err
	}
	return m.each(rest, "forgotten", "was already marked as forgotten", m.repo.Forget)
}

func (m *marker) keep(list []id.ID) error {
	if err := m.there(list, false); err != nil {
		return err
	}
	return m.each(list, "kept", "was already marked to be kept", m.repo.Keep)
}

// unforget removes marks. Of a snapshot that was collected only the mark is left.
func (m *marker) unforget(list []id.ID) error {
	return m.each(list, "not forgotten", "was not marked as forgotten", func(i id.ID) (bool, error) {
		had, err := m.repo.Unforget(i)
		if had && errors.Is(err, store.ErrMissing) {
			m.env.Warn("snapshot %s is not there any more: only its mark was removed", i)
			return true, nil
		}
		return had, err
	})
}

func (m *marker) unkeep(list []id.ID) error {
	return m.each(list, "not kept", "was not marked to be kept", m.repo.Unkeep)
}

// there returns an error if one of the snapshots is not there.
func (m *marker) there(list []id.ID, forgotten bool) error {
	for _, i := range list {
		if err := m.repo.Known(i, forgotten); err != nil {
			return fmt.Errorf("%w: no snapshot was marked", err)
		}
	}
	return nil
}

// each does one thing to all ids and says what was done.
func (m *marker) each(list []id.ID, done, already string, do func(id.ID) (bool, error)) error {
	n := 0
	for _, i := range list {
		fresh, err := do(i)
		if err != nil {
			return err
		}
		if fresh {
			n++
			m.env.Log.Debug(fmt.Sprintf("snapshot %s is %s", i, done))
		} else {
			m.env.Notice("snapshot %s %s", i, already)
		}
	}
	if n == 1 {
		m.env.Notice("1 snapshot is now %s", done)
	} else {
		m.env.Notice("%d snapshots are now %s", n, done)
	}
	return nil
}

// print prints all marks, sorted.
func (m *marker) print() error {
	out := bufio.NewWriter(m.env.Stdout)
	for _, kind := range []struct {
		name string
		list func() ([]id.ID, error)
	}{{"forgotten", m.repo.Forgotten}, {"kept", m.repo.Kept}} {
		list, err := kind.list()
		if err != nil {
			return err
		}
		for _, i := range list {
			if _, err := fmt.Fprintf(out, "%s %s\n", kind.name, i); err != nil {
				return err
			}
		}
	}
	return out.Flush()
}

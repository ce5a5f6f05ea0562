package cache

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"preserve/lib/id"
	"preserve/lib/rec"
)

// TestPagesMoved: blocks of one file in another order, or fewer of them, where their contents would
// still go with each other. Nothing is taken from a block that is not in its place.
func TestPagesMoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	w := create(t, dir)
	var list []*rec.Entry
	for _, path := range []string{"a", "b", "c", "d"} {
		list = append(list, &rec.Entry{Path: path, Type: rec.Fifo})
		if err := w.Page(nil, list[len(list)-1:]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Finish(nth(60), nth(61), listOf(t, nth(1))); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(filepath.Join(dir, nth(60).String()))
	if err != nil {
		t.Fatal(err)
	}
	var blocks [][]byte // header, four pages, trailer
	for at := prefixSize; at < len(file); {
		n := headSize + int(binary.BigEndian.Uint32(file[at+1:])) + macSize
		blocks = append(blocks, file[at:at+n])
		at += n
	}
	for name, c := range map[string]struct {
		order []int
		n     int // entries before the first block that was moved
	}{
		"as it was":                  {[]int{0, 1, 2, 3, 4, 5}, 4},
		"a page is left out":         {[]int{0, 1, 3, 4, 5}, 1},
		"the first page":             {[]int{0, 2, 3, 4, 5}, 0},
		"all but the last":           {[]int{0, 4, 5}, 0},
		"two pages are swapped":      {[]int{0, 1, 3, 2, 4, 5}, 1},
		"the last one comes early":   {[]int{0, 4, 1, 2, 3, 5}, 0},
		"the trailer comes early":    {[]int{0, 1, 2, 5}, 2},
		"a page takes another's":     {[]int{0, 1, 3, 3, 4, 5}, 1},
		"the header comes as a page": {[]int{0, 0, 1, 2, 3, 4, 5}, 0},
	} {
		moved := bytes.Clone(file[:prefixSize])
		for _, k := range c.order {
			moved = append(moved, blocks[k]...)
		}
		got, err := reread(t, dir, moved)
		if len(got) != c.n || len(c.order) == 6 && c.n == 4 && err != io.EOF || c.n < 4 && !errors.Is(err, errMAC) {
			t.Errorf("%s: %d entries were taken, want %d: %v", name, len(got), c.n, err)
		}
	}
}

// TestListPagesMoved: pages of one list in another order.
func TestListPagesMoved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "c")
	w := create(t, dir)
	var all []id.ID
	for n := range 3*idsPerPage - 5 {
		i := id.ID{31: byte(n)}
		binary.BigEndian.PutUint16(i[:], uint16(170*n)) // in order, and spread
		all = append(all, i)
	}
	if err := w.Finish(nth(60), nth(61), listOf(t, all...)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, nth(60).String()+idsSuffix)
	file, err := os.ReadFile(path)
	if err != nil || len(file) != 4*pageSize {
		t.Fatal(len(file), err)
	}
	for _, order := range [][]int{{2, 1, 3}, {3, 2, 1}, {1, 1, 3}, {1, 2, 2}, {2, 3, 1}} {
		moved := bytes.Clone(file[:pageSize])
		wrong := map[id.ID]bool{} // ids of the pages in whose places others are
		for at, k := range order {
			moved = append(moved, file[k*pageSize:(k+1)*pageSize]...)
			if k != at+1 {
				first := at * idsPerPage
				for _, i := range all[first:min(first+idsPerPage, len(all))] {
					wrong[i] = true
				}
			}
		}
		put(t, path, moved)
		l, err := OpenIDs(dir, nth(60), secret, job.Key)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range all {
			there, err := l.Has(i)
			if err == nil && (wrong[i] || !there) || err != nil && !errors.Is(err, errMAC) {
				t.Errorf("pages %v: id %s: there %v, %v", order, i.Short(), there, err)
				break
			}
		}
		l.Close()
	}
}

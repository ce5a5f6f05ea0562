package target

import (
	"errors"

	"preserve/lib/inode"
	"preserve/lib/rec"
)

// What a restore may do to what is there already, as pure functions of what the snapshot says,
// what is there, and the options. Nobody asked for more than the snapshot knows: what the
// backup did not see, or was told to leave out, is never deleted, and a link is never
// replaced by a directory on the way to something.

// vouches reports whether a directory's entry tells all that belongs into it, so that what has
// no entry may be deleted. Of what was left out on request it may if that is wanted
// (DeleteExcluded); of what could not be read it never may.
func vouches(e *rec.Entry, o *Into) bool {
	return e.Err == "" && !e.Way && !e.Unread && (!e.Skipped || o.DeleteExcluded)
}

// A verdict says what becomes of something that stands where the snapshot has a directory.
type verdict uint8

const (
	goIn     verdict = iota // it is one, or a link to one that is followed
	supplant                // put a directory there
	stay                    // nothing below it is restored
)

var (
	errLinkInPlace = errors.New("a symbolic link is in its place, and stays: nothing below it is restored")
	errNotOnWay    = errors.New("something else is in its place, and stays: nothing below it is restored")
)

// overDir says what becomes of what is where a directory is to be. leads says that it is a link that
// leads to a directory, and may be followed.
func overDir(e *rec.Entry, st *inode.Stat, leads bool, o *Into) (verdict, error) {
	link := st.Type == rec.Symlink
	switch {
	case st.Type == rec.Dir, link && leads && o.KeepDirSymlink:
		return goIn, nil
	case o.Overwrite == Never:
		return stay, errNever
	case link && (e.Way || o.Overwrite != Always):
		return stay, errLinkInPlace
	case e.Way || e.Err != "":
		return stay, errNotOnWay
	}
	return supplant, nil
}

package rec

import (
	"errors"
	"fmt"
	"strings"

	"preserve/lib/visible"
	"preserve/lib/wire"
)

// Errors of Check.
var (
	errField = errors.New("does not go with its type")
	errSum   = errors.New("the extents do not add up")
)

// Check reports the first contradiction in e: a path that cannot be stored, a
// field that its type does not have, extents that do not add up to the size.
func (e *Entry) Check() error {
	has := uint64(0)
	if e.Target != "" {
		has |= 1 << kTarget
	}
	if e.Leader != "" {
		has |= 1 << kLeader
	}
	return e.check(has)
}

func (e *Entry) check(seen uint64) error {
	if err := CheckPath(e.Path); err != nil {
		return err
	}
	bad := func(field string) error { return fmt.Errorf("%s of a %s %w", field, e.Type, errField) }
	content := e.Type == File
	switch {
	case e.Type == None:
		return fmt.Errorf("type: %w", ErrAbsent)
	case e.Path == "" && e.Type != Dir:
		return fmt.Errorf("%w: only a directory can be the root", ErrPath)
	case e.Mode > 0o7777:
		return bad("mode")
	case !content && (e.Size != 0 || e.Off != 0 || e.More || e.Inconsistent || len(e.Extents) > 0):
		return bad("content")
	case e.More && e.Inconsistent:
		return fmt.Errorf("inconsistent: only the last piece of a file has it: %w", errField)
	case e.Type == Symlink && (e.Target == "" || len(e.Target) > MaxPath || strings.IndexByte(e.Target, 0) >= 0):
		return bad("target")
	case e.Type != Symlink && (e.Target != "" || seen&(1<<kTarget) != 0):
		return bad("target")
	case e.Type != HardLink && (e.Leader != "" || seen&(1<<kLeader) != 0):
		return bad("leader")
	case e.Type != Char && e.Type != Block && (e.Major != 0 || e.Minor != 0 || seen&(1<<kRdev) != 0):
		return bad("device number")
	case (e.Type != File || e.Off != 0) && e.Alone:
		return bad("alone")
	case e.Type != Dir && e.Way:
		return bad("way")
	case e.Type != Dir && (e.Skipped || e.Unread):
		return bad("skipped or unread")
	case (e.Type == Dir || e.Type == HardLink) && e.Links != 0:
		return bad("link count")
	case !e.plain() && (e.Mode|e.UID|e.GID|e.Flags|e.Links != 0 || e.MTime != Time{} || len(e.XAttrs)+len(e.Omitted) > 0):
		return fmt.Errorf("metadata: only the first record of a file has it: %w", errField)
	case e.Err != "" && e.Type == HardLink:
		return bad("err")
	case e.Err != "" && (len(e.Extents) > 0 || e.More || e.Off != 0):
		return fmt.Errorf("content: an entry with err %w", errField)
	}
	if len(e.Omitted) > 0 {
		if err := e.checkOmitted(); err != nil {
			return err
		}
	}
	if e.Type == HardLink {
		if e.Leader == "" {
			return fmt.Errorf("leader: %w", ErrAbsent)
		}
		if err := CheckPath(e.Leader); err != nil {
			return fmt.Errorf("leader: %w", err)
		}
		if ComparePaths(e.Leader, e.Path) >= 0 {
			return fmt.Errorf("leader %s: %w", Quote(e.Leader), ErrOrder)
		}
	}
	return nil
}

// ContentLen returns the sum of the extents' lengths, or an error if one is
// empty, lies outside what a chunk can hold, or the sum leaves what a file can.
func (e *Entry) ContentLen() (uint64, error) {
	var sum uint64
	for i := range e.Extents {
		x := &e.Extents[i]
		switch {
		case x.Len == 0:
			return 0, fmt.Errorf("extent %d is empty: %w", i, errSum)
		case !x.Hole && (x.Off > 2*MaxChunk || x.Len > 2*MaxChunk || x.Off+x.Len > 2*MaxChunk):
			return 0, fmt.Errorf("extent %d lies outside its chunk: %w", i, errSum)
		case x.Hole && x.Off != 0:
			return 0, fmt.Errorf("extent %d: a hole with an offset: %w", i, errSum)
		case x.Len > MaxSize-sum:
			return 0, fmt.Errorf("extent %d: %w", i, errSum)
		}
		sum += x.Len
	}
	return sum, nil
}

// CheckContent is Check for entries whose content is known: the extents must
// end where the next piece begins or, in the last piece, at the size.
func (e *Entry) CheckContent() error {
	n, err := e.ContentLen()
	if err != nil || e.Type != File || e.Err != "" {
		return err
	}
	if n > MaxSize-e.Off {
		return errSum
	}
	end := e.Off + n
	if e.More && n == 0 {
		return fmt.Errorf("a piece without content: %w", errSum)
	}
	if !e.More && end != e.Size {
		return fmt.Errorf("%d bytes of content where the size is %d: %w", end, e.Size, errSum)
	}
	return nil
}

// canonical reports fields that Encode would have left out, or written.
func (e *Entry) canonical(seen uint64) error {
	plain := e.plain()
	for _, f := range [...]struct {
		k    int
		want bool
	}{
		{kMode, plain}, {kUID, plain}, {kGID, plain}, {kMTime, plain}, {kSize, e.Type == File},
		{kOff, e.Off != 0}, {kMore, e.More}, {kLinks, e.Links > 1}, {kTarget, e.Type == Symlink},
		{kLeader, e.Type == HardLink}, {kRdev, e.Type == Char || e.Type == Block}, {kFlags, e.Flags != 0},
		{kXAttrs, len(e.XAttrs) > 0}, {kOmitted, len(e.Omitted) > 0}, {kErr, e.Err != ""}, {kInconsistent, e.Inconsistent}, {kWay, e.Way},
		{kSkipped, e.Skipped}, {kUnread, e.Unread}, {kExt, len(e.Extents) > 0},
	} {
		if (seen>>f.k&1 == 1) != f.want {
			return fmt.Errorf("key %q: %w", entryKeys[f.k], wire.ErrCanonical)
		}
	}
	for _, x := range e.Extents {
		if !x.ID.IsZero() {
			return fmt.Errorf("an extent by id in a page: %w", ErrBad)
		}
	}
	return nil
}

// Quote makes a path fit for a message: in quotes if anything in it does not show as it is
// (package visible).
func Quote(p string) string { return visible.Quote(p) }

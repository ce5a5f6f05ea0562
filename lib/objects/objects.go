// Package objects is where a repository's objects lie: bytes under names such as "packs/ab/abcd…", each
// created once, whole, and never changed. It knows neither packs nor ids.
//
// Store is what any place must offer; Dir is a directory. Suite, in objectstest, is what each must pass.
// Nothing above this package opens a file of a repository by itself.
//
// Names are relative, with "/" between their parts. Errors of the system are wrapped as they
// are: fs.ErrNotExist and fs.ErrExist mean what they say in every Store. All methods may be
// called by many goroutines, unless they say otherwise.
package objects

import (
	"errors"
	"io"
	"time"
)

// Errors of this package; match them with errors.Is.
var (
	// ErrNotFile is returned for an object that is no regular file, such as a fifo, on which an
	// open would wait for ever.
	ErrNotFile = errors.New("not a file")
	// ErrNoParent is returned by Make if the directory above does not exist.
	ErrNoParent = errors.New("the directory above it does not exist")
	// ErrLocked is returned by Lock if others keep it from being taken.
	ErrLocked = errors.New("locked by others")
	// ErrNoLocks is returned by Lock where there are no locks.
	ErrNoLocks = errors.New("no locks here")
	// ErrAborted is returned by a Writer after Abort.
	ErrAborted = errors.New("aborted")
)

// An Info is what a Store knows of an object.
type Info struct {
	Size int64
	// Time is when the object was made, or dated (Writer.Date), by the store's clock: only
	// differences count. It is zero for an object that was published as Undated and not dated since.
	Time time.Time
}

// An Object is open for reading. ReadAt may be called by many goroutines.
type Object interface {
	io.ReaderAt
	io.Closer
	Info() Info
}

// A Store keeps objects.
type Store interface {
	// String says where it is, for messages.
	String() string
	// Open opens an object. Errors: fs.ErrNotExist, ErrNotFile.
	Open(name string) (Object, error)
	// ReadAt reads a part of an object, as io.ReaderAt does. Some objects are kept open for it.
	ReadAt(name string, p []byte, off int64) (int, error)
	// Stat looks at an object, whatever it is. Error: fs.ErrNotExist.
	Stat(name string) (Info, error)
	// List returns the names below a directory of names, without those before the last "/", in
	// order: objects and further directories. A directory that is not there is empty.
	List(dir string) ([]string, error)
	// Put makes an object that is there, whole, after power loss, or is not there. One that is there
	// already stays as it is: fs.ErrExist.
	Put(name string, data []byte) error
	// Delete removes an object, durably. Error: fs.ErrNotExist.
	Delete(name string) error
	// Writer begins to store many objects.
	Writer() Writer
	// Lock takes the lock of the repository, for one alone or shared with others, until Close of what it
	// returns. It does not wait. Errors: ErrLocked, ErrNoLocks.
	Lock(alone bool) (io.Closer, error)
	// Space says how much can be stored.
	Space() (Space, error)
	// Places returns the directories that it is in; nil if it is not on this machine.
	Places() []string
	// Used returns the bytes of all objects, each in whole blocks.
	Used() (int64, error)
	// Close closes what ReadAt keeps open.
	Close()
}

// Block is what an object takes at least, and what its size is rounded up to.
const Block = 4 << 10

// Space is how much room there is.
type Space struct {
	Free     uint64 // bytes
	Reserve  uint64 // of them, what should stay free
	NoInodes bool   // there is no room for another object, however small
}

// A Writer is all that one program stores and removes: it makes temporaries, gives them their names,
// makes both durable, and removes its own temporaries and those of programs that died, nothing
// else.
type Writer interface {
	// Create begins an object that gets its name later.
	Create() (Temp, error)
	// Publish makes a temporary durable under a name. What is there already stays as it is:
	// fs.ErrExist. The name is durable after Sync.
	Publish(t Temp, name string) error
	// Put is Store.Put, but for what it counts.
	Put(name string, data []byte) error
	// Sync makes the names durable that were published since the last Sync, and those in the
	// given directories.
	Sync(dirs ...string) error
	// Date gives an object the store's time, durably, if it has none. Where that is not allowed it
	// stays without.
	Date(name string) error
	// Delete removes an object. It is gone for good after Sync of its directory. One that is not
	// there is no error.
	Delete(name string) error
	// Drop removes a temporary that was not published.
	Drop(t Temp)
	// Now is the store's time.
	Now() (time.Time, error)
	// Written is how many bytes were written, of all objects together, and a block for each of them, since
	// its last one may have been begun only. What was dropped does not count.
	Written() int64
	// Sweep removes the temporaries of programs that were killed.
	Sweep() (removed int)
	// Abort drops all temporaries and lets no more be made.
	Abort()
}

// A Temp is an object that has no name yet. One goroutine writes it.
type Temp interface {
	io.Writer
	// Begin tells the system to begin to store n bytes from off on. Whatever goes wrong comes back from
	// Publish.
	Begin(off, n int64)
	// Undated lets the object be without a time until it is dated. Where that cannot be, it
	// keeps that at which it was written.
	Undated() error
	// Dated gives the object a time of the store's clock, that of something older.
	Dated(at time.Time) error
	// Written is how many bytes were written.
	Written() int64
}

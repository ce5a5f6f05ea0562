package key

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Seclude keeps the memory of this process, from now on to its end, out of core
// dumps, and out of the reach of other processes without privileges, of the same
// user's too: they can neither trace it nor read its memory. Processes that it
// starts make no core files either, but are not out of reach. The tools call it
// before they hold a secret; it may be called again.
func Seclude() error {
	// A dump that a program takes from a pipe (core_pattern) does not ask for the
	// limit, but for whether the process is dumpable.
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("turn core dumps off: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("turn core dumps off: %w", err)
	}
	return nil
}

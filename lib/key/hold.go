package key

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Hold returns k's key file in memory that has no name and is in no file system: whoever
// has the descriptor reads it, by its number below /proc/self/fd too, and as often as he
// likes. It cannot be changed. It goes when the last descriptor is closed, however the
// processes end. The caller closes it. The error is ErrSize if k carries too many
// revoked writers, or the system's.
func (k *Key) Hold() (*os.File, error) {
	data := k.Marshal(time.Now())
	if len(data) > MaxFile {
		return nil, fmt.Errorf("hold a key and its revoked writers: %w", ErrSize)
	}
	fd, err := unix.MemfdCreate("key", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("hold a key in memory: %w", err)
	}
	f := os.NewFile(uintptr(fd), "key")
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(0o400)
	}
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		_ = f.Close() // it holds nothing that counts
		return nil, fmt.Errorf("hold a key in memory: %w", cause(err))
	}
	return f, nil
}

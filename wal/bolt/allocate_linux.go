package bolt

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// allocate gives the file's bytes from low to high blocks, and the file at least
// that size. What lies there stays as it is. errors.ErrUnsupported if the file
// system can't.
func allocate(f *os.File, low, high int64) error {
	for {
		err := syscall.Fallocate(int(f.Fd()), 0, low, high-low)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("allocate bytes %d to %d of %s: %w", low, high, f.Name(), err)
		}
		return nil
	}
}

package bench

import (
	"os"
	"syscall"
)

// datasync is what bbolt does on Linux.
func datasync(f *os.File) error {
	if err := syscall.Fdatasync(int(f.Fd())); err != nil {
		return os.NewSyscallError("fdatasync", err)
	}
	return nil
}

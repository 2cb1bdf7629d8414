package bolt

import (
	"os"
	"syscall"
)

// unlinked reports whether the open file has no name any more: what is written to it
// is lost with the process. It is asked after every commit.
func unlinked(f *os.File) bool {
	if links, known := countNames(f); known {
		return links == 0
	}
	info, err := f.Stat()
	if err != nil {
		return true
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}

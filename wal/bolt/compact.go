package bolt

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"go.etcd.io/bbolt"
)

// Compact rewrites the log at path, which nobody may use meanwhile, into a file
// without free pages, and returns the sizes in bytes. The new file takes the old
// one's place whole and durable, or nothing changes. A log that was not closed
// cleanly is afterwards: it was copied (R5).
//
// An error Is wal.ErrLocked, wal.ErrDamaged, wal.ErrNewer or wal.ErrForeign, or comes
// from the operating system.
func Compact(path string) (before, after int64, err error) {
	path, err = resolve(path)
	if err == nil {
		_, err = os.Stat(path) // else a lock file would be made for nothing
	}
	if err != nil {
		return 0, 0, fmt.Errorf("compact log: %w", err)
	}
	lock, err := acquire(path, 0)
	if err != nil {
		return 0, 0, err
	}
	before, after, err = compactLocked(path)
	return before, after, errors.Join(err, lock.Close())
}

func compactLocked(path string) (before, after int64, err error) {
	claim, err := claimFile(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = claim.Close() }() // only read
	s, err := check(path)
	if err != nil {
		return 0, 0, err
	}
	info, err := claim.Stat()
	if err != nil {
		return 0, 0, err
	}
	if err := os.Remove(temporary(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, 0, fmt.Errorf("remove what a crash left: %w", err)
	}
	write := func(db *bbolt.DB) error { return writeCopy(db, path, s.torn) }
	if err := replace(path, withProofs(s.proven, write)); err != nil {
		return 0, 0, err
	}
	now, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	return info.Size(), now.Size(), nil
}

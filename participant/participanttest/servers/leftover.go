package servers

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
)

const (
	dirPattern = "assent-server-*"
	// claimName is the file in a server's directory that the process which started the
	// server holds a lock of. The lock ends with that process, however it ends.
	claimName = "in-use"
)

// claim marks the directory as used, until the file is closed.
func claim(dir string) (*os.File, error) {
	// Under its name the file has its lock from the beginning.
	name := filepath.Join(dir, claimName)
	file, err := os.Create(name + ".new")
	if err != nil {
		return nil, err
	}
	if err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// removeLeftovers removes the directories of processes that ended before they closed
// their servers. What can't be removed is somebody else's, or the next one's to try.
func removeLeftovers() {
	found, err := filepath.Glob(filepath.Join(os.TempDir(), dirPattern, claimName))
	if err != nil {
		return
	}
	for _, name := range found {
		file, err := os.Open(name)
		if err != nil {
			continue
		}
		if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			removeLeftover(filepath.Dir(name))
		}
		_ = file.Close()
	}
}

// removeLeftover removes the directory, and last the file by which it is found.
func removeLeftover(dir string) {
	entries, err := os.ReadDir(dir)
	for _, entry := range entries {
		if entry.Name() != claimName && err == nil {
			err = os.RemoveAll(filepath.Join(dir, entry.Name()))
		}
	}
	if err == nil {
		_ = os.RemoveAll(dir)
	}
}

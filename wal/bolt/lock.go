package bolt

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/assent-tm/assent/wal"
)

// lockRetry is how often a waiting opener tries again.
const lockRetry = 10 * time.Millisecond

// acquire takes the lock file of the log at path, waiting at most so long. The
// lock ends with the file's Close or with the process.
func acquire(path string, wait time.Duration) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock file of log %s: %w", path, err)
	}
	for deadline := time.Now().Add(wait); ; time.Sleep(lockRetry) {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EINTR) || (errors.Is(err, syscall.EWOULDBLOCK) && time.Now().Before(deadline)) {
			continue
		}
		break
	}
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = fmt.Errorf("%w: %s is held by %s; stop it first, a log has one writer (R9)", wal.ErrLocked, name, holder(f))
	case err != nil:
		err = fmt.Errorf("lock %s: %w", name, err)
	default:
		// The number is for people: only the lock itself says that someone is there.
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(fmt.Appendln(nil, os.Getpid()), 0)
		}
		if err == nil {
			return f, nil
		}
		err = fmt.Errorf("write the process id to %s: %w", name, err)
	}
	return nil, errors.Join(err, f.Close())
}

// holder names the process that wrote its number into the lock file.
func holder(f *os.File) string {
	text := make([]byte, 20)
	n, _ := f.ReadAt(text, 0)
	if pid := strings.TrimSpace(string(text[:n])); pid != "" {
		return "process " + pid
	}
	return "a process that didn't write its number yet"
}

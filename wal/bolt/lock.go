package bolt

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/assent-tm/assent/wal"
)

// lockRetry is how often a waiting opener tries again.
const lockRetry = 10 * time.Millisecond

// holderWidth is how many bytes of a lock file name its holder.
const holderWidth = 20

// acquire takes the lock file of the log at path, waiting at most so long. The
// lock ends with the file's Close or with the process.
func acquire(path string, wait time.Duration) (*os.File, error) {
	name := path + ".lock"
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock file of log %s: %w", path, explainFull(path, err))
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
		err = fmt.Errorf("%w: %s: %s; a log has one writer (R9)", wal.ErrLocked, name, holder(f))
	case err != nil:
		err = fmt.Errorf("lock %s: %w", name, err)
	default:
		// The number is for people: only the lock itself says that someone is there.
		// It has a fixed width because a full disk gives no block back that was cut off.
		_, err = f.WriteAt(fmt.Appendf(nil, "%-*d\n", holderWidth-1, os.Getpid()), 0)
		if err == nil || isFull(err) {
			return f, nil
		}
		err = fmt.Errorf("write the process id to %s: %w", name, err)
	}
	return nil, errors.Join(err, f.Close())
}

// holder says who holds the lock, by the number in the lock file, and what to do.
func holder(f *os.File) string {
	text := make([]byte, holderWidth)
	n, _ := f.ReadAt(text, 0)
	switch pid := strings.TrimSpace(string(text[:n])); pid {
	case "":
		return "held by a process that didn't write its number yet; stop it first"
	case strconv.Itoa(os.Getpid()):
		return "this process has it open already"
	default:
		return "held by process " + pid + "; stop it first"
	}
}

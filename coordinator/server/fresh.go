package server

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// checkInterval is how old what is read from files may be.
const checkInterval = time.Second

// fresh is what files say, read again when they change. A change that can't be read
// is logged and leaves the value as it was: half of a rotation, perhaps, and tried
// again. There is no goroutine: who asks looks, at most once in checkInterval.
type fresh[T any] struct {
	paths  []string
	read   func() (*T, error)
	logger *zap.Logger

	value   atomic.Pointer[T]
	checked atomic.Int64 // when the files were looked at, in Unix nanoseconds

	mu     sync.Mutex
	stamps string // of the files that value was read from
	failed string // the last failure that was logged
}

func newFresh[T any](logger *zap.Logger, read func() (*T, error), paths ...string) (*fresh[T], error) {
	f := &fresh[T]{paths: paths, read: read, logger: logger, stamps: stamps(paths)}
	value, err := read()
	if err != nil {
		return nil, err
	}
	f.value.Store(value)
	f.checked.Store(time.Now().UnixNano())
	return f, nil
}

// get returns the value; it may be of up to checkInterval ago.
func (f *fresh[T]) get() *T {
	now, checked := time.Now().UnixNano(), f.checked.Load()
	if age := now - checked; (age > int64(checkInterval) || age < 0) && f.checked.CompareAndSwap(checked, now) {
		f.look()
	}
	return f.value.Load()
}

// look reads the files if they have changed.
func (f *fresh[T]) look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	found := stamps(f.paths) // before they are read: what changes meanwhile is read again
	if found == f.stamps {
		return
	}
	value, err := f.read()
	if err != nil {
		if f.failed != err.Error() {
			f.failed = err.Error()
			f.logger.Error("changed file can't be read: what it said before stays in force", zap.Strings("files", f.paths), zap.Error(err))
		}
		return
	}
	f.value.Store(value)
	f.stamps, f.failed = found, ""
	f.logger.Info("read again", zap.Strings("files", f.paths))
}

// stamps tells one state of the files from another.
func stamps(paths []string) string {
	var s string
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			s += "absent;"
			continue
		}
		s += fmt.Sprintf("%d %d;", info.ModTime().UnixNano(), info.Size())
	}
	return s
}

package server

import (
	"os"
	"slices"
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
	stamps []os.FileInfo // of the files that value was read from; nil for one that was absent
	failed string        // the last failure that was logged
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
	if slices.EqualFunc(found, f.stamps, same) {
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
func stamps(paths []string) []os.FileInfo {
	found := make([]os.FileInfo, len(paths))
	for i, path := range paths {
		if info, err := os.Stat(path); err == nil {
			found[i] = info
		}
	}
	return found
}

// same reports whether a file is as it was. Its time and its length do not tell: the clock of a
// file system has ticks of some milliseconds, and "client" is as long as "viewer".
func same(one, other os.FileInfo) bool {
	if one == nil || other == nil {
		return one == other
	}
	return os.SameFile(one, other) && one.ModTime().Equal(other.ModTime()) && one.Size() == other.Size()
}

package bolt

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/wal"
)

const (
	// othersTake is how many times faster than the log others are expected to take
	// what the file system has left.
	othersTake = 16
	// growRetry is how long a file system that was full isn't asked for space: some
	// look hard for it each time.
	growRetry = 100 * time.Millisecond
)

// Tests that copy the file very often make it smaller.
var (
	// growthStep is the unit in which the file's size grows.
	growthStep int64 = 16 << 20
	// overhead is room for the pages that commits rewrite besides those of new
	// chunks, and for holes between pages in use that are too small for a large one.
	overhead int64 = 2 << 20
)

// space is the blocks that the log's file has. bbolt only sets the file's size: on
// a full disk it would learn in the middle of a commit that nothing is behind it,
// and that fails the log (R5). So space is taken before it is needed. It is never
// given back while the log is open. Guarded by Store.writing.
type space struct {
	allocated int64     // bytes from the file's beginning on that have blocks
	unsure    bool      // blocks can't be taken: what is free is looked up each time
	short     error     // of the last attempt to take more
	retry     time.Time // when the file system may be asked again
}

// pagesFor is how many bytes of pages are needed to append bytes of segments.
func pagesFor(bytes int64) int64 { return bytes + bytes/4 + overhead }

// segmentsIn is the inverse of pagesFor.
func segmentsIn(pages int64) int64 { return max(pages-overhead, 0) / 5 * 4 }

// Reserve is a [wal.Stream]'s. All streams of a store share what it keeps.
func (s *stream) Reserve(bytes int64) (int64, error) { return s.store.reserve(bytes) }

func (s *Store) reserve(bytes int64) (int64, error) {
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.usable(); err != nil {
		return 0, err
	}
	used, err := s.used()
	if err != nil {
		return 0, err
	}
	err = s.take(used + pagesFor(bytes))
	free, unknown := freeBytes(s.db.file)
	if s.space.unsure && unknown != nil {
		return math.MaxInt64, nil // nothing can be known: a full disk will fail the log
	}
	room := s.space.allocated - used
	if s.space.unsure {
		if _, blocks, err := sizeAndBlocks(s.db.file); err == nil {
			room = blocks - used
		}
	}
	have := segmentsIn(room + free/othersTake)
	if err == nil {
		have = max(have, bytes)
	}
	return have, err
}

// headroom is the least that Open wants the file to have: room to write everything
// once more.
func (s *Store) headroom() int64 {
	used, err := s.used()
	if err != nil {
		return 0
	}
	return used + pagesFor(used)
}

// used returns how many bytes the pages in use have. Needs s.writing.
func (s *Store) used() (int64, error) {
	var high int64
	err := guard(func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			high = tx.Size()
			return nil
		})
	})
	if err != nil {
		return 0, s.fail("measure the log", err)
	}
	stats := s.db.Stats()
	return high - int64(stats.FreePageN+stats.PendingPageN)*int64(s.db.Info().PageSize), nil
}

// take has the file system give the file at least so many bytes, and up to a step
// more if it can. Needs s.writing.
func (s *Store) take(bytes int64) error {
	if bytes <= s.space.allocated {
		return nil
	}
	err := s.space.short
	if !time.Now().Before(s.space.retry) {
		err = s.grow(bytes)
	}
	if isFull(err) {
		err = noSpace(s.path, err)
	}
	return err
}

func (s *Store) grow(bytes int64) error {
	size, blocks, err := sizeAndBlocks(s.db.file)
	if err != nil {
		return fmt.Errorf("size of the log: %w", err)
	}
	bytes = max(bytes, size)
	// Without space for a step only what is needed.
	for _, target := range []int64{(bytes + growthStep - 1) / growthStep * growthStep, bytes} {
		if err = s.allocate(target, target-blocks); !isFull(err) {
			return err
		}
	}
	if s.space.allocated < size {
		// At least no commit is to meet a hole in what is there.
		if err := s.allocate(size, size-blocks); err != nil && !isFull(err) {
			return err
		}
	}
	return err
}

// allocate has every byte below target get a block; some are missing.
func (s *Store) allocate(target, missing int64) error {
	// First a look: a file system that is full is slow to say so, and what little it
	// has left is of more use to others.
	if free, err := freeBytes(s.db.file); err == nil && free < missing {
		return syscall.ENOSPC
	}
	if s.space.unsure {
		return nil
	}
	err := allocate(s.db.file, s.space.allocated, target)
	if errors.Is(err, errors.ErrUnsupported) {
		s.space.unsure = true
		return nil
	}
	if err != nil {
		s.space.retry, s.space.short = time.Now().Add(growRetry), err
		return err
	}
	// As bbolt does when it grows the file.
	if err := s.db.file.Sync(); err != nil {
		return s.fail("grow the log", err) // R5
	}
	s.space.allocated = target
	return nil
}

// sizeAndBlocks returns a file's size, and how many bytes the blocks behind it have.
func sizeAndBlocks(f *os.File) (size, blocks int64, err error) {
	info, err := f.Stat()
	if err != nil {
		return 0, 0, err
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		blocks = stat.Blocks * 512
	}
	return info.Size(), blocks, nil
}

// noSpace says what to do about an error that isFull.
func noSpace(path string, err error) error {
	return fmt.Errorf("no space in %s for log %s: free some there, or raise its owner's quota: %w", filepath.Dir(path), path, err)
}

// isFull reports whether err says that the file system has no space, or none for us.
// Of some errors bbolt keeps only the text.
func isFull(err error) bool {
	if err == nil {
		return false
	}
	for _, full := range []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) || strings.Contains(err.Error(), full.Error()) {
			return true
		}
	}
	return false
}

// explainFull makes an error that isFull a wal.ErrFull.
func explainFull(path string, err error) error {
	if !isFull(err) || errors.Is(err, wal.ErrFull) {
		return err
	}
	return fmt.Errorf("%w: %w", wal.ErrFull, noSpace(path, err))
}

// freeBytes is how much the file system of f has for this user; an error if it does
// not tell.
func freeBytes(f *os.File) (int64, error) {
	var stat syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &stat); err != nil {
		return 0, err
	}
	if stat.Blocks == 0 {
		return 0, errors.ErrUnsupported
	}
	return int64(stat.Bavail) * int64(stat.Bsize), nil
}

package bolt

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bboltErrors "go.etcd.io/bbolt/errors"
	"go.uber.org/zap"

	"github.com/assent-tm/assent/wal"
)

const (
	sparseSize = 64 << 20 // bytes from which on free pages are worth a copy
	copyBatch  = 8 << 20  // bytes per transaction of a copy

	// lockTimeout is for a bbolt tool that holds the file: our own lock is taken already.
	lockTimeout = 100 * time.Millisecond
)

// database is an open bbolt file.
type database struct {
	*bbolt.DB
	file *os.File // bbolt's own
	once bool     // each commit is synced once
}

// openDatabase lets bbolt map the file at path, which was checked or is new.
func openDatabase(path string, mapSize int) (d database, err error) {
	opts := &bbolt.Options{
		Timeout: lockTimeout,
		// Without it the list of free pages is written with every commit: 4 to 6
		// times slower once many are free. It is rebuilt at open instead.
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: mapSize,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			d.file = f
			return f, err
		},
	}
	err = guard(func() (err error) {
		d.DB, err = bbolt.Open(path, 0o600, opts)
		return err
	})
	var fault *faultError
	if errors.As(err, &fault) && d.file != nil {
		_ = d.file.Close() // bbolt didn't come to it; ends its lock on the file
	}
	switch {
	case errors.Is(err, bboltErrors.ErrTimeout):
		return database{}, fmt.Errorf("%w: %s is open in a program that isn't assent; close that first", wal.ErrLocked, path)
	case err != nil:
		return database{}, fmt.Errorf("open log %s: %w", path, err)
	}
	return d, nil
}

// faultError is a panic of bbolt, or a page of the map that can't be read.
type faultError struct{ cause any }

func (e *faultError) Error() string { return fmt.Sprintf("bbolt failed: %v", e.cause) }

// guard runs fn and returns its panics and memory faults as errors: a disk that
// can't be read under bbolt's map must not end the process (R5).
func guard(fn func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = &faultError{cause}
		}
	}()
	return fn()
}

// transact makes one durable transaction. Unlike bbolt's Update it does not roll back
// after a panic: a rollback reads the whole map, in a goroutine of bbolt's where a
// fault ends the process. So bbolt's locks stay taken after a faultError.
func transact(db *bbolt.DB, fn func(*bbolt.Tx) error) error {
	return guard(func() error {
		tx, err := db.Begin(true)
		if err != nil {
			return err
		}
		err = fn(tx)
		if err == nil && isProven(tx) {
			err = prove(tx)
		}
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	})
}

// makeReady leaves a log at path that is whole and can be continued in place. The
// caller holds the lock. torn is true if the last commit was torn and left out.
func makeReady(path string, singleSync bool, logger *zap.Logger) (torn bool, err error) {
	// Only a crash leaves a file of this name: it was never a log.
	if err := os.Remove(temporary(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("remove what a crash left: %w", err)
	}
	_, err = os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, explainFull(path, replace(path, withProofs(singleSync, writeEmpty)))
	}
	if err != nil {
		return false, fmt.Errorf("open log: %w", err)
	}
	claim, err := claimFile(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = claim.Close() }() // only read; before bbolt takes its own lock
	s, err := check(path)
	if err != nil {
		return false, err
	}
	if s.snapshot {
		return false, fmt.Errorf("%w: %s; put it in place with `assent log restore`, or Restore", ErrSnapshot, path)
	}
	if s.torn { // said before the copy is made, which does not show it
		logger.Warn("last commit was torn, and is left out: a power cut came before anybody was told of it, or the disk damaged it later",
			zap.String("path", path))
	}
	if !s.closed || s.sparse || s.proven != singleSync {
		// R5: what a failed fsync left in the page cache reads well, and is not on disk.
		write := func(db *bbolt.DB) error { return writeCopy(db, path, s.torn) }
		err := replace(path, withProofs(singleSync, write))
		if !isFull(err) {
			return s.torn, err
		}
		if s.torn || s.proven != singleSync {
			s.unfit = true // the commit before, or another kind of file, is only to be had as a copy
		}
		if err := withoutCopy(path, s, err, logger); err != nil {
			return false, err
		}
	}
	// A file whose name isn't durable is lost with its content.
	return false, syncDir(path)
}

// claimFile locks the log's file itself while it is examined and replaced. The lock
// file keeps owners apart, unless somebody removed it or gave the log a second
// name; a file that bbolt has open anywhere can't be claimed.
func claimFile(path string) (*os.File, error) {
	f, _, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		err = fmt.Errorf("%w: %s is open somewhere, though its lock file %s.lock is free: was that removed, or has the log two names?", wal.ErrLocked, path, path)
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// openRegular opens the file at path for reading and returns its size.
func openRegular(path string) (*os.File, int64, error) {
	info, err := os.Stat(path) // before opening: opening a pipe would wait
	if err != nil {
		return nil, 0, fmt.Errorf("open log: %w", err)
	}
	if !info.Mode().IsRegular() {
		what := "a directory"
		if !info.IsDir() {
			what = fmt.Sprintf("no regular file, but of type %s", info.Mode().Type())
		}
		return nil, 0, fmt.Errorf("%w: %s is %s; name the log's file", wal.ErrForeign, path, what)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("open log: %w", err)
	}
	return f, info.Size(), nil
}

func temporary(path string) string { return path + ".tmp" }

// replace makes a new log appear at path, whole and durable or not at all.
func replace(path string, write func(*bbolt.DB) error) error {
	temp := temporary(path)
	err := writeFile(temp, write)
	if err == nil {
		err = keepAccess(temp, path)
	}
	if err == nil {
		err = os.Rename(temp, path)
	}
	if err == nil {
		return syncDir(path)
	}
	if removeErr := os.Remove(temp); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return fmt.Errorf("write a new file for log %s: %w", path, err)
}

// keepAccess gives the new file the owner and the mode of the one whose place it takes,
// if there is one: whoever wrote it, a coordinator that could use the log still can.
func keepAccess(temp, path string) error {
	former, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if stat, ok := former.Sys().(*syscall.Stat_t); ok {
		err = os.Chown(temp, int(stat.Uid), int(stat.Gid))
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) { // only root may give a file away
		return err
	}
	return os.Chmod(temp, former.Mode().Perm()|0o600)
}

func writeFile(temp string, write func(*bbolt.DB) error) error {
	d, err := openDatabase(temp, 0)
	if err != nil {
		return err
	}
	if err = write(d.DB); err == nil {
		err = markClosed(d.DB)
	}
	return errors.Join(err, d.close(err))
}

// close ends bbolt's use of the file. After a faultError bbolt would wait for its
// own locks: then only the file is closed, and the map stays.
func (d database) close(cause error) error {
	var fault *faultError
	if errors.As(cause, &fault) {
		// The map would keep bbolt's lock.
		return errors.Join(syscall.Flock(int(d.file.Fd()), syscall.LOCK_UN), d.file.Close())
	}
	return d.Close()
}

// markClosed writes the mark of a clean close: every transaction before it is on disk.
func markClosed(db *bbolt.DB) error {
	proven := false
	mark := func(tx *bbolt.Tx) error {
		proven = isProven(tx)
		return tx.Bucket(metaBucket).Put(closedKey, sealed(closedKey))
	}
	err := transact(db, mark)
	if err == nil && proven {
		// Then the commit before is closed, too, and never taken instead of this one.
		err = transact(db, mark)
	}
	return err
}

func writeEmpty(db *bbolt.DB) error {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return transact(db, func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{logBucket, termsBucket, metaBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		meta := tx.Bucket(metaBucket)
		return errors.Join(
			meta.Put(formatKey, formatValue(format)),
			meta.Put(createdKey, sealed(createdKey, id[:]...)),
			meta.Put(countersKey, counters{}.value()))
	})
}

// writeCopy writes all that the log at path holds, but for a torn commit.
func writeCopy(db *bbolt.DB, path string, torn bool) error {
	f, size, err := openRegular(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	openCommit := openImage
	if torn {
		openCommit = openOlder
	}
	im, err := openCommit(f, size)
	if err != nil {
		return err
	}
	return copyImage(db, im)
}

func copyImage(db *bbolt.DB, im *image) error {
	buckets, err := im.buckets()
	if err != nil {
		return err
	}
	for _, bucket := range buckets {
		c := copier{db: db, bucket: slices.Clone(bucket.key)}
		if err := im.each(bucket, c.add); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
	return nil
}

// copier writes one bucket in transactions of a bounded size.
type copier struct {
	db     *bbolt.DB
	bucket []byte
	items  []item
	buf    []byte // holds them until the commit
}

func (c *copier) add(it item) error {
	if bytes.Equal(c.bucket, metaBucket) && bytes.Equal(it.key, proofKey) {
		return nil // every commit has its own, or none
	}
	if len(c.items) > 0 && len(c.buf)+len(it.key)+len(it.value) > copyBatch {
		if err := c.flush(); err != nil {
			return err
		}
	}
	begin := len(c.buf)
	c.buf = append(append(c.buf, it.key...), it.value...)
	both := c.buf[begin:len(c.buf):len(c.buf)]
	c.items = append(c.items, item{key: both[:len(it.key)], value: both[len(it.key):]})
	return nil
}

func (c *copier) flush() error {
	err := transact(c.db, func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists(c.bucket)
		if err != nil {
			return err
		}
		bucket.FillPercent = 1
		for _, it := range c.items {
			if err := bucket.Put(it.key, it.value); err != nil {
				return err
			}
		}
		return nil
	})
	c.items, c.buf = c.items[:0], c.buf[:0]
	return err
}

// syncDir makes the names in path's directory durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("sync the directory of log %s: %w", path, err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("sync the directory of log %s: %w", path, err)
	}
	return nil
}

// resolve follows links, so that one log has one lock file whatever it is called.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if !errors.Is(err, fs.ErrNotExist) {
		return real, err
	}
	if _, err := os.Lstat(abs); err == nil {
		return "", fmt.Errorf("%s is a link to nothing", abs)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(abs))
	return filepath.Join(dir, filepath.Base(abs)), err
}

// defaultMapSize is address space, not memory: bbolt stops all readers to map a
// file anew when it outgrows its map.
func defaultMapSize() int {
	if strconv.IntSize == 32 {
		return 64 << 20
	}
	return 1 << 30
}

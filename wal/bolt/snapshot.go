package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// ErrSnapshot says that a file is a snapshot of a log, which Open refuses: decisions
// that were made after it may be missing. Restore puts it in place, in quarantine.
var ErrSnapshot = errors.New("a snapshot, which is not opened as a log")

// Snapshot writes what the log holds now to a new file at path, while the log is
// used. The file is whole, checked and on disk when Snapshot returns nil, or not
// there at all. It is marked: Open refuses it, Restore and OpenReader take it.
//
// Appends go on meanwhile; only one for which the file would have to outgrow
// Options.MapSize waits, and so does Close. An error Is fs.ErrExist if there is a file
// at path.
func (s *Store) Snapshot(ctx context.Context, path string) error {
	var copying error // a fault of the copy is not the log's
	err := writeNew(path, func(db *bbolt.DB) error {
		err := s.view("make a snapshot", func(tx *bbolt.Tx) error {
			copying = copyBuckets(ctx, db, tx)
			return nil
		})
		return errors.Join(err, copying)
	})
	if err != nil {
		return fmt.Errorf("snapshot of log %s: %w", s.path, err)
	}
	return nil
}

// Snapshot writes what was read to a new file, as [Store.Snapshot] does. The log
// should not be in use; if it was written meanwhile, the error Is wal.ErrLocked.
func (r *Reader) Snapshot(path string) error {
	err := writeNew(path, func(db *bbolt.DB) error {
		return errors.Join(copyImage(db, r.fresh()), r.unchanged())
	})
	if err != nil {
		return fmt.Errorf("snapshot of log %s: %w", r.path, err)
	}
	return nil
}

func copyBuckets(ctx context.Context, db *bbolt.DB, tx *bbolt.Tx) error {
	return tx.ForEach(func(name []byte, bucket *bbolt.Bucket) error {
		c := copier{db: db, bucket: name}
		err := bucket.ForEach(func(key, value []byte) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return c.add(item{key: key, value: value})
		})
		if err != nil {
			return err
		}
		return c.flush()
	})
}

// writeNew makes a snapshot appear at path, whole and durable or not at all.
func writeNew(path string, write func(*bbolt.DB) error) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s: %w; nothing is overwritten, give another name", path, fs.ErrExist)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	name := temp.Name()
	err = temp.Close()
	if err == nil {
		err = writeFile(name, func(db *bbolt.DB) error {
			if err := write(db); err != nil {
				return err
			}
			return transact(db, func(tx *bbolt.Tx) error {
				return tx.Bucket(metaBucket).Put(snapshotKey, sealed(snapshotKey))
			})
		})
	}
	if err == nil {
		_, err = check(name) // as it can be read back
	}
	if err == nil {
		err = publish(name, path)
	}
	if removeErr := os.Remove(name); !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	return err
}

// publish gives the file the name path, unless there is one of that name.
func publish(name, path string) error {
	err := os.Link(name, path) // unlike a rename it never replaces anything
	if err != nil && !errors.Is(err, fs.ErrExist) {
		// A file system without links.
		if _, missing := os.Lstat(path); errors.Is(missing, fs.ErrNotExist) {
			err = os.Rename(name, path)
		}
	}
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s: %w; nothing is overwritten, give another name", path, fs.ErrExist)
	}
	if err != nil {
		return err
	}
	return syncDir(path)
}

package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/wal"
)

// RestoreOptions say how a log is restored.
type RestoreOptions struct {
	// Reason is kept in the log, with the quarantine. It must be there.
	Reason string
	// Replace lets a log that is there make room: it is renamed, never removed.
	Replace bool
	// Owner names who restores to people, as Config.Owner of a coordinator does.
	Owner string
}

// Restored is what became of the files.
type Restored struct {
	Path     string
	Domain   string
	Replaced string // the name that the former log has now; "" if there was none
}

// Restore puts a copy of a snapshot, or of another log that nobody uses, in place as
// the log at path, in quarantine: a coordinator that opens it is in safe mode until
// an operator accepts it (R10), because decisions that were made after the snapshot
// are not in it. Nothing that the snapshot holds is forgotten on the way. The log is
// in place, whole and durable, when Restore returns nil; at no moment there is none.
//
// An error Is fs.ErrExist if there is a log and Replace is not set, one of OpenReader
// for the snapshot, or wal.ErrLocked if the log at path is in use.
func Restore(ctx context.Context, snapshot, path string, opts RestoreOptions) (Restored, error) {
	r, err := OpenReader(snapshot)
	if err != nil {
		return Restored{}, err
	}
	defer func() { _ = r.Close() }() // only read
	contents, err := wal.Read(ctx, r)
	if err == nil && contents.Domain == "" {
		err = errors.New("no coordinator ever used it: there is nothing to restore")
	}
	if err != nil {
		return Restored{}, fmt.Errorf("restore %s: %w", snapshot, err)
	}
	if path, err = resolve(path); err != nil {
		return Restored{}, fmt.Errorf("restore %s: %w", snapshot, err)
	}
	lock, err := acquire(path, 0)
	if err != nil {
		return Restored{}, err
	}
	restored := restoring{reader: r, path: path, domain: contents.Domain, opts: opts}
	replaced, err := restored.run(ctx)
	if err = errors.Join(err, lock.Close()); err != nil {
		return Restored{}, fmt.Errorf("restore %s to %s: %w", snapshot, path, err)
	}
	return Restored{Path: path, Domain: contents.Domain, Replaced: replaced}, nil
}

// restoring holds the lock of the log at path.
type restoring struct {
	reader *Reader
	path   string
	domain string
	opts   RestoreOptions
	epoch  uint64 // the last one of the log that is replaced, if that can be read
}

func (r *restoring) run(ctx context.Context) (replaced string, err error) {
	former, err := os.Lstat(r.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	case !r.opts.Replace:
		return "", fmt.Errorf("%w: give another name, or ask for it to be replaced (--force): it is renamed then, not removed", fs.ErrExist)
	default:
		if in, err := r.reader.file.Stat(); err == nil && os.SameFile(in, former) {
			return "", errors.New("it can't be restored from itself")
		}
		claim, err := claimFile(r.path)
		if err != nil {
			return "", err
		}
		defer func() { _ = claim.Close() }() // only read
		// It may be damaged: that is why it is replaced.
		if lost, err := OpenReader(r.path); err == nil {
			r.epoch = lost.Info().Epoch
			_ = lost.Close() // only read
		}
	}
	dir, err := workDir(r.path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	temp := filepath.Join(dir, filepath.Base(r.path))
	if err := r.write(ctx, temp); err != nil {
		return "", err
	}
	if former != nil {
		if err := keepAccess(temp, r.path); err != nil {
			return "", err
		}
		if replaced, err = setAside(r.path); err != nil {
			return "", err
		}
	}
	if err := os.Rename(temp, r.path); err != nil {
		return "", err
	}
	return replaced, syncDir(r.path)
}

// workDir makes a directory beside the log at path, and removes what crashes left of
// such ones. The caller holds the lock.
func workDir(path string) (string, error) {
	parent, prefix := filepath.Dir(path), "."+filepath.Base(path)+".restore-"
	names, err := os.ReadDir(parent)
	if err != nil {
		return "", err
	}
	for _, name := range names {
		number, ours := strings.CutPrefix(name.Name(), prefix)
		if _, err := strconv.ParseUint(number, 10, 64); !ours || err != nil || !name.IsDir() {
			continue
		}
		if err := os.RemoveAll(filepath.Join(parent, name.Name())); err != nil {
			return "", fmt.Errorf("remove what a crash left: %w", err)
		}
	}
	return os.MkdirTemp(parent, prefix+"*")
}

// write makes the log that is to be put in place.
func (r *restoring) write(ctx context.Context, temp string) error {
	err := replace(temp, func(db *bbolt.DB) error {
		if err := copyImage(db, r.reader.fresh()); err != nil {
			return err
		}
		return transact(db, func(tx *bbolt.Tx) error {
			return errors.Join(leap(tx, r.epoch, time.Now()), tx.Bucket(metaBucket).Delete(snapshotKey))
		})
	})
	if err = errors.Join(err, r.reader.unchanged()); err != nil {
		return err
	}
	if err := r.quarantine(ctx, temp); err != nil {
		return err
	}
	_, err = check(temp)
	return err
}

const (
	// epochLeap is more than the epochs that a log gives in its life: it is opened less
	// than 2^24 times, and gives two each time.
	epochLeap = 1 << 26
	// epochsPerMilli is more than it gives in a millisecond.
	epochsPerMilli = 1 << 10
)

// leap raises the epoch above all that was given after the copy was made, by the lost
// log and by those that were restored from the same copy before: participants refuse a
// lower one than they have seen (R9). What is restored twice leaps from the same
// number. So it leaps above the last epoch of the log that it replaces, too, and,
// because that may be gone, as far as the clock has gone on.
func leap(tx *bbolt.Tx, replaced uint64, now time.Time) error {
	c, err := readCounters(tx)
	if err != nil {
		return err
	}
	c.epoch = max(c.epoch+epochLeap, replaced, uint64(max(now.UnixMilli(), 0))*epochsPerMilli)
	return tx.Bucket(metaBucket).Put(countersKey, c.value())
}

// quarantine writes the word into the log itself: so it holds whatever opens the
// log, and through crashes (R10).
func (r *restoring) quarantine(ctx context.Context, temp string) error {
	// Whether a coordinator may work on this file system is for its own options to say.
	store, err := Open(temp, &Options{MapSize: int(max(1<<20, 2*min(r.reader.info.Size, 1<<29))), AllowNetworkFS: true})
	if err != nil {
		return err
	}
	log, _, err := wal.Open(ctx, store, wal.Config{
		Domain: r.domain, Owner: r.opts.Owner,
		Retention: math.MaxInt64, RetainBytes: math.MaxInt64, // nothing is forgotten
	})
	if err == nil {
		err = errors.Join(log.Quarantine(ctx, r.opts.Reason), log.Close(ctx))
	}
	return errors.Join(err, store.Close())
}

// setAside gives the log at path a second name, so that there is one at path until
// another takes its place: a coordinator that finds none would begin a new log.
func setAside(path string) (aside string, err error) {
	stamp := path + ".replaced-" + time.Now().UTC().Format("20060102T150405Z")
	for n := 1; ; n++ {
		aside = stamp
		if n > 1 {
			aside = fmt.Sprintf("%s-%d", stamp, n)
		}
		if err = os.Link(path, aside); !errors.Is(err, fs.ErrExist) {
			break
		}
	}
	if err != nil {
		return "", fmt.Errorf("keep the former log beside the new one: %w; move it away and restore again", err)
	}
	return aside, syncDir(path)
}

package bolt

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	"go.uber.org/zap"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

// Options are settings of a log. The zero value is the default.
type Options struct {
	// LockWait is how long Open waits for another process to let go of the log.
	// 0: not at all.
	LockWait time.Duration
	// MapSize is the address space in bytes that is reserved for the file; it is
	// not memory. 0: 1 GiB, 64 MiB on a 32-bit machine.
	MapSize int
	// SingleSync makes a commit cost one fdatasync instead of two: about 1.5 times as
	// many transactions with one client. The price: if the disk damages what the
	// last commit wrote before the log is closed, the next Open may leave that
	// commit out instead of failing. The text of the package says why, and what
	// else is trusted. A log that was written with the other setting is copied.
	SingleSync bool
	// AllowNetworkFS opens a log on a network file system, too.
	AllowNetworkFS bool
	// Logger gets warnings about where the log lies and what it lacks; nil for
	// silence.
	Logger *zap.Logger
}

func (o *Options) logger() *zap.Logger {
	if o.Logger == nil {
		return zap.NewNop()
	}
	return o.Logger
}

// Store is a [wal.Store] in one bbolt file. Safe for concurrent use.
type Store struct {
	path    string
	lock    *os.File
	logger  *zap.Logger
	db      database
	torn    bool // set at open
	commits atomic.Uint64

	// Every call holds gate for reading, Close for writing: nothing can follow the
	// mark of a clean close.
	gate   sync.RWMutex
	closed bool

	// writing is held for each transaction, so that nobody waits for bbolt's own
	// lock, which a failed one may never give back.
	writing sync.Mutex
	space   space

	// failed is set once, by the first transaction that failed (R5).
	failed atomic.Pointer[failure]

	// terms serialises what changes the owner of a term. It guards live and claimed.
	terms   sync.Mutex
	live    map[participant.Term]string // the owners that use this store
	claimed map[participant.Term]claim
}

type failure struct{ error }

// Open opens the log at path, and begins one if there is none; a nil opts means
// the defaults. When it returns, what the log holds is on disk, and no other
// process can write it until Close.
//
// An error Is wal.ErrLocked, wal.ErrDamaged, wal.ErrNewer, wal.ErrForeign, wal.ErrFull
// or [ErrNetworkFS], or comes from the operating system. None of them changed what
// the log holds.
func Open(path string, opts *Options) (*Store, error) {
	if opts == nil {
		opts = &Options{}
	}
	mapSize := opts.MapSize
	if mapSize == 0 {
		mapSize = defaultMapSize()
	}
	path, err := resolve(path)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	on, err := fileSystemOf(path)
	if err == nil {
		err = on.judge(path, opts)
	}
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	// Before anything is opened, made or renamed.
	lock, err := acquire(path, opts.LockWait)
	if err != nil {
		return nil, err
	}
	s := &Store{path: path, lock: lock, logger: opts.logger(), space: space{unsure: on.copies}, live: map[participant.Term]string{}, claimed: map[participant.Term]claim{}}
	if err := s.open(mapSize, opts.SingleSync); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return s, nil
}

func (s *Store) open(mapSize int, singleSync bool) (err error) {
	if s.torn, err = makeReady(s.path, singleSync, s.logger); err != nil {
		return err
	}
	if s.db, err = openDatabase(s.path, mapSize); err != nil {
		return err
	}
	// If there is no more space, what the file has may do. A failure is the next
	// transaction's answer, too.
	_ = s.take(s.headroom())
	// From here on a crash leaves a log that isn't continued in place (R5).
	err = s.update("begin to use it", func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Delete(closedKey)
	})
	if err != nil {
		return errors.Join(err, s.db.close(err))
	}
	// From here on: the commit before is a closed log's, which a torn one can't go back to.
	s.db.once = singleSync
	return nil
}

// Stats describes a store since it was opened.
type Stats struct {
	FileBytes int64  // size of the file; it grows in steps of 16 MiB
	UsedBytes int64  // of it, in pages in use; the rest is kept for what comes
	Commits   uint64 // durable transactions, two fdatasyncs each, with SingleSync one
	// Torn says that Open found the last commit torn and left it out, which only
	// happens with SingleSync: a power cut came before anybody was told that it is
	// durable, or it was damaged later.
	Torn bool
}

// Stats returns the figures of now.
func (s *Store) Stats() (Stats, error) {
	info, err := os.Stat(s.path)
	if err != nil {
		return Stats{}, fmt.Errorf("size of the log: %w", err)
	}
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.usable(); err != nil {
		return Stats{}, fmt.Errorf("size of the log: %w", err)
	}
	used, err := s.used()
	return Stats{FileBytes: info.Size(), UsedBytes: used, Commits: s.commits.Load(), Torn: s.torn}, err
}

var errReplaced = errors.New("its file was removed or replaced while it was open")

// refusal is why a transaction is not made: the log is as it was, and in order.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// update makes one durable transaction. After any failure but a refusal the result
// is unknown, and the store never writes again (R5): what bbolt then reads may not
// be what is on disk. The caller may change what fn gave to bbolt only afterwards.
func (s *Store) update(what string, fn func(*bbolt.Tx) error) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	err := s.db.commit(fn)
	if r := (refusal{}); errors.As(err, &r) {
		return fmt.Errorf("%s: %w", what, r.error)
	}
	if err == nil && unlinked(s.db.file) {
		err = errReplaced
	}
	if err != nil {
		return s.fail(what, explainFull(s.path, err))
	}
	s.commits.Add(1)
	return nil
}

// view reads the last commit.
func (s *Store) view(what string, fn func(*bbolt.Tx) error) error {
	s.gate.RLock()
	defer s.gate.RUnlock()
	if err := s.usable(); err != nil {
		return err
	}
	err := guard(func() error { return s.db.View(fn) })
	var fault *faultError
	if errors.As(err, &fault) {
		return s.fail(what, err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *Store) usable() error {
	if s.closed {
		return wal.ErrClosed
	}
	if f := s.failed.Load(); f != nil {
		return f.error
	}
	return nil
}

// fail makes all later calls fail as this one did.
func (s *Store) fail(what string, err error) error {
	err = fmt.Errorf("%s: log %s failed: %w; reopen it to learn what is durable", what, s.path, err)
	s.failed.CompareAndSwap(nil, &failure{err})
	return err
}

// Close is a [wal.Store]'s. It waits for calls at work. A log that was closed
// without an error is opened again without being copied. A second Close does
// nothing.
func (s *Store) Close() error {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	err := s.closeDatabase()
	if err != nil {
		err = fmt.Errorf("close log %s: %w", s.path, err)
	}
	// The lock goes last.
	return errors.Join(err, s.lock.Close())
}

func (s *Store) closeDatabase() error {
	if f := s.failed.Load(); f != nil {
		return s.db.close(f.error) // without the mark: the next Open makes a copy (R5)
	}
	err := markClosed(s.db.DB)
	return errors.Join(err, s.db.close(err))
}

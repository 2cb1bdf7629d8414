package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

// Reader reads a log's file, or a snapshot of one, without changing anything: it
// takes no lock, maps nothing and writes nothing, so it can't get in the way of a
// coordinator. It is a [wal.Source]. Used by one goroutine.
type Reader struct {
	path  string
	file  *os.File
	image image
	print []byte // the meta pages as they were
	info  FileInfo
}

// FileInfo describes a log's file.
type FileInfo struct {
	Path string
	Size int64 // bytes
	// PageSize is in bytes. Of Pages, UsedPages hold something; the rest is free to
	// be used again.
	PageSize  int64
	Pages     int64
	UsedPages int64
	Format    uint32
	// Identity is that of the log; copies have the same.
	Identity [16]byte
	// Closed: the log was closed cleanly. Else it is in use, or its process died.
	Closed bool
	// Torn: the last commit is torn, and left out as Open would (SingleSync).
	Torn bool
	// Snapshot: the file is to be restored, and is not opened as a log.
	Snapshot bool
	// Opened is how many terms were ever opened, Epoch the highest that was given.
	Opened uint32
	Epoch  uint64
	Terms  []TermInfo // that the file holds, in the order of their numbers
}

// TermInfo describes a term in the file. It has the segments Oldest to Newest; none
// if Oldest is Newest+1.
type TermInfo struct {
	Term           participant.Term
	Epoch          uint64
	Owner          string // the last one
	Oldest, Newest uint64
}

// readAttempts is how often a file that changes is read anew.
const readAttempts = 3

// OpenReader reads the whole file at path and checks it as Open would. Errors are
// Open's; wal.ErrLocked says that the file was written while it was read, by the
// coordinator that uses it. A log in use can be read while nothing happens in it.
func OpenReader(path string) (*Reader, error) {
	path, err := resolve(path)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	for attempt := 1; ; attempt++ {
		r, err := openReader(path)
		if !errors.Is(err, wal.ErrLocked) || attempt == readAttempts {
			return r, err
		}
	}
}

func openReader(path string) (*Reader, error) {
	f, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	r := &Reader{path: path, file: f}
	if r.print, err = fingerprint(f); err == nil {
		err = r.load(size)
	}
	if err != nil {
		if changed := r.unchanged(); errors.Is(changed, wal.ErrLocked) {
			err = changed // what looks like damage is a write under way
		}
		return nil, errors.Join(err, f.Close())
	}
	if err := r.unchanged(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func (r *Reader) load(size int64) error {
	im, s, err := examine(r.file, size, checkProof)
	if err != nil {
		return explain(r.path, err)
	}
	r.image = *im
	r.info = FileInfo{
		Path: r.path, Size: size, PageSize: im.pageSize, Pages: size / im.pageSize, UsedPages: im.used + 2,
		Closed: s.closed, Torn: s.torn, Snapshot: s.snapshot,
	}
	if err := r.describe(); err != nil {
		return explain(r.path, err)
	}
	return nil
}

// fresh returns the image as of the same commit, to be walked through once more.
func (r *Reader) fresh() *image {
	im := r.image
	im.seen, im.used = make([]bool, im.meta.highWater), 0
	return &im
}

// bucket calls fn with the items of one of the three buckets.
func (r *Reader) bucket(name []byte, fn func(item) error) error {
	im := r.fresh()
	buckets, err := im.buckets()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(buckets, func(b item) bool { return bytes.Equal(b.key, name) })
	if i < 0 {
		return errNotLog
	}
	return im.each(buckets[i], fn)
}

// describe reads what was checked already.
func (r *Reader) describe() error {
	err := r.bucket(metaBucket, func(it item) (err error) {
		switch string(it.key) {
		case string(formatKey):
			r.info.Format, _ = parseFormat(it.value)
		case string(createdKey):
			var id []byte
			id, err = unseal(it.key, it.value)
			copy(r.info.Identity[:], id)
		case string(countersKey):
			var c counters
			c, err = parseCounters(it.value)
			r.info.Opened, r.info.Epoch = c.terms, c.epoch
		}
		return err
	})
	if err != nil {
		return err
	}
	return r.bucket(termsBucket, func(it item) error {
		term, err := parseTermKey(it.key)
		if err != nil {
			return err
		}
		e, err := parseEntry(it.key, it.value)
		if err != nil {
			return err
		}
		r.info.Terms = append(r.info.Terms, TermInfo{Term: term, Epoch: e.epoch, Owner: e.owner, Oldest: e.low, Newest: e.high})
		return nil
	})
}

// Info returns what OpenReader found.
func (r *Reader) Info() FileInfo { return r.info }

// Terms is a [wal.Source]'s.
func (r *Reader) Terms() []participant.Term {
	var terms []participant.Term
	for _, t := range r.info.Terms {
		terms = append(terms, t.Term)
	}
	return terms
}

// Scan is a [wal.Source]'s. wal.ErrNoTerm if the file does not hold the term;
// wal.ErrLocked if the file was written meanwhile, and fn may have been told
// nonsense.
func (r *Reader) Scan(ctx context.Context, term participant.Term, fn func(seq uint64, segment []byte) error) error {
	what := fmt.Sprintf("scan term %s", term)
	if !slices.Contains(r.Terms(), term) {
		return fmt.Errorf("%s: %w", what, wal.ErrNoTerm)
	}
	var chunks sequence
	var segment []byte
	err := r.bucket(logBucket, func(it item) error {
		frames, err := chunks.next(it.key, it.value)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || chunks.key.term != term {
			return err
		}
		if chunks.key.chunk == 0 {
			segment = segment[:0]
		}
		if segment = append(segment, frames...); chunks.follow > 0 {
			return nil
		}
		return fn(chunks.key.seq, segment)
	})
	if changed := r.unchanged(); changed != nil {
		return fmt.Errorf("%s: %w", what, changed)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// unchanged returns nil if the file is still as OpenReader found it; else an error
// that Is wal.ErrLocked. bbolt never overwrites a page of the last commit, and
// writes a meta page last: while those stay, so does what they lead to.
func (r *Reader) unchanged() error {
	now, err := fingerprint(r.file)
	if err != nil {
		return fmt.Errorf("read log %s: %w", r.path, err)
	}
	if !bytes.Equal(now, r.print) {
		return fmt.Errorf("%w: %s was written while it was read: %s, or have that program make a snapshot (Store.Snapshot) and read that",
			wal.ErrLocked, r.path, writerOf(r.path))
	}
	return nil
}

// Close ends the use of the file.
func (r *Reader) Close() error { return r.file.Close() }

// fingerprint returns both meta pages, as much as is there of them.
func fingerprint(f io.ReaderAt) ([]byte, error) {
	const n = pageHeaderSize + metaSize
	print := make([]byte, n, 2*n)
	if err := readSome(f, print, 0); err != nil {
		return nil, err
	}
	pageSize := binary.NativeEndian.Uint32(print[pageHeaderSize+8:])
	if pageSize < minPage || pageSize > maxPage {
		return print, nil
	}
	print = print[:2*n]
	return print, readSome(f, print[n:], int64(pageSize))
}

// readSome is satisfied with a file that ends early.
func readSome(f io.ReaderAt, b []byte, at int64) error {
	if _, err := f.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return &readError{err}
	}
	return nil
}

// writerOf says who uses the log, by its lock file.
func writerOf(path string) string {
	f, err := os.Open(path + ".lock")
	if err != nil {
		return "stop the program that uses it"
	}
	defer func() { _ = f.Close() }() // only read
	return holder(f)
}

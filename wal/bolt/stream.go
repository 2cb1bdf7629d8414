package bolt

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

// stream is a [wal.Stream]. Its buffers are reused: one goroutine at a time.
type stream struct {
	store    *Store
	term     participant.Term
	epoch    uint64
	released bool

	ends   []int
	values []byte
}

func (s *stream) Term() participant.Term { return s.term }
func (s *stream) Epoch() uint64          { return s.epoch }

// Lost is nil: while the store is open, nobody else can take a term over.
func (s *stream) Lost() <-chan struct{} { return nil }

// Append is a [wal.Stream]'s. It never returns wal.ErrRepeat, and refuses a number
// that is there already.
func (s *stream) Append(ctx context.Context, seq uint64, segment []byte, drop []uint64) error {
	what := fmt.Sprintf("append segment %d to term %s", seq, s.term)
	var err error
	if s.ends, err = cut(s.ends[:0], segment); err == nil {
		err = ctx.Err() // a commit that has begun can't be called back
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.store.update(what, func(tx *bbolt.Tx) error {
		e, err := s.own(tx)
		if err != nil {
			return err
		}
		if seq != e.high+1 {
			return refusal{fmt.Errorf("the last one is %d", e.high)}
		}
		low, err := dropPrefix(e, drop)
		if err != nil {
			return refusal{err}
		}
		log := tx.Bucket(logBucket)
		log.FillPercent = 1 // keys only ever come at the end
		if err := deleteSegments(log, s.term, e.low, low); err != nil {
			return err
		}
		if err := s.put(log, seq, segment); err != nil {
			return err
		}
		e.low, e.high = low, seq
		return putEntry(tx, s.term, e)
	})
}

// own returns the term's entry, or refuses because it is not this stream's any
// more. In the same transaction as the write, so that nothing comes between (R9).
func (s *stream) own(tx *bbolt.Tx) (entry, error) {
	e, err := readEntry(tx, s.term)
	if errors.Is(err, wal.ErrNoTerm) || (err == nil && (s.released || e.epoch != s.epoch)) {
		return entry{}, refusal{fmt.Errorf("epoch %d: %w", s.epoch, wal.ErrFenced)}
	}
	return e, err
}

// put stores the segment whose chunks end at s.ends.
func (s *stream) put(log *bbolt.Bucket, seq uint64, segment []byte) error {
	// bbolt copies keys but keeps values until the commit: they lie side by side
	// in a buffer that only the next Append changes.
	s.values = s.values[:0]
	key := make([]byte, 0, chunkKeySize)
	begin := 0
	for i, end := range s.ends {
		key = chunkKey{term: s.term, seq: seq, chunk: uint32(i)}.append(key[:0])
		at := len(s.values)
		s.values = appendChunk(s.values, key, len(s.ends)-1-i, segment[begin:end])
		if err := log.Put(key, s.values[at:len(s.values):len(s.values)]); err != nil {
			return err
		}
		begin = end
	}
	return nil
}

// dropPrefix returns the number of the first segment that is left. Only the oldest
// ones can be dropped: then one that is missing in between is damage.
func dropPrefix(e entry, drop []uint64) (uint64, error) {
	for i, seq := range slices.Sorted(slices.Values(drop)) {
		if seq != e.low+uint64(i) || seq > e.high {
			return 0, fmt.Errorf("drop segments %v: the oldest are %d to %d", drop, e.low, e.high)
		}
	}
	return e.low + uint64(len(drop)), nil
}

// deleteSegments deletes those from low to below high.
func deleteSegments(log *bbolt.Bucket, term participant.Term, low, high uint64) error {
	if low == high {
		return nil
	}
	// Collected first: a cursor loses its place when keys go.
	var keys [][]byte
	cursor := log.Cursor()
	for key, _ := cursor.Seek(chunkKey{term: term, seq: low}.append(nil)); key != nil; key, _ = cursor.Next() {
		k, err := parseChunkKey(key)
		if err != nil {
			return fmt.Errorf("%w: %w", wal.ErrDamaged, err)
		}
		if k.term != term || k.seq >= high {
			break
		}
		keys = append(keys, key)
	}
	for _, key := range keys {
		if err := log.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// Release is a [wal.Stream]'s. The owner's name is forgotten with the process.
func (s *stream) Release(context.Context) error {
	s.store.terms.Lock()
	defer s.store.terms.Unlock()
	err := s.store.view(fmt.Sprintf("release term %s", s.term), func(tx *bbolt.Tx) error {
		_, err := s.own(tx)
		return err
	})
	if err != nil {
		return err
	}
	s.released = true
	delete(s.store.live, s.term)
	return nil
}

// Delete is a [wal.Stream]'s.
func (s *stream) Delete(ctx context.Context) error {
	what := fmt.Sprintf("delete term %s", s.term)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.store.terms.Lock()
	defer s.store.terms.Unlock()
	err := s.store.update(what, func(tx *bbolt.Tx) error {
		e, err := s.own(tx)
		if err != nil {
			return err
		}
		if err := deleteSegments(tx.Bucket(logBucket), s.term, e.low, e.high+1); err != nil {
			return err
		}
		return tx.Bucket(termsBucket).Delete(termKey(s.term))
	})
	if err == nil {
		delete(s.store.live, s.term)
	}
	return err
}

// Scan is a [wal.Store]'s. Each segment is read by itself: a transaction that lasts
// would keep bbolt from reusing pages.
func (s *Store) Scan(ctx context.Context, term participant.Term, fn func(seq uint64, segment []byte) error) error {
	what := fmt.Sprintf("scan term %s", term)
	var e entry
	err := s.view(what, func(tx *bbolt.Tx) (err error) {
		e, err = readEntry(tx, term)
		return err
	})
	var segment []byte
	for seq := e.low; err == nil && seq <= e.high; seq++ {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		err = s.view(what, func(tx *bbolt.Tx) (err error) {
			segment, err = readSegment(tx, term, seq, segment[:0])
			return err
		})
		if err == nil {
			err = fn(seq, segment)
		}
	}
	return err
}

// readSegment appends the segment's frames to dst. Chunks that are missing or
// changed are wal.ErrDamaged.
func readSegment(tx *bbolt.Tx, term participant.Term, seq uint64, dst []byte) ([]byte, error) {
	chunks := sequence{key: chunkKey{term: term, seq: seq - 1}}
	cursor := tx.Bucket(logBucket).Cursor()
	key, value := cursor.Seek(chunkKey{term: term, seq: seq}.append(nil))
	for {
		if key == nil {
			return nil, fmt.Errorf("%w: segment %d of term %s is missing or lacks its end", wal.ErrDamaged, seq, term)
		}
		frames, err := chunks.next(key, value)
		if err == nil && (chunks.key.term != term || chunks.key.seq != seq) {
			err = fmt.Errorf("segment %d of term %s is missing", seq, term)
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", wal.ErrDamaged, err)
		}
		dst = append(dst, frames...)
		if chunks.follow == 0 {
			return dst, nil
		}
		key, value = cursor.Next()
	}
}

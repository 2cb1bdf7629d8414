package wal

import "fmt"

const (
	// admission is how many bytes of room a byte of Begun or Enlisted takes: itself,
	// what will be appended to end the transaction, and both of them again, when
	// the next Open re-writes what it finds.
	admission = 4
	// uncounted is room for what is not counted: headers, what participants say, and
	// carried transactions while what they replace is still there.
	uncounted = 6 << 20

	// maxQueued is how many bytes of records may wait for the store before no
	// transaction can begin (R12). Those that have begun go on: what they may still
	// append is bounded.
	maxQueued = 64 << 20
)

// room is how much may still begin, as the store has it. Guarded by Log.mu.
type room struct {
	bytes   int64 // of Begun and Enlisted, queued or to come
	short   error // why the store keeps less than it was asked for, or nothing may begin
	refused bool  // somebody was, since the store was asked
}

// admit returns why no more bytes of Begun and Enlisted are taken (R12). A full
// store is met here, before a decision could fail for it (R5). mu is held.
func (l *Log) admit(size int) error {
	if l.queued+size > maxQueued {
		return fmt.Errorf("%w: %d bytes wait for the store", ErrFull, l.queued)
	}
	if int64(l.queued+size) <= l.room.bytes && l.room.short == nil {
		return nil
	}
	l.room.refused = true
	l.signal()
	if l.room.short != nil {
		return fmt.Errorf("%w: no room for more than what has begun: %w", ErrFull, l.room.short)
	}
	return fmt.Errorf("%w: %d bytes wait for a store with little room", ErrFull, l.queued)
}

// refused reports whether somebody was since the store was asked for room: an idle
// log learns by it that there is room again.
func (l *Log) refused() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.room.refused
}

// reserve has the store keep room for all that may follow although nothing more
// begins. Only who has the turn may call it.
func (l *Log) reserve() {
	l.mu.Lock()
	queued := l.queued
	l.mu.Unlock()
	due := l.segments.outstanding()
	have, err := l.stream.Reserve(due + admission*int64(queued+l.config.sizes.maxBatch))
	if l.exhausted != nil {
		err = l.exhausted
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.room = room{bytes: (have - due) / admission, short: err}
}

// outstanding is how many bytes may be appended until all that is live has ended
// and a next Open has re-written everything beside what is there. There may be two more
// catalogues then: one that replaces one, and one of an Open that was interrupted.
func (s *segments) outstanding() int64 {
	return s.bytes + 2*s.live + 2*s.catalogueBytes + uncounted
}

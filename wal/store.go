package wal

import (
	"context"
	"errors"

	"github.com/assent-tm/assent/participant"
)

// Errors that a Store gives and the log decides on.
var (
	// ErrFenced says that another coordinator has taken the term over (R9). From
	// a first attempt to append it means not written; after an attempt whose
	// result was unknown it is unknown, too.
	ErrFenced = errors.New("log term was taken over by another coordinator")
	// ErrRepeat marks an append error after which the same call is to be
	// repeated until it succeeds or is fenced. The driver makes repetition safe.
	ErrRepeat = errors.New("append outcome unknown, repeat")
	// ErrOwned says that a term has a live owner and can't be taken over.
	ErrOwned = errors.New("log term has a live owner")
	// ErrNoTerm says that the store holds no such term.
	ErrNoTerm = errors.New("no such log term")
	// ErrLocked says that the log is open already, in this process or another.
	ErrLocked = errors.New("log is in use")
	// ErrTermsExhausted says that the log was opened so often that it has no number, or
	// no room in its list, for another term (R9).
	ErrTermsExhausted = errors.New("log was opened too often")
	// ErrDamaged says that what is stored can't be what was written.
	ErrDamaged = errors.New("log is damaged")
	// ErrNewer says that a newer program wrote the log.
	ErrNewer = errors.New("log was written by a newer program")
	// ErrForeign says that the log is another domain's, or no log of ours.
	ErrForeign = errors.New("not this coordinator's log")
	// ErrClosed says that the log was closed.
	ErrClosed = errors.New("log is closed")
)

// Store is what a driver promises: a set of terms, each one coordinator's stream
// of segments (R9). Safe for concurrent use. The suite wal/waltest checks every
// promise made here.
type Store interface {
	// Open begins a fresh term whose number was never used before and is higher
	// than any other in the store. The term is durable when Open returns.
	// ErrTermsExhausted if there is no such number.
	Open(ctx context.Context, owner string) (Stream, error)

	// Orphans returns the terms without a live owner, oldest first, and a
	// channel with those that lose their owner later; nil if that can't happen
	// while this store is open. The channel is closed when ctx ends.
	Orphans(ctx context.Context) (now []participant.Term, later <-chan participant.Term, err error)

	// TakeOver makes the caller the owner of an orphan. When it returns, no
	// append of a former owner can succeed any more, and that is durable: only
	// then may what the term holds be told to anyone (R9). ErrOwned if another
	// was first, ErrNoTerm if the term is gone.
	TakeOver(ctx context.Context, term participant.Term, owner string) (Stream, error)

	// Scan calls fn with each segment of the term in the order of their numbers.
	// Call it only for a term one owns. fn must not keep the segment. A segment
	// that is not as it was appended is ErrDamaged, never left out.
	Scan(ctx context.Context, term participant.Term, fn func(seq uint64, segment []byte) error) error

	// Owner returns who owns the term; "" for an orphan. known is false when the
	// store does not hold the term (any more).
	Owner(ctx context.Context, term participant.Term) (owner string, known bool, err error)

	// Close releases what the store holds. Streams are of no use afterwards.
	Close() error
}

// Stream is the right to write one term. It is used by one goroutine at a time.
type Stream interface {
	// Term returns the term's number.
	Term() participant.Term

	// Epoch returns the number that requests of this owner carry for the
	// transactions in the term. It is not lower than any that the store gave
	// before, and higher than any it gave a former owner (R9): a transaction moves
	// from term to term, and its epochs must rise.
	Epoch() uint64

	// Append stores a segment and drops others: durable when it returns nil, all
	// or nothing. seq is 1 for the first segment of a term and else one more than
	// that of the last successful append; a taken-over term is continued after its
	// last segment. drop names the oldest segments that the term holds, without a
	// gap, so that one that is missing later is damage; anything else is refused.
	// A segment is a sequence of whole record frames; the driver must not modify or
	// keep it.
	//
	// Any error but ErrFenced leaves the result unknown (R5): if it Is ErrRepeat
	// the caller repeats the same call, else it never appends again.
	Append(ctx context.Context, seq uint64, segment []byte, drop []uint64) error

	// Reserve keeps space for segments of so many bytes, beside those that the
	// store holds, and returns for how many there will be space: those kept, and what
	// others will hardly take before the next call. An error says that fewer than
	// asked for are kept, and what would help. It costs next to nothing while they
	// are. Advice only, as Lost is: an append may succeed without, and fail with it.
	// A store that can't run out of space returns math.MaxInt64.
	Reserve(bytes int64) (int64, error)

	// Lost is closed when the driver believes that the term was or will soon be
	// taken over. Advice only: safety rests on Append's compare. May be nil.
	Lost() <-chan struct{}

	// Release gives the term up at once, as it is, for another to take over.
	Release(ctx context.Context) error

	// Delete removes the term with all its segments, durably.
	Delete(ctx context.Context) error
}

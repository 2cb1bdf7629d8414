// Package staging keeps in memory what branches do before they are prepared, for
// participants whose service has no transactions of its own: a queue, a key-value
// store. Nothing of it is durable; what a process staged is lost with it, and its
// transactions are then rolled back.
package staging

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/assent-tm/assent/participant"
)

var (
	// ErrRolledBack is what a session's methods return once its branch was rolled back,
	// by the transaction's timeout perhaps. What it staged is gone.
	ErrRolledBack = errors.New("the branch was rolled back")
	// ErrFinished is what they return once the branch was asked for its vote.
	ErrFinished = errors.New("the session is over: its transaction is being committed")
	// ErrLimit says that a bound was reached.
	ErrLimit = errors.New("over a limit")
)

// sessionOverhead is what a session is taken to cost beside its items.
const sessionOverhead = 512

// Defaults of Limits.
const (
	DefaultBytes = 1 << 20
	DefaultTotal = 256 << 20
)

// Limits bound what is staged (R12).
type Limits struct {
	// Items and Bytes bound one branch, Total the bytes of all together.
	Items, Bytes, Total int
	// What the items are called, in errors; Name is that of the field for Items.
	What, Name string
}

// WithDefaults returns the limits with these many items, and the package's defaults,
// where they are 0.
func (l Limits) WithDefaults(items int) Limits {
	if l.Items == 0 {
		l.Items = items
	}
	if l.Bytes == 0 {
		l.Bytes = DefaultBytes
	}
	if l.Total == 0 {
		l.Total = max(DefaultTotal, l.Bytes)
	}
	return l
}

// Wrong tells what is wrong with limits of which a branch may have these at most; "" if
// nothing is.
func (l Limits) Wrong(items, bytes int) string {
	switch {
	case l.Items < 1 || l.Items > items:
		return fmt.Sprintf("%s %d is not 1 to %d", l.Name, l.Items, items)
	case l.Bytes < 1 || l.Bytes > bytes:
		return fmt.Sprintf("Config.MaxBytes %d is not 1 to %d", l.Bytes, bytes)
	case l.Total < l.Bytes:
		return fmt.Sprintf("Config.MaxStaged %d must be at least MaxBytes %d", l.Total, l.Bytes)
	}
	return ""
}

// Sessions are those of a process that are neither prepared nor rolled back, by
// transaction: a participant has one branch in each. Make them with New. Safe for
// concurrent use.
type Sessions[T any] struct {
	limits Limits

	mu     sync.Mutex
	open   map[participant.TxID]*Session[T]
	staged int // bytes
}

// Session is what a branch stages.
type Session[T any] struct {
	all *Sessions[T]

	// Guarded by all.mu.
	branch   participant.Branch
	enlisted bool
	joining  int
	items    []T
	size     int
	ended    error // ErrFinished or ErrRolledBack
}

// New returns no sessions yet.
func New[T any](limits Limits) *Sessions[T] {
	return &Sessions[T]{limits: limits, open: map[participant.TxID]*Session[T]{}}
}

// Join enlists p in tx with data and returns the session of its branch; joining again
// returns the same one.
//
// Errors: ErrLimit; what tx.Enlist returns.
func (l *Sessions[T]) Join(ctx context.Context, tx participant.Enlister, p participant.Participant, data []byte) (*Session[T], error) {
	// Before Enlist: from then on the branch may be told to roll back.
	s, err := l.join(tx.ID())
	if err != nil {
		return nil, err
	}
	b, err := tx.Enlist(ctx, p, data)
	l.joined(s, b, err)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (l *Sessions[T]) join(tx participant.TxID) (*Session[T], error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.open[tx]
	if s == nil {
		if err := l.reserve(sessionOverhead); err != nil {
			return nil, err
		}
		s = &Session[T]{all: l, branch: participant.Branch{Tx: tx}, size: sessionOverhead}
		l.open[tx] = s
	}
	s.joining++
	return s, nil
}

// joined notes how an Enlist ended. A session that nobody enlisted goes.
func (l *Sessions[T]) joined(s *Session[T], b participant.Branch, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.joining--
	if err == nil {
		s.branch, s.enlisted = b, true
	}
	if s.joining == 0 && !s.enlisted && s.ended == nil {
		l.end(s, ErrRolledBack)
	}
}

// reserve takes size bytes of the total. Where they are not to be had, sessions whose
// transactions have timed out are given up: they can only be rolled back, and a
// clock may cause that (R8). Called with the mutex held.
func (l *Sessions[T]) reserve(size int) error {
	if l.staged+size > l.limits.Total {
		now := time.Now()
		for _, s := range l.open {
			if s.enlisted && !s.branch.Deadline.IsZero() && s.branch.Deadline.Before(now) {
				l.end(s, ErrRolledBack)
			}
		}
	}
	if l.staged+size > l.limits.Total {
		return fmt.Errorf("%w: the sessions of this process have staged %d of %d bytes (Config.MaxStaged)", ErrLimit, l.staged, l.limits.Total)
	}
	l.staged += size
	return nil
}

// Branch returns the session's branch.
func (s *Session[T]) Branch() participant.Branch {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	return s.branch
}

// Staged returns how many bytes the session has staged.
func (s *Session[T]) Staged() int {
	s.all.mu.Lock()
	defer s.all.mu.Unlock()
	return max(0, s.size-sessionOverhead)
}

// Stage adds an item of this size. An error, ErrRolledBack, ErrFinished or ErrLimit,
// leaves the session as it was.
func (s *Session[T]) Stage(item T, size int) error {
	l := s.all
	l.mu.Lock()
	defer l.mu.Unlock()
	switch staged := s.size - sessionOverhead; {
	case s.ended != nil:
		return s.ended
	case len(s.items) == l.limits.Items:
		return fmt.Errorf("%w: %d %s (%s)", ErrLimit, l.limits.Items, l.limits.What, l.limits.Name)
	case staged+size > l.limits.Bytes:
		return fmt.Errorf("%w: %d bytes are staged, %d more are over %d (Config.MaxBytes)", ErrLimit, staged, size, l.limits.Bytes)
	}
	if err := l.reserve(size); err != nil {
		return err
	}
	if s.ended != nil { // it was given up for its own item
		l.staged -= size
		return s.ended
	}
	s.size += size
	s.items = append(s.items, item)
	return nil
}

// Seal returns what the branch staged, to which nothing is added from now on.
func (l *Sessions[T]) Seal(tx participant.TxID) (items []T, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.open[tx]
	if s == nil {
		return nil, false
	}
	if s.ended == nil {
		s.ended = ErrFinished
	}
	return s.items, true
}

// Finish lets go of what a branch staged that was told its vote: the service has it,
// or nobody needs it any more.
func (l *Sessions[T]) Finish(tx participant.TxID) { l.drop(tx, ErrFinished) }

// RollBack lets go of what a branch staged that is rolled back.
func (l *Sessions[T]) RollBack(tx participant.TxID) { l.drop(tx, ErrRolledBack) }

func (l *Sessions[T]) drop(tx participant.TxID, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.open[tx]; s != nil {
		l.end(s, why)
	}
}

// end is called with the mutex held.
func (l *Sessions[T]) end(s *Session[T], why error) {
	s.ended, s.items = why, nil
	l.staged -= s.size
	s.size = 0
	delete(l.open, s.branch.Tx)
}

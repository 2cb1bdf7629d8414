package redis

import (
	"fmt"
	"sync"
	"time"

	"github.com/assent-tm/assent/participant"
)

// sessions are those of this process that are neither prepared nor rolled back, by
// transaction: a participant has one branch in each.
type sessions struct {
	mu     sync.Mutex
	open   map[participant.TxID]*Session
	staged int // bytes
	limit  int // of staged (R12)
}

// join returns the transaction's session, a new one if it has none.
func (l *sessions) join(p *Participant, tx participant.TxID) (*Session, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.open[tx]
	if s == nil {
		if err := l.reserve(sessionOverhead); err != nil {
			return nil, err
		}
		s = &Session{p: p, branch: participant.Branch{Tx: tx, Participant: p.cfg.Name}, size: sessionOverhead}
		l.open[tx] = s
	}
	s.joining++
	return s, nil
}

// joined notes how an Enlist ended. A session that nobody enlisted goes.
func (l *sessions) joined(s *Session, b participant.Branch, err error) {
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

// reserve takes size bytes of the limit. Where they are not to be had, sessions whose
// transactions have timed out are given up: they can only be rolled back, and a
// clock may cause that (R8). Called with the mutex held.
func (l *sessions) reserve(size int) error {
	if l.staged+size > l.limit {
		now := time.Now()
		for _, s := range l.open {
			if s.enlisted && !s.branch.Deadline.IsZero() && s.branch.Deadline.Before(now) {
				l.end(s, ErrRolledBack)
			}
		}
	}
	if l.staged+size > l.limit {
		return fmt.Errorf("%w: sessions of this process have staged %d of %d bytes (Config.MaxStaged)", ErrLimit, l.staged, l.limit)
	}
	l.staged += size
	return nil
}

func (l *sessions) stage(s *Session, o operation, cfg Config) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := o.size()
	switch {
	case s.ended != nil:
		return s.ended
	case len(s.operations) == cfg.MaxOperations:
		return fmt.Errorf("%w: %d operations (Config.MaxOperations)", ErrLimit, cfg.MaxOperations)
	case s.size+size > cfg.MaxBytes+sessionOverhead:
		return fmt.Errorf("%w: %d bytes are staged, %d more are over %d (Config.MaxBytes)", ErrLimit, s.size-sessionOverhead, size, cfg.MaxBytes)
	}
	if err := l.reserve(size); err != nil {
		return err
	}
	if s.ended != nil { // it was given up for its own operation
		l.staged -= size
		return s.ended
	}
	s.size += size
	s.operations = append(s.operations, o)
	return nil
}

// seal returns what the branch staged, to which nothing is added from now on.
func (l *sessions) seal(tx participant.TxID) (operations []operation, found bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.open[tx]
	if s == nil {
		return nil, false
	}
	if s.ended == nil {
		s.ended = ErrFinished
	}
	return s.operations, true
}

// drop lets go of what the branch staged: the server has it, or nobody needs it.
func (l *sessions) drop(tx participant.TxID, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.open[tx]; s != nil {
		l.end(s, why)
	}
}

// end is called with the mutex held.
func (l *sessions) end(s *Session, why error) {
	s.ended, s.operations = why, nil
	l.staged -= s.size
	s.size = 0
	delete(l.open, s.branch.Tx)
}

package coordinator

import (
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

// Stats says how a coordinator is.
type Stats struct {
	Domain string
	// Started is when Open was called. Term and Epoch are those of what began since.
	Started time.Time
	Term    participant.Term
	Epoch   uint64
	// Undecided is the number of transactions that count against Config.MaxOpen.
	Undecided int
	// InDoubt is the number of those that are decided, or left by a former coordinator, and
	// not acknowledged by all: what Filter.InDoubt lists. Paused are those of them that an
	// operator holds back.
	InDoubt, Paused int
	// OldestInDoubt is when the oldest of those in doubt was begun; zero if there is none, or
	// it is not known.
	OldestInDoubt time.Time
	// Inherited is the number of those that Open found and that have not ended.
	Inherited int
	// Log is the log's part.
	Log wal.Stats
}

// Stats returns how the coordinator is. It looks at all transactions that have not ended.
func (d *DTM) Stats() Stats {
	s := Stats{
		Domain: d.config.Domain, Started: d.started, Term: d.log.Term(), Epoch: d.log.Epoch(), Undecided: int(d.open.Load()), Log: d.log.Stats(),
	}
	d.recovering.mu.Lock()
	s.Inherited = len(d.recovering.left)
	d.recovering.mu.Unlock()
	d.table.eachLive(func(t *transaction) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !inDoubt(t.machine.Phase()) {
			return true
		}
		s.InDoubt++
		if t.machine.Paused() {
			s.Paused++
		}
		if at := t.begun.At; !at.IsZero() && (s.OldestInDoubt.IsZero() || at.Before(s.OldestInDoubt)) {
			s.OldestInDoubt = at
		}
		return true
	})
	return s
}

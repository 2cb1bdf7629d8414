package wal

import (
	"fmt"
	"slices"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Absence is why the log holds nothing of a transaction (R13).
type Absence uint8

const (
	// AbsentForeign: the term is none of this log's (R10).
	AbsentForeign Absence = 1 + iota
	// AbsentForgotten: the id is at or below the mark of its term. The
	// transaction may have ended either way.
	AbsentForgotten
	// AbsentUndecided: the id is above the mark; the transaction never reached a
	// decision.
	AbsentUndecided
	// AbsentNeverBegun: the id is of the own term and above all that were begun.
	AbsentNeverBegun
	// AbsentLost: the log was put into quarantine or accepted once (R10), and does
	// not list the term, or did not know the id then. The transaction may have ended
	// either way.
	AbsentLost
)

func (a Absence) String() string {
	switch a {
	case AbsentForeign:
		return "foreign term"
	case AbsentForgotten:
		return "forgotten"
	case AbsentUndecided:
		return "undecided"
	case AbsentNeverBegun:
		return "never begun"
	case AbsentLost:
		return "lost"
	default:
		return fmt.Sprintf("invalid absence %d", uint8(a))
	}
}

// Absent judges an id that is neither live nor retained: the caller has looked it
// up among those first, and drops one from there only when Config.Forgotten has
// named it.
func (l *Log) Absent(id participant.TxID) Absence {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := id.Term == l.durable.own.Term
	m := l.durable.own
	if own {
		m.Highest = l.begun // not durable yet perhaps
	} else {
		i, listed := l.durable.find(id.Term)
		if !listed && l.durable.words != (record.Words{}) {
			return AbsentLost // R10: perhaps; another log's id gets the careful answer, too
		}
		if !listed {
			return AbsentForeign // R10
		}
		m = l.durable.former[i]
	}
	switch {
	case !own && id.Term <= l.durable.words.Accepted() && !m.Begun(id.UUID):
		return AbsentLost
	case m.Forgotten(id.UUID):
		return AbsentForgotten // R13
	case own && !m.Begun(id.UUID):
		return AbsentNeverBegun
	default:
		return AbsentUndecided
	}
}

// Terms returns every term that was ever opened in the log, in the order of their
// numbers, the own one last, with what is durably known of them (R10).
func (l *Log) Terms() []record.TermMarks {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append(slices.Clone(l.durable.former), l.durable.own)
}

// marks are what must never be forgotten of the log and its terms (R10, R13).
type marks struct {
	own    record.TermMarks
	former []record.TermMarks // in the order of their numbers
	words  record.Words
}

func (m *marks) find(term participant.Term) (i int, listed bool) { return findTerm(m.former, term) }

// forget raises a mark. It reports whether that is one of a former term.
func (m *marks) forget(id participant.TxID, own participant.Term) bool {
	if id.Term == own {
		if !m.own.Forgotten(id.UUID) {
			m.own.Mark = id.UUID
		}
		return false
	}
	i, listed := m.find(id.Term)
	if !listed {
		panic(fmt.Sprintf("wal: transaction %s of an unlisted term in the log", id))
	}
	if m.former[i].Forgotten(id.UUID) {
		return false
	}
	m.former[i].Mark = id.UUID
	return true
}

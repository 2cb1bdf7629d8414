package protocol

import (
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Resume returns the machine of a transaction that another coordinator left in
// this state. It waits for the event Resumed; until then it has no effects, and
// no other event moves it. A completed transaction is Done at once.
func Resume(s *record.State) Machine {
	m := Machine{tx: s.Tx, phase: Inherited, branches: make([]Branch, len(s.Branches))}
	for i, b := range s.Branches {
		m.branches[i] = Branch{Vote: b.Vote, Answered: b.Vote.Valid(), Asked: b.Vote.Valid(), Outcome: b.Outcome}
		if b.Outcome == participant.OutcomeHeuristicHazard {
			// A suspicion is no acknowledgement: the branch is asked again.
			m.branches[i].Outcome, m.branches[i].Hazard = 0, true
		}
	}
	m.decision = s.Decision
	m.delegatedBefore = s.Delegated
	if s.Decision.Valid() {
		m.deciding = record.Decided{
			Tx: s.Tx, Decision: s.Decision, Presumed: s.Presumed, Votes: m.votes(), Cause: s.Cause, Reason: s.Reason, By: s.By,
		}
	}
	m.resumeWords(s)
	if !s.Completed.IsZero() {
		m.phase = Done
		for i := range m.branches {
			switch b := &m.branches[i]; {
			case b.Hazard:
				b.Outcome = participant.OutcomeHeuristicHazard
			case !b.Outcome.Valid():
				b.Outcome = s.Decision.Outcome()
			}
		}
	}
	return m
}

// resumed goes on where the records end.
func (m *Machine) resumed() Effects {
	switch {
	case m.phase != Inherited:
		return Effects{}
	case m.decision.Valid():
		m.phase = Telling
		return m.tell(m.all())
	case m.delegatedBefore:
		// R3: the branch may have decided. "Rolled back" and "already committed"
		// are both the decision.
		m.phase = Delegated
		return do(Effect{Kind: EffectRollback, Branches: m.all()})
	default:
		// R3: no decision, no commit, whatever the votes were.
		return m.decide(record.DecisionRollback, why{cause: record.CausePresumed}, record.NoBranch)
	}
}

// Presumed reports whether the transaction's rollback rests, or will rest, on the
// absence of a decision: then it may go to a participant only after that
// participant's list was read (R10).
func (m *Machine) Presumed() bool {
	return m.deciding.Presumed || m.phase == Inherited && !m.decision.Valid() || m.phase == Delegated && m.delegatedBefore
}

package protocol

import (
	"errors"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Outcome unites the decision with what the branches did, over the lattice
// none < heuristic commit | heuristic rollback < hazard < mixed: a heuristic
// outcome that agrees with the decision is no heuristic, and one branch that went
// the other way while another followed is mixed. Zero while undecided.
func (m *Machine) Outcome() participant.Outcome {
	if !m.decision.Valid() {
		return 0
	}
	var followed, against, hazard bool
	for _, b := range m.branches {
		switch {
		case b.Vote == participant.VoteReadOnly && m.decision == record.DecisionCommit:
			// Left after phase one. Under a rollback it counts as one that followed: the
			// vote may have come after the decision, and then the log does not have it.
		case b.Outcome == participant.OutcomeHeuristicMixed:
			return participant.OutcomeHeuristicMixed
		case b.Outcome == participant.OutcomeHeuristicHazard, b.Hazard && !b.Outcome.Valid():
			hazard = true
		case b.Outcome.Heuristic():
			against = true
		default:
			// Not acknowledged yet: it is told until it follows.
			followed = true
		}
	}
	switch {
	case against && followed:
		return participant.OutcomeHeuristicMixed
	case hazard:
		return participant.OutcomeHeuristicHazard
	case against && m.decision == record.DecisionCommit:
		return participant.OutcomeHeuristicRollback
	case against:
		return participant.OutcomeHeuristicCommit
	default:
		return m.decision.Outcome()
	}
}

// Answer reads what a participant returned from Commit or Rollback, told by the
// decision: how the branch ended, and whether that acknowledges the decision. Not
// acknowledged with OutcomeHeuristicHazard is a hazard (R7), not acknowledged with
// no outcome is unknown; both are told again (R6).
func Answer(told record.Decision, err error) (outcome participant.Outcome, acknowledged bool) {
	if err == nil {
		return told.Outcome(), true
	}
	var heuristic *participant.HeuristicError
	if errors.As(err, &heuristic) {
		return heuristicAgainst(told, heuristic.Outcome), true
	}
	if errors.Is(err, participant.ErrUnknownBranch) {
		if told == record.DecisionRollback {
			return participant.OutcomeRolledBack, true // R7: never prepared, or long rolled back
		}
		return participant.OutcomeHeuristicHazard, false
	}
	return 0, false
}

// AnswerOnePhase reads what a participant returned from CommitOnePhase.
func AnswerOnePhase(err error) (outcome participant.Outcome, acknowledged bool) {
	var heuristic *participant.HeuristicError
	switch {
	case err == nil:
		return participant.OutcomeCommitted, true
	case errors.Is(err, participant.ErrRefused):
		return participant.OutcomeRolledBack, true
	case errors.As(err, &heuristic):
		return heuristicAgainst(record.DecisionCommit, heuristic.Outcome), true
	default:
		return 0, false // also for an unknown branch: absence proves nothing here (R7)
	}
}

// heuristicAgainst returns the outcome of a branch that decided alone, as seen from the
// decision. What can't be read is a hazard.
func heuristicAgainst(told record.Decision, o participant.Outcome) participant.Outcome {
	switch o {
	case participant.OutcomeCommitted, participant.OutcomeHeuristicCommit:
		if told == record.DecisionCommit {
			return participant.OutcomeCommitted
		}
		return participant.OutcomeHeuristicCommit
	case participant.OutcomeRolledBack, participant.OutcomeHeuristicRollback:
		if told == record.DecisionRollback {
			return participant.OutcomeRolledBack
		}
		return participant.OutcomeHeuristicRollback
	case participant.OutcomeHeuristicMixed:
		return o
	default:
		return participant.OutcomeHeuristicHazard
	}
}

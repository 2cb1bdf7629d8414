package participant

import "fmt"

// Vote is a participant's answer to Prepare. The zero value is no vote: with an
// error it means that the answer is unknown.
type Vote uint8

const (
	// VotePrepared promises that the branch can still go either way.
	VotePrepared Vote = 1 + iota
	// VoteReadOnly says that the branch changed nothing and is finished.
	VoteReadOnly
	// VoteRefused is a certain no.
	VoteRefused
)

// Valid reports whether v is one of the three votes.
func (v Vote) Valid() bool { return VotePrepared <= v && v <= VoteRefused }

func (v Vote) String() string {
	switch v {
	case VotePrepared:
		return "prepared"
	case VoteReadOnly:
		return "read-only"
	case VoteRefused:
		return "refused"
	default:
		return fmt.Sprintf("invalid vote %d", uint8(v))
	}
}

// Outcome is how a branch, or a transaction, ended. The zero value is no outcome.
// A heuristic outcome is one that a participant took alone, not asking the
// coordinator.
type Outcome uint8

const (
	// OutcomeCommitted is the outcome of a decision to commit.
	OutcomeCommitted Outcome = 1 + iota
	// OutcomeRolledBack is the outcome of a decision to roll back.
	OutcomeRolledBack
	// OutcomeHeuristicCommit: the branch committed alone.
	OutcomeHeuristicCommit
	// OutcomeHeuristicRollback: the branch rolled back alone.
	OutcomeHeuristicRollback
	// OutcomeHeuristicHazard: the branch may have been decided alone.
	OutcomeHeuristicHazard
	// OutcomeHeuristicMixed: parts committed and parts rolled back.
	OutcomeHeuristicMixed
)

// Valid reports whether o is an outcome.
func (o Outcome) Valid() bool { return OutcomeCommitted <= o && o <= OutcomeHeuristicMixed }

// Heuristic reports whether o was not the coordinator's to decide.
func (o Outcome) Heuristic() bool { return OutcomeHeuristicCommit <= o && o <= OutcomeHeuristicMixed }

func (o Outcome) String() string {
	switch o {
	case OutcomeCommitted:
		return "committed"
	case OutcomeRolledBack:
		return "rolled back"
	case OutcomeHeuristicCommit:
		return "heuristic commit"
	case OutcomeHeuristicRollback:
		return "heuristic rollback"
	case OutcomeHeuristicHazard:
		return "heuristic hazard"
	case OutcomeHeuristicMixed:
		return "heuristic mixed"
	default:
		return fmt.Sprintf("invalid outcome %d", uint8(o))
	}
}

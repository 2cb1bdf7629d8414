package participant

import (
	"errors"
	"fmt"
)

// Errors of the contract. Participants return them, wrapped with what they were
// doing; the coordinator decides on them with errors.Is.
var (
	// ErrRefused is a certain no. CommitOnePhase returns it for a branch that is
	// rolled back for good, the prepare function of Func to refuse with a reason.
	ErrRefused = errors.New("refused")
	// ErrUnknownBranch says that the participant knows nothing of the branch. On
	// Commit it is a hazard, on Rollback an acknowledgement (R7).
	ErrUnknownBranch = errors.New("unknown branch")
	// ErrStaleEpoch says that a newer coordinator drives the transaction (R9).
	ErrStaleEpoch = errors.New("epoch is older than one already seen: a newer coordinator drives this transaction")
	// ErrConfig says that the service behind the participant must be configured
	// otherwise, or is another one than before. It is retried, and reported at
	// once.
	ErrConfig = errors.New("participant is misconfigured")
	// ErrNameTaken says that another participant has this name.
	ErrNameTaken = errors.New("participant name is taken")
	// ErrTooMany says that a registry takes no more participants.
	ErrTooMany = errors.New("too many participants")
	// ErrInvalidParticipant says that a participant can't be registered at all.
	ErrInvalidParticipant = errors.New("invalid participant")
)

// HeuristicError says that a branch was decided alone, against or without the
// coordinator's word.
type HeuristicError struct {
	// Outcome is the heuristic outcome, or OutcomeCommitted / OutcomeRolledBack
	// for a branch that is known to have ended so.
	Outcome Outcome
	// Err says what happened; may be nil.
	Err error
}

func (e *HeuristicError) Error() string {
	if e.Err == nil {
		return e.Outcome.String()
	}
	return fmt.Sprintf("%s: %v", e.Outcome, e.Err)
}

func (e *HeuristicError) Unwrap() error { return e.Err }

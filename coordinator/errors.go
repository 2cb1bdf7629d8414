package coordinator

import (
	"errors"
	"fmt"
	"strings"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Answers of Commit; see DTM.Commit for which comes when.
var (
	// ErrOutcomeUnknown: the log failed or was fenced while the decision was
	// written, or the branch that commits in one phase is silent. Ask again with
	// the same id; never do the work again.
	ErrOutcomeUnknown = errors.New("outcome unknown: ask again, do not redo")
	// ErrRolledBack: the decision rollback is durable. A *RolledBackError has the
	// reason.
	ErrRolledBack = errors.New("rolled back")
	// ErrCommitPending: the decision commit is durable; some participant has not
	// acknowledged yet, and is told until it does. Never do the work again.
	ErrCommitPending = errors.New("committed, but participants are still to be told")
	// ErrCommitted: too late to roll back.
	ErrCommitted = errors.New("too late: it is committed")
)

// Errors that say that nothing was asked.
var (
	// ErrNotFound: no transaction has this id.
	ErrNotFound = errors.New("no such transaction")
	// ErrForgotten: the transaction ended so long ago that its outcome is not
	// kept any more (R13), or was lost with the log that a restored one replaced (R10).
	// It may have committed.
	ErrForgotten = errors.New("outcome was forgotten")
	// ErrSafeMode: the log is, or may be, older than what its participants know
	// (R10); see DTM.SafeMode.
	ErrSafeMode = errors.New("safe mode: the log is or may be older than its participants; nothing new is begun and nothing is rolled back by absence")
	// ErrClosed: the coordinator is closed or closing.
	ErrClosed = errors.New("coordinator is closed")
	// ErrLogFailed: the log has failed, and with it this coordinator.
	ErrLogFailed = errors.New("the log failed: close the coordinator and open it anew")
	// ErrNotOwner: the log has failed because another coordinator owns it now.
	ErrNotOwner = errors.New("another coordinator has taken this log over")
	// ErrConflict: the participant is enlisted already, with other data, or the
	// request id was used for another request.
	ErrConflict = errors.New("conflicts with an earlier call")
	// ErrLimit: a bound of Config or of the contract is reached (R12).
	ErrLimit = errors.New("limit reached")
	// ErrLogFull: the log has no room for more than what has begun, because its disk
	// is full or slow. What has begun can still be committed or rolled back; free
	// space where the error says, and transactions begin again. Or the log was opened too
	// often, then it Is wal.ErrTermsExhausted, too: begin a new one. It Is ErrLimit.
	ErrLogFull = fmt.Errorf("%w: the log takes nothing more to begin", ErrLimit)
	// ErrUnfit: an operator's word does not fit where the transaction stands. Nothing was
	// recorded.
	ErrUnfit = protocol.ErrUnfit
	// ErrSealed: the transaction is being committed and takes no more branches.
	ErrSealed = protocol.ErrSealed
	// ErrNameTaken: another participant is registered under this name.
	ErrNameTaken = participant.ErrNameTaken
)

// RolledBackError says why a transaction was rolled back. Its text does not name
// the transaction: what it is wrapped in does. It Is ErrRolledBack.
type RolledBackError struct {
	Tx    participant.TxID
	Cause record.Cause
	// Participant is whose branch decided it by its vote; "" otherwise.
	Participant string
	// Reason is what that participant, or who asked for the rollback, said.
	Reason string
}

func (e *RolledBackError) Error() string {
	var s strings.Builder
	fmt.Fprintf(&s, "rolled back: %s", e.Cause)
	if e.Participant != "" {
		fmt.Fprintf(&s, ": participant %s", e.Participant)
	}
	if e.Reason != "" {
		fmt.Fprintf(&s, ": %s", e.Reason)
	}
	return s.String()
}

// Is reports whether target is ErrRolledBack.
func (e *RolledBackError) Is(target error) bool { return target == ErrRolledBack }

// HeuristicError says that participants decided alone, against the decision. An
// operator has to make good what they did. Its text does not name the transaction:
// what it is wrapped in does. It Is ErrRolledBack when that was the decision.
type HeuristicError struct {
	Tx       participant.TxID
	Decision record.Decision
	// Outcome is a heuristic one.
	Outcome participant.Outcome
	// Branches says which participants did what.
	Branches []string
}

func (e *HeuristicError) Error() string {
	return fmt.Sprintf("the decision was %s, but the outcome is %s: %s", e.Decision, e.Outcome, strings.Join(e.Branches, "; "))
}

// Is reports whether target is ErrRolledBack and that was the decision.
func (e *HeuristicError) Is(target error) bool {
	return target == ErrRolledBack && e.Decision == record.DecisionRollback
}

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Info is what Get says of a transaction.
type Info struct {
	ID participant.TxID
	// Name, Owner and RequestID are what Begin was given.
	Name, Owner, RequestID string
	Begun                  time.Time
	// Deadline is when it times out unless it is decided; zero for one that has
	// ended, or that a former coordinator began.
	Deadline time.Time
	Phase    protocol.Phase
	Decision record.Decision
	// Outcome unites the decision with what the branches did; zero if undecided.
	Outcome participant.Outcome
	// Cause and Reason say what decided a rollback.
	Cause    record.Cause
	Reason   string
	Branches []BranchInfo
	// Paused says that an operator holds the delivery of the decision back.
	Paused bool
}

// BranchInfo is what Get says of a branch.
type BranchInfo struct {
	Number      int
	Participant string
	// Vote is invalid if it is unknown or not given yet.
	Vote participant.Vote
	// Outcome is zero while the branch has not acknowledged.
	Outcome participant.Outcome
	// Hazard says that the participant did not know what it was to commit (R7).
	Hazard bool
	// Missing says that nobody has registered the participant.
	Missing bool
	// Attempts counts how often the decision was told in this run; LastError is
	// what the last call returned, and NextRetry when the next is due, unless the
	// participant is down and another branch's turn is first; zero if none is. They
	// are not kept once the transaction has ended.
	Attempts  int
	LastError string
	NextRetry time.Time
}

// Get returns what is known of a transaction. An id that was never decided, of a
// former coordinator perhaps, is a transaction that was rolled back (R3). Errors:
// ErrNotFound, ErrForgotten, ErrSafeMode, ErrOutcomeUnknown while a former
// coordinator's log may prove to be too old.
func (d *DTM) Get(ctx context.Context, id participant.TxID) (Info, error) {
	t, err := d.find(ctx, id)
	var rolledBack *RolledBackError
	switch {
	case errors.As(err, &rolledBack):
		return Info{
			ID: id, Phase: protocol.Done, Decision: record.DecisionRollback, Outcome: participant.OutcomeRolledBack, Cause: rolledBack.Cause,
		}, nil
	case err != nil:
		return Info{}, fmt.Errorf("get transaction %s: %w", id, err)
	}
	return t.info(), nil
}

func (t *transaction) info() Info {
	t.mu.Lock()
	defer t.mu.Unlock()
	attributes := t.begun.Attributes
	info := Info{
		ID: t.id, Name: attributes[record.AttributeName], Owner: attributes[record.AttributeOwner], RequestID: attributes[record.AttributeRequestID],
		Begun: t.begun.At, Deadline: t.deadline, Phase: t.machine.Phase(), Decision: t.machine.Decision(), Outcome: t.machine.Outcome(),
		Paused: t.machine.Paused(),
	}
	if info.Decision.Valid() {
		info.Cause, info.Reason = t.machine.Decided().Cause, t.machine.Decided().Reason
	}
	for i, b := range t.machine.Branches() {
		driven := &t.branches[i]
		driven.endpoint.mu.Lock()
		missing := driven.endpoint.registered == nil
		driven.endpoint.mu.Unlock()
		branch := BranchInfo{
			Number: i, Participant: driven.endpoint.name, Vote: b.Vote, Outcome: b.Outcome, Hazard: b.Hazard,
			Missing: missing, Attempts: driven.attempts,
		}
		if driven.trouble != nil {
			branch.LastError = driven.trouble.err.Error()
			if !b.Outcome.Valid() && !info.Paused {
				branch.NextRetry = driven.trouble.retryAt
			}
		}
		info.Branches = append(info.Branches, branch)
	}
	return info
}

// Filter chooses what List returns. The zero value chooses what is not done.
type Filter struct {
	// Done also lists transactions that have ended and whose outcome is kept.
	Done bool
	// InDoubt lists only transactions that are decided, or left by a former
	// coordinator, and not acknowledged by all.
	InDoubt bool
	// Participant, if set, lists only transactions with a branch of it.
	Participant string
	// Owner, if set, lists only that owner's.
	Owner string
	// Limit is the number of transactions returned at most; 0 means 1000.
	Limit int
}

const defaultListLimit = 1000

func (f Filter) matches(info Info) bool {
	done := info.Phase == protocol.Done || info.Phase == protocol.Completing
	switch {
	case done && !f.Done, f.InDoubt && !inDoubt(info.Phase), f.Owner != "" && f.Owner != info.Owner:
		return false
	case f.Participant == "":
		return true
	default:
		return slices.ContainsFunc(info.Branches, func(b BranchInfo) bool { return b.Participant == f.Participant })
	}
}

// inDoubt reports whether a transaction in this phase is what Filter.InDoubt lists.
func inDoubt(phase protocol.Phase) bool {
	return phase == protocol.Telling || phase == protocol.Inherited || phase == protocol.Delegated
}

// List returns the transactions that the filter chooses, in the order of their
// ids, which is about that in which they were begun, as far as its limit allows.
// Transactions that begin or end meanwhile may be missed.
func (d *DTM) List(ctx context.Context, f Filter) ([]Info, error) {
	if f.Limit <= 0 {
		f.Limit = defaultListLimit
	}
	var ids []participant.TxID // of all; the rest is read only of those that are asked for
	d.table.eachLive(func(t *transaction) bool {
		ids = append(ids, t.id)
		return true
	})
	if f.Done {
		ids = d.table.appendEnded(ids)
	}
	slices.SortFunc(ids, participant.TxID.Compare)
	var infos []Info
	for _, id := range slices.Compact(ids) {
		if len(infos) == f.Limit {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("list transactions: %w", err)
		}
		if t := d.table.get(id); t != nil {
			if info := t.info(); f.matches(info) {
				infos = append(infos, info)
			}
		}
	}
	return infos, nil
}

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Commit asks for the transaction to be committed and waits for the decision; it
// may be called again, also concurrently, and then says the same. If ctx ends
// before the decision, or had ended already, that requests a rollback, and Commit
// returns as soon as the decision is there: a store that hangs can make that late.
// After the decision it waits for acknowledgements until ctx ends or CommitWait
// passes. Participants get the values of the first ctx that asked.
//
// It returns the first of these that holds:
//
//	ErrOutcomeUnknown  the log failed, or Close gave up, while the decision was
//	                   written; or the branch that commits in one phase has been
//	                   silent until ctx ended or Config.Timeout passed: ask again
//	*HeuristicError    some participant decided alone: call an operator
//	ErrRolledBack      the decision rollback is durable (*RolledBackError): retry
//	                   with a new transaction
//	ErrCommitPending   the decision commit is durable, some participant is still
//	                   to be told: never do the work again
//	nil                committed at every participant
//
// ErrNotFound, ErrForgotten, ErrSafeMode and ErrClosed say that nothing was
// asked.
func (d *DTM) Commit(ctx context.Context, id participant.TxID) error {
	if !d.enter() {
		return fmt.Errorf("commit transaction %s: %w", id, ErrClosed)
	}
	defer d.leave()
	t, err := d.find(ctx, id)
	if err == nil {
		err = d.commit(ctx, t)
	}
	if err != nil {
		return fmt.Errorf("commit transaction %s: %w", id, err)
	}
	return nil
}

func (d *DTM) commit(ctx context.Context, t *transaction) error {
	if d.safeMode.Load() != nil && !t.hasDecision() {
		return d.safeModeError()
	}
	undecided := t.useValues(ctx)
	ask := protocol.CommitRequested()
	if ctx.Err() != nil {
		ask = protocol.RollbackRequested(record.CauseContext, context.Cause(ctx).Error())
	}
	d.drive(t, ask)
	if !undecided || !d.awaitAnswer(ctx, t) {
		if err := d.awaitDecision(ctx, t); err != nil {
			return err
		}
		d.awaitAcknowledgements(ctx, t)
	}
	return t.commitAnswer()
}

// awaitAnswer waits for the usual: that every participant acknowledges the decision,
// or CommitWait passes after it. Nobody has to be woken for the decision itself, and
// no timer to be set. False: what ctx or the state of things ask for is something
// else.
func (d *DTM) awaitAnswer(ctx context.Context, t *transaction) bool {
	if !t.begunHere() || !t.decidedHere() {
		return false
	}
	answered := t.wait(&t.answered)
	if d.halted.Load() { // read after the wait is known to who halts
		return false
	}
	select {
	case <-answered:
		return true
	case <-ctx.Done():
		return false
	}
}

// awaitDecision waits until the transaction is decided or stopped, or the
// coordinator is. When ctx ends a rollback competes for the decision (R2).
func (d *DTM) awaitDecision(ctx context.Context, t *transaction) error {
	decided := t.wait(&t.decided)
	select {
	case <-decided:
		return nil
	default:
	}
	if !t.decidedHere() {
		// Neither timeout nor rollback decides (R3, R10): don't wait for ever.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d.config.Timeout)
		defer cancel()
	}
	select {
	case <-decided:
		return nil
	case <-ctx.Done():
	case <-d.ctx.Done():
		return nil // what is known by now is the answer
	}
	reason := context.Cause(ctx).Error()
	d.drive(t, protocol.RollbackRequested(record.CauseContext, reason))
	if !t.decidedHere() {
		select {
		case <-decided:
			return nil
		default:
			return fmt.Errorf("%w: not decided yet: %s", ErrOutcomeUnknown, reason)
		}
	}
	<-decided // the decision is on its way to the disk
	return nil
}

// decidedHere reports whether the decision is the coordinator's to make now: not that of
// a branch that commits in one phase (R3), nor that of recovery.
func (t *transaction) decidedHere() bool {
	switch t.phase() {
	case protocol.Delegating, protocol.Delegated, protocol.Inherited:
		return false
	default:
		return true
	}
}

func (d *DTM) awaitAcknowledgements(ctx context.Context, t *transaction) {
	finished := t.wait(&t.finished)
	select {
	case <-finished:
		return
	default:
	}
	if d.config.CommitWait < 0 {
		return
	}
	timer := time.NewTimer(d.config.CommitWait)
	defer timer.Stop()
	select {
	case <-finished:
	case <-timer.C:
	case <-ctx.Done():
	case <-d.ctx.Done():
	}
}

// Rollback asks for the transaction to be rolled back. nil: the decision rollback
// is durable, now or earlier, and the branches are told until they acknowledge.
//
// Errors: ErrCommitted, too late, nothing changed; ErrOutcomeUnknown if the log
// failed, or while a branch that commits in one phase has the decision (R3);
// ErrNotFound, ErrForgotten, ErrSafeMode, ErrClosed.
func (d *DTM) Rollback(ctx context.Context, id participant.TxID) error {
	return d.rollback(ctx, id, "")
}

func (d *DTM) rollback(ctx context.Context, id participant.TxID, reason string) error {
	if !d.enter() {
		return fmt.Errorf("roll back transaction %s: %w", id, ErrClosed)
	}
	defer d.leave()
	t, err := d.find(ctx, id)
	if errors.Is(err, ErrRolledBack) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("roll back transaction %s: %w", id, err)
	}
	if d.safeMode.Load() != nil && t.phase() == protocol.Inherited && !t.hasDecision() {
		return fmt.Errorf("roll back transaction %s: %w", id, d.safeModeError())
	}
	t.useValues(ctx)
	d.drive(t, protocol.RollbackRequested(record.CauseRequested, reason))
	if err := d.awaitDecision(ctx, t); err != nil {
		return fmt.Errorf("roll back transaction %s: %w", id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch t.machine.Decision() {
	case record.DecisionRollback:
		return nil
	case record.DecisionCommit:
		return fmt.Errorf("roll back transaction %s: %w", id, ErrCommitted)
	default:
		return fmt.Errorf("roll back transaction %s: %w", id, t.unknownError())
	}
}

// useValues keeps the values of the context that first asks for the decision, for
// the participants' calls. It reports whether there is no decision yet.
func (t *transaction) useValues(ctx context.Context) (undecided bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.values == nil && !t.decided.open() {
		if t.values = ctx; ctx.Done() != nil {
			t.values = context.WithoutCancel(ctx)
		}
	}
	return !t.machine.Decision().Valid()
}

func (t *transaction) hasDecision() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.machine.Decision().Valid()
}

// silent names the participants whose vote is missing. Called with the mutex
// held.
func (t *transaction) silent() string {
	return t.names(func(b protocol.Branch) bool { return b.Asked && !b.Answered })
}

// untold names the participants that have not acknowledged the decision; "" if all
// have. That stays true if the log fails afterwards. Called with the mutex held.
func (t *transaction) untold() string {
	return t.names(func(b protocol.Branch) bool { return !b.Outcome.Valid() })
}

// names returns the participants of the chosen branches. Called with the mutex
// held.
func (t *transaction) names(chosen func(protocol.Branch) bool) string {
	var names []string
	for i, b := range t.machine.Branches() {
		if chosen(b) {
			names = append(names, t.branches[i].endpoint.name)
		}
	}
	return strings.Join(names, ", ")
}

package coordinator

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// transaction is the coordinator's side of one transaction: the protocol's
// machine, and what the driver needs to carry out its effects.
type transaction struct {
	id       participant.TxID
	begun    record.Begun
	deadline time.Time
	epoch    uint64
	// place is the transaction's place in the log; nil for an orphan, which the log
	// does not know.
	place *wal.Place

	mu       sync.Mutex
	machine  protocol.Machine
	branches []branch
	// values are those of the context that asked for the decision, for the
	// participants' calls.
	values   context.Context
	limit    int64        // the tick for which the transaction is woken; see wakeBy
	prepare  *callContext // of the calls of Prepare
	asked    []call       // those calls
	decided  latch        // the decision holds, or the log failed
	finished latch        // every branch has ended, or the log failed
	answered latch        // finished, or Commit has waited long enough for that
	counted  bool         // among the open transactions (R12)
	settled  bool         // the decision was counted
	failure  error        // why the machine was stopped
	unsure   bool         // the decision may not be in the log (R5)

	// paused says that no branch is told anything, withdrawn which branches never are
	// again, a bit for each: by an operator's word. Read without the mutex.
	paused    atomic.Bool
	withdrawn atomic.Uint64

	due due // guarded by the deadlines
}

// begunHere reports whether this coordinator began it; else it was inherited, is
// made of what is retained, or is an orphan's.
func (t *transaction) begunHere() bool { return !t.deadline.IsZero() }

// branch is the driver's side of one branch.
type branch struct {
	endpoint *endpoint
	data     []byte
	attempts int
	trouble  *trouble // nil if its last call succeeded
}

// trouble is what the last call of a branch returned, and when it is made again; zero
// for never.
type trouble struct {
	err     error
	retryAt time.Time
}

// latch is a channel that is made when somebody waits for it and closed at most
// once. Guarded by the transaction's mutex.
type latch struct{ ch chan struct{} }

var opened = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// wait returns a channel that is closed when the latch opens.
func (l *latch) wait() <-chan struct{} {
	if l.ch == nil {
		l.ch = make(chan struct{})
	}
	return l.ch
}

func (l *latch) release() {
	if l.ch != nil && l.ch != opened {
		close(l.ch)
	}
	l.ch = opened
}

func (l *latch) open() bool { return l.ch == opened }

// wait returns a channel that is closed when a latch of the transaction opens.
func (t *transaction) wait(l *latch) <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return l.wait()
}

func (t *transaction) openDecided() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.decided.release()
}

func (t *transaction) phase() protocol.Phase {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.machine.Phase()
}

// branch returns what the participant of this branch gets.
func (d *DTM) branch(t *transaction, number int) participant.Branch {
	t.mu.Lock()
	defer t.mu.Unlock()
	return d.branchLocked(t, number)
}

func (d *DTM) branchLocked(t *transaction, number int) participant.Branch {
	return participant.Branch{
		Domain: d.config.Domain, Tx: t.id, Epoch: t.epoch, Number: number,
		Participant: t.branches[number].endpoint.name, Deadline: t.deadline, Data: t.branches[number].data,
	}
}

// commitAnswer says to Commit how the transaction ended, the first that holds; see
// there. It and the errors below leave it to their callers to name the transaction.
func (t *transaction) commitAnswer() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch decision := t.machine.Decision(); {
	case !decision.Valid() || t.unsure:
		return t.unknownError()
	case t.machine.Outcome().Heuristic():
		return t.heuristicError()
	case decision == record.DecisionRollback:
		return t.rolledBackError()
	}
	if untold := t.untold(); untold != "" {
		return fmt.Errorf("%w: %s", ErrCommitPending, untold)
	}
	return nil
}

// unknownError is the answer while there is no decision. Called with the mutex held.
func (t *transaction) unknownError() error {
	if t.failure != nil {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, t.failure)
	}
	return ErrOutcomeUnknown
}

// rolledBackError says who or what decided the rollback. Called with the mutex held.
func (t *transaction) rolledBackError() error {
	decided := t.machine.Decided()
	e := &RolledBackError{Tx: t.id, Cause: decided.Cause, Reason: decided.Reason}
	if decided.By >= 0 && decided.By < len(t.branches) {
		e.Participant = t.branches[decided.By].endpoint.name
	}
	return e
}

// heuristicError names the branches that decided alone. Called with the mutex held.
func (t *transaction) heuristicError() error {
	e := &HeuristicError{Tx: t.id, Decision: t.machine.Decision(), Outcome: t.machine.Outcome()}
	for i, b := range t.machine.Branches() {
		outcome := b.Outcome
		if b.Hazard && !outcome.Valid() {
			outcome = participant.OutcomeHeuristicHazard
		}
		if outcome.Heuristic() {
			e.Branches = append(e.Branches, fmt.Sprintf("branch %d of participant %s: %s", i, t.branches[i].endpoint.name, outcome))
		}
	}
	return e
}

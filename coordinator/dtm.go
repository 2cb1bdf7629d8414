package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// DTM is a distributed transaction manager: a coordinator with its log. Make one
// with Open. Safe for concurrent use.
type DTM struct {
	config  Config
	logger  *zap.Logger
	started time.Time
	log     *wal.Log

	// ctx is the life of the coordinator's own work.
	ctx    context.Context
	cancel context.CancelCauseFunc

	registry    participant.Registry
	table       *table
	requests    requests
	forced      appends // whose results are waited for
	completions appends // lazy ones
	deadlines   deadlines
	underway    tally // calls of participants and appends of which something is to come
	forgetting  tally // goroutines that call Forget
	recovering  recovering
	open        atomic.Int64 // undecided transactions of this coordinator
	safeMode    atomic.Pointer[string]
	operator    chan struct{}    // holds a token while a word on a transaction is recorded
	accepted    participant.Term // proves nothing any more, nor do those before it (R10)

	owners      owners
	endpointsMu sync.RWMutex
	endpoints   map[string]*endpoint

	// goroutines are all of the coordinator's that are at work; Close waits for
	// them, and then stops the pool.
	pool       pool
	stopPool   sync.Once
	goroutines tally
	closing    atomic.Bool
	ending     chan struct{} // closed when only what is to be forgotten is left to be told
	halted     atomic.Bool   // nothing more is sent
	failed     chan struct{}
}

// enter counts the caller among the goroutines that Close waits for; false once
// that has begun. Every true is followed by one leave.
func (d *DTM) enter() bool {
	d.goroutines.add() // first: who closes sees it, or is seen
	if d.closing.Load() {
		d.goroutines.done()
		return false
	}
	return true
}

func (d *DTM) leave() { d.goroutines.done() }

// stopped reports whether the coordinator must not send anything any more: it
// ends, or its log has failed (R5).
func (d *DTM) stopped() bool { return d.halted.Load() || d.logFailed() }

func (d *DTM) logFailed() bool {
	select {
	case <-d.log.Failed():
		return true
	default:
		return false
	}
}

// wakeBy sets until when the transaction may stay as it is: undecided, or decided
// with a Commit that waits. Called with the transaction's mutex held.
func (d *DTM) wakeBy(t *transaction, limit time.Time) {
	t.limit = d.deadlines.tick(limit)
	d.deadlines.noLaterThan(t, t.limit)
}

// timeUp is called by the wheel when the limit of a transaction may have passed.
func (d *DTM) timeUp(t *transaction) {
	t.mu.Lock()
	now := time.Now()
	switch {
	case t.finished.open():
		t.mu.Unlock()
	case d.deadlines.tick(now) < t.limit:
		d.deadlines.noLaterThan(t, t.limit)
		t.mu.Unlock()
	case t.settled:
		t.answered.release() // Commit has waited long enough
		t.mu.Unlock()
	default:
		reason := fmt.Sprintf("not decided within %s", t.begun.Timeout)
		if t.machine.Phase() == protocol.Preparing && now.Before(t.deadline) {
			reason = fmt.Sprintf("votes missing after %s: %s", d.config.CallTimeout, t.silent())
		}
		t.mu.Unlock()
		if !d.enter() {
			return // Close decides
		}
		// What the machine does with that is for R2, R3 and R8 to say.
		passed := protocol.DeadlinePassed(reason)
		if !d.config.ForceEveryTransition {
			defer d.leave()
			d.drive(t, passed)
			return
		}
		go func() { // it waits for its appends, and others' time is up as well
			defer d.leave()
			d.drive(t, passed)
		}()
	}
}

// find returns the transaction with this id. If the table does not hold it, why
// says what that means (R13): a *RolledBackError, ErrForgotten, ErrNotFound or
// ErrSafeMode. That a former coordinator never decided it is said only once the
// participants were listed; ErrOutcomeUnknown if they can't be.
func (d *DTM) find(ctx context.Context, id participant.TxID) (t *transaction, why error) {
	if t = d.table.get(id); t != nil {
		return t, nil
	}
	absence := d.log.Absent(id)
	// The table again: the transaction may have been put there meanwhile.
	if t = d.table.get(id); t != nil {
		return t, nil
	}
	switch absence {
	case wal.AbsentForgotten:
		return nil, ErrForgotten
	case wal.AbsentUndecided:
		if id.Term != d.log.Term() {
			if err := d.awaitLists(ctx); err != nil {
				return nil, err
			}
		}
		if d.safeMode.Load() != nil {
			return nil, d.safeModeError()
		}
		return nil, &RolledBackError{Tx: id, Cause: record.CausePresumed}
	case wal.AbsentForeign, wal.AbsentLost:
		if d.safeMode.Load() != nil {
			return nil, d.safeModeError() // an old log may lack whole terms
		}
		if absence == wal.AbsentLost {
			return nil, ErrForgotten // "rolled back" would have the caller pay again what was paid
		}
		return nil, ErrNotFound
	default:
		return nil, ErrNotFound
	}
}

// Domain returns that of Config.
func (d *DTM) Domain() string { return d.config.Domain }

// Failed is closed when the log has failed or another coordinator took the term
// over. Nothing is sent after that; the program should close the coordinator and
// open it anew, which says what became of transactions whose outcome is unknown.
func (d *DTM) Failed() <-chan struct{} { return d.failed }

// Err returns why the coordinator takes no more work: ErrLogFailed or ErrNotOwner,
// with what the log says, else ErrClosed; nil while it works.
func (d *DTM) Err() error {
	if d.logFailed() { // looked at first: it takes no lock, and every Begin asks
		return refusedForLog(d.log.Err())
	}
	if d.closing.Load() {
		return ErrClosed
	}
	return nil
}

// refusedForLog says that nothing was asked because the log has failed in this way.
func refusedForLog(failure error) error {
	if errors.Is(failure, wal.ErrFenced) {
		return fmt.Errorf("%w: %w", ErrNotOwner, failure)
	}
	return fmt.Errorf("%w: %w", ErrLogFailed, failure)
}

func (d *DTM) safeModeError() error {
	if proof := d.safeMode.Load(); proof != nil {
		return fmt.Errorf("%w: %s", ErrSafeMode, *proof)
	}
	return ErrSafeMode
}

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// Open opens the log, takes over what former coordinators left in it, and returns
// a coordinator that accepts new work. All ids, outcomes and request ids of the
// log are known when it returns. What was left in doubt is finished in the
// background; WaitRecovered waits for it. Of a log in quarantine the coordinator is
// in safe mode from the start; see SafeMode.
//
// Errors: those of Config, of wal.Open (wal.ErrDamaged, wal.ErrForeign,
// wal.ErrNewer), participant.ErrNameTaken, and participant.ErrConfig from a
// participant that checks its service.
func Open(ctx context.Context, config Config) (*DTM, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("open coordinator: %w", err)
	}
	d := &DTM{
		config: config, logger: config.Logger, table: newTable(),
		endpoints: make(map[string]*endpoint), failed: make(chan struct{}),
	}
	d.forced.d, d.completions.d = d, d
	d.underway.whole = &d.goroutines
	d.deadlines.start, d.deadlines.wake = time.Now(), d.timeUp
	d.registry.Max = config.MaxParticipants
	for _, p := range config.Participants {
		if err := d.preregister(ctx, p); err != nil {
			return nil, fmt.Errorf("open coordinator of domain %s: %w", config.Domain, err)
		}
	}
	log, inherited, err := wal.Open(ctx, config.Store, wal.Config{
		Domain: config.Domain, Owner: config.Owner,
		Retention: config.Retention, RetainBytes: config.RetainBytes, RetainAtLeast: minRetentions * config.CallTimeout, // R13
		Forgotten: d.forgotten,
	})
	if err != nil {
		return nil, fmt.Errorf("open coordinator: %w", err)
	}
	d.log = log
	d.ctx, d.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	d.inherit(inherited)
	plan := d.planRecovery(inherited)
	d.heedWords(log.Words())
	d.goroutines.add()
	go d.watchLog()
	d.recover(plan)
	return d, nil
}

// preregister registers a participant before recovery begins, and asks it whether
// its service can take part at all.
func (d *DTM) preregister(ctx context.Context, p participant.Participant) error {
	registered, added, err := d.registry.Register(p)
	if err != nil || !added {
		return err
	}
	d.endpoint(registered.Name()).register(registered)
	if registered.Checker == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, d.config.CallTimeout)
	defer cancel()
	err = guard(func() error { return registered.Checker.Check(ctx) })
	if errors.Is(err, participant.ErrConfig) {
		return fmt.Errorf("check participant %q: %w", registered.Name(), err)
	}
	if err != nil {
		d.logger.Warn("participant could not be checked", zap.String("participant", registered.Name()), zap.Error(err))
	}
	return nil
}

// inherit puts what the log held into the table.
func (d *DTM) inherit(transactions []wal.Inherited) {
	for _, inherited := range transactions {
		s := inherited.State
		t := &transaction{
			id: s.Tx, epoch: max(inherited.Epoch, d.log.Epoch()), place: inherited.Place, machine: protocol.Resume(s),
			begun: record.Begun{Tx: s.Tx, At: s.At, Timeout: s.Timeout, Attributes: s.Attributes},
		}
		for _, b := range s.Branches {
			t.branches = append(t.branches, branch{endpoint: d.endpoint(b.Participant), data: b.Data})
		}
		if t.settled = s.Decision.Valid(); t.settled {
			t.decided.release()
		}
		d.table.put(t)
		if t.machine.Phase() == protocol.Done {
			t.finished.release()
			d.table.retire(t)
		}
		if key := keyOf(t.begun.Attributes); key.id != "" {
			d.requests.put(key, t.id)
		}
	}
}

// forgotten drops outcomes that the log has dropped (R13).
func (d *DTM) forgotten(ids []participant.TxID) {
	for _, id := range ids {
		d.requests.remove(id, d.table.remove(id))
	}
}

// watchLog halts the coordinator when its log fails: nothing more is sent (R5).
func (d *DTM) watchLog() {
	defer d.goroutines.done()
	select {
	case <-d.log.Failed():
	case <-d.ctx.Done():
		return
	}
	d.halted.Store(true)
	failure, err := d.log.Err(), d.Err()
	d.logger.Error("the log failed: nothing more is sent; close the coordinator and open it anew", zap.Error(err))
	close(d.failed)
	d.table.eachLive(func(t *transaction) bool {
		t.mu.Lock()
		if t.failure == nil {
			t.failure = failure
		}
		t.mu.Unlock()
		d.drive(t, protocol.LogFailed())
		return true
	})
	d.cancel(err)
}

// Close ends the coordinator: nothing new is begun, undecided transactions get a
// durable rollback decision and are told, calls under way are waited for, and the
// log is closed. What is not acknowledged by then is left to the next Open. Close
// does not close the store. Get and List still answer afterwards.
//
// Calls under way get a CallTimeout at most; then, or when ctx ends, their contexts
// end and nothing more is sent. If a participant or the store does not return even
// then, Close waits until ctx ends, and returns an error; the log is not closed
// then. It may be called again, to wait on, and concurrently. An error also says
// that the log had failed.
func (d *DTM) Close(ctx context.Context) error {
	d.goroutines.add() // before closing is seen: there is no moment at which nobody is at work
	if d.closing.CompareAndSwap(false, true) {
		go d.shutDown(ctx)
	} else {
		d.goroutines.done()
	}
	for zero := d.goroutines.zero(); zero != nil; zero = d.goroutines.zero() {
		select {
		case <-zero:
		case <-ctx.Done():
			return fmt.Errorf("close coordinator: participants or the log are still being waited for: %w", context.Cause(ctx))
		}
	}
	d.stopPool.Do(d.pool.stop)
	if err := d.log.Close(ctx); err != nil {
		return fmt.Errorf("close coordinator: %w", err)
	}
	return nil
}

func (d *DTM) shutDown(ctx context.Context) {
	defer d.goroutines.done()
	stop := context.AfterFunc(ctx, d.halt)
	defer stop()
	d.rollBackUndecided()
	d.drain(ctx)
	d.halt()
}

// halt ends what the coordinator does by itself, and lets nothing more be sent.
func (d *DTM) halt() {
	d.halted.Store(true)
	for _, e := range d.allEndpoints() {
		e.stop()
	}
	d.deadlines.stop()
	d.cancel(ErrClosed)
	// What is known by now is the answer. Who comes to wait only later sees that the
	// coordinator has halted.
	d.table.eachLive(func(t *transaction) bool {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.answered.release()
		return true
	})
}

// rollBackUndecided lets the closing compete for every open decision (R2), and
// waits until all are there.
func (d *DTM) rollBackUndecided() {
	var undecided []*transaction
	d.table.eachLive(func(t *transaction) bool {
		switch t.phase() {
		case protocol.Active, protocol.Sealing, protocol.Preparing, protocol.Deciding:
			undecided = append(undecided, t)
		default:
		}
		return true
	})
	d.inParallel(undecided, func(t *transaction) {
		if d.halted.Load() {
			return // Close has given up: the next Open rolls it back (R3)
		}
		d.drive(t, protocol.RollbackRequested(record.CauseClosed, ""))
		select {
		case <-t.waitDecided():
		case <-d.ctx.Done():
		}
	})
}

// parallel bounds how many transactions wait for the log at once while many are
// driven together: enough to fill a group commit.
const parallel = 1024

func (d *DTM) inParallel(transactions []*transaction, fn func(*transaction)) {
	var wg sync.WaitGroup
	room := make(chan struct{}, parallel)
	for _, t := range transactions {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			fn(t)
		})
	}
	wg.Wait()
}

// drain waits until no call or append is under way, for as long as a call may take.
func (d *DTM) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, d.config.CallTimeout)
	defer cancel()
	for zero := d.underway.zero(); zero != nil; zero = d.underway.zero() {
		select {
		case <-zero:
		case <-ctx.Done():
			return
		}
	}
}

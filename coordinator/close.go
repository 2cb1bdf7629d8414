package coordinator

import (
	"context"
	"fmt"
	"sync"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/wal/record"
)

// Close ends the coordinator: nothing new is begun, undecided transactions get a
// durable rollback decision and are told, calls under way are waited for, participants
// are told what they may forget, and the log is closed. What is not acknowledged by
// then is left to the next Open. Close does not close the store. Get and List still
// answer afterwards.
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
	calls, cancel := context.WithTimeout(ctx, d.config.CallTimeout)
	defer cancel()
	drain(calls, &d.underway)
	close(d.ending)
	drain(calls, &d.forgetting)
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
		case <-t.wait(&t.decided):
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

// drain waits until nothing that is counted is at work.
func drain(ctx context.Context, counted *tally) {
	for zero := counted.zero(); zero != nil; zero = counted.zero() {
		select {
		case <-zero:
		case <-ctx.Done():
			return
		}
	}
}

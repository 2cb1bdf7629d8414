package coordinator

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
)

// recovering is what Open found in doubt and is not finished yet.
type recovering struct {
	states []*record.State
	mu     sync.Mutex
	left   map[participant.TxID]struct{}
	done   chan struct{} // closed when left is empty
}

// add is called before anybody else knows of r.
func (r *recovering) add(t *transaction, s *record.State) {
	if r.left == nil {
		r.left = make(map[participant.TxID]struct{})
	}
	r.states = append(r.states, s)
	if recovery.NextStep(s) != recovery.Keep {
		r.left[t.id] = struct{}{}
	}
}

func (r *recovering) finished(t *transaction) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.left[t.id]; !ok {
		return
	}
	if delete(r.left, t.id); len(r.left) == 0 {
		close(r.done)
	}
}

// WaitRecovered waits until everything that Open found in doubt has ended. It
// returns ErrSafeMode if that can't happen, and ctx's error with the number of
// transactions left, for want of a participant perhaps.
func (d *DTM) WaitRecovered(ctx context.Context) error {
	select {
	case <-d.recovering.done:
		return nil
	case <-d.failed:
		return d.Err()
	case <-d.orphans.safe():
		return d.safeModeError()
	case <-ctx.Done():
		d.recovering.mu.Lock()
		defer d.recovering.mu.Unlock()
		return fmt.Errorf("%d transactions of former coordinators are still in doubt: %w", len(d.recovering.left), context.Cause(ctx))
	}
}

// recover carries out the plan for what Open found (R11), in the background.
func (d *DTM) recover() {
	plan := recovery.NewPlan(d.recovering.states)
	d.recovering.states = nil
	d.recovering.done = make(chan struct{})
	d.orphans.init()
	if len(d.recovering.left) == 0 {
		close(d.recovering.done)
	}
	d.config.Trace.inherited(plan)
	if plan.InDoubt() > 0 {
		d.logger.Info("finishing what former coordinators left in doubt",
			zap.Int("told_again", len(plan.Resend)), zap.Int("rolled_back", len(plan.RollBack)), zap.Int("asked", len(plan.Ask)))
	}
	free := d.gate(plan)
	d.goroutines.Add(2)
	go func() {
		defer d.goroutines.Done()
		for _, s := range plan.Resend { // R10: a logged decision may go at once
			d.resume(d.table.get(s.Tx))
		}
		d.inParallel(free, d.resume)
	}()
	go d.sweepForever()
	for _, e := range d.allEndpoints() {
		if e.registered != nil {
			d.goroutines.Add(1)
			go d.welcome(e, e.registered)
		}
	}
}

// gate lets the transactions that rest on absence wait for the first of their
// participants whose list was read (R10), and returns those that have none.
func (d *DTM) gate(plan recovery.Plan) (free []*transaction) {
	for _, states := range [][]*record.State{plan.RollBack, plan.Ask} {
		for _, s := range states {
			t := d.table.get(s.Tx)
			if len(t.branches) == 0 {
				free = append(free, t)
			}
			for _, b := range t.branches {
				b.endpoint.inherited = append(b.endpoint.inherited, t)
			}
		}
	}
	return free
}

func (d *DTM) resume(t *transaction) { d.decideBy(t, protocol.Resumed()) }

// welcome reads the list of a participant that is new in this run and then lets
// rollbacks by absence go to it (R10). A participant that does not answer is asked
// again until it does; others don't wait for it.
func (d *DTM) welcome(e *endpoint, p *participant.Registered) {
	defer d.goroutines.Done()
	for failures := 0; p.Lister != nil; failures++ {
		listing, err := d.list(p)
		if err == nil {
			d.examine(p.Name(), listing)
			break
		}
		if failures == 0 {
			d.logger.Warn("participant can't be listed; what rests on its list waits", zap.String("participant", p.Name()), zap.Error(err))
		}
		if !d.pause(d.backoff(failures)) {
			return
		}
	}
	if d.safeMode.Load() != nil {
		return // R10: nothing is rolled back by absence
	}
	d.inParallel(e.letPresumed(), d.resume)
	d.kickSweep()
}

func (d *DTM) list(p *participant.Registered) (l participant.Listing, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, d.config.CallTimeout)
	defer cancel()
	err = guard(func() (err error) {
		l, err = p.Lister.List(ctx, d.config.Domain)
		return err
	})
	return l, err
}

// examine looks in a participant's list for a proof that the log is older than
// what the participant saw.
func (d *DTM) examine(name string, l participant.Listing) {
	proof := recovery.ProofOfOldLog(name, l, d.knowledge())
	if proof == "" || !d.safeMode.CompareAndSwap(nil, &proof) {
		return
	}
	d.orphans.enterSafeMode()
	d.logger.Error("safe mode: logged decisions are delivered, nothing is begun, and nothing is rolled back by absence, until an operator has compared log and participants", zap.String("proof", proof))
	d.config.Trace.safeMode(proof)
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

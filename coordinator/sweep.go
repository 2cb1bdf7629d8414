package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
)

// orphanage is the state of the sweep.
type orphanage struct {
	kick     chan struct{}
	safeMode chan struct{}
	mu       sync.Mutex
	// telling are the orphans that are being told; reported those that were
	// logged, so that each is logged once.
	telling  map[participant.XID]bool
	reported map[participant.XID]recovery.Verdict
}

func (o *orphanage) init() {
	o.kick = make(chan struct{}, 1)
	o.safeMode = make(chan struct{})
	o.telling = make(map[participant.XID]bool)
	o.reported = make(map[participant.XID]recovery.Verdict)
}

func (o *orphanage) safe() <-chan struct{} { return o.safeMode }

func (o *orphanage) enterSafeMode() { close(o.safeMode) }

// sweepForever looks for orphans once the participants were listed, and then
// every SweepInterval.
func (d *DTM) sweepForever() {
	defer d.goroutines.Done()
	ticker := time.NewTicker(d.config.SweepInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-d.orphans.kick:
		case <-d.ctx.Done():
			return
		}
		orphans, err := d.findOrphans(d.ctx)
		if err != nil {
			d.logger.Debug("sweep could not read every participant", zap.Error(err))
		}
		for _, o := range orphans {
			d.treat(o)
		}
	}
}

func (d *DTM) kickSweep() {
	select {
	case d.orphans.kick <- struct{}{}:
	default:
	}
}

// pause waits; false if the coordinator ends first.
func (d *DTM) pause(pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-d.ctx.Done():
		return false
	}
}

// Orphans lists the prepared branches of the domain that no live transaction has,
// with what the sweep does about each and why. Participants that could not be
// read are in the error; the orphans of the others are returned all the same.
func (d *DTM) Orphans(ctx context.Context) ([]recovery.Orphan, error) {
	if !d.enter() {
		return nil, fmt.Errorf("list orphans: %w", ErrClosed)
	}
	defer d.leave()
	return d.findOrphans(ctx)
}

// findOrphans asks all participants at once: one that hangs holds up the result,
// but not the calls of the others.
func (d *DTM) findOrphans(ctx context.Context) ([]recovery.Orphan, error) {
	var mu sync.Mutex
	var orphans []recovery.Orphan
	var failed error
	var wg sync.WaitGroup
	for _, p := range d.registry.All() {
		if p.Lister == nil {
			continue
		}
		wg.Go(func() {
			found, err := d.sweepOne(ctx, p)
			mu.Lock()
			defer mu.Unlock()
			orphans = append(orphans, found...)
			if err != nil && failed == nil {
				failed = fmt.Errorf("list participant %q: %w", p.Name(), err)
			}
		})
	}
	wg.Wait()
	return orphans, failed
}

func (d *DTM) sweepOne(ctx context.Context, p *participant.Registered) ([]recovery.Orphan, error) {
	// The order of reading is what makes it safe: participant, table and log (in
	// Sweep), participant again.
	first, err := d.list(p)
	if err != nil {
		return nil, err
	}
	d.examine(p.Name(), first)
	if len(first.Prepared) == 0 {
		return nil, ctx.Err()
	}
	known := d.remember(first)
	second, err := d.list(p)
	if err != nil {
		return nil, err
	}
	return recovery.Sweep(p.Name(), first, second, known), ctx.Err()
}

// treat carries out one verdict.
func (d *DTM) treat(o recovery.Orphan) {
	xid := o.Branch.XID()
	d.orphans.mu.Lock()
	telling := d.orphans.telling[xid]
	reported := d.orphans.reported[xid] == o.Verdict
	if !reported && len(d.orphans.reported) < maxReported {
		d.orphans.reported[xid] = o.Verdict
	}
	d.orphans.mu.Unlock()
	if telling {
		return
	}
	if !reported {
		d.config.Trace.orphan(o)
		d.logger.Warn("orphan: a prepared branch without a live transaction",
			zap.String("xid", string(xid)), zap.String("participant", o.Branch.Participant), zap.Stringer("verdict", o.Verdict), zap.String("reason", o.Reason))
	}
	switch o.Verdict {
	case recovery.TellCommit:
		d.tellOrphan(o.Branch, record.DecisionCommit)
	case recovery.TellRollback:
		if d.safeMode.Load() == nil { // R10
			d.tellOrphan(o.Branch, record.DecisionRollback)
		}
	case recovery.Leave, recovery.Forgotten, recovery.ForeignTerm, recovery.LogTooOld:
	}
}

// maxReported bounds the orphans remembered as logged (R12).
const maxReported = 10_000

// tellOrphan tells one branch the outcome of its transaction, with the same
// machine and loop as any other (R11). The log does not learn of it: what is told
// rests on what it holds, or on its having nothing.
func (d *DTM) tellOrphan(b participant.Branch, decision record.Decision) {
	s := record.NewState(b.Tx)
	s.Decision, s.Presumed = decision, decision == record.DecisionRollback
	s.Branches = make([]record.Branch, b.Number+1)
	for i := range s.Branches {
		s.Branches[i] = record.Branch{Participant: b.Participant, Outcome: decision.Outcome()}
	}
	s.Branches[b.Number].Outcome = 0
	t := &transaction{id: b.Tx, epoch: d.log.Epoch(), begun: record.Begun{Tx: b.Tx}, machine: protocol.Resume(s), told: true}
	for range s.Branches {
		t.branches = append(t.branches, branch{endpoint: d.endpoint(b.Participant)})
	}
	t.decided.release()

	xid := b.XID()
	d.orphans.mu.Lock()
	d.orphans.telling[xid] = true
	d.orphans.mu.Unlock()
	d.resume(t)
	finished := t.waitFinished()
	d.goroutines.Add(1)
	go func() {
		defer d.goroutines.Done()
		select {
		case <-finished:
		case <-d.ctx.Done():
		}
		d.orphans.mu.Lock()
		delete(d.orphans.telling, xid)
		d.orphans.mu.Unlock()
	}()
}

// knowledge is what the table and the log say of transactions, for the judgement
// of recovery.
func (d *DTM) knowledge() *knowledge {
	k := &knowledge{d: d, marks: make(map[participant.Term]record.TermMarks)}
	for _, m := range d.log.Terms() {
		k.marks[m.Term] = m
	}
	return k
}

// remember is knowledge as of now of all that the listing names.
func (d *DTM) remember(l participant.Listing) *knowledge {
	k := d.knowledge()
	k.transactions = make(map[participant.TxID]fate, len(l.Prepared))
	for _, b := range l.Prepared {
		if t := d.table.get(b.Tx); t != nil {
			k.transactions[b.Tx] = t.fate()
		}
	}
	// The marks last: an outcome that is forgotten meanwhile has raised its mark.
	for _, m := range d.log.Terms() {
		k.marks[m.Term] = m
	}
	return k
}

type knowledge struct {
	d            *DTM
	marks        map[participant.Term]record.TermMarks
	transactions map[participant.TxID]fate
}

type fate struct {
	decision record.Decision
	live     bool
}

func (t *transaction) fate() fate {
	t.mu.Lock()
	defer t.mu.Unlock()
	phase := t.machine.Phase()
	return fate{t.machine.Decision(), phase != protocol.Completing && phase != protocol.Done}
}

// Outcome implements recovery.Log.
func (k *knowledge) Outcome(id participant.TxID) (decision record.Decision, live, known bool) {
	f, known := k.transactions[id]
	return f.decision, f.live, known
}

// Marks implements recovery.Log.
func (k *knowledge) Marks(term participant.Term) (record.TermMarks, bool) {
	m, listed := k.marks[term]
	return m, listed
}

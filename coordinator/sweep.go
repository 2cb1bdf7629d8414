package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
)

// sweeper looks for orphans at one participant. Used by one goroutine.
type sweeper struct {
	d *DTM
	p *participant.Registered
	// known are the orphans of the last sweep, as many as the participant lists.
	known map[participant.XID]sweptOrphan
	// failures counts the sweeps in a row that could not read the list.
	failures int
}

// sweptOrphan is what was done about an orphan.
type sweptOrphan struct {
	verdict recovery.Verdict
	telling *transaction // nil if nothing is told
}

func (s *sweeper) sweep() {
	orphans, err := s.d.findOrphans(s.d.ctx, s.p)
	if err != nil {
		if s.failures++; bits.OnesCount(uint(s.failures)) == 1 && s.d.ctx.Err() == nil { // ever rarer
			s.d.logger.Warn("sweep for orphans could not read a participant", zap.Int("sweeps", s.failures), zap.Error(err))
		}
		return
	}
	s.failures = 0
	known := make(map[participant.XID]sweptOrphan, len(orphans))
	for _, o := range orphans {
		xid := o.Branch.XID()
		known[xid] = s.treat(o, s.known[xid])
	}
	for xid, before := range s.known {
		if _, listed := known[xid]; !listed && before.telling != nil && !before.telling.ended() {
			known[xid] = before // its acknowledgement was lost perhaps
		}
	}
	s.known = known
}

// treat carries out one verdict, and reports it once.
func (s *sweeper) treat(o recovery.Orphan, before sweptOrphan) sweptOrphan {
	if before.telling != nil && !before.telling.ended() {
		return before
	}
	if before.verdict != o.Verdict {
		s.d.config.Trace.orphan(o)
		s.d.logger.Warn("orphan: a prepared branch without a live transaction",
			zap.String("xid", string(o.Branch.XID())), zap.String("participant", o.Branch.Participant),
			zap.Stringer("verdict", o.Verdict), zap.String("reason", o.Reason))
	}
	now := sweptOrphan{verdict: o.Verdict}
	switch o.Verdict {
	case recovery.TellCommit:
		now.telling = s.d.tellOrphan(o.Branch, record.DecisionCommit, false)
	case recovery.TellRollback:
		now.telling = s.d.tellOrphan(o.Branch, record.DecisionRollback, false)
	case recovery.TellPresumed:
		now.telling = s.d.tellOrphan(o.Branch, record.DecisionRollback, true)
	case recovery.Leave, recovery.Forgotten, recovery.ForeignTerm, recovery.LogTooOld:
	}
	return now
}

// tellOrphan tells one branch the outcome of its transaction, with the same
// machine and loop as any other (R11). The log does not learn of it: what is told
// rests on what it holds, or, presumed, on its having nothing.
func (d *DTM) tellOrphan(b participant.Branch, decision record.Decision, presumed bool) *transaction {
	s := record.NewState(b.Tx)
	s.Decision, s.Presumed = decision, presumed
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
	if presumed {
		d.presume(t)
	} else {
		d.resume(t)
	}
	return t
}

// ended reports whether every branch has ended.
func (t *transaction) ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.finished.open
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
// by participant and XID, with what the sweep does about each and why.
// Participants that could not be read, or not before ctx ended, are in the error;
// the orphans of the others are returned all the same.
func (d *DTM) Orphans(ctx context.Context) ([]recovery.Orphan, error) {
	if !d.enter() {
		return nil, fmt.Errorf("list orphans: %w", ErrClosed)
	}
	defer d.leave()
	type result struct {
		name    string
		orphans []recovery.Orphan
		err     error
	}
	participants := slices.DeleteFunc(d.registry.All(), func(p *participant.Registered) bool { return p.Lister == nil })
	results := make(chan result, len(participants))
	waiting := make(map[string]bool, len(participants))
	for _, p := range participants {
		waiting[p.Name()] = true
		d.goroutines.Add(1)
		go func() {
			defer d.goroutines.Done()
			orphans, err := d.findOrphans(ctx, p)
			results <- result{p.Name(), orphans, err}
		}()
	}
	var orphans []recovery.Orphan
	var failed []error
	for len(waiting) > 0 {
		select {
		case r := <-results:
			delete(waiting, r.name)
			orphans = append(orphans, r.orphans...)
			if r.err != nil {
				failed = append(failed, r.err)
			}
		case <-ctx.Done():
			for _, name := range slices.Sorted(maps.Keys(waiting)) {
				failed = append(failed, fmt.Errorf("list participant %q: %w", name, context.Cause(ctx)))
			}
			clear(waiting)
		}
	}
	slices.SortFunc(orphans, func(a, b recovery.Orphan) int {
		return cmp.Or(cmp.Compare(a.Branch.Participant, b.Branch.Participant), cmp.Compare(a.Branch.XID(), b.Branch.XID()))
	})
	return orphans, errors.Join(failed...)
}

// findOrphans judges what a participant lists. The order of reading is what makes
// it safe (R10): participant, table, log, participant again.
func (d *DTM) findOrphans(ctx context.Context, p *participant.Registered) ([]recovery.Orphan, error) {
	first, err := d.list(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list participant %q: %w", p.Name(), err)
	}
	d.examine(p.Name(), first)
	if len(first.Prepared) == 0 {
		return nil, nil
	}
	known := d.remember(first)
	second, err := d.list(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list participant %q again: %w", p.Name(), err)
	}
	return recovery.Sweep(p.Name(), first, second, known), nil
}

// knowledge is what the log and, once remembered, the table say of transactions,
// for the judgement of recovery.
type knowledge struct {
	marks  map[participant.Term]record.TermMarks
	fates  map[participant.XID]fate
	tooOld string
}

// fate is how far a branch is, as its transaction has it.
type fate struct {
	decision record.Decision
	live     bool
}

// knowledge returns what the log says now.
func (d *DTM) knowledge() *knowledge {
	k := &knowledge{marks: make(map[participant.Term]record.TermMarks)}
	for _, m := range d.log.Terms() {
		k.marks[m.Term] = m
	}
	return k
}

// remember returns what the table and then the log say of what is listed: an
// outcome that is forgotten in between has raised its mark.
func (d *DTM) remember(l participant.Listing) *knowledge {
	fates := make(map[participant.XID]fate, len(l.Prepared))
	for _, b := range l.Prepared {
		if t := d.table.get(b.Tx); t != nil {
			fates[b.XID()] = t.fate(b.Number)
		}
	}
	k := d.knowledge()
	k.fates = fates
	if proof := d.safeMode.Load(); proof != nil {
		k.tooOld = *proof
	}
	return k
}

func (t *transaction) fate(number int) fate {
	t.mu.Lock()
	defer t.mu.Unlock()
	phase, branches := t.machine.Phase(), t.machine.Branches()
	f := fate{t.machine.Decision(), phase != protocol.Completing && phase != protocol.Done}
	if number < len(branches) && branches[number].Outcome.Valid() {
		// The branch has acknowledged and is not told any more, though others may
		// be: a late Prepare has brought it back.
		f.live = false
	}
	return f
}

// Outcome implements recovery.Log.
func (k *knowledge) Outcome(b participant.Branch) (decision record.Decision, live, known bool) {
	f, known := k.fates[b.XID()]
	return f.decision, f.live, known
}

// Marks implements recovery.Log.
func (k *knowledge) Marks(term participant.Term) (record.TermMarks, bool) {
	m, listed := k.marks[term]
	return m, listed
}

// TooOld implements recovery.Log.
func (k *knowledge) TooOld() string { return k.tooOld }

package coordinator

import (
	"context"
	"fmt"
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
	case recovery.Leave, recovery.Forgotten, recovery.ForeignTerm, recovery.LogTooOld, recovery.OtherDomain, recovery.GivenUp, recovery.NoBranch:
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
	t := &transaction{id: b.Tx, epoch: d.log.Epoch(), begun: record.Begun{Tx: b.Tx}, machine: protocol.Resume(s), settled: true}
	for range s.Branches {
		t.branches = append(t.branches, branch{endpoint: d.endpoint(b.Participant)})
	}
	t.decided.release()
	if presumed {
		d.resumePresumed(t)
	} else {
		d.resume(t)
	}
	return t
}

// ended reports whether every branch has ended.
func (t *transaction) ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.finished.open()
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

// findOrphans judges what a participant lists. The order of reading is what makes
// it safe (R10): participant, table, log, participant again.
func (d *DTM) findOrphans(ctx context.Context, p *participant.Registered) ([]recovery.Orphan, error) {
	first, err := d.list(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list participant %q: %w", p.Name(), err)
	}
	d.checkForOldLog(p.Name(), first)
	if len(first.Prepared) == 0 {
		return nil, nil
	}
	evidence := d.evidence(first)
	second, err := d.list(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("list participant %q again: %w", p.Name(), err)
	}
	return recovery.Sweep(p.Name(), first, second, evidence), nil
}

// evidence returns what the table and then the log say of what is listed, in this
// order (R13).
func (d *DTM) evidence(l participant.Listing) recovery.Evidence {
	e := recovery.Evidence{Branches: make(map[participant.XID]recovery.BranchState, len(l.Prepared))}
	for _, b := range l.Prepared {
		if t := d.table.get(b.Tx); t != nil {
			e.Branches[b.XID()] = t.branchState(b.Number)
		}
	}
	e.Marks, e.Accepted = d.marks(), d.accepted
	if proof := d.safeMode.Load(); proof != nil {
		e.TooOld = *proof
	}
	return e
}

func (t *transaction) branchState(number int) recovery.BranchState {
	t.mu.Lock()
	defer t.mu.Unlock()
	phase, branches := t.machine.Phase(), t.machine.Branches()
	s := recovery.BranchState{Decision: t.machine.Decision(), Live: phase != protocol.Completing && phase != protocol.Done}
	if number < len(branches) && branches[number].Outcome.Valid() {
		// The branch has acknowledged and is not told any more, though others may
		// be: a late Prepare has brought it back.
		s.Live = false
	}
	s.GivenUp = slices.ContainsFunc(t.machine.Words(), func(w record.Operator) bool {
		return w.Verb == record.VerbForgetBranch && w.Branch == number
	})
	return s
}

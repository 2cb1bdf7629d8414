package coordinator

import (
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// drive feeds an event to the transaction's machine, carries out what the machine
// asks for, and goes on with what came of it, until others have to answer. Live
// work, retries and recovery all come through here (R11), and nothing else writes
// records or calls participants.
//
// A forced append is waited for in the calling goroutine; participants are called
// in goroutines of their endpoints, never in this one, so that a participant that
// hangs holds up nobody.
func (d *DTM) drive(t *transaction, ev protocol.Event) error {
	for ev.Kind != 0 {
		next, err := d.step(t, ev)
		if err != nil {
			return err
		}
		ev = next
	}
	return nil
}

// step feeds in one event and returns the next one, if it is known already.
func (d *DTM) step(t *transaction, ev protocol.Event) (next protocol.Event, err error) {
	t.mu.Lock()
	if ev.Kind == protocol.EventEnlist && t.machine.Phase() == protocol.Active && t.hasBranch(ev.Participant) {
		t.mu.Unlock()
		return protocol.Event{}, errEnlisted
	}
	effects, err := t.machine.Step(ev)
	if err != nil {
		t.mu.Unlock()
		return protocol.Event{}, err
	}
	if ev.Kind == protocol.EventEnlist {
		d.addBranch(t, ev)
	}
	// Under the mutex, so that the log has a transaction's records in the order of
	// its steps.
	batches := make([]*wal.Batch, len(effects))
	for i, effect := range effects {
		if effect.Kind == protocol.EffectAppend {
			if batches[i], err = d.append(t, effect); err != nil {
				t.failure = err
			}
		}
	}
	d.settle(t)
	presumed := t.machine.Presumed()
	t.mu.Unlock()

	for i, effect := range effects {
		if effect.Kind != protocol.EffectAppend {
			d.carryOut(t, effect, presumed)
			continue
		}
		kind := effect.Records[len(effect.Records)-1].Kind()
		if !d.forced(effect) {
			if kind == record.KindCompleted {
				d.completions.add(t, batches[i])
			}
			continue
		}
		result := d.result(t, batches[i])
		next = protocol.Appended(kind, result)
		if result != protocol.Durable {
			return next, nil // R5: what would follow depends on it
		}
	}
	return next, nil
}

// forced reports whether the driver waits for an append.
func (d *DTM) forced(effect protocol.Effect) bool {
	return effect.Forced || d.config.ForceEveryTransition
}

// append hands records to the log. No batch means not written.
func (d *DTM) append(t *transaction, effect protocol.Effect) (*wal.Batch, error) {
	if t.log == nil {
		return nil, nil // an orphan: the absence of records is what is acted on
	}
	for i, r := range effect.Records {
		if completed, ok := r.(record.Completed); ok {
			completed.At = time.Now()
			effect.Records[i] = completed
		}
	}
	batch, err := d.log.Append(t.log, d.forced(effect), effect.Records...)
	if err != nil {
		return nil, fmt.Errorf("write to the log: %w", err)
	}
	return batch, nil
}

// result waits for an append. R5: there are three answers.
func (d *DTM) result(t *transaction, batch *wal.Batch) protocol.Result {
	if t.log == nil {
		return protocol.Durable
	}
	err := wal.ErrClosed
	if batch != nil {
		<-batch.Done()
		err = batch.Err()
	}
	if err == nil {
		return protocol.Durable
	}
	t.mu.Lock()
	t.failure = err
	t.mu.Unlock()
	if errors.Is(err, wal.ErrFenced) {
		return protocol.Fenced
	}
	return protocol.Unknown
}

// settle opens the latches that the machine's state calls for, and reports a
// decision once. Called with the transaction's mutex held.
func (d *DTM) settle(t *transaction) {
	decision, phase := t.machine.Decision(), t.machine.Phase()
	if phase == protocol.Stopped {
		t.decided.release()
		t.finished.release()
	}
	if !decision.Valid() && phase != protocol.Stopped || t.told {
		return
	}
	t.told = true
	t.decided.release()
	if t.timer != nil {
		t.timer.Stop()
	}
	if t.prepare != nil {
		t.prepare.cancel()
	}
	if t.log != nil && t.id.Term == d.log.Term() {
		d.open.Add(-1)
	}
	if !decision.Valid() {
		return
	}
	decided := t.machine.Decided()
	d.config.Trace.decided(t.id, decision, decided.Cause)
	level, fields := zap.DebugLevel, []zap.Field{}
	if d.logger.Core().Enabled(zap.InfoLevel) {
		took := time.Since(t.begun.At)
		if decision == record.DecisionRollback || took > slow {
			level = zap.InfoLevel
		}
		if t.begun.Attributes[record.AttributeName] != "" {
			fields = append(fields, zap.String("name", t.begun.Attributes[record.AttributeName]))
		}
		if decision == record.DecisionRollback {
			fields = append(fields, zap.Error(t.rolledBack()))
		}
		d.logger.Log(level, "transaction decided", append(fields,
			zap.Stringer("tx", t.id), zap.Stringer("decision", decision), zap.Duration("took", took))...)
	}
}

// slow is from when on a clean outcome is worth a line at level Info.
const slow = 5 * time.Second

func (d *DTM) carryOut(t *transaction, effect protocol.Effect, presumed bool) {
	switch effect.Kind {
	case protocol.EffectAppend: // see step
	case protocol.EffectPrepare:
		ctx := d.prepareContext(t)
		for _, number := range effect.Branches {
			d.endpointOf(t, number).prepare(&call{t: t, number: number, verb: effect.Kind, ctx: ctx})
		}
	case protocol.EffectCancelPrepare:
		t.mu.Lock()
		ctx := t.prepare
		t.mu.Unlock()
		if ctx != nil {
			ctx.cancel()
		}
	case protocol.EffectCommit, protocol.EffectCommitOnePhase, protocol.EffectRollback:
		for _, number := range effect.Branches {
			d.endpointOf(t, number).tell(&call{t: t, number: number, verb: effect.Kind, presumed: presumed})
		}
	case protocol.EffectFinish:
		d.finish(t, effect.Outcome)
	case protocol.EffectForget:
		d.forget(t, effect.Branches)
	}
}

func (d *DTM) endpointOf(t *transaction, number int) *endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.branches[number].endpoint
}

// prepareContext is the context of all the transaction's calls of Prepare: one
// deadline for the phase. When it passes the machine hears of it by the
// transaction's timer, even if a participant ignores its context.
func (d *DTM) prepareContext(t *transaction) *callContext {
	deadline := time.Now().Add(d.config.CallTimeout)
	if t.deadline.Before(deadline) {
		deadline = t.deadline
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.prepare = d.callContext(t.values, deadline)
	if t.timer != nil {
		t.timer.Reset(time.Until(deadline))
	}
	return t.prepare
}

// vote is what came of a call of Prepare.
func (d *DTM) vote(c *call, vote participant.Vote, err error) protocol.Event {
	reason := ""
	if err != nil {
		reason = err.Error()
	} else if !vote.Valid() {
		reason = "returned " + vote.String()
	}
	if err != nil && vote != participant.VoteRefused {
		vote = 0 // R4: unknown, whatever it was said to be
	}
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	c.t.branches[c.number].lastErr = err
	return protocol.Voted(c.number, vote, reason)
}

// answer reads what came of telling a branch: an event for the machine, and
// whether the branch has to be told again.
func (d *DTM) answer(c *call, err error) (ev protocol.Event, again bool) {
	var outcome participant.Outcome
	var acknowledged bool
	switch c.verb {
	case protocol.EffectCommitOnePhase:
		outcome, acknowledged = protocol.AnswerOnePhase(err)
	case protocol.EffectRollback:
		outcome, acknowledged = protocol.Answer(record.DecisionRollback, err)
	default:
		outcome, acknowledged = protocol.Answer(record.DecisionCommit, err)
	}
	reason := ""
	if err != nil {
		reason = err.Error()
	}
	if acknowledged {
		return protocol.Acknowledged(c.number, outcome, reason), false
	}
	if outcome == participant.OutcomeHeuristicHazard {
		c.hazard = true
		return protocol.Hazard(c.number, reason), true
	}
	return protocol.Event{}, true
}

func (d *DTM) finish(t *transaction, outcome participant.Outcome) {
	t.mu.Lock()
	t.finished.release()
	failure := t.failure
	var heuristic error
	if outcome.Heuristic() {
		heuristic = t.heuristic()
	}
	t.mu.Unlock()
	d.config.Trace.finished(t.id, outcome)
	switch {
	case !outcome.Valid():
		d.logger.Warn("transaction stopped: the log failed", zap.Stringer("tx", t.id), zap.Error(failure))
	case outcome.Heuristic():
		d.logger.Error("transaction has a heuristic outcome", zap.Stringer("tx", t.id), zap.Error(heuristic))
	default:
		if ce := d.logger.Check(zap.DebugLevel, "transaction finished"); ce != nil {
			ce.Write(zap.Stringer("tx", t.id), zap.Stringer("outcome", outcome))
		}
	}
	if outcome.Valid() {
		d.recovering.finished(t)
	}
}

// forget lets participants drop what they keep for a transaction whose completion
// is durable (R1).
func (d *DTM) forget(t *transaction, branches []int) {
	if t.log == nil {
		return // an orphan: nothing is durable, and its tombstone is what keeps it from coming back
	}
	for _, number := range branches {
		d.endpointOf(t, number).forget(d.branch(t, number))
	}
}

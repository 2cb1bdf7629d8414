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
// work, retries and recovery all come through here (R11); only what begins a
// transaction or enlists a branch, and asks nothing of participants, does not.
//
// It does not wait for participants or the log: what comes of their calls and of
// forced appends is driven by goroutines of the pool.
//
//nolint:contextcheck // what follows from an event ends with the coordinator, not with the caller (R6)
func (d *DTM) drive(t *transaction, ev protocol.Event) {
	for ev.Kind != 0 {
		ev = d.step(t, ev)
	}
}

// step feeds in one event and returns the next one, if it is known already.
func (d *DTM) step(t *transaction, ev protocol.Event) (next protocol.Event) {
	var room [2]*wal.Batch // no step appends more often
	t.mu.Lock()
	effects, batches := d.advance(t, ev, room[:0])
	decided := d.settle(t)
	presumed, done := t.machine.Presumed(), t.machine.Phase() == protocol.Done
	t.mu.Unlock()
	if decided {
		d.reportDecision(t)
	}
	todo := effects.All()
	for i := range todo {
		effect := &todo[i]
		if effect.Kind != protocol.EffectAppend {
			d.carryOut(t, effect, presumed)
			continue
		}
		x := appended{t: t, batch: batches[0], last: lastKind(effect)}
		batches = batches[1:]
		switch forced := d.forces(effect); {
		case forced && i < len(todo)-1:
			// Rare: a heuristic outcome must be durable before the transaction finishes.
			result := d.result(t, x.batch)
			next = protocol.Appended(x.last, result)
			if result != protocol.Durable {
				d.unsure(t, x.last)
				return next // R5: what would follow depends on it
			}
		case forced:
			d.forced.await(x)
		case x.last == record.KindCompleted:
			d.completions.await(x)
		}
	}
	if decided {
		t.openDecided()
	}
	if done {
		d.table.retire(t)
	}
	return next
}

// advance moves the machine and hands its records to the log: under the mutex, so
// that the log has a transaction's records in the order of its steps. It adds one
// batch for each append among the effects. Called with the transaction's mutex
// held.
func (d *DTM) advance(t *transaction, ev protocol.Event, batches []*wal.Batch) (protocol.Effects, []*wal.Batch) {
	if ev.Kind != protocol.EventAppended && d.logFailed() {
		// R5: nothing is decided any more; that includes what would be decided lazily.
		ev = protocol.LogFailed()
		if t.failure == nil {
			t.failure = d.log.Err()
		}
	}
	effects, err := t.machine.Step(ev)
	if err != nil {
		panic(fmt.Sprintf("coordinator: transaction %s: %v", t.id, err)) // only Enlist is refused
	}
	todo := effects.All()
	for i := range todo {
		if todo[i].Kind != protocol.EffectAppend {
			continue
		}
		batch, refused := d.append(t, &todo[i])
		if refused != nil {
			t.failure = refused
		}
		batches = append(batches, batch)
	}
	return effects, batches
}

// unsure notes that an append failed after which the transaction would have ended. With
// ForceEveryTransition that may be its decision, which the machine takes for made: it
// asked for it lazily.
func (d *DTM) unsure(t *transaction, last record.Kind) {
	if last == record.KindHeuristic {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unsure = true
}

// forces reports whether an append is a forced one.
func (d *DTM) forces(effect *protocol.Effect) bool {
	return effect.Forced || d.config.ForceEveryTransition
}

func lastKind(effect *protocol.Effect) record.Kind {
	records := effect.Records()
	return records[len(records)-1].Kind()
}

// append hands records to the log. No batch means not written.
func (d *DTM) append(t *transaction, effect *protocol.Effect) (*wal.Batch, error) {
	if t.place == nil {
		return nil, nil // an orphan: the absence of records is what is acted on
	}
	records := effect.Records()
	for i, r := range records {
		if completed, ok := r.(record.Completed); ok {
			completed.At = time.Now()
			records[i] = completed
		}
	}
	batch, err := d.log.Append(t.place, d.forces(effect), records...)
	switch {
	case errors.Is(err, wal.ErrFull):
		return nil, fmt.Errorf("%w: %w", ErrLogFull, err)
	case errors.Is(err, wal.ErrClosed):
		return nil, fmt.Errorf("%w: %w", ErrClosed, err)
	case err != nil:
		return nil, fmt.Errorf("write to the log: %w", err)
	}
	return batch, nil
}

// result waits for an append. R5: there are three answers.
func (d *DTM) result(t *transaction, batch *wal.Batch) protocol.Result {
	if t.place == nil {
		return protocol.Durable
	}
	if batch == nil {
		return protocol.Unknown // not accepted; append has noted why
	}
	err := batch.Wait()
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

// settle follows the machine: it reports whether the decision holds now and did
// not before, and lets go of what only an undecided transaction needs. Called with
// the transaction's mutex held.
func (d *DTM) settle(t *transaction) (decided bool) {
	decision, phase := t.machine.Decision(), t.machine.Phase()
	if phase == protocol.Stopped {
		t.decided.release()
		t.finished.release()
		t.answered.release()
	}
	if t.counted && (decision.Valid() || phase == protocol.Delegated || phase == protocol.Stopped) {
		// R12: what only waits for a participant counts there, as undelivered.
		t.counted = false
		d.uncountOpen(t.begun.Attributes)
	}
	if !decision.Valid() && phase != protocol.Stopped || t.settled {
		return false
	}
	t.settled = true
	switch {
	case d.config.CommitWait < 0:
		t.answered.release()
	case t.begunHere():
		d.wakeBy(t, time.Now().Add(d.config.CommitWait))
	}
	if t.prepare != nil {
		t.prepare.cancel()
	}
	return decision.Valid()
}

// reportDecision traces and logs the decision, once. Not under the mutex: a hook
// may ask for the transaction.
func (d *DTM) reportDecision(t *transaction) {
	t.mu.Lock()
	decided := t.machine.Decided()
	t.mu.Unlock()
	d.config.Trace.decided(t.id, decided.Decision, decided.Cause)
	took, level := time.Since(t.begun.At), zap.DebugLevel
	if decided.Decision == record.DecisionRollback || took > slow {
		level = zap.InfoLevel
	}
	ce := d.logger.Check(level, "transaction decided")
	if ce == nil {
		return
	}
	fields := []zap.Field{zap.Stringer("tx", t.id), zap.Stringer("decision", decided.Decision), zap.Duration("took", took)}
	if name := t.begun.Attributes[record.AttributeName]; name != "" {
		fields = append(fields, zap.String("name", name))
	}
	if decided.Decision == record.DecisionRollback {
		t.mu.Lock()
		fields = append(fields, zap.Error(t.rolledBackError()))
		t.mu.Unlock()
	}
	ce.Write(fields...)
}

// slow is from when on a clean outcome is worth a line at level Info.
const slow = 5 * time.Second

func (d *DTM) carryOut(t *transaction, effect *protocol.Effect, presumed bool) {
	switch effect.Kind {
	case protocol.EffectAppend: // see step
	case protocol.EffectPrepare:
		d.askAll(t, effect.Branches)
	case protocol.EffectCancelPrepare:
		d.cancelPrepares(t)
	case protocol.EffectCommit, protocol.EffectCommitOnePhase, protocol.EffectRollback:
		d.tellAll(t, effect.Kind, effect.Branches, presumed)
	case protocol.EffectFinish:
		d.finish(t, effect.Outcome)
	case protocol.EffectForget:
		d.forget(t, effect.Branches)
	case protocol.EffectPause, protocol.EffectUnpause, protocol.EffectRetry, protocol.EffectWithdraw:
		d.heed(t, effect)
	}
}

func (d *DTM) endpointOf(t *transaction, number int) *endpoint {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.branches[number].endpoint
}

// askAll queues the transaction's calls of Prepare.
func (d *DTM) askAll(t *transaction, branches []int) {
	t.mu.Lock()
	calls := t.calls(protocol.EffectPrepare, branches)
	ctx := d.prepareContext(t, &calls[0].own)
	for i := range calls {
		calls[i].ctx = ctx
	}
	t.asked = calls
	t.mu.Unlock()
	for i := range calls {
		calls[i].endpoint.prepare(&calls[i])
	}
}

// tellAll queues the calls that tell these branches what verb says.
func (d *DTM) tellAll(t *transaction, verb protocol.EffectKind, branches []int, presumed bool) {
	t.mu.Lock()
	calls := t.calls(verb, branches)
	t.mu.Unlock()
	for i := range calls {
		calls[i].presumed = presumed
		calls[i].endpoint.tell(&calls[i])
	}
}

// calls returns new calls to these branches. Called with the transaction's mutex
// held.
func (t *transaction) calls(verb protocol.EffectKind, branches []int) []call {
	calls := make([]call, len(branches))
	for i, number := range branches {
		calls[i] = call{t: t, number: number, verb: verb, endpoint: t.branches[number].endpoint}
	}
	return calls
}

// cancelPrepares ends the calls of Prepare that are under way, and takes back
// those that still wait in a queue: none may stay there for want of a participant
// that answers (R12).
func (d *DTM) cancelPrepares(t *transaction) {
	t.mu.Lock()
	if t.prepare != nil {
		t.prepare.cancel()
	}
	asked := t.asked
	t.mu.Unlock()
	for i := range asked {
		asked[i].endpoint.withdraw(&asked[i])
	}
}

// prepareContext makes ctx the context of all the transaction's calls of Prepare: one
// deadline for the phase. When it passes the machine hears of it even if a
// participant ignores its context. It has ended already if the votes don't matter
// any more. Called with the transaction's mutex held.
func (d *DTM) prepareContext(t *transaction, ctx *callContext) *callContext {
	deadline := time.Now().Add(d.config.CallTimeout)
	if t.deadline.Before(deadline) {
		deadline = t.deadline
	}
	ctx.init(d, t.values, deadline)
	t.prepare = ctx
	if t.machine.Phase() == protocol.Preparing {
		d.wakeBy(t, deadline)
	} else {
		ctx.cancel()
	}
	return ctx
}

func (d *DTM) finish(t *transaction, outcome participant.Outcome) {
	t.mu.Lock()
	failure := t.failure
	var heuristic error
	if outcome.Heuristic() {
		heuristic = t.heuristicError()
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
	t.mu.Lock()
	t.finished.release()
	t.answered.release()
	d.deadlines.remove(t)
	t.mu.Unlock()
	if outcome.Valid() && t.id.Term != d.log.Term() && t.place != nil { // an orphan's says nothing of the others' branches
		d.recovering.finished(t)
	}
}

// forget lets participants drop what they keep for a transaction whose completion
// is durable (R1).
func (d *DTM) forget(t *transaction, branches []int) {
	if t.place == nil {
		return // an orphan: nothing is durable, and its tombstone is what keeps it from coming back
	}
	for _, number := range branches {
		if e := d.endpointOf(t, number); e.forgetter.Load() {
			e.forget(d.branch(t, number))
		}
	}
}

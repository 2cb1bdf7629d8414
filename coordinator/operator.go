package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// Word is what an operator gives with what he asks for. It is kept in the log, with the
// time, as long as the transaction is; see DTM.Words.
type Word struct {
	// Who is asking, at most record.MaxWho bytes.
	Who string
	// Reason is required, at most record.MaxReason bytes.
	Reason string
	// DryRun only says what would be done, and records nothing.
	DryRun bool
}

func (w Word) validate() error {
	switch {
	case w.Reason == "":
		return errors.New("an operator's word needs a reason")
	case len(w.Reason) > record.MaxReason:
		return fmt.Errorf("%w: the reason has %d bytes, more than %d", ErrLimit, len(w.Reason), record.MaxReason)
	case len(w.Who) > record.MaxWho:
		return fmt.Errorf("%w: the operator's name has %d bytes, more than %d", ErrLimit, len(w.Who), record.MaxWho)
	}
	return nil
}

// Retry tells the branches that have not acknowledged at once, whenever they would be
// told again; a participant that is down gets one of them as its next probe.
//
// Of this and the other words of operators: the word is durable before it takes effect
// (R1), and none changes a decision (R2). What is done, or would be, is returned, a
// line for each branch. Words are recorded one at a time. Errors: ErrUnfit for a
// transaction that is undecided or has ended, or a word that makes no sense otherwise:
// nothing is recorded then; a word without a reason; ErrLimit for one that is too
// long; ErrOutcomeUnknown if the log failed while it was written; ErrLogFailed,
// ErrNotOwner, ErrClosed, those of Get, and that of ctx.
func (d *DTM) Retry(ctx context.Context, id participant.TxID, word Word) ([]string, error) {
	return d.say(ctx, id, record.Operator{Verb: record.VerbRetry}, "", word)
}

// Pause holds the delivery of a decision back until Resume, also over restarts: no
// branch is told, but one that is being told. Participants that are prepared keep
// their locks meanwhile, and WaitRecovered waits. A transaction that is not decided
// can't be paused: its timeout decides. For errors see Retry.
func (d *DTM) Pause(ctx context.Context, id participant.TxID, word Word) ([]string, error) {
	return d.say(ctx, id, record.Operator{Verb: record.VerbPause}, "", word)
}

// Resume lets the delivery of a transaction that was paused go on, at once. For errors
// see Retry.
func (d *DTM) Resume(ctx context.Context, id participant.TxID, word Word) ([]string, error) {
	return d.say(ctx, id, record.Operator{Verb: record.VerbResume}, "", word)
}

// ForgetBranch gives the participant's branch of a decided transaction up, if it has not
// acknowledged: nobody tells it anything any more, and its outcome is recorded as a heuristic
// hazard. What is still prepared there is listed by Orphans, and is the operator's to
// finish. For errors see Retry.
func (d *DTM) ForgetBranch(ctx context.Context, id participant.TxID, name string, word Word) ([]string, error) {
	return d.say(ctx, id, record.Operator{Verb: record.VerbForgetBranch}, name, word)
}

// Resolve records what an operator did to the participant's branch by hand:
// OutcomeCommitted or OutcomeRolledBack. It is not told anything any more. If the
// outcome agrees with the decision it is the branch's acknowledgement; if not, it is recorded
// as heuristic, and the decision stays (R2). Of a branch that commits in one phase and has
// not answered it is the answer, and thereby the decision (R3): no other undecided
// transaction can be resolved. For errors see Retry.
func (d *DTM) Resolve(ctx context.Context, id participant.TxID, name string, outcome participant.Outcome, word Word) ([]string, error) {
	if outcome != participant.OutcomeCommitted && outcome != participant.OutcomeRolledBack {
		return nil, fmt.Errorf("resolve transaction %s at participant %q: it is %s or %s, not %s",
			id, name, participant.OutcomeCommitted, participant.OutcomeRolledBack, outcome)
	}
	return d.say(ctx, id, record.Operator{Verb: record.VerbResolve, Outcome: outcome}, name, word)
}

// Words returns what operators said of the transaction, in the order in which they did.
// Of words that change nothing for ever, retries and pauses, the newest are kept. For
// errors see Get.
func (d *DTM) Words(ctx context.Context, id participant.TxID) ([]record.Operator, error) {
	t, err := d.find(ctx, id)
	switch {
	case errors.Is(err, ErrRolledBack):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the operators' words on transaction %s: %w", id, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.machine.Words()), nil
}

// say records an operator's word, on one branch if a name is given, and lets it take
// effect.
func (d *DTM) say(ctx context.Context, id participant.TxID, r record.Operator, name string, word Word) ([]string, error) {
	actions, err := d.trySay(ctx, id, r, name, word)
	if err != nil && name != "" {
		return nil, fmt.Errorf("%s of transaction %s at participant %q: %w", r.Verb, id, name, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%s transaction %s: %w", r.Verb, id, err)
	}
	return actions, nil
}

func (d *DTM) trySay(ctx context.Context, id participant.TxID, r record.Operator, name string, word Word) ([]string, error) {
	if err := word.validate(); err != nil {
		return nil, err
	}
	if !d.enter() {
		return nil, ErrClosed
	}
	defer d.leave()
	if err := d.Err(); err != nil {
		return nil, err
	}
	select {
	case d.operator <- struct{}{}:
		defer func() { <-d.operator }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	t, err := d.find(ctx, id)
	if errors.Is(err, ErrRolledBack) {
		return nil, fmt.Errorf("%w: it was never decided, and is rolled back", ErrUnfit)
	}
	if err != nil {
		return nil, err
	}
	if t.phase() == protocol.Inherited && t.hasDecision() {
		d.resume(t) // R11: if recovery has not come to it yet
	}
	r.Tx, r.At, r.Who, r.Reason = id, time.UnixMilli(time.Now().UnixMilli()), word.Who, word.Reason
	actions, batch, err := d.record(t, r, name, word.DryRun)
	if err != nil || word.DryRun {
		return actions, err
	}
	result := d.result(t, batch)
	d.drive(t, protocol.Appended(record.KindOperator, result)) // R1: only now does it take effect
	if result != protocol.Durable {
		t.mu.Lock()
		defer t.mu.Unlock()
		return nil, t.unknownError()
	}
	d.logger.Warn("an operator's word on a transaction", zap.Stringer("tx", id), zap.Stringer("verb", r.Verb), zap.String("participant", name),
		zap.String("who", r.Who), zap.String("reason", r.Reason), zap.Strings("done", actions))
	return actions, nil
}

// record hands the word to the machine and to the log, and says what comes of it; of a
// dry run only that.
func (d *DTM) record(t *transaction, r record.Operator, name string, dryRun bool) (actions []string, batch *wal.Batch, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.Branch = record.NoBranch; name != "" {
		r.Branch = slices.IndexFunc(t.branches, func(b branch) bool { return b.endpoint.name == name })
		if r.Branch < 0 {
			return nil, nil, fmt.Errorf("%w: it has no branch there", ErrUnfit)
		}
	}
	said := record.State{Words: t.machine.Words()}
	r.Number = said.NextWord()
	branches, err := t.machine.Fits(r)
	if err != nil {
		return nil, nil, err
	}
	for _, number := range branches {
		actions = append(actions, fmt.Sprintf("branch %d of participant %s: %s", number, t.branches[number].endpoint.name, t.consequence(r)))
	}
	if dryRun {
		return actions, nil, nil
	}
	effects, err := t.machine.Step(protocol.Said(r))
	if err != nil {
		return nil, nil, err
	}
	batch, refused := d.append(t, &effects.All()[0])
	if refused != nil {
		t.failure = refused
	}
	return actions, batch, nil
}

// consequence says what a word does to a branch. Called with the mutex held.
func (t *transaction) consequence(r record.Operator) string {
	decision := t.machine.Decision()
	what := "told to " + decision.String()
	if !decision.Valid() {
		what = "asked how it ended"
	}
	switch r.Verb {
	case record.VerbRetry:
		return what + " at once"
	case record.VerbPause:
		return "not " + what + " until resumed"
	case record.VerbResume:
		return what
	case record.VerbForgetBranch:
		return "given up; its outcome is recorded as " + participant.OutcomeHeuristicHazard.String()
	case record.VerbResolve:
		switch {
		case !decision.Valid():
			return fmt.Sprintf("%s, which is the decision", r.Outcome)
		case r.Outcome == decision.Outcome():
			return fmt.Sprintf("%s, which acknowledges the decision", r.Outcome)
		default:
			return fmt.Sprintf("%s against the decision, which is recorded as heuristic", r.Outcome)
		}
	default:
		return r.Verb.String()
	}
}

// heed carries out what a durable word asks of the participants' queues.
func (d *DTM) heed(t *transaction, effect *protocol.Effect) {
	switch effect.Kind {
	case protocol.EffectPause:
		t.paused.Store(true)
	case protocol.EffectUnpause:
		t.paused.Store(false)
		for _, number := range effect.Branches {
			e := d.endpointOf(t, number)
			e.unpause()
			e.hurry(t, number) // its retry may have been due while it was held back
		}
	case protocol.EffectRetry:
		for _, number := range effect.Branches {
			d.endpointOf(t, number).hurry(t, number)
		}
	default:
		for _, number := range effect.Branches {
			t.withdrawn.Or(1 << number)
			d.endpointOf(t, number).drop(t, number)
		}
	}
}

// unpause admits again what an operator held back.
func (e *endpoint) unpause() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.release()
}

// hurry makes the call that tells this branch the next one.
func (e *endpoint) hurry(t *transaction, number int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.take(t, number)
	if c == nil {
		return // it is being made
	}
	e.probeAt = time.Time{}
	if e.admit(c); len(e.ready) > 0 && e.ready[len(e.ready)-1] == c {
		e.ready = append([]*call{c}, e.ready[:len(e.ready)-1]...)
	}
	e.pump()
}

// drop takes the call that tells this branch out of the queues. One that is under way
// is not made again.
func (e *endpoint) drop(t *transaction, number int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.take(t, number) != nil {
		e.undelivered.Add(-1)
	}
	e.pump()
}

// take takes the call that tells this branch out of the queue it waits in; nil if it
// waits in none. Called with the mutex held.
func (e *endpoint) take(t *transaction, number int) (taken *call) {
	wanted := func(c *call) bool { return c.t == t && c.number == number }
	if i := slices.IndexFunc(e.retries, wanted); i >= 0 {
		return e.retries.remove(i)
	}
	for _, queue := range []*[]*call{&e.ready, &e.held} {
		if i := slices.IndexFunc(*queue, wanted); i >= 0 {
			taken = (*queue)[i]
			*queue = slices.Delete(*queue, i, i+1)
			return taken
		}
	}
	return nil
}

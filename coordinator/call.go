package coordinator

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// call is one call of a participant that is to be made, or made again.
type call struct {
	t        *transaction
	endpoint *endpoint
	number   int
	verb     protocol.EffectKind
	ctx      *callContext // of a Prepare; all calls of the transaction share it
	own      callContext  // of the first call
	presumed bool         // a rollback by absence (R10)
	hazard   bool         // the branch did not know the transaction (R7)
	severe   bool         // the last failure logged was of level Error
	queued   bool         // a Prepare that waits; guarded by endpoint.mu
	attempts int
	retryAt  time.Time
	// Of the call under way: whom it is made to, and what it returns.
	participant *participant.Registered
	vote        participant.Vote
	err         error
}

// held reports whether an operator holds the call back.
func (c *call) held() bool { return c.t.paused.Load() }

// withdrawn reports whether an operator ended the branch: the call is not to be made
// any more.
func (c *call) withdrawn() bool { return c.t.withdrawn.Load()&(1<<c.number) != 0 }

// run makes the call; it is for the pool.
func (c *call) run() { c.endpoint.make(c) }

// make makes the call. What comes of it is driven by a deferred function, so that a
// participant that ends its goroutine (runtime.Goexit) gives an unknown answer like
// one that panics.
//
//nolint:contextcheck // participants get a context of their own, not the caller's (R6)
func (e *endpoint) make(c *call) {
	c.vote, c.err = 0, errExited
	defer e.ran(c)
	if c.verb == protocol.EffectPrepare {
		c.vote, c.err = e.callPrepare(c)
	} else {
		c.err = e.callTell(c)
	}
}

func (e *endpoint) callPrepare(c *call) (vote participant.Vote, err error) {
	if err := c.ctx.Err(); err != nil {
		return 0, fmt.Errorf("not asked to prepare: %w", err) // it waited too long in the queue
	}
	b, start := e.d.branch(c.t, c.number), e.d.config.Trace.start()
	err = guard(func() (err error) {
		vote, err = c.participant.Prepare(c.ctx, b)
		return err
	})
	e.d.config.Trace.voted(b, vote, err, start)
	return vote, err
}

func (e *endpoint) callTell(c *call) error {
	c.t.mu.Lock()
	values := c.t.values
	c.t.mu.Unlock()
	b, start, decision := e.d.branch(c.t, c.number), time.Now(), record.DecisionCommit
	ctx := &c.own
	if c.attempts > 0 {
		ctx = &callContext{} // the participant may still hold that of the call before
	}
	ctx.init(e.d, values, start.Add(e.d.config.CallTimeout))
	defer ctx.cancel()
	err := guard(func() error {
		switch c.verb {
		case protocol.EffectCommit:
			return c.participant.Commit(ctx, b)
		case protocol.EffectCommitOnePhase:
			return c.participant.OnePhaser.CommitOnePhase(ctx, b)
		default:
			decision = record.DecisionRollback
			return c.participant.Rollback(ctx, b)
		}
	})
	e.d.config.Trace.told(b, decision, c.attempts+1, err, start)
	return err
}

// guard turns a panic of a participant into an error: an unknown answer. What it
// returned is read here: a nil pointer that became an error panics only then.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{value: p, stack: debug.Stack()}
		}
	}()
	if err = fn(); err != nil {
		_ = err.Error()
	}
	return err
}

// panicError keeps the stack out of the text: that becomes a record's reason.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("participant panicked: %v", e.value) }

var errExited = errors.New("participant ended the goroutine that called it")

// ran drives what came of a call.
func (e *endpoint) ran(c *call) {
	defer e.d.underway.done()
	if c.err != nil {
		e.reportPanic(c)
	}
	e.d.drive(c.t, e.returned(c))
}

func (e *endpoint) reportPanic(c *call) {
	var panicked *panicError
	if errors.As(c.err, &panicked) {
		e.d.logger.Error("participant panicked", zap.String("participant", e.name), zap.Stringer("tx", c.t.id),
			zap.Any("panic", panicked.value), zap.ByteString("stack", panicked.stack))
	}
}

// returned gives the call's place up and returns the event that came of it; none
// if it has to be made again.
func (e *endpoint) returned(c *call) protocol.Event {
	if c.verb == protocol.EffectPrepare {
		// That a Prepare failed does not make the participant one that is down: its
		// context may have ended because another branch refused.
		ev := e.d.vote(c, c.vote, c.err)
		e.giveUpPlace(c, c.err == nil || c.vote == participant.VoteRefused, false, false)
		return ev
	}
	ev, again := e.d.readAnswer(c, c.err)
	answered := ev.Kind != 0
	c.hazard = c.hazard || ev.Kind == protocol.EventHazard
	e.noteAttempt(c, c.err, again)
	e.giveUpPlace(c, answered, !answered, again) // from here on another goroutine may have c
	return ev
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
	if err != nil {
		c.t.branches[c.number].trouble = &trouble{err: err}
	}
	return protocol.Voted(c.number, vote, reason)
}

// readAnswer reads what came of telling a branch: an event for the machine, none if
// the participant did not answer, and whether the branch has to be told again.
func (d *DTM) readAnswer(c *call, err error) (ev protocol.Event, again bool) {
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
	switch {
	case acknowledged:
		return protocol.Acknowledged(c.number, outcome, reason), false
	case outcome == participant.OutcomeHeuristicHazard:
		return protocol.Hazard(c.number, reason), true
	default:
		return protocol.Event{}, true
	}
}

// noteAttempt keeps for Get what came of telling a branch, sets when it is told
// again, and logs failures: the first, and then ever rarer; at once when they
// become, or cease to be, an operator's business.
func (e *endpoint) noteAttempt(c *call, err error, again bool) {
	c.attempts++
	if again {
		pause := e.d.backoff(c.attempts)
		if c.hazard {
			pause = e.d.config.RetryMax // R7: nothing gets better by asking often
		}
		c.retryAt = time.Now().Add(pause)
	}
	c.t.mu.Lock()
	b := &c.t.branches[c.number]
	if b.attempts, b.trouble = c.attempts, nil; err != nil {
		b.trouble = &trouble{err: err, retryAt: c.retryAt}
	}
	c.t.mu.Unlock()
	severe := c.hazard || errors.Is(err, participant.ErrConfig)
	if !again || bits.OnesCount(uint(c.attempts)) != 1 && severe == c.severe {
		return
	}
	c.severe = severe
	level := zap.WarnLevel
	if severe {
		level = zap.ErrorLevel
	}
	e.d.logger.Log(level, "branch has not acknowledged its decision; it is told again",
		zap.Stringer("tx", c.t.id), zap.Int("branch", c.number), zap.String("participant", e.name),
		zap.Int("attempt", c.attempts), zap.Duration("again_in", time.Until(c.retryAt)), zap.Error(err))
}

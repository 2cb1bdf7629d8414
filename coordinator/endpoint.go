package coordinator

import (
	"container/heap"
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// call is one call of a participant that is to be made, or made again.
type call struct {
	t        *transaction
	number   int
	verb     protocol.EffectKind
	ctx      *callContext // of a Prepare
	presumed bool         // a rollback by absence (R10)
	hazard   bool         // the branch did not know the transaction (R7)
	attempts int
	retryAt  time.Time
}

// endpoint is the way to one participant: a queue of its own, so that one that is
// dead or slow delays neither other branches nor other transactions (R6). Calls
// that wait are entries in its queues, not goroutines or timers (R12).
type endpoint struct {
	d    *DTM
	name string

	mu sync.Mutex
	// registered is nil while nobody has registered the name.
	registered *participant.Registered
	// open says that rollbacks by absence may be sent: the participant's list was
	// read in this run, or it has none (R10).
	open bool

	inFlight    int
	telling     int // of those in flight, calls that tell a decision
	prepares    []*call
	ready       []*call
	held        []*call // wait for the participant to be registered, or its list to be read
	retries     retryQueue
	timer       *time.Timer
	failures    int // calls that failed in a row
	probeAt     time.Time
	undelivered int
	unforgotten []participant.Branch
	forgetting  bool
	// inherited are undecided transactions that wait for open.
	inherited []*transaction
}

// prepare queues a call of Prepare.
func (e *endpoint) prepare(c *call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.prepares = append(e.prepares, c)
	e.pump()
}

// tell queues a call that tells a branch its decision; it is made until the
// branch acknowledges.
func (e *endpoint) tell(c *call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.undelivered++
	e.admit(c)
	e.pump()
}

func (e *endpoint) admit(c *call) {
	if e.registered == nil || c.presumed && (!e.open || e.d.safeMode.Load() != nil) {
		e.held = append(e.held, c)
		return
	}
	e.ready = append(e.ready, c)
}

// attach gives the endpoint its participant.
func (e *endpoint) attach(r *participant.Registered) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.registered = r
	e.release()
}

// release admits again what was held.
func (e *endpoint) release() {
	held := e.held
	e.held = nil
	for _, c := range held {
		e.admit(c)
	}
	e.pump()
}

// letPresumed opens the endpoint for rollbacks by absence (R10) and returns the
// undecided transactions that waited for it.
func (e *endpoint) letPresumed() []*transaction {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.open = true
	e.release()
	inherited := e.inherited
	e.inherited = nil
	return inherited
}

// pump starts calls while there is room. Called with the mutex held.
func (e *endpoint) pump() {
	if e.d.stopped() {
		return // R5: after a failed log nothing more is sent
	}
	for e.inFlight < e.d.config.MaxInFlight && len(e.prepares) > 0 {
		e.start(pop(&e.prepares))
	}
	now := time.Now()
	for len(e.retries) > 0 && !now.Before(e.retries[0].retryAt) {
		e.ready = append(e.ready, heap.Pop(&e.retries).(*call))
	}
	for e.inFlight < e.d.config.MaxInFlight && len(e.ready) > 0 && !e.resting(now) {
		if c := pop(&e.ready); c.presumed && e.d.safeMode.Load() != nil {
			e.held = append(e.held, c) // R10: it waited while the log proved to be too old
		} else {
			e.start(c)
		}
	}
	e.arm(now)
}

// downAfter is the number of failures in a row from which on a participant gets
// one call at a time, as a probe, instead of everything that waits for it.
const downAfter = 3

func (e *endpoint) down() bool { return e.failures >= downAfter }

// resting reports whether a participant that is down is left alone for now.
func (e *endpoint) resting(now time.Time) bool {
	return e.down() && (e.telling > 0 || now.Before(e.probeAt))
}

func pop(queue *[]*call) *call {
	c := (*queue)[0]
	(*queue)[0] = nil
	*queue = (*queue)[1:]
	return c
}

func (e *endpoint) start(c *call) {
	e.inFlight++
	if c.verb != protocol.EffectPrepare {
		e.telling++
	}
	registered := e.registered
	e.d.goroutines.Add(1)
	go func() {
		defer e.d.goroutines.Done()
		ev := e.call(c, registered)
		if err := e.d.drive(c.t, ev); err != nil {
			e.d.logger.Error("transaction refused an answer", zap.Stringer("tx", c.t.id), zap.Error(err))
		}
	}()
}

// arm sets the timer for what waits for a time. Called with the mutex held.
func (e *endpoint) arm(now time.Time) {
	var next time.Time
	if len(e.retries) > 0 {
		next = e.retries[0].retryAt
	}
	if len(e.ready) > 0 && e.down() && e.telling == 0 && (next.IsZero() || e.probeAt.Before(next)) {
		next = e.probeAt
	}
	if next.IsZero() {
		return
	}
	if e.timer == nil {
		e.timer = time.AfterFunc(next.Sub(now), e.wake)
		return
	}
	e.timer.Reset(next.Sub(now))
}

func (e *endpoint) wake() {
	if !e.d.enter() {
		return
	}
	defer e.d.leave()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pump()
}

// stop ends the timer.
func (e *endpoint) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.timer != nil {
		e.timer.Stop()
	}
}

// call makes the call, gives up its place, and returns the event that came of it;
// none if it has to be made again.
func (e *endpoint) call(c *call, p *participant.Registered) protocol.Event {
	if c.verb == protocol.EffectPrepare {
		vote, err := e.callPrepare(c, p)
		ev := e.d.vote(c, vote, err)
		e.returned(c, err == nil || vote == participant.VoteRefused, false)
		return ev
	}
	err := e.callTell(c, p)
	ev, again := e.d.answer(c, err)
	e.noteAttempt(c, err, again)
	e.returned(c, !again || c.hazard, again)
	return ev
}

func (e *endpoint) callPrepare(c *call, p *participant.Registered) (vote participant.Vote, err error) {
	if err := c.ctx.Err(); err != nil {
		return 0, fmt.Errorf("not asked to prepare: %w", err) // it waited too long in the queue
	}
	b, start := e.d.branch(c.t, c.number), time.Now()
	err = guard(func() (err error) {
		vote, err = p.Prepare(c.ctx, b)
		return err
	})
	e.d.config.Trace.voted(b, vote, err, time.Since(start))
	return vote, err
}

func (e *endpoint) callTell(c *call, p *participant.Registered) error {
	c.t.mu.Lock()
	values := c.t.values
	c.t.mu.Unlock()
	b, start, decision := e.d.branch(c.t, c.number), time.Now(), record.DecisionCommit
	ctx := e.d.callContext(values, start.Add(e.d.config.CallTimeout))
	defer ctx.cancel()
	err := guard(func() error {
		switch c.verb {
		case protocol.EffectCommit:
			return p.Commit(ctx, b)
		case protocol.EffectCommitOnePhase:
			return p.OnePhaser.CommitOnePhase(ctx, b)
		default:
			decision = record.DecisionRollback
			return p.Rollback(ctx, b)
		}
	})
	e.d.config.Trace.told(b, decision, c.attempts+1, err, time.Since(start))
	return err
}

// guard turns a panic of a participant into an error: an unknown answer.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("participant panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return fn()
}

// returned gives the call's place up. ok says that the participant answered;
// again that the call is to be made again.
func (e *endpoint) returned(c *call, ok, again bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inFlight--
	if c.verb != protocol.EffectPrepare {
		e.telling--
		if !again {
			e.undelivered--
		}
	}
	if ok {
		if e.down() {
			e.wakeRetries()
		}
		e.failures = 0
	} else {
		e.failures++
		e.probeAt = time.Now().Add(e.d.backoff(e.failures - downAfter))
	}
	if again {
		heap.Push(&e.retries, c)
	}
	e.pump()
}

// wakeRetries lets what waits for a participant that answers again go at once,
// but for branches that it does not know (R7).
func (e *endpoint) wakeRetries() {
	now := time.Now()
	for _, c := range e.retries {
		if !c.hazard {
			c.retryAt = now
		}
	}
	heap.Init(&e.retries)
}

// forget queues a finished branch to be forgotten, if the participant wants to
// hear of it.
func (e *endpoint) forget(b participant.Branch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.registered == nil || e.registered.Forgetter == nil || e.d.stopped() || len(e.unforgotten) >= maxUnforgotten {
		return
	}
	e.unforgotten = append(e.unforgotten, b)
	if e.forgetting {
		return
	}
	e.forgetting = true
	e.d.goroutines.Add(1)
	go e.forgetAll(e.registered.Forgetter)
}

// maxUnforgotten bounds the branches that wait to be forgotten (R12); beyond it
// participants are left to their own bounds.
const maxUnforgotten = 10_000

func (e *endpoint) forgetAll(f participant.Forgetter) {
	defer e.d.goroutines.Done()
	for {
		e.mu.Lock()
		branches := e.unforgotten
		e.unforgotten = nil
		e.forgetting = len(branches) > 0
		e.mu.Unlock()
		if len(branches) == 0 {
			return
		}
		ctx, cancel := context.WithTimeout(e.d.ctx, e.d.config.CallTimeout)
		err := guard(func() error { return f.Forget(ctx, branches) })
		cancel()
		if err != nil {
			e.d.logger.Debug("participant could not forget", zap.String("participant", e.name), zap.Int("branches", len(branches)), zap.Error(err))
		}
	}
}

// refuses returns an error if the participant has too many undelivered branches
// to be enlisted (R12).
func (e *endpoint) refuses() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.undelivered >= e.d.config.MaxUndelivered {
		return fmt.Errorf("%w: participant %q has %d branches that did not acknowledge their decision (Config.MaxUndelivered)", ErrLimit, e.name, e.undelivered)
	}
	return nil
}

// busy reports whether calls are under way or could be at once.
func (e *endpoint) busy() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.inFlight > 0 || len(e.prepares) > 0 || len(e.ready) > 0 && !e.down()
}

package coordinator

import (
	"container/heap"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
)

// endpoint is the way to one participant: a queue of its own, so that one that is
// dead or slow delays neither other branches nor other transactions (R6). Calls
// that wait are entries in its queues, not goroutines or timers (R12).
type endpoint struct {
	d    *DTM
	name string

	mu sync.Mutex
	// registered is nil while nobody has registered the name.
	registered *participant.Registered
	forgetter  atomic.Bool // registered has one; read without the mutex
	// listRead says that rollbacks by absence may be sent: the participant's list
	// was read in this run, or it has none (R10).
	listRead bool

	inFlight    int
	telling     int // of those in flight, calls that tell a decision
	prepares    []*call
	withdrawn   int     // of prepares, those that are not to be made any more
	ready       []*call // tell a decision
	tellNext    bool    // whose turn it is if both wait
	held        []*call // wait for the participant to be registered, its list to be read, or an operator
	retries     retryQueue
	timer       *time.Timer
	failures    int   // calls to tell a decision that failed in a row
	lastFailure error // of the last of them; nil once one was answered
	probeAt     time.Time
	wakeAt      time.Time    // before it retries are not woken again
	wakes       int          // how often they were since the last was acknowledged
	undelivered atomic.Int64 // read without the mutex
	unforgotten []participant.Branch
	forgetting  bool
	crowded     chan struct{} // holds one value when half the room for unforgotten is used
	// awaitingList are undecided transactions that wait for listRead.
	awaitingList []*transaction
}

// prepare queues a call of Prepare.
func (e *endpoint) prepare(c *call) {
	e.mu.Lock()
	wanted := !c.ctx.cancelled()
	if wanted && e.free() {
		e.start(c)
	} else if wanted {
		c.queued = true
		e.prepares = append(e.prepares, c)
		e.pump()
	}
	e.mu.Unlock()
	if !wanted {
		e.notAsked(c)
	}
}

// withdraw takes a Prepare that still waits back, once its context has ended.
func (e *endpoint) withdraw(c *call) {
	e.mu.Lock()
	queued := c.queued
	if queued {
		c.queued = false
		if e.withdrawn++; 2*e.withdrawn > len(e.prepares) {
			e.prepares = slices.DeleteFunc(e.prepares, func(c *call) bool { return !c.queued })
			e.withdrawn = 0
		}
	}
	e.mu.Unlock()
	if queued {
		e.notAsked(c)
	}
}

// notAsked tells the transaction that there will be no vote.
func (e *endpoint) notAsked(c *call) {
	e.d.drive(c.t, e.d.vote(c, 0, fmt.Errorf("not asked to prepare: %w", c.ctx.Err())))
}

// tell queues a call that tells a branch its decision; it is made until the
// branch acknowledges.
func (e *endpoint) tell(c *call) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if c.withdrawn() {
		return
	}
	e.undelivered.Add(1)
	if e.free() && !c.presumed && !c.held() {
		e.start(c)
		return
	}
	e.admit(c)
	e.pump()
}

// free reports whether a call can be made at once: nothing waits, and nothing is
// amiss. Called with the mutex held.
func (e *endpoint) free() bool {
	return e.registered != nil && e.inFlight < e.d.config.MaxInFlight && len(e.prepares) == 0 && len(e.ready) == 0 &&
		!e.down() && !e.d.stopped()
}

func (e *endpoint) admit(c *call) {
	if e.registered == nil || c.held() || c.presumed && (!e.listRead || e.d.safeMode.Load() != nil) {
		e.held = append(e.held, c)
		return
	}
	e.ready = append(e.ready, c)
}

// attach gives the endpoint its participant.
func (e *endpoint) attach(r *participant.Registered) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.register(r)
	e.release()
}

// register is called with the mutex held, or before anybody else knows the endpoint.
func (e *endpoint) register(r *participant.Registered) {
	e.registered = r
	e.forgetter.Store(r.Forgetter != nil)
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

// allowPresumed opens the endpoint for rollbacks by absence (R10) and returns the
// undecided transactions that waited for it.
func (e *endpoint) allowPresumed() []*transaction {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.listRead = true
	e.release()
	waiting := e.awaitingList
	e.awaitingList = nil
	return waiting
}

// pump starts calls while there is room. Called with the mutex held.
func (e *endpoint) pump() {
	if e.registered == nil || e.d.stopped() {
		return // R5: after a failed log nothing more is sent
	}
	var now time.Time // read only if something waits for a time
	if len(e.retries) > 0 || e.down() {
		now = time.Now()
	}
	for len(e.retries) > 0 && !now.Before(e.retries[0].retryAt) {
		e.ready = append(e.ready, heap.Pop(&e.retries).(*call))
	}
	if len(e.retries) == 0 {
		e.wakes = 0
	}
	for e.inFlight < e.d.config.MaxInFlight {
		c := e.next(now)
		if c == nil {
			break
		}
		e.start(c)
	}
	e.arm(now)
}

// next takes the call to be made now out of its queue; nil if there is none. When
// calls of both kinds wait they take turns: new transactions don't hold up the
// decisions that free what old ones have locked, nor do decisions that piled up
// hold up new transactions. Called with the mutex held.
func (e *endpoint) next(now time.Time) *call {
	for len(e.prepares) > 0 && !e.prepares[0].queued {
		pop(&e.prepares)
		e.withdrawn--
	}
	for len(e.ready) > 0 && (e.ready[0].held() || e.ready[0].presumed && e.d.safeMode.Load() != nil) {
		e.held = append(e.held, pop(&e.ready)) // it waited while an operator paused it or, R10, the log proved to be too old
	}
	tell, prepare := len(e.ready) > 0 && !e.resting(now), len(e.prepares) > 0
	switch {
	case tell && (e.tellNext || !prepare):
		e.tellNext = false
		return pop(&e.ready)
	case prepare:
		e.tellNext = true
		c := pop(&e.prepares)
		c.queued = false
		return c
	default:
		return nil
	}
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
	e.d.underway.add()
	if c.verb != protocol.EffectPrepare {
		e.telling++
	}
	c.participant = e.registered
	e.d.pool.start(c)
}

// arm sets the timer for what waits for a time. Called with the mutex held.
func (e *endpoint) arm(now time.Time) {
	if e.inFlight >= e.d.config.MaxInFlight {
		return // what waits for a time waits for a place as well
	}
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

// giveUpPlace gives the call's place up. answered says that the participant is there,
// failed that it is not; again, that the call is to be made again.
func (e *endpoint) giveUpPlace(c *call, answered, failed, again bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.inFlight--
	again = again && !c.withdrawn()
	if c.verb != protocol.EffectPrepare {
		e.telling--
		if !again {
			e.undelivered.Add(-1)
		}
	}
	switch {
	case answered:
		if e.down() {
			e.cameBack(time.Now())
		}
		e.failures, e.lastFailure = 0, nil
	case failed:
		e.failures++
		e.lastFailure = c.err
		e.probeAt = time.Now().Add(e.d.backoff(e.failures - downAfter))
	}
	if again {
		heap.Push(&e.retries, c)
	}
	e.pump()
}

// cameBack lets what waits for a participant that answers again go at once, but for
// branches that it does not know (R7). It does so ever more rarely while some of
// them keep failing: else every good answer in between would undo their pauses (R6).
func (e *endpoint) cameBack(now time.Time) {
	if now.Before(e.wakeAt) {
		return
	}
	e.wakeAt = now.Add(e.d.backoff(e.wakes))
	e.wakes++
	for _, c := range e.retries {
		if !c.hazard {
			c.retryAt = now
		}
	}
	heap.Init(&e.retries)
}

// refuses returns an error if the participant has too many undelivered branches
// to be enlisted (R12).
func (e *endpoint) refuses() error {
	if n := e.undelivered.Load(); n >= int64(e.d.config.MaxUndelivered) {
		return fmt.Errorf("%w: participant %q has %d branches that did not acknowledge their decision (Config.MaxUndelivered)", ErrLimit, e.name, n)
	}
	return nil
}

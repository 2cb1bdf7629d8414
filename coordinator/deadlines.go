package coordinator

import (
	"math"
	"sync"
	"time"
)

const (
	// quantum is how much later than asked a transaction may be woken.
	quantum = 10 * time.Millisecond
	// slots times quantum is one turn of the wheel.
	slots = 1024
)

// deadlines wakes transactions at a time. It is a wheel: nearly all are gone long
// before their time comes, and a timer of the runtime for each would cost more than
// the rest of their begin. Slot i holds the transactions whose tick is i modulo the
// number of slots, in this turn or a later one.
type deadlines struct {
	wake  func(*transaction)
	start time.Time // of tick 0

	mu      sync.Mutex
	wheel   [slots]*transaction // lists
	turned  int64               // the tick up to which nothing is due any more
	timer   *time.Timer
	armed   int64 // the tick at which the timer fires; 0 for none
	stopped bool
}

// due is a transaction's place in the wheel; guarded by the wheel's mutex.
type due struct {
	tick           int64 // 0: in no list
	previous, next *transaction
}

// tick returns the first tick that is not before a time; the last one there is, for
// times that only mean for ever.
func (w *deadlines) tick(at time.Time) int64 {
	after := min(at.Sub(w.start), math.MaxInt64-quantum)
	return max(1, int64((after+quantum-1)/quantum))
}

// noLaterThan sees to it that the transaction is woken by the tick, earlier perhaps:
// it is moved only if it would be woken later.
func (w *deadlines) noLaterThan(t *transaction, tick int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.due.tick != 0 {
		if t.due.tick <= tick {
			return
		}
		w.unlink(t)
	}
	// What is due already is for the next tick.
	tick = max(tick, w.turned+1)
	t.due.tick = tick
	head := &w.wheel[tick%slots]
	if t.due.next = *head; *head != nil {
		(*head).due.previous = t
	}
	*head = t
	if w.armed == 0 || tick < w.armed {
		w.arm(tick)
	}
}

// remove takes the transaction out.
func (w *deadlines) remove(t *transaction) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.due.tick != 0 {
		w.unlink(t)
	}
}

func (w *deadlines) unlink(t *transaction) {
	if t.due.previous != nil {
		t.due.previous.due.next = t.due.next
	} else {
		w.wheel[t.due.tick%slots] = t.due.next
	}
	if t.due.next != nil {
		t.due.next.due.previous = t.due.previous
	}
	t.due = due{}
}

// arm sets the timer.
func (w *deadlines) arm(tick int64) {
	if w.stopped {
		return
	}
	w.armed = tick
	in := time.Until(w.start.Add(time.Duration(tick) * quantum))
	if w.timer == nil {
		w.timer = time.AfterFunc(in, w.turn)
		return
	}
	w.timer.Reset(in)
}

// turn wakes what has become due.
func (w *deadlines) turn() {
	for _, t := range w.collect() {
		w.wake(t)
	}
}

func (w *deadlines) collect() (found []*transaction) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := int64(time.Since(w.start) / quantum)
	for tick := max(w.turned+1, now-slots+1); tick <= now; tick++ {
		for t := w.wheel[tick%slots]; t != nil; {
			next := t.due.next
			if t.due.tick <= now {
				w.unlink(t)
				found = append(found, t)
			}
			t = next
		}
	}
	w.turned, w.armed = max(w.turned, now), 0
	for tick := w.turned + 1; tick <= w.turned+slots; tick++ {
		if w.wheel[tick%slots] != nil { // for a later turn perhaps
			w.arm(tick)
			break
		}
	}
	return found
}

// stop ends the timer. Transactions may still be put in, but are not woken any more.
func (w *deadlines) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
	w.stopped = true
}

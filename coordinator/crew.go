package coordinator

import (
	"sync"
	"sync/atomic"
)

// crew makes the calls of participants, each in a goroutine of its own. One that
// is done waits for the next call: a fresh goroutine would have to grow its stack
// first, which costs a tenth of a transaction.
type crew struct {
	next    chan *call
	waiting atomic.Int32
	members sync.WaitGroup
}

// maxWaiting bounds the goroutines that wait for a call (R12).
const maxWaiting = 256

// start makes the call. Never called after dismiss.
func (w *crew) start(c *call) {
	select {
	case w.next <- c:
	default:
		w.members.Add(1)
		go w.work(c)
	}
}

func (w *crew) work(c *call) {
	defer w.members.Done()
	for c != nil {
		c.endpoint.run(c)
		if w.waiting.Add(1) > maxWaiting {
			w.waiting.Add(-1)
			return
		}
		c = <-w.next // nil when dismissed
		w.waiting.Add(-1)
	}
}

// dismiss ends the goroutines, when no call is under way any more.
func (w *crew) dismiss() {
	close(w.next)
	w.members.Wait()
}

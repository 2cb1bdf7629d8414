package coordinator

import (
	"sync"
	"sync/atomic"
)

// tally counts what is at work, and says when nothing is. Whatever is counted counts
// what follows from it before it is done itself: so that zero means the end, unless
// something comes from outside.
type tally struct {
	whole   *tally // of which this is a part: it counts one while this counts any; may be nil
	count   atomic.Int64
	mu      sync.Mutex
	reached chan struct{} // closed when count is 0; nil if nobody waits for that
}

func (t *tally) add() {
	if t.count.Add(1) == 1 && t.whole != nil {
		// Who adds is counted in the whole already: that is never zero in between.
		t.whole.add()
	}
}

func (t *tally) done() {
	if t.count.Add(-1) > 0 {
		return
	}
	if t.whole != nil {
		defer t.whole.done()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reached != nil && t.count.Load() == 0 {
		close(t.reached)
		t.reached = nil
	}
}

// zero returns a channel that is closed when nothing is at work; nil if that is so
// already.
func (t *tally) zero() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reached == nil {
		t.reached = make(chan struct{})
	}
	if t.count.Load() == 0 { // read last: whoever takes it to 0 later sees the channel
		return nil
	}
	return t.reached
}

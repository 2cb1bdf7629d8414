package coordinator

import (
	"sync"
	"sync/atomic"
)

// underway counts the calls of participants and the appends of which something is
// still to come. Whatever is counted counts what follows from it before it is done
// itself, so that zero is reached only when nothing follows any more.
type underway struct {
	count   atomic.Int64
	mu      sync.Mutex
	reached chan struct{} // closed when count is 0; nil if nobody waits for that
}

func (u *underway) add() { u.count.Add(1) }

func (u *underway) done() {
	if u.count.Add(-1) > 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.reached != nil && u.count.Load() == 0 {
		close(u.reached)
		u.reached = nil
	}
}

// zero returns a channel that is closed when nothing is under way; nil if that is
// so already.
func (u *underway) zero() <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.reached == nil {
		u.reached = make(chan struct{})
	}
	if u.count.Load() == 0 { // read last: whoever takes it to 0 later sees the channel
		return nil
	}
	return u.reached
}

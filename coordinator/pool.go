package coordinator

import (
	"sync"
	"sync/atomic"
)

// pool is a pool of goroutines that make the calls of participants, one call each
// at a time. One that is done waits for the next call: a fresh goroutine would have
// to grow its stack first, which costs a tenth of a transaction.
type pool struct {
	next    chan *call
	waiting atomic.Int32
	all     sync.WaitGroup
}

// maxWaiting bounds the goroutines that wait for a call (R12).
const maxWaiting = 256

// start makes the call. Never called after stop.
func (p *pool) start(c *call) {
	select {
	case p.next <- c:
	default:
		p.all.Add(1)
		go p.work(c)
	}
}

func (p *pool) work(c *call) {
	defer p.all.Done()
	for c != nil {
		c.endpoint.run(c)
		if p.waiting.Add(1) > maxWaiting {
			p.waiting.Add(-1)
			return
		}
		c = <-p.next // nil when stopped
		p.waiting.Add(-1)
	}
}

// stop ends the goroutines, when no call is under way any more.
func (p *pool) stop() {
	close(p.next)
	p.all.Wait()
}

package coordinator

import "sync"

// pool is the goroutines that make the calls of participants and drive what came of
// appends. What is started runs soon, also while everything before it hangs; but a
// goroutine that has done its work takes the next itself: to wake another one for
// each would cost more than most calls take.
//
// What makes both true: while something is queued, a goroutine is on its way to the
// queue, and takes nothing but the last before it has sent for another.
type pool struct {
	mu       sync.Mutex
	queue    []runner
	taken    int             // of queue
	onTheWay bool            // a goroutine was sent for and has not come yet
	resting  []chan struct{} // each wakes a goroutine, the one that rests for the shortest time first
	stopped  bool
	all      sync.WaitGroup
}

// runner is a piece of work for the pool.
type runner interface{ run() }

const (
	// maxResting bounds the goroutines that wait for work (R12).
	maxResting = 256
	// queueSlack is how many places of the queue that were taken are kept.
	queueSlack = 1024
)

// start lets a goroutine run r. Never called after stop.
func (p *pool) start(r runner) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue = append(p.queue, r)
	p.send()
}

// send sees to it that a goroutine is on its way. Called with the mutex held.
func (p *pool) send() {
	if p.onTheWay {
		return
	}
	p.onTheWay = true
	if last := len(p.resting) - 1; last >= 0 {
		wake := p.resting[last]
		p.resting = p.resting[:last]
		wake <- struct{}{} // buffered
		return
	}
	p.all.Add(1)
	go p.work()
}

func (p *pool) work() {
	defer p.all.Done()
	wake := make(chan struct{}, 1)
	p.mu.Lock()
	p.onTheWay = false
	for {
		if r := p.take(); r != nil {
			p.mu.Unlock()
			r.run() // may end the goroutine
			p.mu.Lock()
			continue
		}
		if p.stopped || len(p.resting) == maxResting {
			p.mu.Unlock()
			return
		}
		p.resting = append(p.resting, wake)
		p.mu.Unlock()
		<-wake
		p.mu.Lock()
		p.onTheWay = false
	}
}

// take returns the oldest piece of work, nil if there is none. Called with the mutex
// held.
func (p *pool) take() runner {
	if p.taken == len(p.queue) {
		return nil
	}
	r := p.queue[p.taken]
	p.queue[p.taken] = nil
	p.taken++
	switch {
	case p.taken == len(p.queue):
		p.queue, p.taken = p.queue[:0], 0
		return r
	case p.taken >= queueSlack && 2*p.taken >= len(p.queue):
		p.queue, p.taken = append(p.queue[:0], p.queue[p.taken:]...), 0
	}
	p.send()
	return r
}

// stop ends the goroutines, when no work is left.
func (p *pool) stop() {
	p.mu.Lock()
	p.stopped = true
	for _, wake := range p.resting {
		wake <- struct{}{}
	}
	p.resting = nil
	p.mu.Unlock()
	p.all.Wait()
}

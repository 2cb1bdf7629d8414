package server

import (
	"fmt"
	"sync"

	"github.com/assent-tm/assent/coordinator"
)

// calls counts what is under way, and takes no more than its bound (R12). Calls that
// nobody waits for any more count until they return.
type calls struct {
	mu    sync.Mutex
	max   int
	bound string // what max is called
	count int
	idle  chan struct{} // closed when count is 0; nil unless somebody waits for that
}

// enter counts one more; false if there are as many as may be. Every true is followed
// by one leave.
func (c *calls) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count >= c.max {
		return false
	}
	c.count++
	return true
}

func (c *calls) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count--; c.count == 0 && c.idle != nil {
		close(c.idle)
		c.idle = nil
	}
}

// none returns a channel that is closed when nothing is under way.
func (c *calls) none() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.count == 0:
		done := make(chan struct{})
		close(done)
		return done
	case c.idle == nil:
		c.idle = make(chan struct{})
	}
	return c.idle
}

// full says that as many are under way as may be.
func (c *calls) full() error {
	return fmt.Errorf("%w: %d are under way (%s)", coordinator.ErrLimit, c.max, c.bound)
}

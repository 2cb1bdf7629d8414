package remote

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of a call that came by a stream. The timer and the channel
// are made when somebody first asks for Done: most calls end long before, and a timer
// for each would cost more than the rest of the call.
type callContext struct {
	parent      context.Context
	deadline    time.Time // zero if it has none
	traceparent string

	mu    sync.Mutex
	inner context.Context // made by the first Done
	stop  context.CancelFunc
	ended bool
}

// cancel ends the context. It may be called more than once.
func (c *callContext) cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	if c.stop != nil {
		c.stop()
	}
}

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) {
	if c.deadline.IsZero() {
		return c.parent.Deadline()
	}
	return c.deadline, true
}

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		if c.deadline.IsZero() {
			c.inner, c.stop = context.WithCancel(c.parent)
		} else {
			c.inner, c.stop = context.WithDeadline(c.parent, c.deadline)
		}
		if c.ended {
			c.stop()
		}
	}
	return c.inner.Done()
}

// Err implements context.Context.
func (c *callContext) Err() error {
	c.mu.Lock()
	inner, ended := c.inner, c.ended
	c.mu.Unlock()
	switch {
	case inner != nil:
		return inner.Err()
	case ended || c.parent.Err() != nil:
		return context.Canceled
	case !c.deadline.IsZero() && !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Value implements context.Context. What package context asks by keys of its own is
// for the real context to answer.
func (c *callContext) Value(key any) any {
	if key == (traceparentKey{}) && c.traceparent != "" {
		return c.traceparent
	}
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.parent.Value(key)
}

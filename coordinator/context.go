package coordinator

import (
	"context"
	"sync"
	"time"
)

// callContext is the context of calls to participants: it ends at its deadline,
// with the coordinator, or when cancelled, but not with the caller (R6), whose
// values it has. The timer and the channel are made when somebody first asks for
// Done: most calls end long before, and a timer for each would cost more than the
// rest of the call.
type callContext struct {
	parent   context.Context
	values   context.Context // may be nil
	deadline time.Time

	mu    sync.Mutex
	inner context.Context // made by the first Done
	stop  context.CancelFunc
	ended bool
}

// init makes a context that was not used yet ready for use.
func (c *callContext) init(d *DTM, values context.Context, deadline time.Time) {
	c.parent, c.values, c.deadline = d.ctx, values, deadline
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

// cancelled reports whether cancel was called or the coordinator has ended. Unlike Err
// it does not ask for the time.
func (c *callContext) cancelled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended || c.parent.Err() != nil
}

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, true }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} { return c.real().Done() }

func (c *callContext) real() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.inner == nil {
		c.inner, c.stop = context.WithDeadline(c.parent, c.deadline)
		if c.ended {
			c.stop()
		}
	}
	return c.inner
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
	case !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Value implements context.Context. What package context asks by keys of its own
// is for the real context to answer.
func (c *callContext) Value(key any) any {
	if c.values != nil {
		if v := c.values.Value(key); v != nil {
			return v
		}
	}
	c.mu.Lock()
	inner := c.inner
	c.mu.Unlock()
	if inner != nil {
		return inner.Value(key)
	}
	return c.parent.Value(key)
}

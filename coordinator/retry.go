package coordinator

import (
	"errors"
	"math/bits"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/participant"
)

// retryQueue is a heap of calls by the time they are made again.
type retryQueue []*call

func (q retryQueue) Len() int           { return len(q) }
func (q retryQueue) Less(i, j int) bool { return q[i].retryAt.Before(q[j].retryAt) }
func (q retryQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *retryQueue) Push(c any)        { *q = append(*q, c.(*call)) }

func (q *retryQueue) Pop() any {
	old := *q
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return c
}

// backoff returns the pause after so many failures: between RetryMin and a bound
// that doubles up to RetryMax, at random, so that those who failed together don't
// come back together.
func (d *DTM) backoff(failures int) time.Duration {
	low, high := d.config.RetryMin, d.config.RetryMin
	for range min(max(failures, 0), 30) {
		if high *= 2; high >= d.config.RetryMax {
			high = d.config.RetryMax
			break
		}
	}
	return low + rand.N(high-low+1)
}

// noteAttempt keeps for Get what came of telling a branch, sets when it is told
// again, and logs failures: the first, and then ever rarer; at once when they
// become, or cease to be, an operator's business.
func (e *endpoint) noteAttempt(c *call, err error, again bool) {
	c.attempts++
	if again {
		pause := e.d.backoff(c.attempts)
		if c.hazard {
			pause = e.d.config.RetryMax // R7: nothing gets better by asking often
		}
		c.retryAt = time.Now().Add(pause)
	}
	c.t.mu.Lock()
	b := &c.t.branches[c.number]
	b.attempts, b.lastErr, b.retryAt = c.attempts, err, c.retryAt
	c.t.mu.Unlock()
	severe := c.hazard || errors.Is(err, participant.ErrConfig)
	if !again || bits.OnesCount(uint(c.attempts)) != 1 && severe == c.severe {
		return
	}
	c.severe = severe
	level := zap.WarnLevel
	if severe {
		level = zap.ErrorLevel
	}
	e.d.logger.Log(level, "branch has not acknowledged its decision; it is told again",
		zap.Stringer("tx", c.t.id), zap.Int("branch", c.number), zap.String("participant", e.name),
		zap.Int("attempt", c.attempts), zap.Duration("again_in", time.Until(c.retryAt)), zap.Error(err))
}

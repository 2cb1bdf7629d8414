package coordinator

import (
	"container/heap"
	"math/rand/v2"
	"time"
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

// remove takes the i-th call out.
func (q *retryQueue) remove(i int) *call { return heap.Remove(q, i).(*call) }

// backoff returns the pause after so many failures: between RetryMin and a bound
// that doubles up to RetryMax, at random, so that those who failed together don't
// come back together.
func (d *DTM) backoff(failures int) time.Duration {
	low, high := d.config.RetryMin, d.config.RetryMin
	for range min(max(failures, 0), 30) {
		if high > d.config.RetryMax/2 {
			high = d.config.RetryMax
			break
		}
		high *= 2
	}
	return low + rand.N(high-low+1)
}

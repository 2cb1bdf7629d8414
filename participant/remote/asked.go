package remote

import (
	"context"
	"time"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// asked is a call that waits for its answer.
type asked struct {
	ctx      context.Context
	call     *assentv1.ParticipantCall // not changed once it is queued
	deadline time.Time                 // zero if the caller waits for ever
	bytes    int                       // about what the call takes in a frame
	wanted   string                    // the instance that its branch belongs to; "" for any
	answered chan answered             // takes one

	// Guarded by attached.mu.
	at     *instance // whose it is; nil while it waits for any
	queued bool      // with that instance, and not sent to it
	sentTo string    // the instance that may know it already
	over   bool      // answered or withdrawn
}

// branchKey tells the branches of a participant apart; the zero value is none.
type branchKey struct {
	transaction string
	number      uint32
}

// branch returns the branch that the call is about, if it is about one.
func (a *asked) branch() branchKey {
	ref, _ := branchOf(a.call)
	return branchKey{ref.GetTransactionId(), ref.GetNumber()}
}

// answered is what came of a call.
type answered struct {
	answer *assentv1.ParticipantAnswer
	err    error
}

// finish gives the call its answer. Called with attached.mu held, once.
func (a *asked) finish(answer *assentv1.ParticipantAnswer, err error) {
	a.over = true
	a.answered <- answered{answer, err}
}

// message returns what is sent. A call that is sent again gets a message of its own:
// the one before may still be on its way.
func (a *asked) message() *assentv1.ParticipantCall {
	if a.sentTo == "" {
		return a.call
	}
	again := &assentv1.ParticipantCall{Id: a.call.Id, Call: a.call.Call, Traceparent: a.call.Traceparent}
	again.TimeoutMillis = millisUntil(a.deadline)
	return again
}

// millisUntil returns how long the answer is waited for; 0 for ever.
func millisUntil(deadline time.Time) uint32 {
	if deadline.IsZero() {
		return 0
	}
	return uint32(min(max(time.Until(deadline).Milliseconds(), 1), 1<<31))
}

// askedQueue is calls to be sent, in order. What was withdrawn meanwhile is taken out
// when there is much of it (R12).
type askedQueue struct {
	calls     []*asked
	taken     int // of calls
	withdrawn int // of the others
}

// queueSlack is how many places of an empty queue are kept.
const queueSlack = 1024

func (q *askedQueue) add(a *asked) { q.calls = append(q.calls, a) }

// withdraw takes note that one of the calls is over.
func (q *askedQueue) withdraw() {
	if q.withdrawn++; 2*q.withdrawn > len(q.calls)-q.taken {
		kept := q.takeAll()
		q.calls = kept
	}
}

// take returns the oldest call that is not over, nil if there is none.
func (q *askedQueue) take() *asked {
	for q.taken < len(q.calls) {
		a := q.calls[q.taken]
		q.calls[q.taken] = nil
		q.taken++
		if !a.over {
			return a
		}
		q.withdrawn--
	}
	q.calls, q.taken = q.calls[:0], 0
	if cap(q.calls) > queueSlack {
		q.calls = nil
	}
	return nil
}

// untake puts back what was taken last.
func (q *askedQueue) untake(a *asked) {
	q.taken--
	q.calls[q.taken] = a
}

// takeAll empties the queue and returns the calls that are not over.
func (q *askedQueue) takeAll() []*asked {
	var kept []*asked
	for _, a := range q.calls[q.taken:] {
		if !a.over {
			kept = append(kept, a)
		}
	}
	*q = askedQueue{}
	return kept
}

package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect/v2"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// transactionCalls are the requests that a session can make, too.
type transactionCalls interface {
	Begin(context.Context, *assentv1.BeginRequest) (*assentv1.BeginResponse, error)
	Enlist(context.Context, *assentv1.EnlistRequest) (*assentv1.EnlistResponse, error)
	Commit(context.Context, *assentv1.CommitRequest) (*assentv1.CommitResponse, error)
	Rollback(context.Context, *assentv1.RollbackRequest) (*assentv1.RollbackResponse, error)
	Submit(context.Context, *assentv1.SubmitRequest) (*assentv1.SubmitResponse, error)
}

// Pauses before a request is made again.
const (
	minPause = 10 * time.Millisecond
	maxPause = 2 * time.Second
)

// forever is the patience of a request whose outcome has to be known.
const forever = time.Duration(1<<63 - 1)

// submitPatience is less than what a server keeps an outcome for, with its defaults, when it
// has too many: who asks later could meet a request id that is forgotten (R13), and begin
// a second transaction.
const submitPatience = time.Minute

// ended says why there is no answer to a request.
type ended struct {
	// refusal is the last one; nil if there was none.
	refusal *refusal
	// ctx is why the context ended, if that is why nobody waits any more.
	ctx error
	// lost says that the server may have done what it was asked by a request before
	// the last.
	lost bool
}

// ask makes a request that may be repeated until the server answers, for as long as
// patience lasts once it can't be reached.
func ask[Q, A any](ctx context.Context, c *Client, patience time.Duration, request Q, call func(context.Context, Q) (A, error)) (answer A, failed *ended) {
	var none A
	end := &ended{}
	var since time.Time
	for attempt := 0; ; attempt++ {
		if ctx.Err() != nil {
			end.ctx = context.Cause(ctx)
			return none, end
		}
		if c.life.Err() != nil {
			end.refusal = newRefusal(errClientClosed)
			return none, end
		}
		answer, err := call(ctx, request)
		if err == nil {
			return answer, nil
		}
		end.refusal = newRefusal(err)
		if ctx.Err() != nil {
			end.ctx = context.Cause(ctx)
			end.lost = end.lost || end.refusal.info == nil
			return none, end
		}
		if !end.refusal.again() {
			return none, end
		}
		if end.lost = end.lost || end.refusal.info == nil; since.IsZero() {
			since = time.Now()
		}
		longest := min(minPause<<min(attempt, 20), maxPause)
		pause := longest/2 + rand.N(longest)/2
		if patience != forever && time.Since(since)+pause > patience {
			return none, end
		}
		wait := time.NewTimer(pause)
		select {
		case <-wait.C:
		case <-ctx.Done():
		case <-c.life.Done():
		}
		wait.Stop()
	}
}

// error returns what a call returns that changes nothing, or whose effect nobody relies
// on.
func (e *ended) error(id participant.TxID) error {
	switch {
	case e.ctx != nil && e.refusal != nil && e.refusal.code != connect.CodeCanceled && e.refusal.code != connect.CodeDeadlineExceeded:
		return fmt.Errorf("%w: %w", e.ctx, e.refusal.error(id))
	case e.ctx != nil:
		return e.ctx
	default:
		return e.refusal.error(id)
	}
}

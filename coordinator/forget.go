package coordinator

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/participant"
)

// forget queues a finished branch to be forgotten.
func (e *endpoint) forget(b participant.Branch) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.unforgotten) >= maxUnforgotten {
		return
	}
	e.unforgotten = append(e.unforgotten, b)
	if len(e.unforgotten) == maxUnforgotten/2 {
		select {
		case e.crowded <- struct{}{}:
		default:
		}
	}
	if e.forgetting {
		return
	}
	e.forgetting = true
	e.d.forgetting.add()
	go e.forgetAll(e.registered.Forgetter)
}

// maxUnforgotten bounds the branches that wait to be forgotten (R12); beyond it
// participants are left to their own bounds.
const maxUnforgotten = 10_000

// forgetPause is between two calls of Forget, each of which costs a database a
// transaction: what is to be forgotten meanwhile goes with the next.
const forgetPause = 100 * time.Millisecond

func (e *endpoint) forgetAll(f participant.Forgetter) {
	defer e.d.forgetting.done()
	ended := false
	defer func() {
		if !ended { // the participant ended the goroutine
			e.mu.Lock()
			defer e.mu.Unlock()
			e.forgetting = false
		}
	}()
	for !ended {
		e.mu.Lock()
		branches := e.unforgotten
		e.unforgotten = nil
		ended = len(branches) == 0 || e.d.stopped() // R5
		e.forgetting = !ended
		e.mu.Unlock()
		if !ended {
			e.callForget(f, branches)
			e.pauseForgetting()
		}
	}
}

// pauseForgetting waits for more to forget, but not until there is no room for it, nor
// while Close waits.
func (e *endpoint) pauseForgetting() {
	timer := time.NewTimer(forgetPause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-e.crowded:
	case <-e.d.ending:
	}
}

func (e *endpoint) callForget(f participant.Forgetter, branches []participant.Branch) {
	ctx, cancel := context.WithTimeout(e.d.ctx, e.d.config.CallTimeout)
	defer cancel()
	if err := guard(func() error { return f.Forget(ctx, branches) }); err != nil {
		e.d.logger.Debug("participant could not forget", zap.String("participant", e.name), zap.Int("branches", len(branches)), zap.Error(err))
	}
}

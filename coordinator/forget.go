package coordinator

import (
	"context"

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
	if e.forgetting {
		return
	}
	e.forgetting = true
	e.d.goroutines.add()
	go e.forgetAll(e.registered.Forgetter)
}

// maxUnforgotten bounds the branches that wait to be forgotten (R12); beyond it
// participants are left to their own bounds.
const maxUnforgotten = 10_000

func (e *endpoint) forgetAll(f participant.Forgetter) {
	defer e.d.goroutines.done()
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
		}
	}
}

func (e *endpoint) callForget(f participant.Forgetter, branches []participant.Branch) {
	ctx, cancel := context.WithTimeout(e.d.ctx, e.d.config.CallTimeout)
	defer cancel()
	if err := guard(func() error { return f.Forget(ctx, branches) }); err != nil {
		e.d.logger.Debug("participant could not forget", zap.String("participant", e.name), zap.Int("branches", len(branches)), zap.Error(err))
	}
}

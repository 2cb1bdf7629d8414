package remote

import (
	"context"
	"fmt"
	"sync"

	"github.com/assent-tm/assent/participant"
)

// turns lets calls about one branch be made one after the other, in the order in which
// they came: a Prepare whose caller has left may still be at work when its Rollback comes
// (R4). Safe for concurrent use; the zero value is ready.
type turns struct {
	mu    sync.Mutex
	turns map[branchID]*turn
}

type turn struct {
	taken chan struct{} // holds one value while a call is made
	calls int           // that are made or wait; guarded by turns.mu
}

// take waits for the branch's turn until ctx ends. Who has it gives it back.
func (t *turns) take(ctx context.Context, b participant.Branch) (giveBack func(), err error) {
	key := branchIDOf(b)
	t.mu.Lock()
	if t.turns == nil {
		t.turns = make(map[branchID]*turn)
	}
	of := t.turns[key]
	if of == nil {
		of = &turn{taken: make(chan struct{}, 1)}
		t.turns[key] = of
	}
	of.calls++
	t.mu.Unlock()
	leave := func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if of.calls--; of.calls == 0 {
			delete(t.turns, key)
		}
	}
	select {
	case of.taken <- struct{}{}:
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("the call before about branch %s has not returned: %w", b.XID(), context.Cause(ctx))
	}
	return func() {
		<-of.taken
		leave()
	}, nil
}

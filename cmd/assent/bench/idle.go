package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/assent-tm/assent/coordinator"
)

var idleArea = area{
	name:    "idle",
	figures: []string{"tx.idle_bytes"},
	measure: measureIdle,
	about:   func(o Options) time.Duration { return time.Duration(o.idleTransactions()) * 25 * time.Microsecond },
}

// idleTransactions is how many transactions stay open while their memory is
// measured.
func (o Options) idleTransactions() int {
	switch {
	case o.idle > 0:
		return o.idle
	case o.Quick:
		return 100_000
	default:
		return 1_000_000
	}
}

// measureIdle measures the memory of transactions that were begun, and wait.
func measureIdle(ctx context.Context, o Options, dir string) (figures []Figure, err error) {
	open := o.idleTransactions()
	a, err := openAssent(ctx, dir, func(c *coordinator.Config) {
		c.MaxOpen = open + 1
		c.Timeout = time.Hour // none of them ends by itself
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.abandon(ctx)) }()
	if err := a.transaction(ctx); err != nil {
		return nil, err
	}
	before := liveHeap()
	for i := range open {
		if _, err := a.begin(ctx); err != nil {
			return nil, err
		}
		if i%(open/10+1) == 0 {
			o.Progress(fmt.Sprintf("%d of %d transactions", i, open))
		}
		// A forced append has all before it written: the log never falls so far
		// behind that it takes no more.
		if i%10_000 == 0 {
			if err := a.transaction(ctx); err != nil {
				return nil, err
			}
		}
	}
	if err := a.transaction(ctx); err != nil {
		return nil, err
	}
	bytes := float64(liveHeap()-before) / float64(open)
	return []Figure{
		atMost("tx.idle_bytes", bytes, "bytes", 1024, fmt.Sprintf("live heap of an open transaction with 2 branches, %d open", open)),
	}, nil
}

// abandon closes the store under the coordinator, which then stops without deciding
// what is open, as in a crash: to roll a million back takes longer than to measure
// them.
func (a *assent) abandon(ctx context.Context) error {
	err := a.store.Close()
	_ = a.dtm.Close(context.WithoutCancel(ctx)) // says that the log failed
	return err
}

// liveHeap is what is reachable. The second collection takes what pools kept over
// the first.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC()
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	return int64(heap.HeapAlloc)
}

package bench

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// kept is where the compiler can't see that nobody looks.
var kept atomic.Pointer[[pageBytes]byte]

func TestLoadCounts(t *testing.T) {
	var calls atomic.Int64
	r, err := load(t.Context(), 8, 20*time.Millisecond, func(context.Context) error {
		calls.Add(1)
		kept.Store(new([pageBytes]byte))
		return nil
	})
	require.NoError(t, err)
	require.EqualValues(t, calls.Load(), r.transactions)
	require.Positive(t, r.perSecond)
	require.Positive(t, r.p50)
	require.GreaterOrEqual(t, r.p99, r.p50)
	require.Positive(t, r.cpu)
	require.GreaterOrEqual(t, r.allocBytes, 0.9*pageBytes)
	require.GreaterOrEqual(t, r.allocs, 0.9)
}

func TestEveryClientDoesSomething(t *testing.T) {
	r, err := load(t.Context(), 100, time.Nanosecond, func(context.Context) error { return nil })
	require.NoError(t, err)
	require.GreaterOrEqual(t, r.transactions, 100)
}

// Clients that are slower than a slice are not taken for faster ones: what counts is
// set against all the time that it took.
func TestSlowClientsCountForTheirTime(t *testing.T) {
	const each = 2 * time.Millisecond
	var one sync.Mutex
	r, err := load(t.Context(), 50, each, func(context.Context) error {
		one.Lock()
		defer one.Unlock()
		for start := time.Now(); time.Since(start) < each; {
			runtime.Gosched()
		}
		return nil
	})
	require.NoError(t, err)
	require.LessOrEqual(t, r.perSecond, 1.1*float64(time.Second/each), "one at a time")
}

// What the clients themselves allocate is little beside a transaction's 4 KiB.
func TestLoadIsCheap(t *testing.T) {
	r, err := load(t.Context(), 16, 20*time.Millisecond, func(context.Context) error { return nil })
	require.NoError(t, err)
	n := float64(r.transactions)
	require.Less(t, r.allocBytes*n, 64*n+(64<<10))
}

func TestLoadEndsWithTheFirstError(t *testing.T) {
	var calls atomic.Int64
	broken := errors.New("broken")
	_, err := load(t.Context(), 8, time.Hour, func(context.Context) error {
		if calls.Add(1) == 100 {
			return broken
		}
		return nil
	})
	require.ErrorIs(t, err, broken)
}

// A thousand clients that wait for a db.Update each must not finish what they began.
func TestPlainSideEndsWithItsContext(t *testing.T) {
	p, err := openPlain(t.TempDir())
	require.NoError(t, err)
	defer func() { require.NoError(t, p.close()) }()
	require.NoError(t, p.transaction(t.Context()))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.transaction(ctx), context.Canceled)
}

package bench

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// round is what a number of clients got done in a slice of time.
type round struct {
	transactions int // or whatever was repeated; all, also while warming up
	perSecond    float64
	p50, p99     time.Duration
	// What one operation took of the process, the clients' own work included:
	// processor time of user and system, and what was allocated on the heap.
	cpu                time.Duration
	allocBytes, allocs float64
}

// room is how many operations of a client are recorded without growing: what the
// clients themselves allocate is not to be seen among what they measure.
const room = 256

// phases of a round. Clients that begin, or stop, all at once are not what is to be
// measured: only what ends while all are at it counts.
const (
	warmingUp = iota
	measuring
	over
)

// warmUp is which part of a slice passes before it is measured.
const warmUp = 8

// load lets clients repeat do and measures a slice of time of it: a longer one if it
// takes longer until each of them has counted once.
func load(ctx context.Context, clients int, slice time.Duration, do func(context.Context) error) (round, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([][]time.Duration, clients)
	for i := range took {
		took[i] = make([]time.Duration, 0, room)
	}
	var phase atomic.Int32
	var done, missing atomic.Int64
	missing.Store(int64(clients))
	everyone := make(chan struct{})
	counts := func() {
		if missing.Add(-1) == 0 {
			close(everyone)
		}
	}
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			var err error
			n := 0
			if took[i], n, err = runClient(ctx, &phase, took[i], counts, do); err != nil {
				cancel(err)
			}
			done.Add(int64(n))
		})
	}
	pause(ctx, slice/warmUp)
	before, start := used(), time.Now()
	phase.Store(measuring)
	pause(ctx, slice)
	select {
	case <-everyone:
	case <-ctx.Done():
	}
	phase.Store(over)
	elapsed, spent := time.Since(start), used().since(before)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return round{}, err
	}
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	n := float64(len(all))
	return round{
		transactions: int(done.Load()), perSecond: n / elapsed.Seconds(), p50: median(all), p99: percentile(all, 99),
		cpu:        time.Duration(float64(spent.cpu) / n),
		allocBytes: float64(spent.allocBytes) / n, allocs: float64(spent.allocs) / n,
	}, nil
}

// runClient is one client, which calls counts once. It reads the clock once for each
// operation, and keeps its list to itself: the lists of all lie side by side in memory.
func runClient(ctx context.Context, phase *atomic.Int32, took []time.Duration, counts func(), do func(context.Context) error) (_ []time.Duration, done int, _ error) {
	begin := time.Now()
	for now := int32(warmingUp); now != over && ctx.Err() == nil; {
		if err := do(ctx); err != nil {
			return took, done, err
		}
		done++
		end := time.Now()
		if now = phase.Load(); now == measuring {
			if took = append(took, end.Sub(begin)); len(took) == 1 {
				counts()
			}
		}
		begin = end
	}
	return took, done, nil
}

// pause waits, but not longer than the context lives.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// usage is what the process has taken since it began.
type usage struct {
	cpu                time.Duration
	allocBytes, allocs uint64
}

func used() usage {
	var cpu syscall.Rusage
	// It fails only for arguments that are none.
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &cpu)
	var heap runtime.MemStats
	runtime.ReadMemStats(&heap)
	return usage{
		cpu:        time.Duration(cpu.Utime.Nano() + cpu.Stime.Nano()),
		allocBytes: heap.TotalAlloc, allocs: heap.Mallocs,
	}
}

func (u usage) since(before usage) usage {
	return usage{cpu: u.cpu - before.cpu, allocBytes: u.allocBytes - before.allocBytes, allocs: u.allocs - before.allocs}
}

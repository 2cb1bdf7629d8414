package bench

import (
	"context"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// round is what a number of clients got done in a slice of time.
type round struct {
	transactions int // or whatever was repeated
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

// load lets clients repeat do for a slice of time, each of them at least once.
func load(ctx context.Context, clients int, slice time.Duration, do func(context.Context) error) (round, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	took := make([][]time.Duration, clients)
	for i := range took {
		took[i] = make([]time.Duration, 0, room)
	}
	before := used()
	start := time.Now()
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			var err error
			if took[i], err = runClient(ctx, start, slice, took[i], do); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	spent := used().since(before)
	if err := context.Cause(ctx); err != nil {
		return round{}, err
	}
	var all []time.Duration
	for _, t := range took {
		all = append(all, t...)
	}
	n := float64(len(all))
	return round{
		transactions: len(all), perSecond: n / elapsed.Seconds(), p50: median(all), p99: percentile(all, 99),
		cpu:        time.Duration(float64(spent.cpu) / n),
		allocBytes: float64(spent.allocBytes) / n, allocs: float64(spent.allocs) / n,
	}, nil
}

// runClient is one client. It reads the clock once for each operation, and keeps its
// list to itself: the lists of all lie side by side in memory.
func runClient(ctx context.Context, start time.Time, slice time.Duration, took []time.Duration, do func(context.Context) error) ([]time.Duration, error) {
	begin := time.Now()
	// Once at least, however late the client came to run.
	for ended := false; !ended; {
		if err := do(ctx); err != nil {
			return took, err
		}
		end := time.Now()
		took = append(took, end.Sub(begin))
		begin, ended = end, end.Sub(start) >= slice || ctx.Err() != nil
	}
	return took, nil
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

package coordinator

import (
	"sync"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// appends leads what came of appends back to the machines, for all transactions in
// one goroutine: the log finishes its batches in order, and to wake a goroutine for
// each transaction would cost more than its step. Forced and lazy ones are kept
// apart: a forced one must not wait behind a lazy one of a later batch.
type appends struct {
	d       *DTM
	mu      sync.Mutex
	waiting []appended
	running bool
}

// appended is an append whose result a machine waits for.
type appended struct {
	t     *transaction
	batch *wal.Batch
	last  record.Kind // of its records
}

// await drives the transaction when the result is there.
func (a *appends) await(x appended) {
	a.d.underway.add()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, x)
	if !a.running {
		a.running = true
		a.d.pool.start(a)
	}
}

// run is for the pool.
func (a *appends) run() {
	var done []appended
	for {
		a.mu.Lock()
		clear(done)
		done, a.waiting = a.waiting, done[:0]
		a.running = len(done) > 0
		a.mu.Unlock()
		if len(done) == 0 {
			return
		}
		for _, x := range done {
			a.d.drive(x.t, protocol.Appended(x.last, a.d.result(x.t, x.batch)))
			a.d.underway.done()
		}
	}
}

package coordinator

import (
	"sync"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// completions waits for the lazy Completed records, for all transactions in one
// goroutine: only when one is durable may the branches be forgotten (R1).
type completions struct {
	mu      sync.Mutex
	waiting []completion
	running bool
	d       *DTM
}

type completion struct {
	t     *transaction
	batch *wal.Batch
}

func (c *completions) add(t *transaction, batch *wal.Batch) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, completion{t, batch})
	if !c.running {
		c.running = true
		c.d.goroutines.Add(1)
		go c.run()
	}
}

func (c *completions) run() {
	defer c.d.goroutines.Done()
	for {
		c.mu.Lock()
		batch := c.waiting
		c.waiting = nil
		c.running = len(batch) > 0
		c.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		for _, done := range batch {
			result := c.d.result(done.t, done.batch)
			c.d.drive(done.t, protocol.Appended(record.KindCompleted, result))
		}
	}
}

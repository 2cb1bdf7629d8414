package server

import (
	"runtime"
	"time"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// SetHeartbeat is for tests that wait for one.
func (s *Server) SetHeartbeat(d time.Duration) { s.heartbeat = d }

// AwaitCalls waits until so many calls are under way, AwaitStreams for streams, and
// AwaitNothing until nothing is.
func (s *Server) AwaitCalls(count int)   { s.calls.await(count) }
func (s *Server) AwaitStreams(count int) { s.streams.await(count) }
func (s *Server) AwaitNothing() {
	s.calls.await(0)
	s.streams.await(0)
	s.attached.await(0)
	s.operate.await(0)
}

func (c *calls) await(count int) {
	for {
		c.mu.Lock()
		now := c.count
		c.mu.Unlock()
		if now == count {
			return
		}
		runtime.Gosched()
	}
}

// Transaction is what operators see of one.
func Transaction(i *coordinator.Info) *assentv1.Transaction { return transaction("test", i, true) }

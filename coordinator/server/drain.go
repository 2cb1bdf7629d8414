package server

import (
	"context"
	"fmt"
)

// Drain stops taking new work and waits until what runs has finished: /readyz answers
// 503, Begin and Submit UNAVAILABLE, and transactions that have begun can still be
// enlisted in, committed and rolled back. It returns an error if ctx ends first; what
// is undecided then, coordinator.DTM.Close rolls back. Streams stay, as participants
// may be attached by them: they end with Serve.
func (s *Server) Drain(ctx context.Context) error {
	s.stopNew.Do(func() {
		s.draining.Store(true)
		close(s.drained)
	})
	select {
	case <-s.calls.none():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("drain server: transactions are still running: %w", context.Cause(ctx))
	}
}

// Close ends the streams: each is told that the server ends. It is for those who serve
// API and Admin themselves; Serve calls it.
func (s *Server) Close() { s.end() }

package server

import (
	"context"
	"fmt"
	"time"
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
	look := time.NewTicker(drainInterval)
	defer look.Stop()
	for {
		select {
		case <-s.calls.none():
			// Nobody waits; but who began may be about to ask for more.
			if s.dtm.Stats().Undecided == 0 || s.dtm.Err() != nil {
				return nil
			}
		case <-ctx.Done():
			return fmt.Errorf("drain server: transactions are still running: %w", context.Cause(ctx))
		}
		select {
		case <-look.C:
		case <-s.dtm.Failed():
		case <-ctx.Done():
		}
	}
}

// drainInterval is how often Drain looks whether transactions are undecided.
const drainInterval = 20 * time.Millisecond

// Close ends the streams: each is told that the server ends. It is for those who serve
// API and Admin themselves; Serve calls it.
func (s *Server) Close() { s.end() }

package server_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// settled closes the caller's connections and returns what is left: goroutines, and
// bytes on the heap.
func (s *site) settled() (goroutines int, heap uint64) {
	s.grpc.CloseIdleConnections()
	runtime.GC()
	runtime.GC() // for what pools hold
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}

// inFlight bounds the goroutines that the coordinator keeps for each participant.
const inFlight = 8

// fewGoroutines are those that the coordinator's pool keeps resting, 256 at most, and of
// connections that are just closing: a leak leaves one for each of 500 or more.
const fewGoroutines = 300

// requireNothingLeft does something twice, and requires that no more is left after the
// second time than after the first, but for bytes that may be kept: what the runtime
// and pools keep, they keep for the next to come.
func (s *site) requireNothingLeft(t *testing.T, kept uint64, do func()) {
	t.Helper()
	do()
	s.server.AwaitNothing()
	goroutines, heap := s.settled()
	do()
	s.server.AwaitNothing()
	end := time.Now().Add(10 * time.Second)
	for {
		n, bytes := s.settled()
		if n <= goroutines+fewGoroutines && bytes <= heap+kept+(4<<20) {
			return
		}
		require.True(t, time.Now().Before(end), "%d goroutines, %d before; %d bytes, %d before", n, goroutines, bytes, heap)
		runtime.Gosched()
	}
}

func TestR12TenThousandIdleStreamsLeaveNothingBehind(t *testing.T) {
	const count = 10_000 / scale
	s := newSite(t)
	s.requireNothingLeft(t, 0, func() {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		goroutines, heap := s.settled()
		for range count {
			session, err := s.client.Session(ctx)
			require.NoError(t, err)
			require.NoError(t, session.SendHeaders())
		}
		s.server.AwaitStreams(count)
		n, bytes := s.settled()
		t.Logf("each takes %.1f goroutines and %.1f KiB, the client's included", float64(n-goroutines)/count, float64(bytes-heap)/count/1024)
		_, err := s.client.Submit(t.Context(), &assentv1.SubmitRequest{Enlistments: both()})
		require.NoError(t, err, "others are served meanwhile")
	})
}

func TestR12FiveThousandTransactionsLeaveNothingBehind(t *testing.T) {
	const count = 5_000 / scale
	var answer chan struct{}
	s := newSite(t, change{dtm: func(c *coordinator.Config) {
		c.CallTimeout, c.Timeout, c.MaxInFlight = 5*time.Minute, 5*time.Minute, inFlight
	}})
	s.b.prepare = func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
		select {
		case <-answer:
		case <-ctx.Done():
		}
		return participant.VotePrepared, nil
	}
	const outcome = 1 << 10 // bytes, in memory and in the log, which is in memory, too
	s.requireNothingLeft(t, count*outcome, func() {
		answer = make(chan struct{})
		var wg sync.WaitGroup
		errs := make([]error, count)
		for i := range count {
			wg.Go(func() { _, errs[i] = s.client.Submit(t.Context(), &assentv1.SubmitRequest{Enlistments: both()}) })
		}
		s.server.AwaitCalls(count)
		close(answer)
		wg.Wait()
		require.NoError(t, errors.Join(errs...))
	})
}

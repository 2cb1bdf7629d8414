package remote_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// together answers Commit when so many calls wait in it.
type together struct {
	idle
	mu      sync.Mutex
	want    int
	waiting int
	open    chan struct{}
}

func (p *together) Commit(ctx context.Context, _ participant.Branch) error {
	p.mu.Lock()
	if p.waiting++; p.waiting == p.want {
		close(p.open)
		p.waiting, p.open = 0, make(chan struct{})
		p.mu.Unlock()
		return nil
	}
	open := p.open
	p.mu.Unlock()
	select {
	case <-open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// counting is a server that counts its connections.
type counting struct {
	*httptest.Server
	mu    sync.Mutex
	conns int
}

func (c *counting) seen() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.conns
}

func countConns(t *testing.T, p participant.Participant, streams int) *counting {
	t.Helper()
	h, err := remote.Handler(p, remote.HandlerConfig{Unsigned: true})
	require.NoError(t, err)
	c := &counting{Server: httptest.NewUnstartedServer(nil)}
	c.Config = newServer(h)
	c.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	c.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			c.mu.Lock()
			c.conns++
			c.mu.Unlock()
		}
	}
	c.Start()
	t.Cleanup(c.Close)
	return c
}

func commits(t *testing.T, p remote.Participant, n int) {
	t.Helper()
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range errs {
		wg.Go(func() { errs[i] = p.Commit(t.Context(), aBranch()) })
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
}

// R12: connections are used again, are no more than configured, and calls beyond them wait.
func TestR12ConnectionsAreFewAndKept(t *testing.T) {
	const most = 4
	p := &together{want: most, open: make(chan struct{})}
	server := countConns(t, p, most)
	over := httpAt(t, server.URL, func(cfg *remote.HTTPConfig) { cfg.MaxConns = most })
	commits(t, over, most) // all at once, since the last one opens for all
	require.Equal(t, most, server.seen())
	commits(t, over, 25*most)
	require.Equal(t, most, server.seen())

	server = countConns(t, p, 2*most)
	over = grpcAt(t, server.URL, func(cfg *remote.GRPCConfig) { cfg.MaxCalls = most })
	_, err := over.Prepare(t.Context(), aBranch()) // calls that come together would not wait for the first connection
	require.NoError(t, err)
	commits(t, over, 25*most)
	require.Equal(t, 1, server.seen())
}

// A connection that the service closed meanwhile, as many do after seconds without a call,
// costs no call: it is made on a new one. (HTTP/2 announces that it closes one.)
func TestAConnectionThatWasClosedCostsNoCall(t *testing.T) {
	server := countConns(t, &idle{}, 0)
	p := httpAt(t, server.URL)
	for range 50 {
		vote, err := p.Prepare(t.Context(), aBranch())
		require.NoError(t, err)
		require.Equal(t, participant.VotePrepared, vote)
		server.CloseClientConnections()
	}
}

// A call that has no place waits for one, though no longer than its context.
func TestACallThatHasNoPlaceWaits(t *testing.T) {
	w := &waiting{arrived: make(chan struct{}), left: make(chan struct{})}
	p := grpcAt(t, serveHere(t, w, remote.HandlerConfig{Unsigned: true}), func(cfg *remote.GRPCConfig) { cfg.MaxCalls = 1 })
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = p.Prepare(ctx, aBranch()) })
	<-w.arrived
	ended, end := context.WithCancel(t.Context())
	end()
	require.ErrorIs(t, p.Commit(ended, aBranch()), context.Canceled)
	wg.Go(func() {
		if err := p.Commit(t.Context(), aBranch()); err != nil {
			t.Error(err)
		}
	})
	cancel()
	wg.Wait()
	<-w.left
}

package client

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/api"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
)

// absent is a server that can't be reached, and remembers what it would have been asked.
type absent struct {
	transactionCalls
	requests map[string]int // by their ids
}

func (a *absent) Submit(_ context.Context, r *assentv1.SubmitRequest) (*assentv1.SubmitResponse, error) {
	a.requests[r.GetRequestId()]++
	return nil, connect.NewError(connect.CodeUnavailable, "no route")
}

// R13: a request id is forgotten with the outcome. Who repeats a Submit for longer than
// that has its work done twice.
func TestR13ASubmitIsNotRepeatedForLongerThanItsOutcomeIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &absent{requests: map[string]int{}}
		c := &Client{calls: server, life: context.Background()}
		start := time.Now()
		_, err := c.Submit(t.Context(), nil)
		require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
		require.ErrorIs(t, err, ErrUnreachable)
		const timeout = 10 * coordinator.DefaultCallTimeout // see coordinator.Config.Retention
		require.Less(t, time.Since(start), timeout)
		require.Len(t, server.requests, 1)
		for id, times := range server.requests {
			require.Greater(t, times, 10)
			require.ErrorContains(t, err, id, "to ask again by")
		}
	})
}

// revoking is a server that revokes the caller's token once it has been asked something.
type revoking struct {
	assentv1connect.UnimplementedTransactionServiceHandler
	sessions atomic.Int64
}

func (r *revoking) Session(ctx context.Context, stream assentv1connect.TransactionServiceSessionServerStream) error {
	if r.sessions.Add(1) == 1 {
		info, _ := connect.CallInfoForServerContext(ctx)
		info.ResponseHeader().Set(api.AdmittedHeader, "true")
		if _, err := stream.Receive(); err != nil {
			return err
		}
	}
	return connect.NewError(connect.CodeUnauthenticated, "nobody knows the caller")
}

// A caller whose token is revoked while he waits is not told that nothing was asked.
func TestASessionThatEndsUnauthenticatedMayHaveDoneWhatItWasAsked(t *testing.T) {
	rpc, server := connect.NewServer(), &revoking{}
	assentv1connect.RegisterTransactionServiceHandler(rpc, server)
	mux := http.NewServeMux()
	connecthttp.Mount(mux, rpc)
	listener := httptest.NewUnstartedServer(mux)
	listener.Config.Protocols = new(http.Protocols)
	listener.Config.Protocols.SetUnencryptedHTTP2(true)
	listener.Start()
	defer listener.Close()
	c, err := New(Config{URL: listener.URL, Session: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()

	_, err = c.Submit(t.Context(), nil)
	require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
	require.ErrorIs(t, err, ErrUnauthenticated)
	require.EqualValues(t, 2, server.sessions.Load())

	_, err = c.Submit(t.Context(), nil)
	require.NotErrorIs(t, err, coordinator.ErrOutcomeUnknown, "it was not admitted")
	require.ErrorIs(t, err, ErrUnauthenticated)
}

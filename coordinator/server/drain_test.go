package server_test

import (
	"context"
	"net/http"
	"testing"

	"connectrpc.com/connect/v2"
	"github.com/stretchr/testify/require"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

func (s *site) readyz(t *testing.T) int {
	t.Helper()
	response, err := s.web.Get(s.url + "/readyz")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	return response.StatusCode
}

func TestDrainLetsFinishWhatRuns(t *testing.T) {
	s, ctx := newSite(t), t.Context()
	begun, err := s.client.Begin(ctx, &assentv1.BeginRequest{})
	require.NoError(t, err)
	id := begun.GetTransactionId()
	health := healthv1.NewHealthClient(dial(t, s.url)) // grpc-go's own
	watched, err := health.Watch(ctx, &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	state, err := watched.Recv()
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_SERVING, state.GetStatus())
	require.Equal(t, http.StatusOK, s.readyz(t))

	drained := make(chan error, 1)
	go func() { drained <- s.server.Drain(ctx) }()
	state, err = watched.Recv()
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_NOT_SERVING, state.GetStatus())
	_, err = watched.Recv()
	require.Error(t, err)
	checked, err := health.Check(ctx, &healthv1.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthv1.HealthCheckResponse_NOT_SERVING, checked.GetStatus())
	require.Equal(t, http.StatusServiceUnavailable, s.readyz(t))
	_, err = s.client.Begin(ctx, &assentv1.BeginRequest{})
	r := refused(t, err)
	require.Equal(t, connect.CodeUnavailable, r.code)
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_CLOSED, r.reason)
	_, err = s.client.Submit(ctx, &assentv1.SubmitRequest{Enlistments: both()})
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_CLOSED, refused(t, err).reason)

	for _, e := range both() {
		_, err := s.client.Enlist(ctx, &assentv1.EnlistRequest{TransactionId: id, Enlistment: e})
		require.NoError(t, err)
	}
	select {
	case err := <-drained:
		require.Fail(t, "drained while a transaction runs", "%v", err)
	default:
	}
	committed, err := s.client.Commit(ctx, &assentv1.CommitRequest{TransactionId: id})
	require.NoError(t, err)
	require.Equal(t, assentv1.State_STATE_COMMITTED, committed.GetState())
	require.NoError(t, <-drained)
}

func TestDrainGivesUpWithItsContext(t *testing.T) {
	s := newSite(t)
	_, err := s.client.Begin(t.Context(), &assentv1.BeginRequest{})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.server.Drain(ctx), context.Canceled)
}

package server_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
)

func TestSessionAnswersEachRequestOnce(t *testing.T) {
	s := newSite(t)
	session, err := s.client.Session(t.Context())
	require.NoError(t, err)
	const count = 500
	go func() {
		for id := range uint64(count) {
			r := &assentv1.Request{Id: id, Request: &assentv1.Request_Submit{Submit: &assentv1.SubmitRequest{Enlistments: both()}}}
			if session.Send(&assentv1.SessionRequest{Requests: []*assentv1.Request{r}}) != nil {
				return
			}
		}
		_ = session.CloseSend()
	}()
	answered, messages := map[uint64]bool{}, 0
	for {
		message, err := session.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		messages++
		for _, a := range message.GetAnswers() {
			require.False(t, answered[a.GetId()])
			answered[a.GetId()] = true
			require.Equal(t, assentv1.State_STATE_COMMITTED, a.GetSubmit().GetState(), "%v", a)
		}
	}
	require.Len(t, answered, count)
	t.Logf("%d answers in %d messages", count, messages)
}

func TestSessionSaysWhatFailed(t *testing.T) {
	s := newSite(t)
	session, err := s.client.Session(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, session.Close()) }()
	require.NoError(t, session.Send(&assentv1.SessionRequest{Requests: []*assentv1.Request{{Id: 7}}}))
	message, err := session.Receive()
	require.NoError(t, err)
	require.Len(t, message.GetAnswers(), 1)
	require.Equal(t, uint64(7), message.GetAnswers()[0].GetId())
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_INVALID, message.GetAnswers()[0].GetFailure().GetInfo().GetReason())
}

// A session takes no more requests than it may, and all are answered in the end.
func TestR12SessionsAreBounded(t *testing.T) {
	const count, most = 50, 2
	s := newSite(t, change{server: func(c *server.Config) { c.MaxInFlight = most }})
	var now, highest atomic.Int32
	s.b.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for seen := highest.Load(); n > seen && !highest.CompareAndSwap(seen, n); seen = highest.Load() {
		}
		runtime.Gosched()
		return participant.VotePrepared, nil
	}
	session, err := s.client.Session(t.Context())
	require.NoError(t, err)
	message := &assentv1.SessionRequest{}
	for id := range uint64(count) {
		message.Requests = append(message.Requests, &assentv1.Request{Id: id, Request: &assentv1.Request_Submit{Submit: &assentv1.SubmitRequest{Enlistments: both()}}})
	}
	require.NoError(t, session.Send(message))
	require.NoError(t, session.CloseSend())
	for answered := 0; answered < count; {
		message, err := session.Receive()
		require.NoError(t, err)
		answered += len(message.GetAnswers())
	}
	_, err = session.Receive()
	require.ErrorIs(t, err, io.EOF)
	require.LessOrEqual(t, highest.Load(), int32(most))
}

package server_test

import (
	"context"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// attaching adds a participant, bank_c, whose instances attach.
func attaching(t *testing.T) change {
	t.Helper()
	hub, err := remote.NewHub(remote.HubConfig{Domain: "test"})
	require.NoError(t, err)
	p, err := hub.Participant("bank_c", false, false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hub.Close(context.Background())) })
	return change{
		dtm:    func(c *coordinator.Config) { c.Participants = append(c.Participants, p) },
		server: func(c *server.Config) { c.Hub = hub },
	}
}

func (s *site) attach(t *testing.T, secret string) (answer *assentv1.AttachResponse, err error) {
	t.Helper()
	stream, err := assentv1connect.NewAttachmentServiceClient(s.connection(s.url, secret)).Attach(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, stream.Close()) }()
	hello := &assentv1.AttachRequest_Hello{Hello: &assentv1.Hello{Participant: "bank_c", Instance: "one"}}
	_ = stream.Send(&assentv1.AttachRequest{Message: hello}) // refused before it comes, perhaps: Receive says why
	return stream.Receive()
}

// Who answers for a participant decides transactions.
func TestOnlyWhoIsListedAnswersForAParticipant(t *testing.T) {
	p := newPeople(t)
	c, err := server.ReadCredentials(p.path)
	require.NoError(t, err)
	for name, of := range map[string]string{"carol": "bank_c", "dave": "bank_d"} {
		secret, token, err := server.NewToken(name, server.RoleClient, time.Time{}, of)
		require.NoError(t, err)
		p.secrets[name] = secret
		c.Tokens = append(c.Tokens, token)
	}
	require.NoError(t, server.WriteCredentials(p.path, c))
	s := newSite(t, attaching(t), p.authenticated(t))
	for _, name := range []string{"alice", "dave", "vera", "oscar"} {
		_, err := s.attach(t, p.secrets[name])
		r := refused(t, err)
		require.Equal(t, connect.CodePermissionDenied, r.code, name)
		require.Equal(t, assentv1.ErrorReason_ERROR_REASON_FORBIDDEN, r.reason)
	}
	_, err = s.attach(t, "assent_nobody")
	require.Equal(t, connect.CodeUnauthenticated, refused(t, err).code)
	for _, name := range []string{"carol", "ada"} {
		answer, err := s.attach(t, p.secrets[name])
		require.NoError(t, err, name)
		require.Equal(t, "test", answer.GetWelcome().GetDomain())
	}
}

// What traces the caller's request goes on with the participants' calls.
func TestTraceparentIsPassedOn(t *testing.T) {
	const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	s := newSite(t)
	seen := make(chan string, 1)
	s.b.prepare = func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
		seen <- remote.Traceparent(ctx)
		return participant.VotePrepared, nil
	}
	ctx, info := connect.NewClientContext(t.Context())
	info.RequestHeader().Set("Traceparent", traceparent)
	_, err := s.client.Submit(ctx, &assentv1.SubmitRequest{Enlistments: both()})
	require.NoError(t, err)
	require.Equal(t, traceparent, <-seen)
}

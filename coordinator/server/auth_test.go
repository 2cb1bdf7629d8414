package server_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/api"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/waltest"
)

// people are who may call a site: a secret for each name.
type people struct {
	path    string
	secrets map[string]string
}

func newPeople(t *testing.T) *people {
	t.Helper()
	p := &people{path: filepath.Join(t.TempDir(), "credentials.json"), secrets: map[string]string{}}
	c := &server.Credentials{}
	for name, role := range map[string]server.Role{
		"alice": server.RoleClient, "bob": server.RoleClient, "vera": server.RoleViewer, "oscar": server.RoleOperator, "ada": server.RoleAdmin,
	} {
		secret, token, err := server.NewToken(name, role, time.Time{})
		require.NoError(t, err)
		p.secrets[name] = secret
		c.Tokens = append(c.Tokens, token)
	}
	require.NoError(t, server.WriteCredentials(p.path, c))
	return p
}

// authenticated makes a site ask who calls.
func (p *people) authenticated(t *testing.T) change {
	t.Helper()
	auth, err := server.OpenAuth(p.path, nil)
	require.NoError(t, err)
	return change{server: func(c *server.Config) { c.Auth = auth }}
}

// as returns a client with somebody's token.
func (p *people) as(s *site, name string) assentv1connect.TransactionServiceClient {
	return s.bearing(p.secrets[name])
}

func (s *site) bearing(secret string) assentv1connect.TransactionServiceClient {
	return assentv1connect.NewTransactionServiceClient(s.connection(s.url, secret))
}

func (s *site) connection(url, secret string) *connect.Client {
	bears := func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			info, _ := connect.CallInfoForClientContext(ctx)
			info.RequestHeader().Set("Authorization", "Bearer "+secret)
			return next(ctx, spec)
		}
	}
	return connect.NewClient(connecthttp.NewTransport(s.grpc, url, connecthttp.WithGRPC()), bears)
}

func TestNobodyGetsInWithoutACredential(t *testing.T) {
	p := newPeople(t)
	s := newSite(t, p.authenticated(t))
	_, expired, err := server.NewToken("eve", server.RoleAdmin, time.Now().Add(-time.Hour))
	require.NoError(t, err)
	c, err := server.ReadCredentials(p.path)
	require.NoError(t, err)
	c.Tokens = append(c.Tokens, expired)
	require.NoError(t, server.WriteCredentials(p.path, c))
	for _, secret := range []string{"", "assent_", "assent_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", p.secrets["ada"][1:], p.secrets["ada"] + "A"} {
		_, err := s.bearing(secret).Begin(t.Context(), &assentv1.BeginRequest{})
		r := refused(t, err)
		require.Equal(t, connect.CodeUnauthenticated, r.code)
		require.Equal(t, assentv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED, r.reason)
	}
	status, _ := s.post(t, "Begin", `{}`)
	require.Equal(t, http.StatusUnauthorized, status)
	s.requireNothingBegun(t)
}

func (s *site) requireNothingBegun(t *testing.T) {
	t.Helper()
	all, err := s.dtm.List(t.Context(), allOfThem)
	require.NoError(t, err)
	require.Empty(t, all)
}

// Whatever a client asks about another's transaction, it is told what it is told of
// one that there never was, and nothing changes.
func TestClientsTouchOnlyTheirOwn(t *testing.T) {
	p := newPeople(t)
	s, ctx := newSite(t, p.authenticated(t)), t.Context()
	begun, err := p.as(s, "alice").Begin(ctx, &assentv1.BeginRequest{RequestId: "one"})
	require.NoError(t, err)
	id := begun.GetTransactionId()
	foreign, err := participant.ParseTxID(id)
	require.NoError(t, err)
	foreign.Term++ // of no log that this coordinator knows
	none := foreign.String()

	for _, name := range []string{"bob", "vera"} {
		client := p.as(s, name)
		for what, call := range map[string]func(id string) error{
			"Enlist": func(id string) error {
				_, err := client.Enlist(ctx, &assentv1.EnlistRequest{TransactionId: id, Enlistment: both()[0]})
				return err
			},
			"Commit": func(id string) error {
				_, err := client.Commit(ctx, &assentv1.CommitRequest{TransactionId: id})
				return err
			},
			"Rollback": func(id string) error {
				_, err := client.Rollback(ctx, &assentv1.RollbackRequest{TransactionId: id})
				return err
			},
		} {
			theirs, nobodys := refused(t, call(id)), refused(t, call(none))
			require.Equal(t, connect.CodeNotFound, theirs.code, "%s %s", name, what)
			require.Equal(t, nobodys.reason, theirs.reason, "%s %s", name, what)
			require.Len(t, theirs.message, len(nobodys.message), "%s %s", name, what)
		}
	}
	_, err = p.as(s, "bob").Get(ctx, &assentv1.GetRequest{TransactionId: id})
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_NOT_FOUND, refused(t, err).reason)
	for owner := range map[string]bool{"": true, "alice": true} {
		listed, err := p.as(s, "bob").List(ctx, &assentv1.ListRequest{Owner: owner})
		require.NoError(t, err)
		require.Empty(t, listed.GetTransactions())
	}
	// A request id is its owner's: the same one of another's is another transaction.
	other, err := p.as(s, "bob").Begin(ctx, &assentv1.BeginRequest{RequestId: "one"})
	require.NoError(t, err)
	require.NotEqual(t, id, other.GetTransactionId())

	got, err := p.as(s, "vera").Get(ctx, &assentv1.GetRequest{TransactionId: id})
	require.NoError(t, err)
	require.Equal(t, assentv1.State_STATE_ACTIVE, got.GetTransaction().GetState())
	require.Equal(t, "alice", got.GetTransaction().GetOwner())
	require.Empty(t, got.GetTransaction().GetBranches())
	_, err = p.as(s, "alice").Commit(ctx, &assentv1.CommitRequest{TransactionId: id})
	require.NoError(t, err)
}

// A participant in doubt is another than the one who began: it is answered all the
// same.
func TestOutcomeAnswersWhoeverHoldsTheID(t *testing.T) {
	p := newPeople(t)
	s, ctx := newSite(t, p.authenticated(t)), t.Context()
	done, err := p.as(s, "alice").Submit(ctx, &assentv1.SubmitRequest{Enlistments: both()})
	require.NoError(t, err)
	answer, err := p.as(s, "bob").Outcome(ctx, &assentv1.OutcomeRequest{TransactionId: done.GetTransactionId()})
	require.NoError(t, err)
	require.Equal(t, assentv1.Inquiry_INQUIRY_COMMITTED, answer.GetInquiry())
}

// What a client lost to a crash was rolled back, and it is told so though nobody knows
// any more whose it was.
func TestR3AClientIsToldOfATransactionThatALogLost(t *testing.T) {
	p := newPeople(t)
	log := waltest.NewMemory()
	store := log.Open()
	died, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store})
	require.NoError(t, err)
	id, err := died.Begin(t.Context(), coordinator.WithOwner("alice"))
	require.NoError(t, err)
	store.Crash()
	require.Error(t, died.Close(t.Context()))
	id.UUID[15]++ // one that was begun after what is in the log

	s := newSite(t, p.authenticated(t), change{dtm: func(c *coordinator.Config) { c.Store = log.Open() }})
	_, err = p.as(s, "alice").Commit(t.Context(), &assentv1.CommitRequest{TransactionId: id.String()})
	r := refused(t, err)
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_ROLLED_BACK, r.reason)
	require.Equal(t, assentv1.Cause_CAUSE_PRESUMED, r.info.GetCause())
}

func TestARevokedTokenEndsItsStreams(t *testing.T) {
	p := newPeople(t)
	s := newSite(t, p.authenticated(t))
	ctx, info := connect.NewClientContext(t.Context())
	session, err := p.as(s, "alice").Session(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, session.Close()) }()
	ask := func() error {
		if err := session.Send(&assentv1.SessionRequest{Requests: []*assentv1.Request{{Id: 1, Request: &assentv1.Request_Begin{Begin: &assentv1.BeginRequest{}}}}}); err != nil {
			return err
		}
		_, err := session.Receive()
		return err
	}
	require.NoError(t, ask())
	c, err := server.ReadCredentials(p.path)
	require.NoError(t, err)
	for _, token := range c.Tokens {
		if token.Name == "alice" {
			require.True(t, c.Revoke(token.ID()))
		}
	}
	require.NoError(t, server.WriteCredentials(p.path, c))
	require.Eventually(t, func() bool { err = ask(); return err != nil }, 30*time.Second, 50*time.Millisecond)
	_, err = session.Receive()
	require.Equal(t, connect.CodeUnauthenticated, refused(t, err).code)
	require.NotEmpty(t, info.ResponseHeader().Get(api.AdmittedHeader), "what was asked on it may have been done")
	ctx, info = connect.NewClientContext(t.Context())
	refusedSession, err := p.as(s, "alice").Session(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, refusedSession.Close()) }()
	require.NoError(t, refusedSession.CloseSend())
	_, err = refusedSession.Receive()
	require.Equal(t, connect.CodeUnauthenticated, refused(t, err).code)
	require.Empty(t, info.ResponseHeader().Get(api.AdmittedHeader), "nothing was asked")
	_, err = p.as(s, "alice").Begin(t.Context(), &assentv1.BeginRequest{})
	require.Equal(t, connect.CodeUnauthenticated, refused(t, err).code)
}

// A file that is replaced within a tick of its clock, by one as long, is read again.
func TestAChangeThatLeavesTimeAndLengthIsTakenUp(t *testing.T) {
	p := newPeople(t)
	s := newSite(t, p.authenticated(t))
	before, err := os.Stat(p.path)
	require.NoError(t, err)
	c, err := server.ReadCredentials(p.path)
	require.NoError(t, err)
	for i := range c.Tokens {
		if c.Tokens[i].Name == "alice" {
			c.Tokens[i].Name = "alicf"
		}
	}
	require.NoError(t, server.WriteCredentials(p.path, c))
	require.NoError(t, os.Chtimes(p.path, time.Time{}, before.ModTime()))
	after, err := os.Stat(p.path)
	require.NoError(t, err)
	require.Equal(t, before.Size(), after.Size())
	require.Equal(t, before.ModTime(), after.ModTime())
	require.Eventually(t, func() bool {
		begun, err := p.as(s, "alice").Begin(t.Context(), &assentv1.BeginRequest{})
		require.NoError(t, err)
		tx, err := participant.ParseTxID(begun.GetTransactionId())
		require.NoError(t, err)
		info, err := s.dtm.Get(t.Context(), tx)
		require.NoError(t, err)
		return info.Owner == "alicf"
	}, 30*time.Second, 50*time.Millisecond)
}

func TestAnUnreadableChangeLeavesWhatWasInForce(t *testing.T) {
	p := newPeople(t)
	s := newSite(t, p.authenticated(t))
	require.NoError(t, os.WriteFile(p.path, []byte(`{"tokens":[`), 0o600))
	_, err := p.as(s, "alice").Begin(t.Context(), &assentv1.BeginRequest{})
	require.NoError(t, err)
}

func TestCredentialsThatAreRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "credentials.json")
	hash := `"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"`
	for text, says := range map[string]string{
		`{"tokens":[{"name":"a","role":"client",` + hash + `,"expire":"2030-01-01T00:00:00Z"}]}`:           "unknown field",
		`{"tokens":[{"name":"a",` + hash + `}]}`:                                                           "has no role",
		`{"tokens":[{"name":"a","role":"root",` + hash + `}]}`:                                             `role "root"`,
		`{"tokens":[{"name":"","role":"client",` + hash + `}]}`:                                            "name",
		`{"tokens":[{"name":"a","role":"client","sha256":"abc"}]}`:                                         "sha256",
		`{"tokens":[{"name":"a","role":"client",` + hash + `},{"name":"b","role":"client",` + hash + `}]}`: "twice",
		`{"tokens":[{"name":"a","role":"client",` + hash + `,"participants":["no such name"]}]}`:           "participants",
		`{"certificates":[{"san":"cn:x","name":"a","role":"client"}]}`:                                     "neither dns:HOST nor uri:URI",
		`{} {}`: "more than one",
		`[]`:    "cannot unmarshal",
		``:      "EOF",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		_, err := server.OpenAuth(path, nil)
		require.ErrorContains(t, err, says, "%s", text)
	}
	require.NoError(t, os.WriteFile(path, []byte(`{}`), 0o600))
	require.NoError(t, os.Chmod(path, 0o622))
	_, err := server.OpenAuth(path, nil)
	require.ErrorContains(t, err, "chmod go-w")
	_, err = server.OpenAuth(path+".none", nil)
	require.ErrorIs(t, err, os.ErrNotExist)
}

package server_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/connect/v2/connectproto"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/waltest"
)

// site is a served coordinator with two banks, on real sockets.
type site struct {
	dtm    *coordinator.DTM
	server *server.Server
	log    *waltest.Memory
	url    string
	a, b   *bank
	// client speaks gRPC; web JSON, as curl does.
	client assentv1connect.TransactionServiceClient
	// operators is where AdminService is.
	operators string
	grpc      *http.Client
	web       *http.Client
}

// change says how a site is other than usual.
type change struct {
	dtm    func(*coordinator.Config)
	server func(*server.Config)
}

func newSite(t testing.TB, changes ...change) *site {
	t.Helper()
	s := &site{log: waltest.NewMemory(), a: newBank("bank_a"), b: newBank("bank_b")}
	config := coordinator.Config{Domain: "test", Store: s.log.Open(), Participants: []participant.Participant{s.a, s.b}}
	for _, c := range changes {
		if c.dtm != nil {
			c.dtm(&config)
		}
	}
	var err error
	s.dtm, err = coordinator.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.dtm.Close(context.Background())) })
	settings := server.Config{DTM: s.dtm}
	for _, c := range changes {
		if c.server != nil {
			c.server(&settings)
		}
	}
	s.server, err = server.New(settings)
	require.NoError(t, err)
	s.serve(t)
	return s
}

func (s *site) serve(t testing.TB) {
	t.Helper()
	api, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	go func() {
		done <- s.server.Serve(ctx, server.Listener{Net: api, Handler: s.server.API()}, server.Listener{Net: admin, Handler: s.server.Admin()})
	}()
	s.url, s.operators = "http://"+api.Addr().String(), "http://"+admin.Addr().String()
	s.grpc, s.web = overHTTP2(), &http.Client{Transport: &http.Transport{}}
	s.client = assentv1connect.NewTransactionServiceClient(connect.NewClient(connecthttp.NewTransport(s.grpc, s.url, connecthttp.WithGRPC())))
	t.Cleanup(func() {
		s.grpc.CloseIdleConnections()
		s.web.CloseIdleConnections()
		stop()
		require.NoError(t, <-done)
	})
}

func overHTTP2() *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Client{Transport: &http.Transport{Protocols: protocols}}
}

// post is what curl does: a method of the TransactionService with a body of JSON.
func (s *site) post(t *testing.T, method, body string) (status int, answer map[string]any) {
	t.Helper()
	return s.postTo(t, "/assent.v1.TransactionService/"+method, body)
}

func (s *site) postTo(t *testing.T, path, body string) (status int, answer map[string]any) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+path, bytes.NewBufferString(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := s.web.Do(request)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	text, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &answer), "%s: %s", response.Status, text)
	return response.StatusCode, answer
}

// refusal is what an error tells a caller.
type refusal struct {
	code    connect.Code
	reason  assentv1.ErrorReason
	message string
	info    *assentv1.ErrorInfo
}

func refused(t *testing.T, err error) refusal {
	t.Helper()
	require.Error(t, err)
	var status *connect.Error
	require.ErrorAs(t, err, &status)
	r := refusal{code: status.Code(), message: status.Message()}
	require.Len(t, status.Details(), 1, "every error has an ErrorInfo: %v", err)
	detail, err := connectproto.UnmarshalErrorDetail(status.Details()[0])
	require.NoError(t, err)
	r.info = detail.(*assentv1.ErrorInfo)
	r.reason = r.info.GetReason()
	return r
}

// bank is a participant in memory that does as it is told.
type bank struct {
	name string
	// prepare, if set, is called for each Prepare; commit for each Commit.
	prepare func(ctx context.Context, b participant.Branch) (participant.Vote, error)
	commit  func(ctx context.Context, b participant.Branch) error
}

func newBank(name string) *bank { return &bank{name: name} }

func (b *bank) Name() string { return b.name }

func (b *bank) Prepare(ctx context.Context, branch participant.Branch) (participant.Vote, error) {
	if b.prepare != nil {
		return b.prepare(ctx, branch)
	}
	return participant.VotePrepared, nil
}

func (b *bank) Commit(ctx context.Context, branch participant.Branch) error {
	if b.commit != nil {
		return b.commit(ctx, branch)
	}
	return nil
}

func (b *bank) Rollback(context.Context, participant.Branch) error { return nil }

func (b *bank) refuses(reason string) {
	b.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
		return participant.VoteRefused, errors.New(reason)
	}
}

func both() []*assentv1.Enlistment {
	return []*assentv1.Enlistment{{Participant: "bank_a", Text: "-30"}, {Participant: "bank_b", Text: "+30"}}
}

var allOfThem = coordinator.Filter{Done: true}

package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
)

// What can't be read gets its answer, and nothing is begun.
func TestMalformedRequestsChangeNothing(t *testing.T) {
	s := newSite(t)
	deep := strings.Repeat(`{"a":`, 20_000) + "1" + strings.Repeat("}", 20_000)
	for body, says := range map[string]string{
		`{"timout":"5s"}`:          "timout",
		`{"timeout":"5"}`:          "Duration",
		`{"timeout":5}`:            "syntax error",
		`{"name":7}`:               "name",
		`{"name":"a"}{"name":"b"}`: "unexpected token",
		`{"name":"a"`:              "unexpected EOF",
		`[]`:                       "unexpected token",
		``:                         "zero-length",
		"{\"name\":\"\xff\"}":      "UTF-8",
		deep:                       "",
		`{"timeout":"0s"}`:         "timeout",
		`{"timeout":"-1s"}`:        "timeout",
		`{"timeout":"3601s"}`:      "at most 1h",
		`{"name":"` + strings.Repeat("n", 257) + `"}`:      "name",
		`{"requestId":"` + strings.Repeat("n", 257) + `"}`: "request_id",
	} {
		status, answer := s.post(t, "Begin", body)
		require.Equal(t, http.StatusBadRequest, status, "%.60s: %v", body, answer)
		require.Equal(t, "invalid_argument", answer["code"])
		require.Contains(t, answer["message"], says)
		require.Len(t, answer["details"], 1, "%.60s", body)
	}
	s.requireNothingBegun(t)
}

func TestBadFieldsAreNamed(t *testing.T) {
	s := newSite(t)
	long := strings.Repeat("d", participant.MaxData+1)
	var many []string
	for range participant.MaxBranches + 1 {
		many = append(many, `{"participant":"bank_a"}`)
	}
	for body, want := range map[string]struct {
		status int
		says   string
	}{
		`{"enlistments":[{}]}`:                                                           {400, "participant is missing"},
		`{"enlistments":[{"participant":"bank_c"}]}`:                                     {404, `no participant "bank_c"`},
		`{"enlistments":[{"participant":"bank_a","text":"a","data":"YQ=="}]}`:            {400, "both set"},
		`{"enlistments":[{"participant":"bank_a","text":"` + long + `"}]}`:               {400, "more than 4096"},
		`{"enlistments":[{"participant":"bank_a","instance":"i"}]}`:                      {400, "no attached instances"},
		`{"enlistments":[{"participant":"bank_a","data":"!"}]}`:                          {400, "data"},
		`{"enlistments":[` + strings.Join(many, ",") + `]}`:                              {400, "more than 64"},
		`{"enlistments":[{"participant":"bank_a"},{"participant":"bank_a","text":"x"}]}`: {409, "conflicts"},
	} {
		status, answer := s.post(t, "Submit", body)
		require.Equal(t, want.status, status, "%.80s: %v", body, answer)
		require.Contains(t, answer["message"], want.says, "%.80s", body)
	}
	for _, id := range []string{"", "x", "1-2", strings.Repeat("z", 100), "kf12oi-0123"} {
		for _, method := range []string{"Commit", "Rollback", "Get", "Outcome", "Enlist"} {
			status, answer := s.post(t, method, `{"transactionId":"`+id+`"}`)
			require.Equal(t, http.StatusBadRequest, status, "%s %q: %v", method, id, answer)
			require.Contains(t, answer["message"], "transaction_id")
		}
	}
	s.requireNothingBegun(t)
}

func TestR12WhatIsTooLongIsRefused(t *testing.T) {
	s := newSite(t)
	status, answer := s.post(t, "Begin", `{"name":"`+strings.Repeat("n", 1<<20)+`"}`)
	require.Equal(t, http.StatusTooManyRequests, status, "%v", answer)
	require.Equal(t, "resource_exhausted", answer["code"])

	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, err := z.Write([]byte(`{"name":"` + strings.Repeat("n", 64<<20) + `"}`))
	require.NoError(t, err)
	require.NoError(t, z.Close())
	require.Less(t, bomb.Len(), 1<<20)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/assent.v1.TransactionService/Begin", &bomb)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Content-Encoding", "gzip")
	response, err := s.web.Do(request)
	require.NoError(t, err)
	defer func() { require.NoError(t, response.Body.Close()) }()
	require.Equal(t, http.StatusTooManyRequests, response.StatusCode)

	_, err = s.client.Begin(t.Context(), &assentv1.BeginRequest{Name: strings.Repeat("n", 1<<20)})
	require.Equal(t, connect.CodeResourceExhausted, refused(t, err).code)
	s.requireNothingBegun(t)
}

func TestOtherMethodsAndTypesAreRefused(t *testing.T) {
	s := newSite(t)
	for _, c := range []struct {
		method, path, kind string
		want               int
	}{
		{http.MethodGet, "/assent.v1.TransactionService/Begin", "", http.StatusMethodNotAllowed},
		{http.MethodPost, "/assent.v1.TransactionService/Begin", "text/plain", http.StatusUnsupportedMediaType},
		{http.MethodPost, "/assent.v1.TransactionService/Begin", "application/x-www-form-urlencoded", http.StatusUnsupportedMediaType},
		{http.MethodPost, "/assent.v1.TransactionService/Session", "application/connect+json", http.StatusHTTPVersionNotSupported},
		{http.MethodPost, "/assent.v1.TransactionService/None", "application/json", http.StatusNotImplemented},
		{http.MethodPost, "/assent.v1.AdminService/Status", "application/json", http.StatusNotFound},
		{http.MethodGet, "/", "", http.StatusNotFound},
		{http.MethodGet, "/livez", "", http.StatusOK},
		{http.MethodGet, "/readyz", "", http.StatusOK},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, s.url+c.path, strings.NewReader("{}"))
		require.NoError(t, err)
		if c.kind != "" {
			request.Header.Set("Content-Type", c.kind)
		}
		response, err := s.web.Do(request)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, errors.Join(err, response.Body.Close()))
		require.Equal(t, c.want, response.StatusCode, "%s %s %s", c.method, c.path, c.kind)
		if c.kind == "application/x-www-form-urlencoded" {
			require.Contains(t, string(body), "curl: -H 'Content-Type: application/json'")
		}
	}
	s.requireNothingBegun(t)
}

// A request that comes again after its answer was lost is the same one.
func TestReplayedRequestsAreTheSame(t *testing.T) {
	s := newSite(t)
	submit := func(text string) (int, map[string]any) {
		return s.post(t, "Submit", `{"requestId":"one","enlistments":[{"participant":"bank_a","text":"`+text+`"}]}`)
	}
	_, first := submit("-30")
	status, again := submit("-30")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, first, again)
	status, answer := submit("-31")
	require.Equal(t, http.StatusConflict, status)
	require.Equal(t, "already_exists", answer["code"])
	all, err := s.dtm.List(t.Context(), allOfThem)
	require.NoError(t, err)
	require.Len(t, all, 1)
}

// A peer that sends nothing more is given up, and what it had begun to ask is not done.
func TestR12SlowPeersAreGivenUp(t *testing.T) {
	s := newSite(t, change{server: func(c *server.Config) { c.PeerTimeout = 50 * time.Millisecond }})
	address := strings.TrimPrefix(s.url, "http://")
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, err = io.WriteString(c, "POST /assent.v1.TransactionService/Begin HTTP/1.1\r\nHost: "+address+"\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
	require.NoError(t, err)
	answer, err := io.ReadAll(c) // until the server closes it
	require.NoError(t, err)
	require.NotContains(t, string(answer), "200 OK")

	body, _ := io.Pipe()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/assent.v1.TransactionService/Begin", body)
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := s.grpc.Do(request)
	if err == nil {
		require.NotEqual(t, http.StatusOK, response.StatusCode)
		require.NoError(t, response.Body.Close())
	}
	s.requireNothingBegun(t)
	require.NoError(t, body.Close())
}

// One that does not take its answer is given up, too.
func TestR12SlowReadersAreGivenUp(t *testing.T) {
	s := newSite(t, change{server: func(c *server.Config) { c.PeerTimeout = 100 * time.Millisecond }})
	name := strings.Repeat("n", 900)
	for range 8_000 { // more than sockets buffer
		_, err := s.dtm.Begin(t.Context(), coordinator.WithName(name))
		require.NoError(t, err)
	}
	address := strings.TrimPrefix(s.url, "http://")
	c, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	require.NoError(t, c.(*net.TCPConn).SetReadBuffer(4<<10))
	_, err = io.WriteString(c, "POST /assent.v1.TransactionService/List HTTP/1.1\r\nHost: "+address+"\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{\"limit\":10000}")
	require.NoError(t, err)
	s.server.AwaitCalls(1)
	s.server.AwaitNothing()
}

// A client that hangs up, or whose deadline passes, bounds its wait, not the
// transaction.
func TestADeadlineBoundsTheWaitNotTheTransaction(t *testing.T) {
	s := newSite(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	s.b.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
		close(asked)
		<-answer
		return participant.VotePrepared, nil
	}
	begun, err := s.client.Begin(t.Context(), &assentv1.BeginRequest{})
	require.NoError(t, err)
	id := begun.GetTransactionId()
	for _, e := range both() {
		_, err := s.client.Enlist(t.Context(), &assentv1.EnlistRequest{TransactionId: id, Enlistment: e})
		require.NoError(t, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = s.client.Commit(ctx, &assentv1.CommitRequest{TransactionId: id})
	require.Equal(t, connect.CodeDeadlineExceeded, connect.CodeOf(err))
	<-asked
	hangUp, cancelled := context.WithCancel(t.Context())
	again := make(chan error, 1)
	go func() {
		_, err := s.client.Commit(hangUp, &assentv1.CommitRequest{TransactionId: id})
		again <- err
	}()
	cancelled()
	require.Error(t, <-again)
	close(answer)
	committed, err := s.client.Commit(t.Context(), &assentv1.CommitRequest{TransactionId: id})
	require.NoError(t, err)
	require.Equal(t, assentv1.State_STATE_COMMITTED, committed.GetState())
}

// What a participant's driver says may hold a password: a client is told that the vote
// is unknown, and no more.
func TestErrorsOfDriversAreNotForClients(t *testing.T) {
	p := newPeople(t)
	s := newSite(t, p.authenticated(t))
	const secret = "postgres://assent:swordfish@db/bank"
	s.b.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
		return 0, errors.New("connect " + secret)
	}
	_, err := p.as(s, "alice").Submit(t.Context(), &assentv1.SubmitRequest{RequestId: "one", Enlistments: both()})
	r := refused(t, err)
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_ROLLED_BACK, r.reason)
	require.Equal(t, assentv1.Cause_CAUSE_UNKNOWN_VOTE, r.info.GetCause())
	require.Equal(t, "bank_b", r.info.GetParticipant())
	require.NotContains(t, r.message+r.info.String(), "swordfish")

	id := r.info.GetTransactionId()
	mine, err := p.as(s, "alice").Get(t.Context(), &assentv1.GetRequest{TransactionId: id})
	require.NoError(t, err)
	require.NotContains(t, mine.String(), "swordfish")
	seen, err := p.as(s, "vera").Get(t.Context(), &assentv1.GetRequest{TransactionId: id})
	require.NoError(t, err)
	require.Contains(t, seen.GetTransaction().GetReason(), "swordfish", "who operates it has to know")
}

// Past its limit Begin is refused at once, and what runs finishes unharmed.
func TestR12PastTheLimitRunningTransactionsFinish(t *testing.T) {
	s := newSite(t, change{dtm: func(c *coordinator.Config) { c.MaxOpen = 2 }})
	var ids []string
	for range 2 {
		begun, err := s.client.Begin(t.Context(), &assentv1.BeginRequest{})
		require.NoError(t, err)
		ids = append(ids, begun.GetTransactionId())
	}
	for range 10 {
		_, err := s.client.Begin(t.Context(), &assentv1.BeginRequest{})
		r := refused(t, err)
		require.Equal(t, connect.CodeResourceExhausted, r.code)
		require.Equal(t, assentv1.ErrorReason_ERROR_REASON_LIMIT, r.reason)
		require.True(t, r.info.GetRetryable())
		require.Contains(t, r.message, "MaxOpen")
	}
	for _, id := range ids {
		for _, e := range both() {
			_, err := s.client.Enlist(t.Context(), &assentv1.EnlistRequest{TransactionId: id, Enlistment: e})
			require.NoError(t, err)
		}
		_, err := s.client.Commit(t.Context(), &assentv1.CommitRequest{TransactionId: id})
		require.NoError(t, err)
	}
	_, err := s.client.Begin(t.Context(), &assentv1.BeginRequest{})
	require.NoError(t, err)
}

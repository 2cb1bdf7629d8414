package server_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
)

func TestUnsafeListenersAreRefused(t *testing.T) {
	p := newPeople(t)
	auth, err := server.OpenAuth(p.path, nil)
	require.NoError(t, err)
	secure, err := server.OpenTLS(newAuthority(t).files(t, t.TempDir(), 1), nil)
	require.NoError(t, err)
	ended, end := context.WithCancel(t.Context())
	end()
	for _, c := range []struct {
		auth     *server.Auth
		tls      *tls.Config
		insecure bool
		says     string // "": it is served
	}{
		{nil, nil, false, "no TLS"},
		{auth, nil, false, "no TLS"},
		{nil, secure, false, "Config.Auth"},
		{auth, secure, false, ""},
		{nil, nil, true, ""},
	} {
		s := newSite(t)
		other, err := server.New(server.Config{DTM: s.dtm, Auth: c.auth, AllowInsecure: c.insecure})
		require.NoError(t, err)
		everywhere, err := net.Listen("tcp", "0.0.0.0:0")
		require.NoError(t, err)
		err = other.Serve(ended, server.Listener{Net: everywhere, TLS: c.tls, Handler: other.API()})
		if c.says == "" {
			require.NoError(t, err)
		} else {
			require.ErrorContains(t, err, c.says)
		}
		require.Error(t, everywhere.Close(), "Serve has closed it")
	}
}

// A web page reaches a server on loopback by a name of its own; without credentials
// that must not be enough.
func TestOnlyThisMachineIsServedWithoutCredentials(t *testing.T) {
	s := newSite(t)
	ask := func(host string) int {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/assent.v1.TransactionService/Begin", strings.NewReader("{}"))
		require.NoError(t, err)
		request.Host = host
		request.Header.Set("Content-Type", "application/json")
		response, err := s.web.Do(request)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		return response.StatusCode
	}
	for _, host := range []string{"evil.example", "evil.example:7379", "192.0.2.1", "localhost.evil.example", "127.0.0.1.evil.example"} {
		require.Equal(t, http.StatusForbidden, ask(host), host)
	}
	s.requireNothingBegun(t)
	for _, host := range []string{"localhost", "localhost:1", "127.0.0.1", "127.0.0.2:9", "[::1]:7379"} {
		require.Equal(t, http.StatusOK, ask(host), host)
	}
}

func TestAUnixSocketIsServed(t *testing.T) {
	s := newSite(t)
	path := filepath.Join(t.TempDir(), "assent.sock")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(ctx, server.Listener{Net: listener, Handler: s.server.API()}) }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	response, err := client.Post("http://assent/assent.v1.TransactionService/Begin", "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, http.StatusOK, response.StatusCode)
	client.CloseIdleConnections()
	stop()
	require.NoError(t, <-done)
}

func TestR12MoreConnectionsThanMayBeAreClosed(t *testing.T) {
	s := newSite(t, change{server: func(c *server.Config) { c.MaxConnections = 1 }})
	status, _ := s.post(t, "Begin", "{}") // keeps its connection
	require.Equal(t, http.StatusOK, status)
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	_, err = c.Read(make([]byte, 1))
	require.Error(t, err)
	status, _ = s.post(t, "Begin", "{}")
	require.Equal(t, http.StatusOK, status)
}

// R12: however many clients there are, operators get in.
func TestR12ClientsDoNotKeepOperatorsOut(t *testing.T) {
	s := newSite(t, change{server: func(c *server.Config) { c.MaxConnections, c.MaxCalls = 1, 1 }})
	begun, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	s.a.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
		close(begun)
		<-goOn
		return participant.VotePrepared, nil
	}
	submitted := make(chan int, 1)
	go func() {
		status, _ := s.post(t, "Submit", `{"enlistments": [{"participant": "bank_a"}]}`) // keeps its connection
		submitted <- status
	}()
	<-begun
	answer, err := http.Post(s.operators+"/assent.v1.AdminService/Status", "application/json", strings.NewReader("{}"))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	http.DefaultClient.CloseIdleConnections()
	release()
	require.Equal(t, http.StatusOK, <-submitted)
}

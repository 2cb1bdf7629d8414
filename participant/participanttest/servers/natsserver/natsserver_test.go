package natsserver

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	Main()
	goleak.VerifyTestMain(m)
}

// request sends a request and returns the answer.
func request(t *testing.T, n *NATS, subject, payload string) string {
	t.Helper()
	conn, err := net.Dial("tcp", n.Addr())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	_, err = fmt.Fprintf(conn, "CONNECT {\"verbose\":false}\r\nSUB answers 1\r\nPUB %s answers %d\r\n%s\r\n", subject, len(payload), payload)
	require.NoError(t, err)
	var heard strings.Builder
	for buffer := make([]byte, 4096); ; {
		size, err := conn.Read(buffer)
		require.NoError(t, err)
		heard.Write(buffer[:size])
		if _, answer, found := strings.Cut(heard.String(), "MSG answers"); found && strings.HasSuffix(answer, "}\r\n") {
			return answer
		}
	}
}

func TestStreamsSurviveAKill(t *testing.T) {
	ctx := t.Context()
	n, err := Start(ctx)
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	require.NotContains(t, request(t, n, "$JS.API.STREAM.CREATE.kept", `{"name":"kept","subjects":["kept"]}`), "error")
	require.Contains(t, request(t, n, "kept", "a message"), `"seq":1`)
	url := n.URL()
	for _, down := range []func() error{
		func() error { return n.Kill(ctx) },
		func() error { return n.Stop(ctx) },
	} {
		require.NoError(t, down())
		_, err := net.Dial("tcp", n.Addr())
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
		require.NoError(t, n.Start(ctx))
		require.Equal(t, url, n.URL())
		require.Contains(t, request(t, n, "$JS.API.STREAM.INFO.kept", ""), `"messages":1`)
	}
}

func TestSettings(t *testing.T) {
	n, err := Start(t.Context(), "max_payload: 4096", "jetstream {}")
	require.NoError(t, err)
	defer func() { require.NoError(t, n.Close()) }()
	conn, err := net.Dial("tcp", n.Addr())
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close()) }()
	greeting := make([]byte, 4096)
	size, err := conn.Read(greeting)
	require.NoError(t, err)
	require.Contains(t, string(greeting[:size]), `"max_payload":4096`)
	require.Contains(t, string(greeting[:size]), `"jetstream":true`)

	_, err = Start(t.Context(), "max_payloat: 4096")
	require.ErrorContains(t, err, `unknown field "max_payloat"`)
}

// A program that forgot Main does not start itself over and over.
func TestAServerDoesNotStartServers(t *testing.T) {
	t.Setenv(serveEnv, "1")
	_, err := Start(t.Context())
	require.ErrorContains(t, err, "must call natsserver.Main first")
	require.NoError(t, os.Unsetenv(serveEnv))
}

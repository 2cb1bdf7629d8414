package nats_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/participanttest/servers/natsserver"
)

// shared is the server of most tests of this package, which do not run in parallel.
var shared struct {
	once    sync.Once
	server  *natsserver.NATS
	monitor string
	err     error
}

func TestMain(m *testing.M) {
	natsserver.Main()
	participanttest.Main(subject)
	goleak.VerifyTestMain(closing{m})
}

// closing stops the shared server once all tests have run.
type closing struct{ *testing.M }

func (c closing) Run() int {
	code := c.M.Run()
	if shared.server == nil {
		return code
	}
	if err := shared.server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func server(t testing.TB) *natsserver.NATS {
	t.Helper()
	shared.once.Do(func() {
		monitor := freeAddr(t)
		shared.monitor = "http://" + monitor
		shared.server, shared.err = natsserver.Start(context.Background(), "http: "+monitor)
	})
	require.NoError(t, shared.err)
	return shared.server
}

func freeAddr(t testing.TB) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	return listener.Addr().String()
}

// start starts another server, with settings of its own.
func start(t testing.TB, settings ...string) *natsserver.NATS {
	t.Helper()
	s, err := natsserver.Start(t.Context(), settings...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// connect returns the JetStream of a server.
func connect(t testing.TB, url string, options ...natsgo.Option) jetstream.JetStream {
	t.Helper()
	js, err := dial(url, options...)
	require.NoError(t, err)
	t.Cleanup(js.Conn().Close)
	return js
}

func dial(url string, options ...natsgo.Option) (jetstream.JetStream, error) {
	// It stays quiet, and reconnects soon and for ever.
	options = append([]natsgo.Option{natsgo.ReconnectWait(reconnectWait), natsgo.MaxReconnects(-1), natsgo.ErrorHandler(func(*natsgo.Conn, *natsgo.Subscription, error) {})}, options...)
	conn, err := natsgo.Connect(url, options...)
	if err != nil {
		return nil, err
	}
	return jetstream.New(conn)
}

// connected waits until the connection is up again.
func connected(ctx context.Context, conn *natsgo.Conn) error {
	for !conn.IsConnected() {
		timer := time.NewTimer(time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("wait for the connection: %w", ctx.Err())
		}
	}
	return nil
}

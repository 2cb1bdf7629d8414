package redis_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

// shared is the server of all tests of this package, which do not run in parallel.
var shared struct {
	once   sync.Once
	server *servers.Redis
	err    error
}

func TestMain(m *testing.M) {
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

func server(t testing.TB) *servers.Redis {
	t.Helper()
	capability.Need(t, capability.Redis)
	shared.once.Do(func() { shared.server, shared.err = servers.StartRedis(context.Background()) })
	require.NoError(t, shared.err)
	return shared.server
}

// connect returns a client of the shared server.
func connect(t testing.TB, changes ...func(*goredis.Options)) *goredis.Client {
	t.Helper()
	options := &goredis.Options{Addr: server(t).Addr(), ContextTimeoutEnabled: true}
	for _, change := range changes {
		change(options)
	}
	client := goredis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

// configure changes a setting of the shared server until the test ends.
func configure(t testing.TB, setting, value string) {
	t.Helper()
	client := connect(t)
	before, err := client.ConfigGet(t.Context(), setting).Result()
	require.NoError(t, err)
	require.NoError(t, client.ConfigSet(t.Context(), setting, value).Err())
	t.Cleanup(func() {
		require.NoError(t, client.ConfigSet(context.Background(), setting, before[setting]).Err())
	})
}

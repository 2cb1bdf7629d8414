package redis_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
	"github.com/assent-tm/assent/participant/redis"
)

func TestCheckPassesAServerThatKeepsItsWord(t *testing.T) {
	s := newService(t)
	require.NoError(t, s.Check(t.Context()))
	require.Empty(t, s.warned.String())
	require.Empty(t, s.own()) // it writes nothing
}

func TestCheckNamesTheSetting(t *testing.T) {
	for setting, test := range map[string]struct{ value, want string }{
		"appendonly":                {"no", "set appendonly to yes"},
		"appendfsync":               {"everysec", "set appendfsync to always"},
		"no-appendfsync-on-rewrite": {"yes", "set no-appendfsync-on-rewrite to no"},
		"maxmemory-policy":          {"allkeys-lru", "set maxmemory-policy to noeviction"},
	} {
		t.Run(setting, func(t *testing.T) {
			s := newService(t)
			configure(t, setting, test.value)
			err := s.Check(t.Context())
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, setting+" "+test.value)
			require.ErrorContains(t, err, test.want)
			require.ErrorContains(t, err, `"orders"`)
			require.Empty(t, s.warned.String())

			s.cfg.AllowDataLoss = true
			require.NoError(t, s.fresh().Check(t.Context()))
			require.Equal(t, 1, strings.Count(s.warned.String(), "level=WARN"))
			require.Contains(t, s.warned.String(), test.want)
			require.Contains(t, s.warned.String(), "participant=orders")
		})
	}
}

func TestCheckOfAReplica(t *testing.T) {
	s := newService(t)
	b := s.prepared(set("a", "1"))
	s.do("REPLICAOF", "127.0.0.1", "1") // nobody listens there
	t.Cleanup(func() { require.NoError(t, s.client.Do(context.Background(), "REPLICAOF", "NO", "ONE").Err()) })

	err := s.Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "replica: connect to the master")
	err = s.Commit(t.Context(), b)
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "replica")
	s.do("REPLICAOF", "NO", "ONE")
	require.NoError(t, s.Commit(t.Context(), b))
}

func TestCheckWarnsOfReplicas(t *testing.T) {
	s := newService(t)
	replica, err := servers.StartRedis(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, replica.Close()) }()
	host, port, err := net.SplitHostPort(s.client.Options().Addr)
	require.NoError(t, err)
	client := goredis.NewClient(&goredis.Options{Addr: replica.Addr()})
	defer func() { require.NoError(t, client.Close()) }()
	require.NoError(t, client.Do(t.Context(), "REPLICAOF", host, port).Err())
	require.Eventually(t, func() bool {
		return s.client.InfoMap(t.Context(), "replication").Val()["Replication"]["connected_slaves"] == "1"
	}, 30*time.Second, 10*time.Millisecond)
	require.NoError(t, s.Check(t.Context()))
	require.Contains(t, s.warned.String(), "1 replicas: replication is asynchronous")
}

func TestCheckOfAUserWithoutRights(t *testing.T) {
	s := newService(t)
	user := func(rules ...any) *redis.Participant {
		s.do("ACL", "DELUSER", "ann")
		s.do(append([]any{"ACL", "SETUSER", "ann", "on", ">secret"}, rules...)...)
		client := connect(t, func(o *goredis.Options) { o.Username, o.Password = "ann", "secret" })
		cfg := s.cfg
		cfg.Client = client
		p, err := redis.New(cfg)
		require.NoError(t, err)
		return p
	}
	t.Cleanup(func() { require.NoError(t, s.client.Do(context.Background(), "ACL", "DELUSER", "ann").Err()) })
	for name, test := range map[string]struct {
		rules []any
		says  string
	}{
		"all":          {[]any{"~*", "+@all"}, ""},
		"no INFO":      {[]any{"~*", "+@all", "-info"}, "ask for INFO: participant is misconfigured: grant"},
		"no CONFIG":    {[]any{"~*", "+@all", "-config"}, "permit CONFIG GET appendonly, or set Config.AllowDataLoss"},
		"no scripts":   {[]any{"~*", "+@all", "-eval", "-evalsha"}, "run a script: participant is misconfigured: grant"},
		"no ZREM":      {[]any{"~*", "+@all", "-zrem"}, `may not run ZREM on key "assent:{orders}:orders:prepared": grant it with ACL SETUSER`},
		"no HGETALL":   {[]any{"~*", "+@all", "-hgetall"}, `may not run HGETALL on key "assent:{orders}:orders:terms"`}, // of List
		"no TTL":       {[]any{"~*", "+@all", "-ttl"}, `may not run TTL on key "assent:{orders}:orders:branch:`},        // of Forget
		"not its keys": {[]any{"~stock:*", "+@all"}, "grant the user"},
	} {
		t.Run(name, func(t *testing.T) {
			err := user(test.rules...).Check(t.Context())
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, test.says)
		})
	}

	t.Run("not a user's key", func(t *testing.T) {
		s.Participant = user("~assent:*", "~stock:*", "+@all")
		vote, err := s.Prepare(t.Context(), s.staged(set("other", "1")))
		require.False(t, vote.Valid())
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, "NOPERM")
		require.NoError(t, s.Commit(t.Context(), s.prepared(set("stock:1", "1"))))
	})

	t.Run("not a command", func(t *testing.T) {
		s.Participant = user("~*", "+@all", "-xadd")
		b := s.staged(all(set("a", "1"), func(s *redis.Session) error { return s.XAdd("x", "f", "v") }))
		s.refuses(b, redis.ErrKey, `"x": the user of this connection may not XADD it`)

		// Taken away between Prepare and Commit.
		s.Participant = user("~*", "+@all")
		b = s.prepared(all(set("a", "1"), func(s *redis.Session) error { return s.XAdd("x", "f", "v") }))
		s.do("ACL", "SETUSER", "ann", "-xadd")
		require.ErrorIs(t, s.Commit(t.Context(), b), redis.ErrKey)
		s.do("ACL", "SETUSER", "ann", "-zrem")
		require.ErrorContains(t, s.Commit(t.Context(), b), "may not run ZREM")
		require.Empty(t, s.get("a"))
		s.do("ACL", "SETUSER", "ann", "+@all")
		require.NoError(t, s.Commit(t.Context(), b))
		require.Equal(t, "1", s.get("a"))
	})
}

func TestWrongPassword(t *testing.T) {
	s := newService(t)
	s.cfg.Client = connect(t, func(o *goredis.Options) { o.Username, o.Password = "nobody", "wrong" })
	p := s.fresh()
	_, joined := p.Join(t.Context(), s.begin())
	for _, err := range []error{p.Check(t.Context()), joined, p.Rollback(t.Context(), s.begin().branch)} {
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, "Username or Password")
		require.ErrorContains(t, err, `"orders"`)
	}
	configure(t, "requirepass", "secret")
	t.Cleanup(func() { require.NoError(t, s.client.ConfigSet(context.Background(), "requirepass", "").Err()) })
	s.cfg.Client = connect(t)
	require.ErrorContains(t, s.fresh().Check(t.Context()), "the server wants a password")
}

// A server that is not there is no misconfiguration: the coordinator starts, and
// asks again.
func TestUnreachableServer(t *testing.T) {
	capability.Need(t, capability.Redis)
	client := goredis.NewClient(&goredis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1})
	defer func() { require.NoError(t, client.Close()) }()
	p, err := redis.New(redis.Config{Name: "orders", Client: client})
	require.NoError(t, err)
	s := &service{t: t, term: 1 << 32}
	_, joined := p.Join(t.Context(), s.begin())
	vote, prepared := p.Prepare(t.Context(), s.begin().branch)
	require.False(t, vote.Valid())
	_, listed := p.List(t.Context(), "shop")
	for _, err := range []error{p.Check(t.Context()), joined, prepared, listed, p.Commit(t.Context(), s.begin().branch)} {
		require.ErrorContains(t, err, "127.0.0.1:1")
		require.ErrorContains(t, err, `"orders"`)
		require.NotErrorIs(t, err, participant.ErrConfig)
	}
}

// freePort returns a port for the cluster's bus: by default it would be 10,000 above
// the server's, which may be more than there are.
func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, listener.Close()) }()
	return listener.Addr().(*net.TCPAddr).Port
}

func TestCluster(t *testing.T) {
	capability.Need(t, capability.Redis)
	node, err := servers.StartRedis(t.Context(), "cluster-enabled yes", fmt.Sprint("cluster-port ", freePort(t)))
	require.NoError(t, err)
	defer func() { require.NoError(t, node.Close()) }()
	single := goredis.NewClient(&goredis.Options{Addr: node.Addr(), ContextTimeoutEnabled: true})
	defer func() { require.NoError(t, single.Close()) }()
	require.NoError(t, single.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err())
	require.Eventually(t, func() bool { return single.Set(t.Context(), "a", "1", 0).Err() == nil }, 30*time.Second, 10*time.Millisecond)
	p, err := redis.New(redis.Config{Name: "orders", Client: single})
	require.NoError(t, err)
	err = p.Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "connect with redis.NewClusterClient")

	client := goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: []string{node.Addr()}, ContextTimeoutEnabled: true})
	defer func() { require.NoError(t, client.Close()) }()
	s := &service{t: t, term: 1 << 32, client: single, cfg: redis.Config{Name: "orders", Client: client, HashTag: "shop"}}
	s.Participant = s.fresh()
	require.NoError(t, s.Check(t.Context()))
	session := s.join()
	for _, key := range []string{"stock", "stock{orders}", "{}{shop}", "{shop", "shop}", "a{b{shop}"} {
		err := session.Set(key, "1")
		require.ErrorIs(t, err, redis.ErrKey, key)
		require.ErrorContains(t, err, "{shop} (Config.HashTag)")
	}
	b := s.prepared(all(set("a{shop}", "1"), incrBy("{shop}b{c}", 2)))
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Len(t, listing.Prepared, 1)
	require.NoError(t, s.Commit(t.Context(), b))
	require.NoError(t, s.Forget(t.Context(), []participant.Branch{b}))
	require.Equal(t, "1 2", s.get("a{shop}")+" "+s.get("{shop}b{c}"))
	require.NoError(t, single.ConfigSet(t.Context(), "appendfsync", "no").Err())
	require.ErrorContains(t, s.Check(t.Context()), "set appendfsync to always")
}

package redis_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/redis"
)

func TestJoiningAgainStagesIntoTheSame(t *testing.T) {
	s := newService(t)
	tx := s.begin()
	first, err := s.Join(t.Context(), tx)
	require.NoError(t, err)
	second, err := s.Join(t.Context(), tx)
	require.NoError(t, err)
	require.Equal(t, *first, *second)
	require.Equal(t, tx.branch, first.Branch())
}

func TestOperationsAreAppliedInTheirOrder(t *testing.T) {
	s := newService(t)
	b := s.prepared(func(session *redis.Session) error {
		return errors.Join(
			session.Set("n", "40"), session.IncrBy("n", 3), session.IncrBy("n", -1),
			session.Set("binary", "\x00\xff\r\n$"),
			session.HSet("hash", "a", "1", "b", "2"), session.HSet("hash", "a", "3"),
			session.XAdd("stream", "k", "first"), session.XAdd("stream", "k", "second", "k", "again"),
		)
	})
	require.Empty(t, s.get("n"))
	require.NoError(t, s.Commit(t.Context(), b))
	require.Equal(t, "42", s.get("n"))
	require.Equal(t, "\x00\xff\r\n$", s.get("binary"))
	require.Equal(t, map[string]string{"a": "3", "b": "2"}, s.client.HGetAll(t.Context(), "hash").Val())
	entries := s.client.XRange(t.Context(), "stream", "-", "+").Val()
	require.Len(t, entries, 2)
	require.Equal(t, map[string]any{"k": "first"}, entries[0].Values)
}

func TestSessionOfAnEndedBranch(t *testing.T) {
	s := newService(t)
	prepared, rolledBack, refused, decided := s.join(), s.join(), s.join(), s.join()
	for _, session := range []*redis.Session{prepared, rolledBack, refused, decided} {
		require.NoError(t, session.Set("a", "1"))
	}
	s.do("HSET", "hash", "f", "v")
	require.NoError(t, refused.Set("hash", "1"))
	_, _ = s.Prepare(t.Context(), prepared.Branch())
	_, _ = s.Prepare(t.Context(), refused.Branch())
	require.NoError(t, s.Rollback(t.Context(), rolledBack.Branch()))
	require.NoError(t, s.CommitOnePhase(t.Context(), decided.Branch()))

	require.ErrorIs(t, prepared.Set("a", "2"), redis.ErrFinished)
	require.ErrorIs(t, decided.Set("a", "2"), redis.ErrFinished)
	require.ErrorIs(t, rolledBack.Set("a", "2"), redis.ErrRolledBack)
	require.ErrorIs(t, refused.Set("a", "2"), redis.ErrRolledBack)
	require.ErrorContains(t, refused.Set("a", "2"), string(refused.Branch().XID()))
}

// R12: what a branch and a process stage is bounded.
func TestR12SessionLimits(t *testing.T) {
	s := newService(t, func(c *redis.Config) { c.MaxOperations, c.MaxBytes, c.MaxStaged = 3, 1000, 1600 })
	session := s.join()
	err := session.Set("key", strings.Repeat("x", 1000))
	require.ErrorIs(t, err, redis.ErrLimit)
	require.ErrorContains(t, err, "1000 (Config.MaxBytes)")
	require.ErrorContains(t, err, `"orders"`)
	for range 3 {
		require.NoError(t, session.IncrBy("n", 1))
	}
	require.ErrorContains(t, session.IncrBy("n", 1), "3 operations (Config.MaxOperations)")
	s.join()
	_, err = s.Join(t.Context(), s.begin())
	require.ErrorIs(t, err, redis.ErrLimit)
	require.ErrorContains(t, err, "Config.MaxStaged")
	require.ErrorContains(t, err, `"orders"`)

	// What was refused is not part of it.
	vote, err := s.Prepare(t.Context(), session.Branch())
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	require.NoError(t, s.Commit(t.Context(), session.Branch()))
	require.Equal(t, "3", s.get("n"))
	s.join() // what is prepared does not count any more
}

func TestBadOperationsAreRefusedAtOnce(t *testing.T) {
	s := newService(t)
	session := s.join()
	for says, err := range map[string]error{
		`"": it is empty`:                          session.Set("", "x"),
		"it is one of the participant's own":       session.Set("assent:{orders}:orders:terms", "x"),
		`key "h": 0 words are not`:                 session.HSet("h"),
		`key "h": 3 words are not`:                 session.HSet("h", "a", "1", "b"),
		`key "x": 1 words are not 1 to 2047 pairs`: session.XAdd("x", "a"),
		`key "x": 4096 words are not`:              session.XAdd("x", make([]string, 4096)...),
	} {
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, `"orders"`)
	}
	require.ErrorIs(t, session.Set("", "x"), redis.ErrKey)
	require.NoError(t, session.XAdd("x", make([]string, 4094)...))
	_, err := s.Prepare(t.Context(), session.Branch())
	require.NoError(t, err)
	require.NoError(t, s.Commit(t.Context(), session.Branch()))
	require.EqualValues(t, 1, s.client.XLen(t.Context(), "x").Val())
}

func TestNewRejects(t *testing.T) {
	client := goredis.NewClient(&goredis.Options{ContextTimeoutEnabled: true})
	defer func() { require.NoError(t, client.Close()) }()
	hasty := goredis.NewClient(&goredis.Options{})
	defer func() { require.NoError(t, hasty.Close()) }()
	endless := goredis.NewClient(&goredis.Options{ContextTimeoutEnabled: true, ReadTimeout: -1})
	defer func() { require.NoError(t, endless.Close()) }()
	ring := goredis.NewRing(&goredis.RingOptions{ContextTimeoutEnabled: true})
	defer func() { require.NoError(t, ring.Close()) }()
	for says, change := range map[string]func(*redis.Config){
		"name":                    func(c *redis.Config) { c.Name = "" },
		"Client is a <nil>":       func(c *redis.Config) { c.Client = nil },
		"Client is nil":           func(c *redis.Config) { c.Client = (*goredis.Client)(nil) },
		"set it to true":          func(c *redis.Config) { c.Client = hasty },
		"ReadTimeout":             func(c *redis.Config) { c.Client = endless },
		"Client is a *redis.Ring": func(c *redis.Config) { c.Client = ring },
		"HashTag":                 func(c *redis.Config) { c.HashTag = "a}b" },
		"MaxOperations -1":        func(c *redis.Config) { c.MaxOperations = -1 },
		"MaxBytes 1073741824 is not 1 to 67108864": func(c *redis.Config) { c.MaxBytes = 1 << 30 },
		"MaxStaged 5 must be at least":             func(c *redis.Config) { c.MaxStaged = 5 },
		"Retention 1ms":                            func(c *redis.Config) { c.Retention = time.Millisecond },
		"MaxRetention 1m0s at least":               func(c *redis.Config) { c.Retention, c.MaxRetention = time.Hour, time.Minute },
	} {
		cfg := redis.Config{Name: "orders", Client: client}
		change(&cfg)
		_, err := redis.New(cfg)
		require.ErrorIs(t, err, participant.ErrInvalidParticipant)
		require.ErrorContains(t, err, says)
	}
}

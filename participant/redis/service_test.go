package redis_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/redis"
)

// service is a participant on an empty database, and a client to look behind it.
type service struct {
	*redis.Participant
	t      *testing.T
	client *goredis.Client
	cfg    redis.Config
	term   participant.Term
	warned *strings.Builder
}

func newService(t *testing.T, changes ...func(*redis.Config)) *service {
	t.Helper()
	s := &service{t: t, client: connect(t), term: participant.NewTerm(1, rand.Uint32()), warned: &strings.Builder{}}
	require.NoError(t, s.client.FlushDB(t.Context()).Err())
	s.cfg = redis.Config{Name: "orders", Client: s.client, Logger: slog.New(slog.NewTextHandler(s.warned, nil))}
	for _, change := range changes {
		change(&s.cfg)
	}
	s.Participant = s.fresh()
	return s
}

// fresh returns an instance as a process has it that just started.
func (s *service) fresh() *redis.Participant {
	s.t.Helper()
	p, err := redis.New(s.cfg)
	require.NoError(s.t, err)
	return p
}

// transaction is an Enlister, and the branch that it made.
type transaction struct {
	branch participant.Branch
	err    error
}

func (tx *transaction) ID() participant.TxID { return tx.branch.Tx }

func (tx *transaction) Enlist(_ context.Context, p participant.Participant, data []byte) (participant.Branch, error) {
	if tx.err != nil {
		return participant.Branch{}, tx.err
	}
	if tx.branch.Data != nil && string(tx.branch.Data) != string(data) {
		return participant.Branch{}, errors.New("enlisted already, with other data")
	}
	tx.branch.Participant, tx.branch.Data = p.Name(), data
	return tx.branch, nil
}

func (s *service) begin() *transaction {
	return &transaction{branch: participant.Branch{
		Domain: "shop", Tx: participant.TxID{Term: s.term, UUID: uuid.Must(uuid.NewV7())}, Epoch: 1, Deadline: time.Now().Add(time.Hour),
	}}
}

// join returns the session of a new transaction.
func (s *service) join() *redis.Session {
	s.t.Helper()
	session, err := s.Join(s.t.Context(), s.begin())
	require.NoError(s.t, err)
	return session
}

// staged returns a new branch that has staged what fill does.
func (s *service) staged(fill func(*redis.Session) error) participant.Branch {
	s.t.Helper()
	session := s.join()
	require.NoError(s.t, fill(session))
	return session.Branch()
}

// prepared returns a new branch that has prepared what fill does.
func (s *service) prepared(fill func(*redis.Session) error) participant.Branch {
	s.t.Helper()
	b := s.staged(fill)
	vote, err := s.Prepare(s.t.Context(), b)
	require.NoError(s.t, err)
	require.Equal(s.t, participant.VotePrepared, vote)
	return b
}

func (s *service) refuses(b participant.Branch, is error, says string) {
	s.t.Helper()
	vote, err := s.Prepare(s.t.Context(), b)
	require.Equal(s.t, participant.VoteRefused, vote, "error %v", err)
	require.ErrorIs(s.t, err, is)
	require.ErrorContains(s.t, err, says)
	require.ErrorContains(s.t, err, string(b.XID()))
	require.ErrorContains(s.t, err, `"orders"`)
}

// own returns the participant's own keys.
func (s *service) own() []string {
	s.t.Helper()
	own, err := s.client.Keys(s.t.Context(), "assent:*").Result()
	require.NoError(s.t, err)
	return own
}

func (s *service) get(key string) string {
	s.t.Helper()
	value, err := s.client.Get(s.t.Context(), key).Result()
	if !errors.Is(err, goredis.Nil) {
		require.NoError(s.t, err)
	}
	return value
}

func (s *service) do(args ...any) {
	s.t.Helper()
	require.NoError(s.t, s.client.Do(s.t.Context(), args...).Err())
}

func set(key, value string) func(*redis.Session) error {
	return func(s *redis.Session) error { return s.Set(key, value) }
}

func incrBy(key string, n int64) func(*redis.Session) error {
	return func(s *redis.Session) error { return s.IncrBy(key, n) }
}

func all(fills ...func(*redis.Session) error) func(*redis.Session) error {
	return func(s *redis.Session) error {
		for _, fill := range fills {
			if err := fill(s); err != nil {
				return err
			}
		}
		return nil
	}
}

func endedAs(t *testing.T, outcome participant.Outcome, err error) {
	t.Helper()
	var heuristic *participant.HeuristicError
	require.ErrorAs(t, err, &heuristic)
	require.Equal(t, outcome, heuristic.Outcome)
}

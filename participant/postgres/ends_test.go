package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/postgres"
)

// A rollback, as a timeout decides it, breaks off what runs and releases its locks.
func TestRollbackBreaksOffAStatement(t *testing.T) {
	f := newFixture(t)
	for name, sleep := range map[string]func(ctx context.Context, s *postgres.Session) error{
		"exec": func(ctx context.Context, s *postgres.Session) error {
			_, err := s.Exec(ctx, "SELECT pg_sleep(3600)")
			return err
		},
		"query": func(ctx context.Context, s *postgres.Session) error {
			rows, err := s.Query(ctx, "SELECT pg_sleep(3600) FROM generate_series(1, $1)", 2)
			if err == nil {
				_, err = pgx.CollectRows(rows, pgx.RowToMap)
			}
			return err
		},
		"query row": func(ctx context.Context, s *postgres.Session) error {
			return s.QueryRow(ctx, "SELECT pg_sleep(3600)::text").Scan(new(string))
		},
		"batch": func(ctx context.Context, s *postgres.Session) error {
			b := &pgx.Batch{}
			b.Queue("SELECT pg_sleep(3600)")
			return s.SendBatch(ctx, b).Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.begun()
			backend := pid(t, session)
			_, err := session.Exec(t.Context(), "UPDATE account SET cents = 0 WHERE name = 'ann'")
			require.NoError(t, err)
			answer := make(chan error)
			go func() { answer <- sleep(t.Context(), session) }()
			f.waitUntil(func() bool {
				return f.number("SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", int64(backend)) == 1
			})
			require.NoError(t, f.Rollback(t.Context(), tx.Branch))
			f.writableAtOnce("ann")
			require.Zero(t, f.backends(backend))
			require.ErrorIs(t, <-answer, postgres.ErrRolledBack)
			for range 2 {
				_, err = session.Exec(t.Context(), "SELECT 1")
				require.ErrorIs(t, err, postgres.ErrRolledBack)
				require.ErrorIs(t, session.QueryRow(t.Context(), "SELECT 1").Scan(new(int)), postgres.ErrRolledBack)
				require.ErrorIs(t, session.SendBatch(t.Context(), &pgx.Batch{}).Close(), postgres.ErrRolledBack)
				_, err = session.CopyFrom(t.Context(), pgx.Identifier{"effect"}, []string{"tx"}, pgx.CopyFromRows(nil))
				require.ErrorIs(t, err, postgres.ErrRolledBack)
			}
			f.votes(tx, participant.VoteRefused)
			f.poolIsClean()
		})
	}
}

func TestRollbackOfAnIdleSessionKeepsItsConnection(t *testing.T) {
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	tx, session := f.begun()
	backend := pid(t, session)
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	_, err := session.Exec(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, postgres.ErrRolledBack)
	_, next := f.join()
	require.Equal(t, backend, pid(t, next))
	require.Zero(t, f.effects(tx))
}

// Clocks only cause a rollback before the vote (R8).
func TestTheDeadlineEndsASession(t *testing.T) {
	f := newFixture(t)
	tx := deadline(-time.Second)
	session, err := f.Join(t.Context(), tx)
	require.NoError(t, err)
	f.waitUntil(func() bool {
		_, err := session.Exec(t.Context(), "SELECT 1")
		return errors.Is(err, postgres.ErrRolledBack)
	})
	f.waitUntil(func() bool { return f.pool.Stat().AcquiredConns() == 0 })
	f.votes(tx, participant.VoteRefused)

	prepared := deadline(time.Hour)
	session, err = f.Join(t.Context(), prepared)
	require.NoError(t, err)
	_, err = session.Exec(t.Context(), "INSERT INTO effect VALUES ($1)", prepared.Tx.String())
	require.NoError(t, err)
	f.votes(prepared, participant.VotePrepared)
	prepared.Deadline = time.Unix(1, 0)
	require.NoError(t, f.Commit(t.Context(), prepared.Branch))
	require.Equal(t, 1, f.effects(prepared))
}

// A statement whose context ends has no known end: its connection is gone, and with it
// the branch.
func TestAStatementsContextEnds(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begun()
	backend := pid(t, session)
	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error)
	go func() {
		_, err := session.Exec(ctx, "SELECT pg_sleep(3600)")
		answer <- err
	}()
	f.waitUntil(func() bool {
		return f.number("SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", int64(backend)) == 1
	})
	cancel()
	require.ErrorIs(t, <-answer, context.Canceled)
	_, err := session.Exec(t.Context(), "SELECT 1")
	require.ErrorContains(t, err, "the connection was lost")
	require.ErrorContains(t, f.reason(tx, participant.VoteRefused), "the connection was lost")
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	f.poolIsClean()
}

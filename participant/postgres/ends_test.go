package postgres_test

import (
	"context"
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
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	tx, session := f.joinWithDeadline()
	f.waitUntil(func() bool { return f.pool.Stat().AcquiredConns() == 0 })
	_, err := session.Exec(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, postgres.ErrRolledBack)
	// A new session would have the same connection, and so be taken for the one that was
	// undone.
	_, err = f.Join(t.Context(), tx)
	require.ErrorIs(t, err, postgres.ErrRolledBack)
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

// joinWithDeadline joins a transaction whose time is over soon, but not before that.
func (f *fixture) joinWithDeadline() (*transaction, *postgres.Session) {
	f.t.Helper()
	for in := 10 * time.Millisecond; ; in *= 2 {
		tx := deadline(in)
		session, err := f.Join(f.t.Context(), tx)
		if err == nil {
			return tx, session
		}
		require.ErrorIs(f.t, err, postgres.ErrRolledBack)
	}
}

// A branch is not told to be rolled back while a session that has lost its connection
// holds its locks: the server may not notice by itself.
func TestRollbackEndsASessionThatLostItsConnection(t *testing.T) {
	f := newFixture(t)
	for name, before := range map[string]func(tx *transaction){
		"at once": func(*transaction) {},
		"refused": func(tx *transaction) { f.votes(tx, participant.VoteRefused) },
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.begun()
			backend := pid(t, session)
			_, err := session.Exec(t.Context(), "UPDATE account SET cents = 0 WHERE name = 'ann'")
			require.NoError(t, err)
			resume := stop(t, backend)
			short := func() context.Context {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
				t.Cleanup(cancel)
				return ctx
			}
			_, err = session.Exec(short(), "SELECT 1")
			require.ErrorIs(t, err, context.DeadlineExceeded)
			before(tx)
			require.ErrorIs(t, f.Rollback(short(), tx.Branch), context.DeadlineExceeded)
			resume()
			require.NoError(t, f.Rollback(t.Context(), tx.Branch))
			require.Zero(t, f.backends(backend))
			f.writableAtOnce("ann")
			f.poolIsClean()
		})
	}
}

func TestOnePhaseOfASessionThatLostItsConnection(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begun()
	backend := pid(t, session)
	require.Equal(t, 1, f.number("SELECT pg_terminate_backend($1, 5000)::int", int64(backend)))
	_, err := session.Exec(t.Context(), "SELECT 1")
	require.Error(t, err)
	require.ErrorIs(t, f.CommitOnePhase(t.Context(), tx.Branch), participant.ErrRefused)
	require.ErrorIs(t, f.CommitOnePhase(t.Context(), tx.Branch), participant.ErrRefused)
	f.poolIsClean()
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

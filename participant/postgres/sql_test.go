package postgres_test

import (
	"context"
	"database/sql"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/postgres"
)

// begunSQL returns a transaction whose branch has had an effect, by database/sql.
func (f *fixture) begunSQL() (*transaction, *postgres.SQLSession) {
	f.t.Helper()
	tx := newTransaction()
	session, err := f.JoinSQL(f.t.Context(), tx)
	require.NoError(f.t, err)
	result, err := session.ExecContext(f.t.Context(), "INSERT INTO effect VALUES ($1)", tx.Tx.String())
	require.NoError(f.t, err)
	n, err := result.RowsAffected()
	require.NoError(f.t, err)
	require.EqualValues(f.t, 1, n)
	return tx, session
}

func TestSQLSession(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begunSQL()
	again, err := f.JoinSQL(t.Context(), tx)
	require.NoError(t, err)
	require.Same(t, session, again)
	rows, err := session.QueryContext(t.Context(), "SELECT tx FROM effect")
	require.NoError(t, err)
	require.True(t, rows.Next())
	require.NoError(t, rows.Close())
	require.NoError(t, rows.Err())
	var n int
	require.NoError(t, session.QueryRowContext(t.Context(), "SELECT count(*) FROM effect").Scan(&n))
	require.Equal(t, 1, n)
	require.ErrorIs(t, session.QueryRowContext(t.Context(), "SELECT 1 WHERE false").Scan(&n), sql.ErrNoRows)

	statement, err := session.PrepareContext(t.Context(), "SELECT count(*) FROM effect WHERE tx <> $1")
	require.NoError(t, err)
	require.NoError(t, statement.QueryRowContext(t.Context(), "other").Scan(&n))
	require.Equal(t, 1, n)
	require.NoError(t, statement.Close())

	f.votes(tx, participant.VotePrepared)
	_, err = session.ExecContext(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, postgres.ErrFinished)
	require.NoError(t, f.Commit(t.Context(), tx.Branch))
	require.Equal(t, 1, f.effects(tx))
	f.poolIsClean()

	only := newTransaction()
	session, err = f.JoinSQL(t.Context(), only)
	require.NoError(t, err)
	require.NoError(t, session.QueryRowContext(t.Context(), "SELECT 1").Scan(&n))
	f.votes(only, participant.VoteReadOnly)
	f.poolIsClean()
}

func TestSQLSessionRefuses(t *testing.T) {
	f := newFixture(t)
	for name, work := range map[string]func(s *postgres.SQLSession){
		"division":   func(s *postgres.SQLSession) { _, _ = s.ExecContext(t.Context(), "SELECT 1 / 0") },
		"COMMIT":     func(s *postgres.SQLSession) { _, _ = s.ExecContext(t.Context(), "COMMIT") },
		"not closed": func(s *postgres.SQLSession) { s.QueryContext(t.Context(), "SELECT generate_series(1, 1000)") }, //nolint:errcheck,rowserrcheck,sqlclosecheck // that is the case
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.begunSQL()
			work(session)
			require.ErrorContains(t, f.reason(tx, participant.VoteRefused), name)
			require.NoError(t, f.Rollback(t.Context(), tx.Branch))
			require.Zero(t, f.inDoubt())
			f.poolIsClean()
		})
	}
}

// A prepared statement that is still there when its branch is prepared does nothing: it
// would be committed by itself.
func TestSQLStatementEndsWithTheSession(t *testing.T) {
	f := newFixture(t)
	for name, end := range map[string]func(context.Context, participant.Branch) error{
		"prepare":   func(ctx context.Context, b participant.Branch) error { _, err := f.Prepare(ctx, b); return err },
		"one phase": f.CommitOnePhase,
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.begunSQL()
			statement, err := session.PrepareContext(t.Context(), "INSERT INTO effect VALUES ($1)")
			require.NoError(t, err)
			defer func() { require.NoError(t, statement.Close()) }()
			_, err = statement.ExecContext(t.Context(), tx.Tx.String())
			require.NoError(t, err)
			require.NoError(t, end(t.Context(), tx.Branch))
			_, err = statement.ExecContext(t.Context(), "late")
			require.Error(t, err)
			if name == "prepare" {
				require.NoError(t, f.Commit(t.Context(), tx.Branch))
			}
			require.Equal(t, 2, f.effects(tx))
			require.Zero(t, f.number("SELECT count(*) FROM effect WHERE tx = 'late'"))
			f.poolIsClean()
		})
	}
}

// A rollback ends what runs, and rows that are open, also those nobody reads.
func TestSQLRollbackBreaksOff(t *testing.T) {
	f := newFixture(t)
	for name, work := range map[string]func(s *postgres.SQLSession) error{
		"idle": func(s *postgres.SQLSession) error { return nil },
		"open rows": func(s *postgres.SQLSession) error {
			rows, err := s.QueryContext(t.Context(), "SELECT generate_series(1, 100000)")
			require.NoError(t, err)
			require.True(t, rows.Next())
			return rows.Err()
		},
		"exec": func(s *postgres.SQLSession) error {
			_, err := s.ExecContext(t.Context(), "SELECT pg_sleep(3600)")
			return err
		},
		"query": func(s *postgres.SQLSession) error {
			rows, err := s.QueryContext(t.Context(), "SELECT pg_sleep(3600)")
			if err == nil {
				err = rows.Close()
			}
			return err
		},
		"next": func(s *postgres.SQLSession) error {
			rows, err := s.QueryContext(t.Context(), "SELECT CASE WHEN n > 10000 THEN pg_sleep(3600)::text END FROM generate_series(1, 100000) AS n")
			require.NoError(t, err)
			for rows.Next() { //nolint:revive // until it hangs
			}
			return rows.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.begunSQL()
			_, err := session.ExecContext(t.Context(), "UPDATE account SET cents = 0 WHERE name = 'ann'")
			require.NoError(t, err)
			var backend int
			require.NoError(t, session.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&backend))
			answer := make(chan error, 1)
			go func() { answer <- work(session) }()
			if name == "idle" || name == "open rows" {
				require.NoError(t, <-answer)
			} else {
				f.waitUntil(func() bool {
					return f.number("SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event = 'PgSleep'", backend) == 1
				})
			}
			require.NoError(t, f.Rollback(t.Context(), tx.Branch))
			f.writableAtOnce("ann")
			require.Zero(t, f.backends(uint32(backend)))
			if name != "idle" && name != "open rows" {
				require.Error(t, <-answer)
			}
			_, err = session.ExecContext(t.Context(), "SELECT 1")
			require.ErrorIs(t, err, postgres.ErrRolledBack)
			_, err = session.QueryContext(t.Context(), "SELECT 1") //nolint:rowserrcheck,sqlclosecheck // there are none
			require.ErrorIs(t, err, postgres.ErrRolledBack)
			require.ErrorIs(t, session.QueryRowContext(t.Context(), "SELECT 1").Scan(new(int)), postgres.ErrRolledBack)
			_, err = session.PrepareContext(t.Context(), "SELECT 1") //nolint:sqlclosecheck // there is none
			require.ErrorIs(t, err, postgres.ErrRolledBack)
			f.poolIsClean()
		})
	}
}

func TestSQLDeadline(t *testing.T) {
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	tx := deadline(10 * time.Millisecond)
	session, err := f.JoinSQL(t.Context(), tx)
	if err == nil { // the deadline may end it before it is there
		f.waitUntil(func() bool { _, err := session.ExecContext(t.Context(), "SELECT 1"); return err != nil })
	}
	next := newTransaction()
	_, err = f.JoinSQL(t.Context(), next)
	require.NoError(t, err)
	require.NoError(t, f.Rollback(t.Context(), next.Branch))
}

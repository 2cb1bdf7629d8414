package postgres_test

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/postgres"
)

func TestAFailedStatementRefusesWithItsReason(t *testing.T) {
	f := newFixture(t)
	for name, fail := range map[string]func(s *postgres.Session){
		"first":     func(s *postgres.Session) { _, _ = s.Exec(t.Context(), "INSERT INTO child VALUES (1 / $1::int)", 0) },
		"plain":     func(s *postgres.Session) { _, _ = s.Exec(t.Context(), "SELECT 1 / 0") },
		"query row": func(s *postgres.Session) { _ = s.QueryRow(t.Context(), "SELECT 1 / $1::int", 0).Scan(new(int)) },
		"after one": func(s *postgres.Session) {
			_, _ = s.Exec(t.Context(), "SELECT 1")
			_, _ = s.Exec(t.Context(), "SELECT 1 / 0")
		},
		"before one": func(s *postgres.Session) {
			_, _ = s.Exec(t.Context(), "SELECT 1 / 0")
			_, _ = s.Exec(t.Context(), "SELECT 1")
		},
		"in a batch": func(s *postgres.Session) {
			b := &pgx.Batch{}
			b.Queue("SELECT 1 / 0")
			_ = s.SendBatch(t.Context(), b).Close()
		},
		"later rows": func(s *postgres.Session) {
			rows, _ := s.Query(t.Context(), "SELECT 1 / (3 - n) FROM generate_series(1, 5) AS n")
			rows.Close()
		},
		"in its text": func(s *postgres.Session) { _, _ = s.Query(t.Context(), "SELECT $1::int 1 / 0 division by zero", 1) },
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.join()
			fail(session)
			err := f.reason(tx, participant.VoteRefused)
			require.ErrorContains(t, err, string(tx.XID()))
			if name == "in its text" {
				require.ErrorContains(t, err, "42601")
			} else {
				require.ErrorContains(t, err, "division by zero")
			}
			require.NoError(t, f.Rollback(t.Context(), tx.Branch))
			require.Zero(t, f.inDoubt())
			f.poolIsClean()
		})
	}
}

func TestASavepointSavesTheBranch(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begun()
	for _, statement := range []string{"SAVEPOINT s", "SELECT 1 / 0", "ROLLBACK TO SAVEPOINT s"} {
		_, err := session.Exec(t.Context(), statement)
		require.Equal(t, statement == "SELECT 1 / 0", err != nil, "%v", err)
	}
	f.votes(tx, participant.VotePrepared)
	require.NoError(t, f.Commit(t.Context(), tx.Branch))
	require.Equal(t, 1, f.effects(tx))
}

func TestCommitIsNotTheSessions(t *testing.T) {
	f := newFixture(t)
	for _, statement := range []string{"COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "PREPARE TRANSACTION 'mine'"} {
		t.Run(statement, func(t *testing.T) {
			tx, session := f.begun()
			_, err := session.Exec(t.Context(), statement)
			require.NoError(t, err)
			_, err = session.Exec(t.Context(), "INSERT INTO effect VALUES ('another')")
			require.ErrorContains(t, err, "the coordinator's")
			require.ErrorContains(t, f.reason(tx, participant.VoteRefused), "the coordinator's")
		})
	}
	execute(t, f.url, "ROLLBACK PREPARED 'mine'")
}

func TestOpenRowsKeepTheSession(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begun()
	rows, err := session.Query(t.Context(), "SELECT generate_series(1, 100000)")
	require.NoError(t, err)
	require.True(t, rows.Next())
	_, err = session.Exec(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, postgres.ErrBusy)
	require.ErrorIs(t, f.reason(tx, participant.VoteRefused), postgres.ErrBusy)

	// The rows survive that; only the rollback, which follows, ends them.
	require.True(t, rows.Next())
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	for rows.Next() { //nolint:revive // to the end
	}
	require.ErrorIs(t, rows.Err(), postgres.ErrRolledBack)
	f.poolIsClean()
}

func TestPreparedSessionTakesNoMore(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begun()
	f.votes(tx, participant.VotePrepared)
	_, err := session.Exec(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, postgres.ErrFinished)
	_, err = session.Query(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, postgres.ErrFinished)
	require.NoError(t, f.Commit(t.Context(), tx.Branch))
}

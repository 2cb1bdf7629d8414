package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
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

// What ends the branch's transaction and begins another shows in no answer of the server;
// the branch is refused all the same.
func TestAnotherTransactionIsNotTheBranchs(t *testing.T) {
	f := newFixture(t)
	execute(t, f.url, `CREATE FUNCTION touch() RETURNS void LANGUAGE sql AS 'INSERT INTO effect VALUES (''touched'')'`)
	for name, statements := range map[string][]string{
		"chain":           {"ROLLBACK AND CHAIN"},
		"chain, and work": {"ABORT AND CHAIN", "INSERT INTO effect VALUES ('another')"},
		"in one message":  {"ROLLBACK; BEGIN; INSERT INTO effect VALUES ('another')"},
		"committed":       {"COMMIT; BEGIN"},
		"prepared":        {"PREPARE TRANSACTION 'mine'; BEGIN; INSERT INTO effect VALUES ('another')"},
		"reads only":      {"ROLLBACK; BEGIN READ ONLY; SELECT 1"},
	} {
		t.Run(name, func(t *testing.T) {
			reason := "the coordinator's"
			if name == "reads only" {
				reason = "transaction" // the server looks at that first
			}
			run := func(ctx context.Context, exec func(context.Context, string) error) {
				for _, statement := range statements {
					require.NoError(t, exec(ctx, statement))
				}
			}
			begin := map[string]func() *transaction{
				"pgx": func() *transaction {
					tx, session := f.begun()
					run(t.Context(), func(ctx context.Context, statement string) error {
						_, err := session.Exec(ctx, statement)
						return err
					})
					return tx
				},
				"pgx, by a function": func() *transaction {
					tx, session := f.join()
					run(t.Context(), func(ctx context.Context, statement string) error {
						_, err := session.Exec(ctx, "SELECT touch(); "+statement)
						return err
					})
					return tx
				},
				"database/sql": func() *transaction {
					tx, session := f.begunSQL()
					run(t.Context(), func(ctx context.Context, statement string) error {
						_, err := session.ExecContext(ctx, statement)
						return err
					})
					return tx
				},
			}
			for how, begun := range begin {
				require.ErrorContains(t, f.reason(begun(), participant.VoteRefused), reason, how)
				undoMine(t, f)
				err := f.CommitOnePhase(t.Context(), begun().Branch)
				require.ErrorIs(t, err, participant.ErrRefused, how)
				require.ErrorContains(t, err, reason, how)
				undoMine(t, f)
			}
			require.Zero(t, f.inDoubt())
			f.poolIsClean()
		})
	}
}

// undoMine ends what a branch prepared by itself.
func undoMine(t *testing.T, f *fixture) {
	t.Helper()
	if f.inDoubt() > 0 {
		execute(t, f.url, "ROLLBACK PREPARED 'mine'")
	}
}

// A branch that no connection of the participant's own could finish is not prepared.
func TestABranchOfAnotherRoleIsRefused(t *testing.T) {
	f := newFixture(t)
	execute(t, f.url, `CREATE ROLE clerk; CREATE ROLE office LOGIN; GRANT clerk TO office;
		GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk, office`)
	defer execute(t, f.url, "DROP OWNED BY clerk, office; DROP ROLE clerk, office")
	office := f.start(func(c *pgxpool.Config) { c.ConnConfig.User = "office" })
	tx := newTransaction()
	session, err := office.Join(t.Context(), tx)
	require.NoError(t, err)
	_, err = session.Exec(t.Context(), "SET LOCAL ROLE clerk; INSERT INTO effect VALUES ('clerk')")
	require.NoError(t, err)
	vote, err := office.Prepare(t.Context(), tx.Branch)
	require.Equal(t, participant.VoteRefused, vote)
	require.ErrorContains(t, err, `another role than "office"`)
	require.Zero(t, f.inDoubt())

	// A superuser may finish all.
	tx, session = f.begun()
	_, err = session.Exec(t.Context(), "SET LOCAL ROLE clerk")
	require.NoError(t, err)
	f.votes(tx, participant.VotePrepared)
	require.NoError(t, f.Commit(t.Context(), tx.Branch))
	require.Equal(t, 1, f.effects(tx))
}

// A connection that has lost the statement for the witness row would refuse each branch.
func TestAConnectionWithoutItsStatementsIsNotUsedAgain(t *testing.T) {
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	for _, end := range []func(context.Context, participant.Branch) error{
		func(ctx context.Context, b participant.Branch) error { _, err := f.Prepare(ctx, b); return err },
		f.CommitOnePhase,
	} {
		tx, session := f.begun()
		_, err := session.Exec(t.Context(), "DEALLOCATE ALL")
		require.NoError(t, err)
		require.Equal(t, "26000", sqlState(end(t.Context(), tx.Branch)))
		next := f.prepared()
		require.NoError(t, f.Commit(t.Context(), next.Branch))
	}
	f.poolIsClean()
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

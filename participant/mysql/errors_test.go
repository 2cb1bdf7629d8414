package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
)

// The server undoes a statement that fails, and would prepare the rest as if nothing
// had been: the adapter remembers it, wherever it comes from.
func TestFailedStatementDecidesTheVote(t *testing.T) {
	type session = *mysql.Session
	exec := func(statement string, args ...any) func(context.Context, session) error {
		return func(ctx context.Context, s session) error {
			_, err := s.ExecContext(ctx, statement, args...)
			return err
		}
	}
	for name, c := range map[string]struct {
		says string
		fail func(context.Context, session) error
	}{
		"duplicate key":      {"1062", exec("INSERT INTO account VALUES ('ann', 1)")},
		"lock wait":          {"1205", exec("UPDATE account SET balance = 1 WHERE name = 'held'")},
		"syntax":             {"1064", exec("SELEKT 1")},
		"no such table":      {"1146", exec("INSERT INTO nothing VALUES (1)")},
		"with parameters":    {"1062", exec("INSERT INTO account VALUES (?, ?)", "ann", 1)},
		"DDL":                {"1399", exec("CREATE TABLE other (n INT)")},
		"commit":             {"1399", exec("COMMIT")},
		"begin":              {"1399", exec("BEGIN")},
		"parameter's type":   {"unsupported type", exec("INSERT INTO account VALUES (?, ?)", "x", struct{}{})},
		"too few parameters": {"argument", exec("INSERT INTO account VALUES (?, ?)", "x")},
		"prepared statement": {"1062", func(ctx context.Context, s session) error {
			statement, err := s.PrepareContext(ctx, "INSERT INTO account VALUES (?, ?)")
			if err == nil {
				_, err = statement.ExecContext(ctx, "ann", 1)
			}
			return err
		}},
		"too few parameters, prepared": {"argument count", func(ctx context.Context, s session) error {
			statement, err := s.PrepareContext(ctx, "INSERT INTO account VALUES (?, ?)")
			if err == nil {
				_, err = statement.ExecContext(ctx, "x")
			}
			return err
		}},
		"one row": {"1205", func(ctx context.Context, s session) error {
			var name string
			return s.QueryRowContext(ctx, "SELECT name FROM account WHERE name = 'held' FOR UPDATE").Scan(&name)
		}},
		"among the rows": {"1205", func(ctx context.Context, s session) error {
			rows, err := s.QueryContext(ctx, "SELECT name FROM account WHERE name IN ('ann', 'held') ORDER BY name FOR UPDATE")
			if err != nil {
				return err
			}
			defer rows.Close()
			for rows.Next() {
				continue
			}
			return rows.Err()
		}},
		"its time is over": {"context canceled", func(ctx context.Context, s session) error {
			ctx, cancel := context.WithCancel(ctx)
			cancel()
			_, err := s.ExecContext(ctx, "SELECT 1")
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDatabase(t)
			p := d.open(t, func(c *mysql.Config) { c.DSN += "?innodb_lock_wait_timeout=0"; c.MaxSessions = 1 })
			d.exec(t, "INSERT INTO account VALUES ('held', 0)")
			holder, err := d.admin.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			defer func() { _ = holder.Rollback() }()
			_, err = holder.ExecContext(t.Context(), "UPDATE account SET balance = 2 WHERE name = 'held'")
			require.NoError(t, err)

			for _, ask := range []func(context.Context, participant.Branch) error{
				func(ctx context.Context, b participant.Branch) error {
					vote, err := p.Prepare(ctx, b)
					require.Equal(t, participant.VoteRefused, vote)
					return err
				},
				func(ctx context.Context, b participant.Branch) error {
					err := p.CommitOnePhase(ctx, b)
					require.ErrorIs(t, err, participant.ErrRefused)
					return err
				},
			} {
				b, s := begun(t, p)
				failure := c.fail(t.Context(), s)
				require.ErrorContains(t, failure, c.says)
				_, _ = s.ExecContext(t.Context(), "INSERT INTO effect VALUES ('after')")
				err := ask(t.Context(), b)
				require.ErrorContains(t, err, "a statement of the branch failed")
				require.ErrorContains(t, err, c.says)
				d.requireEffects(t, b, 0)
				require.Equal(t, "0", d.text(t, "SELECT COUNT(*) FROM effect"))
				require.Empty(t, d.prepared(t))
			}
			require.NoError(t, p.Rollback(t.Context(), prepared(t, p)))
		})
	}
}

// 1213: the server rolls one of two branches back by itself.
func TestDeadlockRefusesItsVictim(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	update := func(s *mysql.Session, name string) error {
		_, err := s.ExecContext(t.Context(), "UPDATE account SET balance = balance + 1 WHERE name = ?", name)
		return err
	}
	b1, s1 := begun(t, p)
	b2, s2 := begun(t, p)
	require.NoError(t, update(s1, "ann"))
	require.NoError(t, update(s2, "bob"))
	ended := make(chan error, 1)
	go func() { ended <- update(s1, "bob") }()
	errs := map[participant.XID]error{b2.XID(): update(s2, "ann"), b1.XID(): <-ended}
	victims := 0
	for _, b := range []participant.Branch{b1, b2} {
		vote, err := p.Prepare(t.Context(), b)
		if errs[b.XID()] != nil {
			victims++
			require.Equal(t, participant.VoteRefused, vote)
			require.ErrorContains(t, err, "1213")
			continue
		}
		require.NoError(t, err)
		require.Equal(t, participant.VotePrepared, vote)
		require.NoError(t, p.Commit(t.Context(), b))
	}
	require.Equal(t, 1, victims)
}

// 1402: a prepared branch that had changed nothing is rolled back by the server when
// its session ends. Ours has its row; this is somebody's who prepared it by hand.
func TestBranchThatTheServerGaveUp(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	like := prepared(t, p)
	literal := d.literal(t)
	require.NoError(t, p.Rollback(t.Context(), like))
	d.exec(t, "DELETE FROM assent_witness WHERE id = ?", string(like.XID()))
	d.apart(t, "XA START "+literal, "SELECT COUNT(*) FROM account", "XA END "+literal, "XA PREPARE "+literal)

	b := like
	b.Data = nil
	err := p.Commit(t.Context(), b)
	require.ErrorContains(t, err, "1402")
	requireHeuristic(t, err, participant.OutcomeHeuristicRollback)
	require.Empty(t, d.prepared(t))
}

func requireHeuristic(t *testing.T, err error, want participant.Outcome) {
	t.Helper()
	var heuristic *participant.HeuristicError
	require.ErrorAs(t, err, &heuristic)
	require.Equal(t, want, heuristic.Outcome)
}

// 1400: XA START fails where a transaction is open, as with autocommit off.
func TestAutocommitOff(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t, func(c *mysql.Config) { c.DSN += "?autocommit=0" })
	committed, rolledBack := prepared(t, p), prepared(t, p)
	require.NoError(t, p.Commit(t.Context(), committed))
	require.NoError(t, p.Rollback(t.Context(), rolledBack))
	q := d.open(t)
	vote, err := q.Prepare(t.Context(), rolledBack)
	require.ErrorContains(t, err, "rolled back already")
	require.Equal(t, participant.VoteRefused, vote)
	d.requireEffects(t, committed, 1)
}

// A session that lives in another time does not have its row deleted before its time.
func TestSessionThatSetsTheTime(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	b, s := begun(t, p)
	_, err := s.ExecContext(t.Context(), "SET timestamp = 1000000000, time_zone = '+09:00'")
	require.NoError(t, err)
	require.NoError(t, p.CommitOnePhase(t.Context(), b))
	_, err = p.List(t.Context(), b.Domain) // which deletes what has expired
	require.NoError(t, err)
	later, _ := begun(t, p)
	require.NoError(t, p.CommitOnePhase(t.Context(), later)) // nor is it there as the highest of its term
	_, err = p.List(t.Context(), b.Domain)
	require.NoError(t, err)
	require.NoError(t, p.Commit(t.Context(), b))
	in := d.text(t, "SELECT CAST(expires AS SIGNED) - UNIX_TIMESTAMP() FROM assent_witness WHERE id = ?", string(b.XID()))
	seconds, err := strconv.Atoi(in)
	require.NoError(t, err)
	require.InDelta(t, mysql.DefaultMaxRetention.Seconds(), seconds, 600)
}

// What decided a branch by hand shows by its row, or by its absence.
func TestBranchesDecidedByHand(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	byHand := func(verb string) participant.Branch {
		b := prepared(t, p)
		literal := d.literal(t)
		require.NoError(t, d.killSession(t, b))
		d.apart(t, "XA "+verb+" "+literal)
		return b
	}
	b := byHand("COMMIT")
	require.NoError(t, p.Commit(t.Context(), b))
	requireHeuristic(t, p.Rollback(t.Context(), b), participant.OutcomeCommitted)
	d.requireEffects(t, b, 1)

	b = byHand("ROLLBACK")
	require.ErrorIs(t, p.Commit(t.Context(), b), participant.ErrUnknownBranch)
	require.NoError(t, p.Rollback(t.Context(), b))
	requireHeuristic(t, p.Commit(t.Context(), b), participant.OutcomeRolledBack)
	d.requireEffects(t, b, 0)
}

// A connection that is lost before the vote has taken the work along; after it, the
// branch is finished by its XID.
func TestConnectionLost(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t, func(c *mysql.Config) { c.MaxSessions = 1 })
	b, _ := begun(t, p)
	require.NoError(t, d.killSession(t, b))
	vote, err := p.Prepare(t.Context(), b)
	require.Error(t, err)
	require.NotEqual(t, participant.VotePrepared, vote)
	require.NoError(t, p.Rollback(t.Context(), b))
	d.requireEffects(t, b, 0)

	b, _ = begun(t, p)
	require.NoError(t, d.killSession(t, b))
	require.ErrorIs(t, p.CommitOnePhase(t.Context(), b), participant.ErrRefused)
	require.ErrorIs(t, p.CommitOnePhase(t.Context(), b), participant.ErrRefused)
	d.requireEffects(t, b, 0)

	b = prepared(t, p)
	require.NoError(t, d.killSession(t, b))
	require.NoError(t, p.Commit(t.Context(), b))
	d.requireEffects(t, b, 1)

	b = prepared(t, p)
	require.NoError(t, d.killSession(t, b))
	require.NoError(t, p.Rollback(t.Context(), b))
	d.requireEffects(t, b, 0)
	require.Empty(t, d.prepared(t))
}

// 1398, and worse: what is no XID gets into no statement.
func TestInvalidBranches(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	good := prepared(t, p)
	for _, change := range []func(*participant.Branch){
		func(b *participant.Branch) { b.Domain = "" },
		func(b *participant.Branch) { b.Domain = "x', 0); DROP TABLE account; --" },
		func(b *participant.Branch) { b.Number = participant.MaxBranches },
		func(b *participant.Branch) { b.Tx.Term = 0 },
	} {
		b := good
		change(&b)
		vote, err := p.Prepare(t.Context(), b)
		require.Equal(t, participant.VoteRefused, vote)
		require.ErrorContains(t, err, "xid")
		require.ErrorContains(t, p.Commit(t.Context(), b), "xid")
		require.ErrorContains(t, p.Rollback(t.Context(), b), "xid")
		require.ErrorContains(t, p.CommitOnePhase(t.Context(), b), "xid")
	}
	other := good
	other.Number, other.Data = 1, []byte("not what Join enlisted")
	require.ErrorIs(t, p.Commit(t.Context(), other), participant.ErrConfig)
	require.ErrorIs(t, p.Rollback(t.Context(), other), participant.ErrConfig)
	require.NoError(t, p.Commit(t.Context(), good))
	d.requireEffects(t, good, 1)
}

// apart executes statements on a connection of their own, and waits for its end.
func (d *database) apart(t *testing.T, statements ...string) {
	t.Helper()
	db, err := sql.Open("mysql", d.DSN(d.name))
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	var connection int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&connection))
	for _, statement := range statements {
		_, err := db.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
	require.NoError(t, db.Close())
	d.gone(t, connection)
}

// kill ends the connection of a branch.
func (d *database) kill(t *testing.T, b participant.Branch) error {
	t.Helper()
	_, err := d.admin.ExecContext(t.Context(), fmt.Sprintf("KILL %d", connectionOf(t, b)))
	return err
}

// killSession ends the connection of a branch and waits for its end.
func (d *database) killSession(t *testing.T, b participant.Branch) error {
	t.Helper()
	err := d.kill(t, b)
	d.gone(t, connectionOf(t, b))
	return err
}

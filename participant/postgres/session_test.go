package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/postgres"
)

// Whatever comes first takes BEGIN along, and all of it is in the branch.
func TestEveryStatementIsInTheBranch(t *testing.T) {
	f := newFixture(t)
	const insert = "INSERT INTO effect VALUES ($1)"
	for name, work := range map[string]func(ctx context.Context, s *postgres.Session, tx string) error{
		"exec": func(ctx context.Context, s *postgres.Session, tx string) error {
			tag, err := s.Exec(ctx, insert, tx)
			require.Equal(t, "INSERT 0 1", tag.String())
			return err
		},
		"exec without arguments": func(ctx context.Context, s *postgres.Session, tx string) error {
			tag, err := s.Exec(ctx, "INSERT INTO effect VALUES ('"+tx+"')")
			require.Equal(t, "INSERT 0 1", tag.String())
			return err
		},
		"several statements": func(ctx context.Context, s *postgres.Session, tx string) error {
			_, err := s.Exec(ctx, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; INSERT INTO effect VALUES ('"+tx+"')")
			return err
		},
		"simple protocol": func(ctx context.Context, s *postgres.Session, tx string) error {
			_, err := s.Exec(ctx, insert, pgx.QueryExecModeSimpleProtocol, tx)
			return err
		},
		"named arguments": func(ctx context.Context, s *postgres.Session, tx string) error {
			_, err := s.Exec(ctx, "INSERT INTO effect VALUES (@tx)", pgx.NamedArgs{"tx": tx})
			return err
		},
		"query": func(ctx context.Context, s *postgres.Session, tx string) error {
			rows, _ := s.Query(ctx, insert+" RETURNING tx", tx)
			got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
			require.Equal(t, tx, got)
			return err
		},
		"query with an option": func(ctx context.Context, s *postgres.Session, tx string) error {
			rows, _ := s.Query(ctx, insert+" RETURNING tx", pgx.QueryResultFormats{pgx.TextFormatCode}, tx)
			got, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
			require.Equal(t, tx, got)
			return err
		},
		"query row": func(ctx context.Context, s *postgres.Session, tx string) error {
			var got string
			err := s.QueryRow(ctx, insert+" RETURNING tx", tx).Scan(&got)
			require.Equal(t, tx, got)
			return err
		},
		"copy": func(ctx context.Context, s *postgres.Session, tx string) error {
			n, err := s.CopyFrom(ctx, pgx.Identifier{"effect"}, []string{"tx"}, pgx.CopyFromRows([][]any{{tx}}))
			require.EqualValues(t, 1, n)
			return err
		},
		"batch": func(ctx context.Context, s *postgres.Session, tx string) error {
			b := &pgx.Batch{}
			b.Queue("SELECT $1::int", 7).QueryRow(func(row pgx.Row) error {
				var n int
				err := row.Scan(&n)
				require.Equal(t, 7, n)
				return err
			})
			b.Queue(insert, tx)
			return s.SendBatch(ctx, b).Close()
		},
		"batch, result by result": func(ctx context.Context, s *postgres.Session, tx string) error {
			b := &pgx.Batch{}
			b.Queue(insert, tx)
			b.Queue("SELECT 7")
			results := s.SendBatch(ctx, b)
			tag, err := results.Exec()
			require.NoError(t, err)
			require.Equal(t, "INSERT 0 1", tag.String())
			require.Nil(t, results.Tx())
			rows, err := results.Query()
			require.NoError(t, err)
			_, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
			require.NoError(t, err)
			return results.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Alone, and after another statement; rolled back, and committed.
			for _, first := range []bool{true, false} {
				for _, commit := range []bool{true, false} {
					if !first && name == "several statements" {
						continue // the level is set before any query, or not at all
					}
					tx, session := f.join()
					if !first {
						_, err := session.Exec(t.Context(), "SELECT 1")
						require.NoError(t, err)
					}
					require.NoError(t, work(t.Context(), session, tx.Tx.String()))
					require.Zero(t, f.effects(tx))
					f.votes(tx, participant.VotePrepared)
					require.Zero(t, f.effects(tx))
					if commit {
						require.NoError(t, f.Commit(t.Context(), tx.Branch))
						require.Equal(t, 1, f.effects(tx))
					} else {
						require.NoError(t, f.Rollback(t.Context(), tx.Branch))
						require.Zero(t, f.effects(tx))
					}
				}
			}
		})
	}
	f.poolIsClean()
}

// With every way in which pgx sends statements, also when the pool makes connections as
// new after each use.
func TestEveryModeOfThePool(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			f := newFixture(t, func(c *pgxpool.Config) {
				c.MaxConns, c.ConnConfig.DefaultQueryExecMode = 1, mode
				if mode != pgx.QueryExecModeCacheStatement {
					c.AfterRelease = func(conn *pgx.Conn) bool {
						_, err := conn.Exec(context.Background(), "DISCARD ALL")
						return err == nil
					}
				}
			})
			for range 3 {
				tx := f.prepared()
				require.NoError(t, f.Commit(t.Context(), tx.Branch))
				require.Equal(t, 1, f.effects(tx))
				tx, _ = f.begunSQL()
				f.votes(tx, participant.VotePrepared)
				require.NoError(t, f.Rollback(t.Context(), tx.Branch))
				heuristic(t, participant.OutcomeRolledBack, f.Commit(t.Context(), tx.Branch))
				require.NoError(t, f.Forget(t.Context(), []participant.Branch{tx.Branch}))
				require.NoError(t, f.Check(t.Context()))
				_, err := f.List(t.Context(), tx.Domain)
				require.NoError(t, err)
			}
		})
	}
}

func TestASecondJoinReturnsTheSameSession(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begun()
	again, err := f.Join(t.Context(), tx)
	require.NoError(t, err)
	require.Same(t, session, again)
	require.EqualValues(t, 1, f.pool.Stat().AcquiredConns())

	_, err = f.JoinSQL(t.Context(), tx)
	require.ErrorContains(t, err, "joined already")

	// Another process would be another transaction of the database under the same XID.
	_, err = f.start().Join(t.Context(), tx)
	require.ErrorIs(t, err, errConflict)
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	f.poolIsClean()
}

func TestJoinsThatMeetGetTheSameSession(t *testing.T) {
	f := newFixture(t)
	tx := newTransaction()
	sessions := make(chan *postgres.Session)
	for range 8 {
		go func() {
			session, err := f.Join(t.Context(), tx)
			if err != nil {
				t.Error(err)
			}
			sessions <- session
		}()
	}
	first := <-sessions
	for range 7 {
		require.Same(t, first, <-sessions)
	}
	require.EqualValues(t, 1, f.pool.Stat().AcquiredConns())
}

func TestJoinFailsAsThePoolDoes(t *testing.T) {
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	tx, _ := f.begun()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := newTransaction()
	_, err := f.Join(ctx, other)
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, other.Data)
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	_, err = f.Join(t.Context(), other)
	require.NoError(t, err)
}

// refusing is a transaction that takes no branches.
type refusing struct{ *transaction }

func (refusing) Enlist(context.Context, participant.Participant, []byte) (participant.Branch, error) {
	return participant.Branch{}, errConflict
}

func TestJoinGivesBackWhatEnlistRefuses(t *testing.T) {
	f := newFixture(t)
	_, err := f.Join(t.Context(), refusing{newTransaction()})
	require.ErrorIs(t, err, errConflict)
	_, err = f.JoinSQL(t.Context(), refusing{newTransaction()})
	require.ErrorIs(t, err, errConflict)
	f.poolIsClean()
}

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

func TestRowsAreThoseOfPgx(t *testing.T) {
	f := newFixture(t)
	_, session := f.join()
	rows, err := session.Query(t.Context(), "SELECT n, 'x' FROM generate_series(1, $1) AS n", 3)
	require.NoError(t, err)
	require.Len(t, rows.FieldDescriptions(), 2)
	require.True(t, rows.Next())
	values, err := rows.Values()
	require.NoError(t, err)
	require.Equal(t, []any{int32(1), "x"}, values)
	require.Error(t, rows.Scan(new(int))) // one column too few, which closes them
	require.False(t, rows.Next())
	require.Error(t, rows.Err())

	err = session.QueryRow(t.Context(), "SELECT 1 WHERE false").Scan(new(int))
	require.Equal(t, pgx.ErrNoRows, err) // many compare it so
	tag, err := session.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err)
	require.Equal(t, pgconn.NewCommandTag("SELECT 1"), tag)

	rows, err = session.Query(t.Context(), "SELECT $1::nonsense", 1)
	require.Error(t, err)
	rows.Close()
	require.Equal(t, err, rows.Err())
	require.False(t, rows.Next())
	require.Error(t, rows.Scan())
	_, err = rows.Values()
	require.Error(t, err)
	require.Nil(t, rows.Conn())
	require.Nil(t, rows.FieldDescriptions())
	require.Nil(t, rows.RawValues())
	require.Nil(t, rows.TypeMap())
	require.Empty(t, rows.CommandTag().String())
}

package postgres_test

import (
	"context"
	"testing"

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

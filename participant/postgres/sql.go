package postgres

import (
	"context"
	"database/sql"

	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSession is a branch's transaction for users of database/sql: what a *sql.Tx
// is, without Commit and Rollback, which are the coordinator's to say. Not for
// concurrent use, as that.
//
// Once the transaction is rolled back ExecContext and QueryContext return an
// ErrRolledBack; the Row of QueryRowContext fails with context.Canceled, or as rows
// that are open do, with what their broken connection gives. Such a connection is not
// used again.
type SQLSession struct {
	s    *session
	conn *sql.Conn
	// ctx ends with the session, and so do rows that are open.
	ctx    context.Context
	cancel context.CancelFunc
}

func newSQLSession(s *session, conn *sql.Conn) *SQLSession {
	ctx, cancel := context.WithCancel(context.Background())
	return &SQLSession{s: s, conn: conn, ctx: ctx, cancel: cancel}
}

func (q *SQLSession) start(ctx context.Context) error {
	if _, err := q.conn.ExecContext(ctx, "begin"); err != nil {
		return err
	}
	q.s.begun = true
	return nil
}

// bind returns a context that ends with ctx, or with the session.
func (q *SQLSession) bind(ctx context.Context) context.Context {
	bound, cancel := context.WithCancel(ctx)
	// Nobody tells when rows are closed: the session's end releases both.
	context.AfterFunc(q.ctx, cancel)
	return bound
}

// ExecContext runs a statement.
func (q *SQLSession) ExecContext(ctx context.Context, statement string, args ...any) (sql.Result, error) {
	if err := q.s.take(); err != nil {
		return nil, err
	}
	result, err := q.conn.ExecContext(q.bind(ctx), statement, args...)
	return result, q.s.done(nil, pgconn.CommandTag{}, err)
}

// QueryContext runs a query. Its rows have to be closed before the next statement,
// and before the transaction is committed.
func (q *SQLSession) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := q.s.take(); err != nil {
		return nil, err
	}
	rows, err := q.conn.QueryContext(q.bind(ctx), query, args...)
	return rows, q.s.done(nil, pgconn.CommandTag{}, err)
}

// QueryRowContext runs a query that returns at most one row.
func (q *SQLSession) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if q.s.take() != nil {
		// Nobody but database/sql can make a Row that fails.
		ctx, cancel := context.WithCancel(ctx)
		cancel()
		return q.conn.QueryRowContext(ctx, query, args...)
	}
	row := q.conn.QueryRowContext(q.bind(ctx), query, args...)
	_ = q.s.done(nil, pgconn.CommandTag{}, row.Err())
	return row
}

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
// Once the transaction is rolled back its methods return an ErrRolledBack, the Row of
// QueryRowContext included; what runs, and rows that are open, fail with the error
// that their broken connection gives. That is not used again.
type SQLSession struct {
	s     *session
	conn  *sql.Conn
	lease *sqlLease
	// ctx ends with the session, and so do rows that are open.
	ctx    context.Context
	cancel context.CancelFunc
}

func newSQLSession(s *session, conn *sql.Conn) *SQLSession {
	ctx, cancel := context.WithCancel(context.Background())
	return &SQLSession{s: s, conn: conn, ctx: ctx, cancel: cancel}
}

func (q *SQLSession) start(ctx context.Context) error {
	if _, err := q.conn.ExecContext(ctx, begin+"; "+mark); err != nil {
		return err
	}
	q.s.begun = true
	return nil
}

// bind returns a context that ends with ctx, or with the session. Nobody tells when
// rows are closed: where done is not called, the session's end does its work.
func (q *SQLSession) bind(ctx context.Context) (bound context.Context, done func()) {
	bound, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(q.ctx, cancel)
	return bound, func() { stop(); cancel() }
}

// note releases the session after a statement.
func (q *SQLSession) note(err error) error { return q.s.done(nil, pgconn.CommandTag{}, err) }

// ExecContext runs a statement.
func (q *SQLSession) ExecContext(ctx context.Context, statement string, args ...any) (sql.Result, error) {
	if err := q.s.take(); err != nil {
		return nil, err
	}
	ctx, done := q.bind(ctx)
	defer done()
	result, err := q.conn.ExecContext(ctx, statement, args...)
	return result, q.note(err)
}

// QueryContext runs a query. Its rows have to be closed before the next statement,
// and before the transaction is committed.
func (q *SQLSession) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	if err := q.s.take(); err != nil {
		return nil, err
	}
	ctx, done := q.bind(ctx)
	rows, err := q.conn.QueryContext(ctx, query, args...)
	if err != nil {
		done()
	}
	return rows, q.note(err)
}

// QueryRowContext runs a query that returns at most one row.
func (q *SQLSession) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if err := q.s.take(); err != nil {
		return q.s.p.db.QueryRowContext(failed{ctx, err}, query) //nolint:contextcheck // it is ctx, ended
	}
	ctx, done := q.bind(ctx)
	row := q.conn.QueryRowContext(ctx, query, args...)
	if row.Err() != nil {
		done()
	}
	_ = q.note(row.Err())
	return row
}

// PrepareContext makes a prepared statement, which ends with the session.
func (q *SQLSession) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	if err := q.s.take(); err != nil {
		return nil, err
	}
	ctx, done := q.bind(ctx)
	defer done()
	q.lease.statements = true
	statement, err := q.conn.PrepareContext(ctx, query)
	return statement, q.note(err)
}

// failed is a context that has ended with an error: the way to make a *sql.Row of it.
type failed struct {
	context.Context
	err error
}

func (f failed) Err() error { return f.err }

func (f failed) Done() <-chan struct{} { return ended }

var ended = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

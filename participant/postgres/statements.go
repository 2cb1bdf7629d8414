package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Session is a branch's transaction: what a pgx.Tx is, without Commit and Rollback,
// which are the coordinator's to say. A statement that fails fails the branch,
// unless a savepoint is set and rolled back to. Not for concurrent use, as a pgx.Tx:
// a second statement is refused with ErrBusy until the rows of the first are closed.
//
// Once the transaction is rolled back, by its timeout perhaps, all methods return an
// ErrRolledBack, also the one that runs: its statement is broken off.
type Session struct {
	s    *session
	conn *pgx.Conn
}

func (q *Session) start(context.Context) error { return nil }

// Exec runs a statement.
func (q *Session) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	if err := q.s.take(); err != nil {
		return pgconn.CommandTag{}, err
	}
	tag, err := q.exec(ctx, sql, args)
	return tag, q.s.done(q.conn, tag, err)
}

func (q *Session) exec(ctx context.Context, sql string, args []any) (pgconn.CommandTag, error) {
	switch {
	case q.s.begun:
		return q.conn.Exec(ctx, sql, args...)
	case len(args) == 0:
		// pgx sends it as it is, and so it takes the BEGIN along.
		tag, err := q.conn.Exec(ctx, begin+"; "+mark+"; "+sql)
		q.s.begun = q.conn.PgConn().TxStatus() != 'I'
		return tag, err
	}
	results, err := q.beginWith(ctx, sql, args)
	if err != nil {
		return pgconn.CommandTag{}, err
	}
	if results == nil {
		return q.conn.Exec(ctx, sql, args...)
	}
	tag, err := results.Exec()
	if closed := results.Close(); err == nil {
		err = closed
	}
	return tag, err
}

// Query runs a query. Its rows have to be closed before the next statement, and
// before the transaction is committed.
func (q *Session) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	if err := q.s.take(); err != nil {
		return failedRows{err}, err
	}
	r, err := q.query(ctx, sql, args)
	if err != nil {
		err = q.s.done(q.conn, pgconn.CommandTag{}, err)
		return failedRows{err}, err
	}
	return r, nil
}

func (q *Session) query(ctx context.Context, sql string, args []any) (pgx.Rows, error) {
	var results pgx.BatchResults
	if !q.s.begun {
		var err error
		if results, err = q.beginWith(ctx, sql, args); err != nil {
			return nil, err
		}
	}
	if results == nil {
		r, err := q.conn.Query(ctx, sql, args...)
		return &rows{Rows: r, q: q}, err
	}
	r, err := results.Query()
	if err != nil {
		_ = results.Close() // says the same
		return nil, err
	}
	return &rows{Rows: r, q: q, batch: results}, nil
}

// QueryRow runs a query that returns at most one row.
func (q *Session) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	r, _ := q.Query(ctx, sql, args...) // the row tells
	return row{r}
}

// SendBatch runs a batch of statements. Its results have to be closed before the next
// statement.
func (q *Session) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	if err := q.s.take(); err != nil {
		return failedBatch{err}
	}
	if q.s.begun {
		return &batchResults{BatchResults: q.conn.SendBatch(ctx, &pgx.Batch{QueuedQueries: b.QueuedQueries}), q: q}
	}
	results, err := q.sendBegin(ctx, b.QueuedQueries)
	if err != nil {
		return failedBatch{q.s.done(q.conn, pgconn.CommandTag{}, err)}
	}
	return &batchResults{BatchResults: results, q: q}
}

// CopyFrom copies rows into a table.
func (q *Session) CopyFrom(ctx context.Context, table pgx.Identifier, columns []string, source pgx.CopyFromSource) (int64, error) {
	if err := q.s.take(); err != nil {
		return 0, err
	}
	err := q.begin(ctx)
	var n int64
	if err == nil {
		n, err = q.conn.CopyFrom(ctx, table, columns, source)
	}
	q.s.wrote = q.s.wrote || n > 0
	return n, q.s.done(q.conn, pgconn.CommandTag{}, err)
}

// begin begins the transaction, unless it is begun.
func (q *Session) begin(ctx context.Context) error {
	if q.s.begun {
		return nil
	}
	_, err := q.conn.Exec(ctx, begin+"; "+mark)
	q.s.begun = err == nil
	return err
}

// beginWith begins the transaction in one round trip with its first statement, and
// returns results whose first is the statement's. If the arguments hold an option of
// pgx, which a batch can't take, it begins alone and returns nil.
func (q *Session) beginWith(ctx context.Context, sql string, args []any) (pgx.BatchResults, error) {
	if len(args) > 0 {
		switch args[0].(type) {
		case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID:
			return nil, q.begin(ctx)
		}
	}
	return q.sendBegin(ctx, []*pgx.QueuedQuery{{SQL: sql, Arguments: args}})
}

func (q *Session) sendBegin(ctx context.Context, queries []*pgx.QueuedQuery) (pgx.BatchResults, error) {
	b := &pgx.Batch{}
	b.Queue(begin)
	b.Queue(mark)
	b.QueuedQueries = append(b.QueuedQueries, queries...)
	results := q.conn.SendBatch(ctx, b)
	for range 2 {
		if _, err := results.Exec(); err != nil {
			_ = results.Close() // says the same
			return nil, err
		}
	}
	q.s.begun = true
	return results, nil
}

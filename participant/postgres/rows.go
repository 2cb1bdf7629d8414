package postgres

import (
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// rows give the session free when they end, however they do.
type rows struct {
	pgx.Rows
	q     *Session
	batch pgx.BatchResults // what they are the only result of; nil if of none
	over  bool
	err   error
}

func (r *rows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *rows) Close() {
	r.Rows.Close()
	if r.over {
		return
	}
	r.over = true
	tag, err := r.CommandTag(), r.Rows.Err()
	if r.batch != nil {
		if closed := r.batch.Close(); err == nil {
			err = closed
		}
	}
	r.err = r.q.s.done(r.q.conn, tag, err)
}

func (r *rows) Err() error {
	if r.over {
		return r.err
	}
	return r.Rows.Err()
}

// Scan and Values close the rows when they fail, as those of pgx do.
func (r *rows) Scan(dest ...any) error {
	err := r.Rows.Scan(dest...)
	if err != nil {
		r.Close()
	}
	return err
}

func (r *rows) Values() ([]any, error) {
	values, err := r.Rows.Values()
	if err != nil {
		r.Close()
	}
	return values, err
}

// row is the first of rows, as pgx has it.
type row struct{ pgx.Rows }

func (r row) Scan(dest ...any) error {
	defer r.Close()
	for _, d := range dest {
		if _, ok := d.(*pgtype.DriverBytes); ok {
			return fmt.Errorf("cannot scan into %T from QueryRow", d)
		}
	}
	if !r.Next() {
		if err := r.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.Rows.Scan(dest...); err != nil {
		return err
	}
	r.Close()
	return r.Err()
}

// failedRows are those of a query that was not run.
type failedRows struct{ err error }

func (r failedRows) Close()                                       {}
func (r failedRows) Err() error                                   { return r.err }
func (r failedRows) CommandTag() pgconn.CommandTag                { return pgconn.CommandTag{} }
func (r failedRows) FieldDescriptions() []pgconn.FieldDescription { return nil }
func (r failedRows) Next() bool                                   { return false }
func (r failedRows) Scan(...any) error                            { return r.err }
func (r failedRows) Values() ([]any, error)                       { return nil, r.err }
func (r failedRows) RawValues() [][]byte                          { return nil }
func (r failedRows) Conn() *pgx.Conn                              { return nil }
func (r failedRows) TypeMap() *pgtype.Map                         { return nil }

// batchResults give the session free when they are closed.
type batchResults struct {
	pgx.BatchResults
	q    *Session
	over bool
	err  error
}

func (r *batchResults) Exec() (pgconn.CommandTag, error) {
	tag, err := r.BatchResults.Exec()
	if !r.over {
		r.q.s.note(tag)
	}
	return tag, err
}

func (r *batchResults) Close() error {
	err := r.BatchResults.Close()
	if !r.over {
		r.over = true
		r.err = r.q.s.done(r.q.conn, pgconn.CommandTag{}, err)
	}
	return r.err
}

// Tx returns nil: there is none to commit or roll back here.
func (r *batchResults) Tx() pgx.Tx { return nil }

// failedBatch are the results of a batch that was not sent.
type failedBatch struct{ err error }

func (r failedBatch) Exec() (pgconn.CommandTag, error) { return pgconn.CommandTag{}, r.err }
func (r failedBatch) Query() (pgx.Rows, error)         { return failedRows(r), r.err }
func (r failedBatch) QueryRow() pgx.Row                { return failedRows(r) }
func (r failedBatch) Close() error                     { return r.err }
func (r failedBatch) Tx() pgx.Tx                       { return nil }

package mysql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// gate is what stands between the user's statements and the connection while it
// belongs to a branch. Without it a statement that comes when the branch has just
// ended would be executed, and committed, by itself.
type gate struct {
	// sealed is why no statement is let through any more.
	sealed atomic.Pointer[error]
	// using is the number of calls under way and of rows that are not closed.
	using atomic.Int32
	// failed is the first statement that failed. After some errors the server undoes
	// the statement and keeps the branch: preparing it would lose a part of the work.
	failed atomic.Pointer[error]
}

// seal lets nothing through any more, because of reason. The first reason stays.
func (g *gate) seal(reason error) { g.sealed.CompareAndSwap(nil, &reason) }

// reason returns why the gate is sealed; nil if it is not.
func (g *gate) reason() error {
	if reason := g.sealed.Load(); reason != nil {
		return *reason
	}
	return nil
}

// busy reports whether something of before the seal is still under way.
func (g *gate) busy() bool { return g.using.Load() != 0 }

// pass makes the call if the gate is open.
func (g *gate) pass(call func() error) error {
	// In this order: either the call sees the seal, or whoever set it the call.
	others := g.using.Add(1) - 1
	defer g.using.Add(-1)
	if reason := g.reason(); reason != nil {
		return reason
	}
	if others > 0 { // rows: database/sql makes one call at a time
		return g.note(ErrBusy)
	}
	return g.note(call())
}

// note remembers a failure, and says why if the branch has ended meanwhile.
func (g *gate) note(err error) error {
	if err == nil || errors.Is(err, driver.ErrSkip) || errors.Is(err, io.EOF) {
		return err
	}
	g.failed.CompareAndSwap(nil, &err)
	return g.explain(err)
}

// failure returns the first statement's that failed; nil if none did.
func (g *gate) failure() error {
	if err := g.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// explain adds to an error why the gate is sealed.
func (g *gate) explain(err error) error {
	if reason := g.reason(); reason != nil && err != nil && !errors.Is(err, reason) {
		return fmt.Errorf("%w: %w", reason, err)
	}
	return err
}

// driverRows is what the driver's rows implement.
type driverRows interface {
	driver.Rows
	driver.RowsNextResultSet
	driver.RowsColumnTypeDatabaseTypeName
	driver.RowsColumnTypeNullable
	driver.RowsColumnTypePrecisionScale
	driver.RowsColumnTypeScanType
}

// gatedRows are rows of a branch: a statement may fail, or wait for a lock and give
// up, as late as in the middle of its rows.
type gatedRows struct {
	driverRows
	gate   *gate
	closed bool
}

func newGatedRows(r driver.Rows, g *gate) (driver.Rows, error) {
	known, ok := r.(driverRows)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's rows are %T, which this version of the adapter does not know", r), r.Close())
	}
	g.using.Add(1)
	return &gatedRows{driverRows: known, gate: g}, nil
}

func (r *gatedRows) Next(dest []driver.Value) error { return r.gate.note(r.driverRows.Next(dest)) }

func (r *gatedRows) NextResultSet() error { return r.gate.note(r.driverRows.NextResultSet()) }

func (r *gatedRows) Close() error {
	if !r.closed {
		r.closed = true
		defer r.gate.using.Add(-1)
	}
	return r.gate.note(r.driverRows.Close())
}

// driverStmt is what the driver's prepared statements implement.
type driverStmt interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
	driver.NamedValueChecker
}

// gatedStmt is a prepared statement of a branch.
type gatedStmt struct {
	driverStmt
	gate *gate
}

func newGatedStmt(s driver.Stmt, g *gate) (driver.Stmt, error) {
	known, ok := s.(driverStmt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's statements are %T, which this version of the adapter does not know", s), s.Close())
	}
	return &gatedStmt{driverStmt: known, gate: g}, nil
}

// NumInput leaves it to the driver to count parameters: a wrong number is a failure
// like any other.
func (s *gatedStmt) NumInput() int { return -1 }

func (s *gatedStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (result driver.Result, err error) {
	err = s.gate.pass(func() (err error) {
		result, err = s.driverStmt.ExecContext(ctx, args)
		return err
	})
	return result, err
}

func (s *gatedStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (rows driver.Rows, err error) {
	err = s.gate.pass(func() error {
		r, err := s.driverStmt.QueryContext(ctx, args)
		if err == nil {
			rows, err = newGatedRows(r, s.gate)
		}
		return err
	})
	return rows, err
}

func (s *gatedStmt) CheckNamedValue(v *driver.NamedValue) error {
	return s.gate.pass(func() error { return s.driverStmt.CheckNamedValue(v) })
}

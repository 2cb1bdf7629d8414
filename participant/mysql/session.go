package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tm/assent/participant"
)

// Session is a branch's transaction: what a *sql.Tx is, without Commit and
// Rollback, which are the coordinator's to say. Not for concurrent use, as that.
//
// The first statement that fails decides the vote: the branch will be refused, also
// if the server undid no more than that statement, as it does after a duplicate key
// (1062) or a lock that was waited for too long (1205). Statements that the server
// can't undo, as those on tables of another engine than InnoDB, are undone by
// nobody. What a statement sets for its session, as variables and temporary
// tables, stays when the connection goes on to the next branch; RELEASE_ALL_LOCKS()
// must not be called.
//
// Once the branch is rolled back all calls return an ErrRolledBack, and one that is
// running is broken off; once it was asked for its vote they return ErrFinished.
type Session struct {
	p  *Participant
	tx participant.TxID

	// joined is closed when Join has ended; failed is its error.
	joined chan struct{}
	failed error

	// Set before joined is closed.
	conn   *sql.Conn
	wire   *conn
	origin origin
	branch participant.Branch
	xid    string // as a literal
	timer  *time.Timer

	// ctx ends with the session, and so do rows that are open.
	ctx    context.Context
	cancel context.CancelFunc
	gate   gate

	// turn is held by the one that begins, prepares or ends the branch. It guards
	// state.
	turn  chan struct{}
	state sessionState
}

type sessionState uint8

const (
	joining sessionState = iota
	active
	prepared
	over
)

var (
	// ErrFinished is what the calls of a Session return once its branch was asked
	// for its vote, or the participant is closed.
	ErrFinished = errors.New("the session is over")
	// ErrBusy is what the calls of a Session return while rows of another statement
	// are open. It counts as a statement that failed.
	ErrBusy = errors.New("rows of another statement are not closed")
)

var errTimeOver = fmt.Errorf("%w: its time was over", ErrRolledBack)

// newSession returns a session whose turn is the caller's.
func newSession(p *Participant, tx participant.TxID) *Session {
	s := &Session{p: p, tx: tx, joined: make(chan struct{}), turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// ExecContext runs a statement.
func (s *Session) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	ctx, done := s.bind(ctx)
	defer done()
	result, err := s.conn.ExecContext(ctx, query, args...)
	return result, s.gate.note(err)
}

// QueryContext runs a query. Its rows have to be closed before the next statement,
// and before the transaction is committed.
func (s *Session) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	ctx, done := s.bind(ctx)
	rows, err := s.conn.QueryContext(ctx, query, args...)
	if err != nil {
		done()
	}
	return rows, s.gate.note(err)
}

// QueryRowContext runs a query that returns at most one row.
func (s *Session) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	if reason := s.gate.reason(); reason != nil {
		return s.p.work.QueryRowContext(failed{ctx, reason}, query) //nolint:contextcheck // it is ctx, ended
	}
	ctx, done := s.bind(ctx)
	row := s.conn.QueryRowContext(ctx, query, args...)
	if err := row.Err(); err != nil {
		_ = s.gate.note(err)
		done()
	}
	return row
}

// PrepareContext makes a prepared statement, which ends with the session.
func (s *Session) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	ctx, done := s.bind(ctx)
	defer done()
	statement, err := s.conn.PrepareContext(ctx, query)
	return statement, s.gate.note(err)
}

// bind returns a context that ends with ctx, or with the session. Nobody tells when
// rows are closed: where done is not called, the session's end does its work.
func (s *Session) bind(ctx context.Context) (bound context.Context, done func()) {
	bound, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.ctx, cancel)
	return bound, func() { stop(); cancel() }
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

// raw runs f with the connection, past the gate.
func (s *Session) raw(f func(*conn) error) error {
	return s.conn.Raw(func(any) error { return f(s.wire) })
}

func (s *Session) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Session) release() { <-s.turn }

// undo rolls the branch back on its own connection. An error leaves open whether it
// is, and the connection unfit for use.
func (s *Session) undo(ctx context.Context) error {
	if s.gate.busy() {
		return ErrBusy
	}
	return s.raw(func(c *conn) error {
		if s.state != prepared {
			// XA END fails if the server has ended the work already.
			if err := c.run(ctx, "XA END "+s.xid, "XA ROLLBACK "+s.xid); errno(err) == 0 {
				return err
			}
		}
		return c.run(ctx, "XA ROLLBACK "+s.xid)
	})
}

// rollBack ends the session, and with it the branch unless that is prepared: then clean
// says whether it is rolled back. The caller has the turn.
func (s *Session) rollBack(ctx context.Context) (clean bool, err error) {
	if s.undo(ctx) == nil {
		s.finish()
		return true, nil
	}
	s.p.sever(s.tx)
	s.lose()
	if err := s.p.endSevered(ctx, s.branch, s.origin); err != nil {
		return false, fmt.Errorf("end the session: %w", err)
	}
	return false, nil
}

// lose ends the session with a connection that is in no state to be used again.
func (s *Session) lose() {
	s.wire.poisoned.Store(true)
	s.finish()
}

// finish ends the session and gives its connection back. The caller has the turn.
func (s *Session) finish() {
	s.state = over
	s.p.drop(s)
	if s.timer != nil {
		s.timer.Stop()
	}
	s.gate.seal(ErrFinished)
	s.cancel()
	if s.conn == nil {
		return
	}
	// Close waits for what is still under way, which ends by its context.
	if !s.gate.busy() || !s.p.enter() {
		_ = s.conn.Close()
		return
	}
	go func() {
		defer s.p.tasks.Done()
		_ = s.conn.Close()
	}()
}

// end is finish for the participant's end. What is prepared stays so.
func (s *Session) end(ctx context.Context) {
	s.gate.seal(ErrFinished)
	if err := s.take(ctx); err != nil {
		return
	}
	defer s.release()
	switch s.state {
	case active:
		_, _ = s.rollBack(ctx)
	case prepared:
		s.lose()
	case joining, over:
	}
}

// expire ends a session that was not prepared by the deadline of its transaction:
// the coordinator that rolls it back may not know of the branch any more.
func (s *Session) expire() {
	if !s.p.enter() {
		return
	}
	defer s.p.tasks.Done()
	ctx, cancel := context.WithTimeout(context.Background(), ownTime)
	defer cancel()
	if err := s.take(ctx); err != nil {
		return
	}
	defer s.release()
	if s.state == active {
		s.gate.seal(errTimeOver)
		_, _ = s.rollBack(ctx)
	}
}

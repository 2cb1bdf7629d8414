package postgres

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/assent-tm/assent/participant"
)

// Join enlists the participant in tx and returns the session in which the branch's
// statements run. Its transaction begins with the first of them; the isolation level
// is the connection's own unless that is a SET TRANSACTION. Joining again returns the
// same session.
//
// The session keeps a connection of Config.Pool until the branch is asked for its
// vote or rolled back, or its deadline passes. Errors are those of the pool and of
// Enlist; participant.ErrConfig for a server that refuses to log in, or has no witness
// table; ErrRolledBack if the transaction is rolled back meanwhile.
func (p *Participant) Join(ctx context.Context, tx participant.Enlister) (*Session, error) {
	return joinWith[*Session](ctx, p, tx, func(ctx context.Context, s *session) (lease, handle, error) {
		conn, err := p.cfg.Pool.Acquire(ctx)
		if err != nil {
			return nil, nil, err
		}
		return &poolLease{conn, conn.Conn().PgConn().Conn()}, &Session{s: s, conn: conn.Conn()}, nil
	})
}

// JoinSQL is Join for users of database/sql: it returns a session with its methods.
// The transaction begins at once.
func (p *Participant) JoinSQL(ctx context.Context, tx participant.Enlister) (*SQLSession, error) {
	return joinWith[*SQLSession](ctx, p, tx, func(ctx context.Context, s *session) (lease, handle, error) {
		conn, err := p.db.Conn(ctx)
		if err != nil {
			return nil, nil, err
		}
		q := newSQLSession(s, conn)
		l := &sqlLease{conn: conn, endRows: q.cancel}
		q.lease = l
		err = conn.Raw(func(driver any) error {
			l.wire = driver.(*stdlib.Conn).Conn().PgConn().Conn()
			return nil
		})
		if err != nil {
			l.giveBack(false)
			return nil, nil, err
		}
		return l, q, nil
	})
}

func joinWith[H handle](ctx context.Context, p *Participant, tx participant.Enlister, connect connector) (none H, err error) {
	joined, err := p.join(ctx, tx, connect)
	h, ok := joined.(H)
	if err == nil && !ok {
		err = fmt.Errorf("it is joined already, with a %T", joined)
	}
	if err != nil {
		return none, fmt.Errorf("join transaction %s with participant %q: %w", tx.ID(), p.cfg.Name, err)
	}
	return h, nil
}

// handle is a *Session or a *SQLSession.
type handle interface {
	// start is called once the branch is enlisted.
	start(ctx context.Context) error
}

type connector func(context.Context, *session) (lease, handle, error)

// join returns the handle of the transaction's session, a new one if it has none.
func (p *Participant) join(ctx context.Context, tx participant.Enlister, connect connector) (handle, error) {
	p.mu.Lock()
	if p.closing {
		p.mu.Unlock()
		return nil, errClosed
	}
	s, found := p.sessions[tx.ID()]
	if !found {
		// It is there before the coordinator knows of the branch: a rollback finds it.
		s = &session{p: p, tx: tx.ID(), joined: make(chan struct{}), ending: make(chan struct{}, 1), taken: true}
		p.sessions[s.tx] = s
	}
	p.mu.Unlock()
	if found {
		select {
		case <-s.joined:
			return s.handle, s.failed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	s.failed = s.open(ctx, tx, connect)
	if s.failed != nil {
		p.drop(s)
	}
	close(s.joined)
	s.release()
	return s.handle, s.failed
}

// open gives the session its connection and its branch.
func (s *session) open(ctx context.Context, tx participant.Enlister, connect connector) (err error) {
	over := s.p.waits()
	lease, handle, err := connect(ctx, s)
	over()
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.released, s.over = true, true // there is nothing to give back
		return s.p.explainState(err)
	}
	s.lease = lease
	err = lease.use(ctx, func(conn *pgx.Conn) (err error) {
		s.origin, err = s.p.introduce(ctx, conn)
		return s.p.explainState(err)
	})
	if err == nil {
		s.branch, err = tx.Enlist(ctx, s.p, s.origin.data())
	}
	if err == nil && s.late() {
		// The session that it had, perhaps with this very connection, is undone.
		err = fmt.Errorf("%w: its time is over", ErrRolledBack)
	}
	if err == nil {
		err = handle.start(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.ended
	}
	if err != nil {
		s.ended = err // gives the connection back
		return err
	}
	s.handle = handle
	if !s.branch.Deadline.IsZero() {
		s.timer = time.AfterFunc(time.Until(s.branch.Deadline), s.expire)
	}
	return nil
}

// late reports whether the deadline has passed.
func (s *session) late() bool {
	return !s.branch.Deadline.IsZero() && !time.Now().Before(s.branch.Deadline)
}

// session returns the branch's session, nil if it has none in this process.
func (p *Participant) session(b participant.Branch) *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[b.Tx]
}

// drop lets go of a session that is over, or was never open.
func (p *Participant) drop(s *session) {
	p.mu.Lock()
	if p.sessions[s.tx] == s {
		delete(p.sessions, s.tx)
	}
	p.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
	}
}

// poolLease is a connection of a pgxpool.
type poolLease struct {
	conn *pgxpool.Conn
	wire net.Conn
}

func (l *poolLease) use(_ context.Context, f func(*pgx.Conn) error) error { return f(l.conn.Conn()) }

func (l *poolLease) sees() bool { return true }

func (l *poolLease) private() bool { return true }

func (l *poolLease) cutOff() { _ = l.wire.Close() }

func (l *poolLease) giveBack(cut bool) {
	if cut {
		closeCut(l.conn.Conn())
	}
	l.conn.Release()
}

// closeCut lets pgx know that the connection is cut; there is nobody to tell.
func closeCut(conn *pgx.Conn) { _ = conn.Close(context.Background()) }

// sqlLease is the same as database/sql has it.
type sqlLease struct {
	conn       *sql.Conn
	wire       net.Conn
	endRows    func()
	statements bool // were prepared, and may be in anybody's hands
}

// use has to wait while somebody reads rows, and breaks the connection, which ends
// that, when ctx ends.
func (l *sqlLease) use(ctx context.Context, f func(*pgx.Conn) error) error {
	stop := context.AfterFunc(ctx, l.cutOff)
	defer stop()
	return l.conn.Raw(func(driver any) error {
		stop()
		return f(driver.(*stdlib.Conn).Conn())
	})
}

func (l *sqlLease) sees() bool { return false }

func (l *sqlLease) private() bool { return !l.statements }

func (l *sqlLease) cutOff() { _ = l.wire.Close() }

// giveBack closes rows that are still open first: both Raw and Close wait for them.
func (l *sqlLease) giveBack(cut bool) {
	l.endRows()
	if cut {
		_ = l.conn.Raw(func(driver any) error {
			closeCut(driver.(*stdlib.Conn).Conn())
			return nil
		})
	}
	_ = l.conn.Close()
}

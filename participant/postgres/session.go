package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/assent-tm/assent/participant"
)

// session is one branch's database transaction, from Join to the vote. It has a
// connection of the user's pool, which one at a time may use: whoever has taken the
// session. Who ends it, as a rollback does at any time, either takes it or, if
// somebody else has it, breaks the connection and leaves the rest to them.
type session struct {
	p  *Participant
	tx participant.TxID

	// Set when joined is closed. failed is why Join failed.
	joined chan struct{}
	failed error
	handle handle
	lease  lease
	origin origin
	branch participant.Branch
	timer  *time.Timer

	ending chan struct{} // holds a value while somebody ends the session

	mu       sync.Mutex
	taken    bool
	ended    error // what its calls return from now on; nil while it works
	breaking bool  // the connection is being broken, and must not be given back
	cut      bool  // it was
	released bool  // it was given back
	over     bool  // and nothing of the session is left at the server
	lost     bool  // it was lost before the vote, and the server may not know
	verdict  *verdict

	// For whoever has taken it.
	begun bool // the transaction is begun
	wrote bool // it surely has a transaction id
	// reason is the error that the transaction or, if broken, the whole session has
	// failed with.
	reason error
	broken bool
}

// begin and mark begin a branch's transaction. The mark goes with it: a statement that
// ends the transaction and begins another, as ROLLBACK AND CHAIN does, leaves none, and
// so the vote is not given for the other.
const (
	begin = "begin"
	mark  = "set local assent.branch = 'begun'"
)

// lease is a connection of the user's pool in a session's hands.
type lease interface {
	// use runs f with the connection, when nobody else uses it. If ctx ends before
	// that, it breaks the connection.
	use(ctx context.Context, f func(*pgx.Conn) error) error
	// sees reports whether rows that are open keep the session taken.
	sees() bool
	// private reports whether nobody but the session can use the connection.
	private() bool
	// cutOff breaks the connection: whoever waits for the server returns. Safe at any
	// time.
	cutOff()
	// giveBack returns the connection to its pool, which closes it if it is lost, has
	// rows or is in a transaction; one that was cut gives no sign of it.
	giveBack(cut bool)
}

// verdict is what came of the one Prepare or CommitOnePhase of a session.
type verdict struct {
	done chan struct{}
	vote participant.Vote
	err  error
}

// take takes the session for a statement; release follows.
func (s *session) take() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.ended != nil:
		return s.wrap(s.ended)
	case s.taken:
		return s.wrap(ErrBusy)
	case s.broken:
		return s.wrap(fmt.Errorf("the branch failed before: %w", s.reason))
	}
	s.taken = true
	return nil
}

// release gives up what was taken.
func (s *session) release() {
	s.mu.Lock()
	s.taken = false
	s.mu.Unlock()
	s.settle()
}

// settle gives the connection of an ended session back to its pool, once nobody has
// to do with it any more.
func (s *session) settle() {
	s.mu.Lock()
	now := s.ended != nil && !s.taken && !s.breaking && !s.released
	s.released = s.released || now
	cut := s.cut
	s.mu.Unlock()
	if now {
		s.lease.giveBack(cut)
	}
}

// done releases the session after a statement and returns the statement's error,
// or why it was broken off. conn is nil if it can't be looked at.
func (s *session) done(conn *pgx.Conn, tag pgconn.CommandTag, err error) error {
	s.note(tag)
	s.judge(conn, tag, err)
	s.release()
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != nil {
		return s.wrap(fmt.Errorf("%w: %w", s.ended, err))
	}
	return err
}

// note remembers that a statement has surely written: it saves Prepare asking.
func (s *session) note(tag pgconn.CommandTag) {
	if (tag.Insert() || tag.Update() || tag.Delete()) && tag.RowsAffected() > 0 {
		s.wrote = true
	}
}

// judge looks at what a statement has left. A transaction that has failed may yet
// be saved by a savepoint; one that has ended, or never began, can't.
func (s *session) judge(conn *pgx.Conn, tag pgconn.CommandTag, err error) {
	if err != nil && code(err) != transactionFailed {
		s.reason = err
	}
	if conn == nil || s.broken {
		return
	}
	switch {
	case conn.IsClosed():
		s.fail(errors.Join(errLost, err))
	case tag.String() == "COMMIT", s.begun && conn.PgConn().TxStatus() == 'I':
		s.fail(errors.Join(errOwnEnd, err))
	case !s.begun && certain(err): // refused before the transaction was begun with it
		s.fail(err)
	}
}

// fail breaks the session for good. Called by whoever has taken it.
func (s *session) fail(reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken, s.reason = true, reason
}

// condemn closes a connection that lacks the prepared statement for the witness row: a
// branch has said DEALLOCATE ALL, and every later one would be refused.
func (s *session) condemn(ctx context.Context, conn *pgx.Conn, err error) {
	if code(err) == unknownStatement {
		_ = conn.Close(ctx)
	}
}

var (
	errLost   = errors.New("the connection was lost")
	errOwnEnd = errors.New("a statement of the branch ended its transaction: COMMIT and ROLLBACK are the coordinator's to say")
)

// end ends the session unless a Prepare or CommitOnePhase has it; its calls return
// why from now on. When it returns nil the branch's own work is undone and its locks
// are released; after an error the caller calls again.
func (s *session) end(ctx context.Context, why error) error {
	select {
	case s.ending <- struct{}{}:
		defer func() { <-s.ending }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	s.mu.Lock()
	if s.verdict != nil && !s.lost || s.over {
		s.mu.Unlock()
		return nil
	}
	if s.ended == nil {
		s.ended = why
	}
	polite := !s.taken && !s.released && s.lease.sees()
	s.taken = s.taken || polite
	s.breaking = true
	s.mu.Unlock()
	var err error
	done := false
	if polite {
		err = s.lease.use(ctx, func(conn *pgx.Conn) error {
			undo(ctx, conn)
			done = !conn.IsClosed() && conn.PgConn().TxStatus() == 'I'
			return nil
		})
	}
	if !done && err == nil {
		err = s.kill(ctx)
	}
	s.mu.Lock()
	s.breaking, s.over = false, err == nil
	s.taken = s.taken && !polite
	s.mu.Unlock()
	s.settle()
	return err
}

// undo rolls the transaction back. If that fails the connection is broken, and its
// end rolls back, once the server has noticed.
func undo(ctx context.Context, conn *pgx.Conn) {
	if !conn.IsClosed() && conn.PgConn().TxStatus() != 'I' {
		_, _ = conn.Exec(ctx, "rollback")
	}
}

// kill ends the session at the server, whatever runs there, and waits for it.
func (s *session) kill(ctx context.Context) error {
	select {
	case <-s.joined:
	default:
		return nil // it has no connection yet; Join gives it back
	}
	s.mu.Lock()
	s.cut = true
	s.mu.Unlock()
	s.lease.cutOff()
	_, err := onOwnPool(ctx, s.p, func(ctx context.Context, conn *pgx.Conn) (struct{}, error) {
		const it = `FROM pg_stat_activity WHERE pid = $1 AND (extract(epoch FROM backend_start) * 1000000)::bigint = $2`
		pid, started := int64(s.origin.pid), s.origin.started
		var gone bool
		err := conn.QueryRow(ctx, `SELECT coalesce(bool_and(pg_terminate_backend(pid, $3)), true) `+it,
			pid, started, terminateTime.Milliseconds()).Scan(&gone)
		if err == nil && !gone { // as it says of one that ended by itself meanwhile, too
			err = conn.QueryRow(ctx, `SELECT count(*) = 0 `+it, pid, started).Scan(&gone)
		}
		if err == nil && !gone {
			err = fmt.Errorf("backend %d did not end within %s", s.origin.pid, terminateTime)
		}
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	return nil
}

// terminateTime is how long a backend may take to end. One that runs a statement
// ends when that looks for interrupts, which is often.
const terminateTime = 5 * time.Second

// expire ends a session that was not prepared by the deadline of its transaction:
// the coordinator rolls that back, but may have told it before Join knew the branch.
func (s *session) expire() {
	if !s.p.enter() {
		return
	}
	defer s.p.tasks.Done()
	ctx, cancel := context.WithTimeout(context.Background(), ownTime)
	defer cancel()
	// A backend that could not be ended ends when its statement does.
	_ = s.end(ctx, ErrRolledBack)
	s.p.drop(s)
}

// decide runs f, once in a session's life, and returns what it returned; others
// that come meanwhile get the same. f is given the connection, and the session is
// over when it returns: its connection is kept if it is prepared, and given back else.
// Of one that was lost before the server may not know, and so end has to see to it yet.
func (s *session) decide(ctx context.Context, f func(context.Context, *pgx.Conn) (participant.Vote, error)) (participant.Vote, error) {
	s.mu.Lock()
	switch v := s.verdict; {
	case v != nil:
		s.mu.Unlock()
		select {
		case <-v.done:
			return v.vote, v.err
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	case s.ended != nil, s.taken:
		defer s.mu.Unlock()
		if s.ended != nil {
			return participant.VoteRefused, s.ended
		}
		return participant.VoteRefused, ErrBusy
	}
	v := &verdict{done: make(chan struct{})}
	s.verdict, s.taken = v, true
	s.mu.Unlock()

	// Without the connection nothing was sent, and its end rolls back.
	v.vote = participant.VoteRefused
	v.err = s.lease.use(ctx, func(conn *pgx.Conn) (err error) {
		v.vote, err = f(ctx, conn)
		return err
	})
	s.mu.Lock()
	s.ended = ErrFinished
	lost := errors.Is(v.err, errLost)
	s.lost = lost
	keeps := v.vote == participant.VotePrepared && s.lease.private()
	s.released = keeps
	s.mu.Unlock()
	if keeps {
		s.p.keep(s.tx, s.lease)
	}
	s.release()
	if !lost {
		s.p.drop(s)
	}
	close(v.done)
	return v.vote, v.err
}

func (s *session) wrap(err error) error {
	return fmt.Errorf("transaction %s at participant %q: %w", s.tx, s.p.cfg.Name, err)
}

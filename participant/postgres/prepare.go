package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/assent-tm/assent/participant"
)

const (
	prepareTag = "PREPARE TRANSACTION"
	commitTag  = "COMMIT"
)

// Prepare inserts the witness row and prepares the transaction, in one round trip,
// and the vote is durable with it. A branch without a transaction id is committed,
// and votes read-only. Anything that failed in the branch, or fails now, refuses, with
// the server's reason.
//
// Without a session, a branch that the server lists as prepared votes so again.
// Any other is refused for good: a tombstone proves that nothing of it can be
// prepared any more.
func (p *Participant) Prepare(ctx context.Context, b participant.Branch) (vote participant.Vote, err error) {
	if err = ctx.Err(); err == nil {
		if s := p.session(b); s != nil {
			vote, err = s.decide(ctx, func(ctx context.Context, conn *pgx.Conn) (participant.Vote, error) {
				return s.prepare(ctx, conn, b)
			})
		} else {
			vote, err = p.prepareAgain(ctx, b)
		}
	}
	return vote, p.explain("prepare", b, err)
}

func (s *session) prepare(ctx context.Context, conn *pgx.Conn, b participant.Branch) (participant.Vote, error) {
	if err := s.sound(ctx, conn); err != nil {
		return participant.VoteRefused, err
	}
	if !s.begun {
		return participant.VoteReadOnly, nil // no statement was ever run
	}
	readOnly, err := s.readOnly(ctx, conn)
	switch {
	case err != nil:
		undo(ctx, conn)
		return participant.VoteRefused, err // nothing was sent that could prepare it
	case readOnly:
		return s.leave(ctx, conn)
	}
	tag, step, err := s.finish(ctx, conn, b, "PREPARE TRANSACTION "+quote(string(b.XID())))
	switch {
	case err == nil && tag == prepareTag:
		return participant.VotePrepared, nil
	case err == nil:
		// The answer to PREPARE TRANSACTION in a transaction that has failed is no
		// error: it is rolled back.
		return participant.VoteRefused, fmt.Errorf("PREPARE TRANSACTION was answered with %s", tag)
	case certain(err):
		undo(ctx, conn)
		s.condemn(ctx, conn, err)
		return participant.VoteRefused, s.p.explainStep(step, err)
	default:
		return 0, err // R4: it may be prepared, or become so
	}
}

// sound returns why the session's transaction can't be finished.
func (s *session) sound(ctx context.Context, conn *pgx.Conn) error {
	switch {
	case s.broken:
		undo(ctx, conn)
		return s.reason
	case conn.IsClosed():
		return errors.Join(errLost, s.reason)
	case conn.PgConn().IsBusy():
		return ErrBusy
	}
	switch conn.PgConn().TxStatus() {
	case 'E':
		undo(ctx, conn)
		return fmt.Errorf("a statement of the branch failed: %w", s.reason)
	case 'I':
		if s.begun {
			return errOwnEnd
		}
	}
	return nil
}

// readOnly reports whether the transaction has changed nothing. It is asked only if
// no statement's answer told.
func (s *session) readOnly(ctx context.Context, conn *pgx.Conn) (readOnly bool, err error) {
	if s.wrote {
		return false, nil
	}
	var marked bool
	err = conn.QueryRow(ctx, s.p.sql.readOnly).Scan(&readOnly, &marked)
	if err == nil && !marked {
		err = errOwnEnd
	}
	return readOnly, err
}

// leave ends a transaction that has changed nothing.
func (s *session) leave(ctx context.Context, conn *pgx.Conn) (participant.Vote, error) {
	tag, err := conn.Exec(ctx, "commit")
	if err == nil && tag.String() != commitTag {
		err = fmt.Errorf("COMMIT was answered with %s", tag)
	}
	if err != nil {
		return participant.VoteRefused, err // what becomes of nothing is certain
	}
	return participant.VoteReadOnly, nil
}

// step is how far finish came.
type step int

const (
	stepWitness step = iota
	stepFinish
)

// finish sends the witness row and the statement that ends the transaction in one
// piece, and so in one round trip: a tombstone fails the first, and what has failed
// makes the server skip the rest.
func (s *session) finish(ctx context.Context, conn *pgx.Conn, b participant.Branch, end string) (tag string, at step, err error) {
	batch := &pgconn.Batch{}
	keep := strconv.FormatFloat(s.p.cfg.MaxRetention.Seconds(), 'f', -1, 64)
	values := [][]byte{[]byte(b.XID()), []byte(keep), []byte(s.p.finisher())}
	if s.p.witnessName != "" {
		batch.ExecPrepared(s.p.witnessName, values, nil, nil)
	} else {
		batch.ExecParams(s.p.sql.witness, values, nil, nil, nil)
	}
	batch.ExecParams(end, nil, nil, nil, nil)
	results, err := conn.PgConn().ExecBatch(ctx, batch).ReadAll()
	if n := len(results); n > 0 {
		tag, at = results[n-1].CommandTag.String(), stepFinish
	}
	return tag, at, err
}

// explainStep says what a failed step of finish means.
func (p *Participant) explainStep(at step, err error) error {
	if at == stepFinish {
		return p.explainPrepare(err)
	}
	switch code(err) {
	case uniqueViolation:
		return fmt.Errorf("%w: it was rolled back before: %w", participant.ErrRefused, err)
	case notNullViolation:
		return p.explainMissing(err)
	case readOnlyTransaction: // the branch has written, so once it could
		return fmt.Errorf("a statement of the branch made the transaction READ ONLY after another had written: %w", err)
	}
	return fmt.Errorf("insert the witness row: %w", p.explainState(err))
}

// prepareAgain answers a Prepare in a process that has no session for the branch: it
// is repeated, late, or comes after the session was lost.
func (p *Participant) prepareAgain(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	found, err := p.look(ctx, b)
	switch {
	case err != nil:
		return 0, err
	case found.prepared:
		return participant.VotePrepared, nil
	case found.state == "":
		if found, err = p.place(ctx, b, rolledBack); err != nil {
			return 0, err
		}
	}
	if found.state == committed {
		return participant.VoteRefused, fmt.Errorf("%w: it is committed already", participant.ErrRefused)
	}
	return participant.VoteRefused, fmt.Errorf("%w: it is rolled back, or its session was lost", participant.ErrRefused)
}

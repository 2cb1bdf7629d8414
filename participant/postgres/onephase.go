package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tm/assent/participant"
)

// CommitOnePhase inserts the witness row and commits the transaction, in one round
// trip; the row proves afterwards which way the branch went. nil is as durable as a
// commit of the database, also if the branch had turned synchronous_commit off.
func (p *Participant) CommitOnePhase(ctx context.Context, b participant.Branch) (err error) {
	if err = ctx.Err(); err == nil {
		if s := p.session(b); s != nil {
			err = p.commitSession(ctx, s, b)
		} else {
			err = p.commitAgain(ctx, b)
		}
	}
	return p.explain("commit in one phase", b, err)
}

func (p *Participant) commitSession(ctx context.Context, s *session, b participant.Branch) error {
	vote, err := s.decide(ctx, func(ctx context.Context, conn *pgx.Conn) (participant.Vote, error) {
		return s.commitOnePhase(ctx, conn, b)
	})
	switch {
	case errors.Is(err, errCommitted):
		return nil
	case vote == participant.VoteReadOnly:
		// It can't write, and so has nothing to commit but the row.
		return p.commitRow(ctx, b)
	case vote == participant.VoteRefused && !errors.Is(err, ErrBusy):
		// Nothing can commit it any more: its session is over, or has lost its
		// connection.
		if ended := s.end(ctx, ErrFinished); ended != nil {
			return errors.Join(ended, err)
		}
		p.drop(s)
		return fmt.Errorf("%w: %w", participant.ErrRefused, err)
	default:
		return err
	}
}

// errCommitted is what commitOnePhase returns for success: there is no such vote.
var errCommitted = errors.New("committed")

// commitOnePhase returns errCommitted, or votes read-only for a transaction that has not
// written and is not allowed to.
func (s *session) commitOnePhase(ctx context.Context, conn *pgx.Conn, b participant.Branch) (participant.Vote, error) {
	if err := s.sound(ctx, conn); err != nil {
		return participant.VoteRefused, err
	}
	if !s.begun {
		return participant.VoteReadOnly, nil
	}
	readOnly, err := s.readOnly(ctx, conn)
	if err != nil {
		undo(ctx, conn)
		return participant.VoteRefused, err
	}
	tag, step, err := s.finish(ctx, conn, b, "commit")
	switch {
	case err == nil && tag == commitTag:
		return 0, errCommitted
	case err == nil:
		return participant.VoteRefused, fmt.Errorf("COMMIT was answered with %s", tag)
	case certain(err):
		undo(ctx, conn)
		s.condemn(ctx, conn, err)
		// One that is not allowed to write may have been allowed before.
		if readOnly && step == stepWitness && code(err) == readOnlyTransaction {
			return participant.VoteReadOnly, nil
		}
		return participant.VoteRefused, s.p.explainStep(step, err)
	default:
		return 0, err
	}
}

// commitRow commits a branch that is nothing but its row.
func (p *Participant) commitRow(ctx context.Context, b participant.Branch) error {
	found, err := p.place(ctx, b, committed)
	if err == nil && found.state != committed {
		err = fmt.Errorf("%w: it was rolled back before", participant.ErrRefused)
	}
	return err
}

// commitAgain answers a CommitOnePhase in a process that has no session for the
// branch. The row says how it went; without one it can still be said: not at all.
func (p *Participant) commitAgain(ctx context.Context, b participant.Branch) error {
	found, err := p.place(ctx, b, rolledBack)
	if err == nil && found.state != committed {
		err = fmt.Errorf("%w: it is rolled back, or its session was lost", participant.ErrRefused)
	}
	return err
}

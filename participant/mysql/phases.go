package mysql

import (
	"context"
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
)

// Prepare writes the witness row into the branch and prepares it. The promise is as
// durable as the server makes it; see Check.
func (p *Participant) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	vote, err := p.prepare(ctx, b)
	return vote, p.explain("prepare", b, err)
}

func (p *Participant) prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	if err := valid(b); err != nil {
		return participant.VoteRefused, err
	}
	s, err := p.hold(ctx, b)
	if err != nil {
		return 0, err
	}
	if s == nil {
		return p.voteElsewhere(ctx, b)
	}
	defer s.release()
	if s.state == prepared {
		return participant.VotePrepared, nil
	}
	return s.prepare(ctx)
}

// prepare ends the branch's work and prepares it. The caller has the turn.
func (s *Session) prepare(ctx context.Context) (participant.Vote, error) {
	switch refusal, err := s.conclude(ctx, "XA PREPARE "+s.xid); {
	case refusal != nil:
		return participant.VoteRefused, refusal
	case err != nil:
		// It may be prepared, and the rollback that follows will see (R4).
		s.lose()
		return 0, err
	}
	s.state = prepared
	return participant.VotePrepared, nil
}

// conclude ends the branch's work and executes the statements that decide about it.
// After a refusal the branch is rolled back and the session over; after an error the
// session is as it was, and what became of the statements is unknown.
func (s *Session) conclude(ctx context.Context, statements ...string) (refusal, err error) {
	s.gate.seal(ErrFinished)
	if s.gate.busy() {
		refusal = ErrBusy
	} else if failure := s.gate.failure(); failure != nil {
		refusal = fmt.Errorf("a statement of the branch failed: %w", failure)
	} else {
		err = s.raw(func(c *conn) error {
			// The row is the last of the branch's work, so that a rollback which comes
			// before can leave its tombstone without waiting for the branch.
			row := s.p.insert("INSERT", string(s.branch.XID()), committed, s.origin.String(), s.p.cfg.MaxRetention)
			return c.run(ctx, append([]string{row, "XA END " + s.xid}, statements...)...)
		})
	}
	switch {
	case refusal != nil:
		// Nothing was sent: this is certain, whatever comes of the rollback.
		_, _ = s.rollBack(ctx)
		return refusal, nil
	case err == nil:
		return nil, nil
	case errno(err) == 0:
		return nil, err
	}
	// The server has refused one of them. Its word that the branch is rolled
	// back makes that certain.
	if undoErr := s.undo(ctx); undoErr != nil {
		return nil, errors.Join(err, undoErr)
	}
	s.finish()
	if errno(err) == errDuplicate {
		return fmt.Errorf("the branch was finished before: %w", err), nil
	}
	return s.p.explainServer(err), nil
}

// Commit commits the branch: on its own connection, if this process still has it.
// Otherwise, or if that connection fails, the branch is committed by its XID, and its
// row proves that it is. Without a row it is ErrUnknownBranch (R7), with a
// tombstone a *HeuristicError of OutcomeRolledBack.
func (p *Participant) Commit(ctx context.Context, b participant.Branch) error {
	return p.explain("commit", b, p.commit(ctx, b))
}

func (p *Participant) commit(ctx context.Context, b participant.Branch) error {
	if err := valid(b); err != nil {
		return err
	}
	s, err := p.hold(ctx, b)
	if err != nil {
		return err
	}
	if s == nil {
		return p.commitElsewhere(ctx, b)
	}
	defer s.release()
	if s.state != prepared {
		return fmt.Errorf("%w: it is begun, and not prepared", participant.ErrUnknownBranch)
	}
	if s.raw(func(c *conn) error { return c.run(ctx, "XA COMMIT "+s.xid) }) == nil {
		s.finish()
		return nil
	}
	s.lose()
	return p.commitElsewhere(ctx, b)
}

// Rollback rolls the branch back and leaves a tombstone, which refuses a late
// Prepare. A statement that is running is broken off. A committed branch is a
// *HeuristicError of OutcomeCommitted.
func (p *Participant) Rollback(ctx context.Context, b participant.Branch) error {
	return p.explain("roll back", b, p.rollback(ctx, b))
}

func (p *Participant) rollback(ctx context.Context, b participant.Branch) error {
	if err := valid(b); err != nil {
		return err
	}
	p.sealFor(b)
	s, err := p.hold(ctx, b)
	if err != nil {
		return err
	}
	if s == nil {
		return p.rollBackElsewhere(ctx, b, false)
	}
	clean, err := s.rollBack(ctx)
	s.release()
	switch {
	case err != nil:
		return err
	case clean:
		return p.onOwn(ctx, s.origin.database, func(o *own) error { return o.end(ctx, b, s.origin) })
	}
	return p.rollBackElsewhere(ctx, b, false)
}

// sealFor lets no more statements of the branch through, before anybody has waited for
// those that run.
func (p *Participant) sealFor(b participant.Branch) {
	p.mu.Lock()
	s := p.sessions[b.Tx]
	p.mu.Unlock()
	if s != nil {
		s.gate.seal(ErrRolledBack)
	}
}

// CommitOnePhase commits the branch without a prepare. Its row, committed or
// tombstone, is the proof of which way it went.
func (p *Participant) CommitOnePhase(ctx context.Context, b participant.Branch) error {
	return p.explain("commit in one phase", b, p.commitOnePhase(ctx, b))
}

func (p *Participant) commitOnePhase(ctx context.Context, b participant.Branch) error {
	if err := valid(b); err != nil {
		return err
	}
	s, err := p.hold(ctx, b)
	if err != nil {
		return err
	}
	if s != nil {
		defer s.release()
		if s.state == prepared {
			return errors.New("it is prepared, and waits for Commit or Rollback")
		}
		refusal, err := s.conclude(ctx, s.onePhase()...)
		switch {
		case refusal != nil:
			// No rollback follows, so this is not said while the session may hold its locks.
			if err := p.endSevered(ctx, b, s.origin); err != nil {
				return errors.Join(fmt.Errorf("end the session: %w", err), refusal)
			}
			return fmt.Errorf("%w: %w", participant.ErrRefused, refusal)
		case err == nil:
			s.finish()
			return nil
		}
		s.lose()
		if ctx.Err() != nil {
			return err
		}
	}
	// It is committed, or its work is lost: the row tells, and a tombstone sees to it
	// that this stays so.
	var committed *participant.HeuristicError
	switch err := p.rollBackElsewhere(ctx, b, s != nil); {
	case err == nil:
		return fmt.Errorf("%w: no session of this process has the branch: it was rolled back, or its work is lost", participant.ErrRefused)
	case errors.As(err, &committed):
		return nil
	default:
		return err
	}
}

// onePhase returns how to commit without anybody's word in between. With a binary log
// MariaDB answers OK to XA COMMIT ONE PHASE, and lists the branch as prepared after a
// crash: recovery does not find its XID in that log.
func (s *Session) onePhase() []string {
	if s.wire.binlog {
		return []string{"XA PREPARE " + s.xid, "XA COMMIT " + s.xid}
	}
	return []string{"XA COMMIT " + s.xid + " ONE PHASE"}
}

// valid guards what is written into statements: nothing but an XID goes on.
func valid(b participant.Branch) error {
	_, err := participant.ParseXID(string(b.XID()))
	return err
}

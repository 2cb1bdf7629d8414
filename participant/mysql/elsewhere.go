package mysql

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	// grace is how long a session that lives may take to finish a prepared branch
	// by itself, before it is ended.
	grace = 20 * time.Millisecond
	// settle is how long is waited after a session has gone before its branch is
	// finished by its XID. The server takes a connection off its list a moment before
	// it gives the branch free; an XA COMMIT that comes in between is answered OK
	// and lost.
	settle = 10 * time.Millisecond
	// endTime bounds the wait for a connection that has given its lock up, and takes
	// no time to end: another one may have its number, if the server was restarted
	// within clockError.
	endTime = 250 * time.Millisecond

	minLook = time.Millisecond
	maxLook = 50 * time.Millisecond
)

// origin returns where the branch was begun: by its Data, or, if a sweep found it and
// so there is none, by its row; the zero value if nobody knows.
func (p *Participant) origin(ctx context.Context, b participant.Branch) (at origin, err error) {
	if len(b.Data) > 0 {
		if at, err = parseOrigin(string(b.Data)); err != nil {
			return at, fmt.Errorf("%w: data: %w", participant.ErrConfig, err)
		}
		return at, nil
	}
	err = p.onOwn(ctx, "", func(o *own) error {
		at, err = o.written(ctx, b)
		return err
	})
	return at, err
}

// detach waits until the session that has begun the branch is gone, and ends it if
// it holds the branch prepared, or, with always, whatever it does: until then the
// server takes the branch's XID from nobody else. It returns false if the session
// lives, but not for this branch: then it is prepared nowhere.
func (p *Participant) detach(ctx context.Context, b participant.Branch, at origin, always bool) (free bool, err error) {
	if at == (origin{}) {
		return true, nil
	}
	began := time.Now()
	for pause := minLook; ; pause = min(2*pause, maxLook) {
		waited := time.Since(began)
		done := false
		err := p.onOwn(ctx, at.database, func(o *own) error {
			if !o.here.sameRun(at) {
				free, done = true, true
				return nil
			}
			l, err := o.life(ctx, at)
			switch {
			case err != nil:
				return err
			case l.holder == 0:
				free = !l.ending || waited > endTime
				return nil
			case !always:
				if listed, err := o.lists(ctx, b); err != nil || !listed {
					done = true
					return err
				}
				if waited < grace {
					return nil
				}
			}
			return o.kill(ctx, l.holder)
		})
		if err != nil || done {
			return free, err
		}
		if free {
			return true, sleep(ctx, settle)
		}
		if err := sleep(ctx, pause); err != nil {
			return false, fmt.Errorf("wait for the end of the branch's session, connection %d: %w", at.connection, err)
		}
	}
}

// sever notes that the session of a transaction's branch may live on at the server: that
// does not see that its client is gone while it waits for a lock, or is stopped itself.
func (p *Participant) sever(tx participant.TxID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.severed[tx] = struct{}{}
}

// endSevered ends the branch's session, if it was severed, whatever that does.
func (p *Participant) endSevered(ctx context.Context, b participant.Branch, at origin) error {
	p.mu.Lock()
	_, severed := p.severed[b.Tx]
	p.mu.Unlock()
	if !severed {
		return nil
	}
	if _, err := p.detach(ctx, b, at, true); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.severed, b.Tx)
	return nil
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// commitElsewhere commits a branch that has no session here. What the server says to
// XA COMMIT is no proof, neither of success nor of the contrary; the row is (R7).
func (p *Participant) commitElsewhere(ctx context.Context, b participant.Branch) error {
	at, err := p.origin(ctx, b)
	if err != nil {
		return err
	}
	free, err := p.detach(ctx, b, at, false)
	if err != nil {
		return err
	}
	return p.onOwn(ctx, at.database, func(o *own) error {
		var alone error
		row := o.settled
		if free {
			_, err := o.exec(ctx, "XA COMMIT "+newXAID(b, bqual(o.here.database, p.cfg.Name)).literal())
			switch errno(err) {
			case errXARolledBack, errXATimeout, errXADeadlock:
				alone = err
			case errXAUnknown:
			default:
				if err != nil {
					return fmt.Errorf("XA COMMIT: %w", err)
				}
				row = o.row // its answer says that it is durable
			}
		}
		switch state, err := row(ctx, b); {
		case errors.Is(err, errInBranch):
			return o.inDoubt(ctx, b, at, err)
		case err != nil:
			return err
		case state == committed:
			return nil
		case state == rolledBack:
			return &participant.HeuristicError{Outcome: participant.OutcomeRolledBack}
		case alone != nil:
			return &participant.HeuristicError{Outcome: participant.OutcomeHeuristicRollback, Err: alone}
		}
		return fmt.Errorf("%w: it is not prepared, and there is no row of it: it was forgotten, or rolled back by hand", participant.ErrUnknownBranch)
	})
}

// rollBackElsewhere rolls a branch back that has no session here, and leaves its
// tombstone. That the tombstone can be written is the proof that the branch is not
// there. With always a session that lives is ended, whatever it does.
func (p *Participant) rollBackElsewhere(ctx context.Context, b participant.Branch, always bool) error {
	at, err := p.origin(ctx, b)
	if err != nil {
		return err
	}
	if err := p.endSevered(ctx, b, at); err != nil {
		return fmt.Errorf("end the session: %w", err)
	}
	free, err := p.detach(ctx, b, at, always)
	if err != nil {
		return err
	}
	return p.onOwn(ctx, at.database, func(o *own) error {
		if free {
			_, err := o.exec(ctx, "XA ROLLBACK "+newXAID(b, bqual(o.here.database, p.cfg.Name)).literal())
			switch errno(err) {
			case errXAUnknown, errXARolledBack, errXATimeout, errXADeadlock:
			default:
				if err != nil {
					return fmt.Errorf("XA ROLLBACK: %w", err)
				}
			}
		}
		return o.end(ctx, b, at)
	})
}

// end leaves the tombstone of a branch that should be gone.
func (o *own) end(ctx context.Context, b participant.Branch, at origin) error {
	switch state, err := o.bury(ctx, b); {
	case errors.Is(err, errInBranch):
		return o.inDoubt(ctx, b, at, err)
	case err != nil:
		return err
	case state == committed:
		return &participant.HeuristicError{Outcome: participant.OutcomeCommitted}
	}
	return nil
}

// voteElsewhere votes for a branch that has no session here: it is prepared, or never
// will be.
func (p *Participant) voteElsewhere(ctx context.Context, b participant.Branch) (vote participant.Vote, err error) {
	at, err := p.origin(ctx, b)
	if err != nil {
		return 0, err
	}
	var reason error
	err = p.onOwn(ctx, at.database, func(o *own) error {
		// In this order: one that is prepared meanwhile is seen by its row.
		listed, err := o.lists(ctx, b)
		if err != nil || listed {
			vote = participant.VotePrepared
			return err
		}
		// The tombstone keeps the refusal certain, should another process have the branch.
		state, err := o.bury(ctx, b)
		if err != nil {
			return err
		}
		vote = participant.VoteRefused
		if reason = fmt.Errorf("the branch is %s already", state); state == "" {
			reason = errors.New("no session of this process has the branch: its work is lost, or was never done")
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return vote, reason
}

// inDoubt says why a branch's row is locked, when it should not be any more.
func (o *own) inDoubt(ctx context.Context, b participant.Branch, at origin, locked error) error {
	listed, err := o.lists(ctx, b)
	if err != nil {
		return err
	}
	if listed {
		return fmt.Errorf("the branch is prepared, and connection %d of the server has not given it up: %w", at.connection, locked)
	}
	if at != (origin{}) && o.here.sameRun(at) {
		l, err := o.life(ctx, at)
		if err != nil {
			return err
		}
		if l.holder != 0 || l.ending {
			return fmt.Errorf("the branch's session, connection %d of the server, is still at work: %w", l.holder, locked)
		}
	}
	return fmt.Errorf("%w: the server has the branch prepared, but does not list it and takes no word on it: this is what remains of an XA COMMIT or "+
		"XA ROLLBACK that met the end of the branch's session. If it stays so, restart the server: then it lists the branch, and it is finished: %w",
		participant.ErrConfig, locked)
}

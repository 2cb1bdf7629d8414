package barrier

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
)

var errVanished = errors.New("the branch's row vanished within one local transaction")

// Prepare runs Reserve and votes prepared, or votes as before if the branch has
// a row. The promise is durable with the local transaction.
func (p *Participant) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	var refusal error
	err := p.call(ctx, b, func(l *local) (err error) {
		_, refusal, err = l.reserve(ctx)
		return err
	})
	switch {
	case errors.Is(err, participant.ErrStaleEpoch):
		return participant.VoteRefused, p.explain("prepare", b, err)
	case err != nil:
		return 0, p.explain("prepare", b, err)
	case refusal != nil:
		return participant.VoteRefused, p.explain("prepare", b, refusal)
	}
	return participant.VotePrepared, nil
}

// Commit runs Confirm, once. A branch without a row is ErrUnknownBranch (R7), a
// rolled-back one a *HeuristicError of OutcomeRolledBack.
func (p *Participant) Commit(ctx context.Context, b participant.Branch) error {
	var answer error
	err := p.call(ctx, b, func(l *local) (err error) {
		answer, err = l.confirm(ctx)
		return err
	})
	// An answer counts only if its local transaction is durable.
	return p.explain("commit", b, cmp.Or(err, answer))
}

// Rollback runs Cancel, once, or leaves a tombstone that refuses a late Prepare
// where nothing was reserved. A committed branch is a *HeuristicError of
// OutcomeCommitted.
func (p *Participant) Rollback(ctx context.Context, b participant.Branch) error {
	var answer error
	err := p.call(ctx, b, func(l *local) (err error) {
		answer, err = l.cancel(ctx)
		return err
	})
	return p.explain("roll back", b, cmp.Or(err, answer))
}

// CommitOnePhase runs Reserve and Confirm in one local transaction. The row it
// leaves, committed or rolled back, is the proof of which way the branch went.
func (p *Participant) CommitOnePhase(ctx context.Context, b participant.Branch) error {
	var answer error
	err := p.call(ctx, b, func(l *local) error {
		s, refusal, err := l.reserve(ctx)
		switch {
		case err != nil:
			return err
		case s == prepared:
			answer, err = l.confirm(ctx)
			return err
		case s == committed:
			answer = nil
		default:
			answer = refusal
		}
		return nil
	})
	return p.explain("commit in one phase", b, cmp.Or(err, answer))
}

// reserve returns what the row says at its end, and why if that is not prepared.
func (l *local) reserve(ctx context.Context) (s state, refusal, err error) {
	inserted, err := l.insert(ctx, prepared)
	if err != nil {
		return "", nil, err
	}
	if inserted {
		return l.reserveOnce(ctx)
	}
	switch s, err = l.find(ctx); {
	case err != nil:
		return "", nil, err
	case s == "":
		return "", nil, errVanished
	case s != prepared:
		refusal = fmt.Errorf("%w: the branch is %s already", participant.ErrRefused, s)
	}
	return s, refusal, l.harden(ctx)
}

// reserveOnce runs Reserve on a row just inserted. The savepoint lets a refusal
// undo what Reserve did and keep the row: a duplicate of this Prepare may arrive
// when Reserve would accept, and one-phase commit must stay refused.
func (l *local) reserveOnce(ctx context.Context) (s state, refusal, err error) {
	if _, err := l.tx.ExecContext(ctx, "SAVEPOINT assent_reserve"); err != nil {
		return "", nil, fmt.Errorf("set a savepoint: %w", err)
	}
	refusal = l.p.cfg.Reserve(ctx, l.tx, l.branch)
	if refusal == nil {
		return prepared, nil, l.still(ctx, "reserve", prepared)
	}
	if !errors.Is(refusal, participant.ErrRefused) {
		return "", nil, &functionError{"reserve", refusal}
	}
	if _, err := l.tx.ExecContext(ctx, "ROLLBACK TO SAVEPOINT assent_reserve"); err != nil {
		return "", nil, fmt.Errorf("undo a refused reserve: %w", err)
	}
	if _, err := l.finish(ctx, rolledBack); err != nil {
		return "", nil, err
	}
	return rolledBack, refusal, nil
}

func (l *local) confirm(ctx context.Context) (answer, err error) {
	switch s, err := l.find(ctx); {
	case err != nil:
		return nil, err
	case s == prepared:
		return nil, l.finishOnce(ctx, committed, "confirm", l.p.cfg.Confirm)
	case s == rolledBack:
		answer = &participant.HeuristicError{Outcome: participant.OutcomeRolledBack}
	case s == "":
		// No row will tell that this transaction was seen.
		err := l.p.remember(ctx, l.tx, l.branch, uuidText(l.branch.Tx), l.now)
		return participant.ErrUnknownBranch, err
	}
	return answer, l.harden(ctx)
}

func (l *local) cancel(ctx context.Context) (answer, err error) {
	s, err := l.find(ctx)
	if err == nil && s == "" {
		var tombstone bool
		if tombstone, err = l.insert(ctx, rolledBack); tombstone {
			return nil, err
		}
		if err == nil {
			s, err = l.find(ctx) // a Prepare was first
		}
	}
	switch {
	case err != nil:
		return nil, err
	case s == prepared:
		return nil, l.finishOnce(ctx, rolledBack, "cancel", l.p.cfg.Cancel)
	case s == committed:
		answer = &participant.HeuristicError{Outcome: participant.OutcomeCommitted}
	case s == "":
		return nil, errVanished
	}
	return answer, l.harden(ctx)
}

// finishOnce makes a row say s that was found prepared and is locked since, and
// runs Confirm or Cancel.
func (l *local) finishOnce(ctx context.Context, s state, what string, f Func) error {
	switch finished, err := l.finish(ctx, s); {
	case err != nil:
		return err
	case !finished:
		return errVanished
	}
	if err := f(ctx, l.tx, l.branch); err != nil {
		return &functionError{what, err}
	}
	return l.still(ctx, what, s)
}

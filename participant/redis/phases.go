package redis

import (
	"context"
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
)

// Prepare stores what the session staged on the server and votes prepared, or votes as
// before for a branch that the server knows. A branch that staged nothing is read-only.
// It refuses what can't be applied, a branch whose session is not in this process, and
// any when the server's memory is used up.
func (p *Participant) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	operations, found := p.sessions.Seal(b.Tx)
	a, err := p.run(ctx, verbPrepare, b, found, operations, keysOf(operations))
	if outOfMemory(err) {
		return participant.VoteRefused, p.explain("prepare", b, fmt.Errorf("%w: the server's memory is used up (maxmemory): %w", participant.ErrRefused, err))
	}
	if err != nil {
		return 0, p.explain("prepare", b, err)
	}
	switch a.what {
	case isPrepared:
		p.sessions.Finish(b.Tx)
		return participant.VotePrepared, nil
	case isEmpty:
		p.sessions.Finish(b.Tx)
		return participant.VoteReadOnly, nil
	case isElsewhere, isForbidden:
		return 0, p.explain("prepare", b, a.err(p))
	case isStale:
		return participant.VoteRefused, p.explain("prepare", b, a.err(p))
	default:
		p.sessions.RollBack(b.Tx)
		return participant.VoteRefused, p.explain("prepare", b, a.err(p))
	}
}

// Commit applies the operations, once. While a key does not let it, the error Is
// ErrKey and ErrConfig, and nothing is applied. A branch that the server does not
// know is ErrUnknownBranch (R7), a rolled-back one a *HeuristicError of
// OutcomeRolledBack.
func (p *Participant) Commit(ctx context.Context, b participant.Branch) error {
	return p.explain("commit", b, p.commit(ctx, b))
}

// errOvertaken makes the coordinator call again.
var errOvertaken = errors.New("the branch was prepared meanwhile")

func (p *Participant) commit(ctx context.Context, b participant.Branch) error {
	// A script has to be told the keys it writes, and only the server knows them.
	flat, err := p.cfg.Client.LRange(ctx, p.keys.staged(b.XID()), 0, -1).Result()
	if err != nil {
		return p.misconfigured(err)
	}
	operations, err := decode(flat)
	if err != nil {
		return fmt.Errorf("%w: %w", participant.ErrUnknownBranch, err)
	}
	a, err := p.run(ctx, verbCommit, b, false, nil, keysOf(operations))
	if err != nil {
		return err
	}
	switch a.what {
	case isCommitted:
		return nil
	case isRolledBack:
		return &participant.HeuristicError{Outcome: participant.OutcomeRolledBack}
	case isUnknown:
		return participant.ErrUnknownBranch
	case isUndeclared:
		return errOvertaken
	default:
		return a.err(p)
	}
}

// Rollback drops the operations and leaves a mark that refuses a late Prepare. A
// committed branch is a *HeuristicError of OutcomeCommitted.
func (p *Participant) Rollback(ctx context.Context, b participant.Branch) error {
	p.sessions.RollBack(b.Tx)
	a, err := p.run(ctx, verbRollback, b, false, nil, nil)
	switch {
	case err != nil:
	case a.what == isCommitted:
		err = &participant.HeuristicError{Outcome: participant.OutcomeCommitted}
	case a.what != isRolledBack:
		err = a.err(p)
	}
	return p.explain("roll back", b, err)
}

// CommitOnePhase checks and applies the operations in one script. What the server
// keeps of the branch then, committed or rolled back, is the proof of which way it
// went.
func (p *Participant) CommitOnePhase(ctx context.Context, b participant.Branch) error {
	operations, found := p.sessions.Seal(b.Tx)
	a, err := p.run(ctx, verbOnePhase, b, found, operations, keysOf(operations))
	switch {
	case outOfMemory(err):
		// Unknown: a call before may have got through.
	case err != nil:
	case a.what == isCommitted:
		p.sessions.Finish(b.Tx)
	case a.what == isUndeclared:
		err = p.commit(ctx, b) // it was prepared, elsewhere perhaps
	default:
		if err = a.err(p); errors.Is(err, participant.ErrRefused) {
			p.sessions.RollBack(b.Tx)
		}
	}
	return p.explain("commit in one phase", b, err)
}

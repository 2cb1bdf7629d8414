package nats

import (
	"context"
	"fmt"

	"github.com/assent-tm/assent/participant"
)

// Prepare stores what the session collected and votes prepared, or votes as before for
// a branch that is prepared. A branch without messages is read-only. It refuses
// messages that the stream would not take, and a branch whose session is not in this
// process.
func (p *Participant) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	messages, found := p.sessions.Seal(b.Tx)
	vote, err := p.prepare(ctx, b, messages, found)
	switch vote {
	case participant.VotePrepared, participant.VoteReadOnly:
		p.sessions.Finish(b.Tx)
	case participant.VoteRefused:
		p.sessions.RollBack(b.Tx)
	}
	return vote, p.explain("prepare", b, err)
}

func (p *Participant) prepare(ctx context.Context, b participant.Branch, messages []message, found bool) (participant.Vote, error) {
	if err := p.note(ctx, b); err != nil {
		return 0, err
	}
	reason, err := p.stageAll(ctx, b, messages, found)
	if err != nil {
		return 0, err
	}
	if reason != nil {
		return p.refuse(ctx, b, reason)
	}
	// After it is staged: a Rollback that came before has left a marker, and one that
	// comes later finds what is staged.
	switch is, err := p.outcome(ctx, b); {
	case err != nil:
		return 0, err
	case is != undecided:
		return participant.VoteRefused, p.late(ctx, b, is)
	case found && len(messages) == 0:
		return participant.VoteReadOnly, nil
	}
	return participant.VotePrepared, nil
}

// stageAll stages the messages, or finds that they are. It returns why the branch has
// to be refused.
func (p *Participant) stageAll(ctx context.Context, b participant.Branch, messages []message, found bool) (reason, err error) {
	switch {
	case len(messages) > 0:
		var data []byte
		if data, reason, err = p.check(ctx, messages); reason != nil || err != nil {
			return reason, err
		}
		return nil, p.stage(ctx, b, data)
	case !found:
		m, err := p.last(ctx, p.cfg.Staging, p.cfg.staged(b))
		if err == nil && m == nil {
			reason = errLost
		}
		return reason, err
	}
	return nil, nil
}

var errLost = fmt.Errorf("%w: what it staged is not in this process", participant.ErrRefused)

// check tells why the stream, as it is now, would not take the messages at commit, and
// returns them encoded.
func (p *Participant) check(ctx context.Context, messages []message) (data []byte, reason, err error) {
	stream, err := p.stream(ctx, p.cfg.Stream)
	if err != nil {
		return nil, nil, err
	}
	if wrong := p.cfg.unfit(stream.Config); len(wrong) > 0 {
		return nil, fmt.Errorf("%w: %w: %s", participant.ErrRefused, participant.ErrConfig, wrong[0]), nil
	}
	if reason := p.fitAll(messages, stream.Config); reason != nil {
		return nil, fmt.Errorf("%w: %w", participant.ErrRefused, reason), nil
	}
	if data, err = encode(messages); err != nil {
		return nil, nil, err
	}
	if limit := int(p.conn.MaxPayload()) - ownBytes; len(data) > limit {
		return nil, fmt.Errorf("%w: %w: %d bytes of messages, %d at most (the server's max_payload)", participant.ErrRefused, ErrLimit, len(data), limit), nil
	}
	return data, nil, nil
}

// refuse rolls the branch back for good, for this reason.
func (p *Participant) refuse(ctx context.Context, b participant.Branch, reason error) (participant.Vote, error) {
	is, first, err := p.decide(ctx, b, rolledBack, nil)
	if err != nil {
		return 0, fmt.Errorf("refuse (%s): %w", reason.Error(), err) // not wrapped: it is not refused yet
	}
	if !first {
		reason = p.late(ctx, b, is)
	}
	return participant.VoteRefused, reason
}

// late clears away what a Prepare staged that came after the end of its branch, and
// says so. What is left List clears away.
func (p *Participant) late(ctx context.Context, b participant.Branch, is outcome) error {
	err := fmt.Errorf("%w: the branch is %s already", participant.ErrRefused, is)
	if left := p.unstage(ctx, b); left != nil {
		return fmt.Errorf("%w; %w", err, left)
	}
	return err
}

// Commit publishes the messages, once. A branch that neither stream knows is
// ErrUnknownBranch (R7), a rolled-back one a *HeuristicError of OutcomeRolledBack.
func (p *Participant) Commit(ctx context.Context, b participant.Branch) error {
	return p.explain("commit", b, p.commit(ctx, b))
}

func (p *Participant) commit(ctx context.Context, b participant.Branch) error {
	m, err := p.last(ctx, p.cfg.Staging, p.cfg.staged(b))
	if err != nil {
		return err
	}
	if m == nil {
		return p.commitUnstaged(ctx, b)
	}
	messages, err := decode(m.Data)
	if err != nil {
		return fmt.Errorf("%w: %w", participant.ErrUnknownBranch, err)
	}
	is, _, err := p.decide(ctx, b, committed, messages)
	if err != nil {
		return err
	}
	// Before the acknowledgement: as long as the messages are staged the marker has to
	// stay, which alone keeps them from being published again.
	if err := p.remove(ctx, m.Sequence); err != nil {
		return err
	}
	return answer(is, committed)
}

// commitUnstaged answers for a branch that has nothing staged: it is finished, or
// never was prepared here.
func (p *Participant) commitUnstaged(ctx context.Context, b participant.Branch) error {
	is, err := p.outcome(ctx, b)
	if err != nil {
		return err
	}
	if is != undecided {
		return answer(is, committed)
	}
	if err := p.samePlace(ctx, b); err != nil {
		return err
	}
	if err := p.note(ctx, b); err != nil {
		return err
	}
	return participant.ErrUnknownBranch
}

// answer returns what is answered to a coordinator that wants the branch to be ended
// one way.
func answer(is, wanted outcome) error {
	switch is {
	case wanted:
		return nil
	case committed:
		return &participant.HeuristicError{Outcome: participant.OutcomeCommitted}
	default:
		return &participant.HeuristicError{Outcome: participant.OutcomeRolledBack}
	}
}

// Rollback leaves a marker, which refuses a late Prepare and a Commit that is still on
// its way, and drops the messages. A committed branch is a *HeuristicError of
// OutcomeCommitted.
func (p *Participant) Rollback(ctx context.Context, b participant.Branch) error {
	p.sessions.RollBack(b.Tx)
	return p.explain("roll back", b, p.rollBack(ctx, b))
}

func (p *Participant) rollBack(ctx context.Context, b participant.Branch) error {
	if err := p.samePlace(ctx, b); err != nil {
		return err
	}
	if err := p.note(ctx, b); err != nil {
		return err
	}
	is, _, err := p.decide(ctx, b, rolledBack, nil)
	if err != nil {
		return err
	}
	// After the marker: a Prepare that stages later sees it.
	if err := p.unstage(ctx, b); err != nil {
		return err
	}
	return answer(is, rolledBack)
}

// CommitOnePhase publishes the messages without staging them. The branch's marker is
// the proof of which way it went.
func (p *Participant) CommitOnePhase(ctx context.Context, b participant.Branch) error {
	messages, found := p.sessions.Seal(b.Tx)
	is, reason, err := p.commitOnePhase(ctx, b, messages, found)
	switch {
	case err != nil:
		return p.explain("commit in one phase", b, err)
	case is == committed:
		p.sessions.Finish(b.Tx)
		return nil
	}
	p.sessions.RollBack(b.Tx)
	return p.explain("commit in one phase", b, reason)
}

// commitOnePhase returns how the branch ended, and why if it was rolled back.
func (p *Participant) commitOnePhase(ctx context.Context, b participant.Branch, messages []message, found bool) (is outcome, reason, err error) {
	if err := p.note(ctx, b); err != nil {
		return undecided, nil, err
	}
	as := committed
	switch {
	case len(messages) > 0:
		_, reason, err = p.check(ctx, messages)
	case !found:
		m, err := p.last(ctx, p.cfg.Staging, p.cfg.staged(b))
		if err != nil {
			return undecided, nil, err
		}
		if m != nil { // it was prepared
			return committed, nil, p.commit(ctx, b)
		}
		reason = errLost
	}
	if err != nil {
		return undecided, nil, err
	}
	if reason != nil {
		as, messages = rolledBack, nil
	}
	is, first, err := p.decide(ctx, b, as, messages)
	if err == nil && !first {
		reason = p.late(ctx, b, is)
	}
	return is, reason, err
}

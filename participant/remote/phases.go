package remote

import (
	"context"
	"errors"
	"fmt"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// callBytes is about what a call takes in a frame beside its data.
const callBytes = 256

// errOtherAnswer says that an instance answered another call than it was asked.
var errOtherAnswer = errors.New("the instance gave an answer that is none to this call")

// newAsked returns a call about a branch, which goes to the instance that it belongs to.
func (p *attached) newAsked(b participant.Branch) (*asked, *assentv1.BranchRef) {
	instance, data := splitInstance(b.Data)
	b.Participant, b.Data = p.name, data
	return &asked{wanted: instance, bytes: callBytes + len(data), call: &assentv1.ParticipantCall{}}, newBranchRef(b)
}

// Name implements participant.Participant.
func (p *attached) Name() string { return p.name }

func (p *attached) attachedTo() *attached { return p }

// Prepare implements participant.Participant.
func (p *attached) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	a, ref := p.newAsked(b)
	a.call.Call = &assentv1.ParticipantCall_Prepare{Prepare: &assentv1.PrepareRequest{Branch: ref}}
	answer, err := p.ask(ctx, a)
	var vote participant.Vote
	if err == nil {
		if of, ok := answer.Answer.(*assentv1.ParticipantAnswer_Prepare); ok {
			vote, err = readPrepareResponse(of.Prepare)
		} else {
			err = notAnswered(answer)
		}
	}
	return vote, p.wrap("prepare", b, err)
}

// Commit implements participant.Participant.
func (p *attached) Commit(ctx context.Context, b participant.Branch) error {
	a, ref := p.newAsked(b)
	a.call.Call = &assentv1.ParticipantCall_Commit{Commit: &assentv1.ParticipantServiceCommitRequest{Branch: ref}}
	answer, err := p.ask(ctx, a)
	if err == nil {
		if of, ok := answer.Answer.(*assentv1.ParticipantAnswer_Commit); ok {
			err = readCommitResponse(of.Commit)
		} else {
			err = notAnswered(answer)
		}
	}
	return p.wrap("commit", b, err)
}

// Rollback implements participant.Participant.
func (p *attached) Rollback(ctx context.Context, b participant.Branch) error {
	a, ref := p.newAsked(b)
	a.call.Call = &assentv1.ParticipantCall_Rollback{Rollback: &assentv1.ParticipantServiceRollbackRequest{Branch: ref}}
	answer, err := p.ask(ctx, a)
	if err == nil {
		if of, ok := answer.Answer.(*assentv1.ParticipantAnswer_Rollback); ok {
			err = readRollbackResponse(of.Rollback)
		} else {
			err = notAnswered(answer)
		}
	}
	return p.wrap("roll back", b, err)
}

// list is participant.Lister's List.
func (p *attached) list(ctx context.Context, domain string) (participant.Listing, error) {
	answer, err := p.ask(ctx, &asked{bytes: callBytes, call: &assentv1.ParticipantCall{
		Call: &assentv1.ParticipantCall_ListPrepared{ListPrepared: &assentv1.ListPreparedRequest{Domain: domain}},
	}})
	var listing participant.Listing
	if err == nil {
		if of, ok := answer.Answer.(*assentv1.ParticipantAnswer_ListPrepared); ok {
			listing, err = readListPreparedResponse(of.ListPrepared, domain)
		} else {
			err = notAnswered(answer)
		}
	}
	if err != nil {
		return participant.Listing{}, fmt.Errorf("list the prepared branches of domain %q at participant %q: %w", domain, p.name, err)
	}
	return listing, nil
}

// explain is participant.Explainer's Explain.
func (p *attached) explain(ctx context.Context) ([]participant.Explanation, error) {
	answer, err := p.ask(ctx, &asked{bytes: callBytes, call: &assentv1.ParticipantCall{
		Call: &assentv1.ParticipantCall_Explain{Explain: &assentv1.ExplainRequest{}},
	}})
	if err == nil && answer.GetExplain() == nil {
		err = notAnswered(answer)
	}
	if err != nil {
		return nil, fmt.Errorf("explain what is prepared at participant %q: %w", p.name, err)
	}
	return readExplainResponse(answer.GetExplain()), nil
}

// forget is participant.Forgetter's Forget. Each instance is told of its own branches.
func (p *attached) forget(ctx context.Context, branches []participant.Branch) error {
	groups := make(map[string]*asked)
	for _, b := range branches {
		of, ref := p.newAsked(b)
		group := groups[of.wanted]
		if group != nil && group.bytes+of.bytes > maxFrameBytes {
			if err := p.forgetGroup(ctx, group); err != nil {
				return err
			}
			group = nil
		}
		if group == nil {
			group = of
			group.call.Call = &assentv1.ParticipantCall_Forget{Forget: &assentv1.ForgetRequest{}}
			groups[of.wanted] = group
		} else {
			group.bytes += of.bytes
		}
		request := group.call.GetForget()
		request.Branches = append(request.Branches, ref)
	}
	for _, group := range groups {
		if err := p.forgetGroup(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

func (p *attached) forgetGroup(ctx context.Context, group *asked) error {
	answer, err := p.ask(ctx, group)
	if err == nil && answer.GetForget() == nil {
		err = notAnswered(answer)
	}
	if err != nil {
		return fmt.Errorf("forget %d branches at participant %q: %w", len(group.call.GetForget().GetBranches()), p.name, err)
	}
	return nil
}

// notAnswered returns the error of an answer that is not the one asked for.
func notAnswered(answer *assentv1.ParticipantAnswer) error {
	if failure := answer.GetFailure(); failure != nil {
		return readFailure(failure)
	}
	return errOtherAnswer
}

func (p *attached) wrap(doing string, b participant.Branch, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s branch %s at participant %q: %w", doing, b.XID(), p.name, err)
}

// facade returns the participant with the optional interfaces that it is to have. Two
// facades of a participant are equal.
func (p *attached) facade() participant.Participant {
	switch {
	case p.lists && p.forgets:
		return attachedBoth{attachedLister{p}}
	case p.lists:
		return attachedLister{p}
	case p.forgets:
		return attachedForgetter{p}
	default:
		return p
	}
}

type attachedLister struct{ *attached }

// List implements participant.Lister.
func (p attachedLister) List(ctx context.Context, domain string) (participant.Listing, error) {
	return p.list(ctx, domain)
}

// Explain implements participant.Explainer.
func (p attachedLister) Explain(ctx context.Context) ([]participant.Explanation, error) {
	return p.explain(ctx)
}

type attachedForgetter struct{ *attached }

// Forget implements participant.Forgetter.
func (p attachedForgetter) Forget(ctx context.Context, branches []participant.Branch) error {
	return p.forget(ctx, branches)
}

type attachedBoth struct{ attachedLister }

// Forget implements participant.Forgetter.
func (p attachedBoth) Forget(ctx context.Context, branches []participant.Branch) error {
	return p.forget(ctx, branches)
}

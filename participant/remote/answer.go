package remote

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// maxListBytes bounds the answer to List: the other side takes messages of 4 MiB, and
// would end the stream on a longer one.
const maxListBytes = 3 << 20

var errExited = errors.New("participant ended the goroutine that called it")

// answer makes the call and returns its answer.
func (a *answerer) answer(r *running) (answer *assentv1.ParticipantAnswer) {
	id := r.call.GetId()
	defer func() {
		if p := recover(); p != nil {
			answer = failed(id, fmt.Errorf("participant panicked: %v", p))
		}
	}()
	if err := a.admit(r); err != nil {
		return failed(id, err)
	}
	answer, err := a.call(r)
	if err != nil {
		return failed(id, err)
	}
	answer.Id = id
	return answer
}

// admit says why the participant may not be told of the call's branch.
func (a *answerer) admit(r *running) error {
	switch name := a.participant.Name(); {
	case !r.one:
		return nil
	case r.branch.Participant != name:
		return fmt.Errorf("%w: this is an instance of participant %q and the call is for %q", participant.ErrConfig, name, clipped(r.branch.Participant))
	default:
		return a.epochs.admit(r.branch) // R9
	}
}

func (a *answerer) call(r *running) (*assentv1.ParticipantAnswer, error) {
	switch of := r.call.GetCall().(type) {
	case *assentv1.ParticipantCall_Prepare:
		response, err := newPrepareResponse(a.participant.Prepare(&r.ctx, r.branch))
		return &assentv1.ParticipantAnswer{Answer: &assentv1.ParticipantAnswer_Prepare{Prepare: response}}, err
	case *assentv1.ParticipantCall_Commit:
		response, err := newCommitResponse(a.participant.Commit(&r.ctx, r.branch))
		return &assentv1.ParticipantAnswer{Answer: &assentv1.ParticipantAnswer_Commit{Commit: response}}, err
	case *assentv1.ParticipantCall_Rollback:
		response, err := newRollbackResponse(a.participant.Rollback(&r.ctx, r.branch))
		return &assentv1.ParticipantAnswer{Answer: &assentv1.ParticipantAnswer_Rollback{Rollback: response}}, err
	case *assentv1.ParticipantCall_ListPrepared:
		response, err := a.list(r, of.ListPrepared.GetDomain())
		return &assentv1.ParticipantAnswer{Answer: &assentv1.ParticipantAnswer_ListPrepared{ListPrepared: response}}, err
	case *assentv1.ParticipantCall_Explain:
		response, err := a.explain(r)
		return &assentv1.ParticipantAnswer{Answer: &assentv1.ParticipantAnswer_Explain{Explain: response}}, err
	case *assentv1.ParticipantCall_Forget:
		err := a.forget(r, of.Forget.GetBranches())
		return &assentv1.ParticipantAnswer{Answer: &assentv1.ParticipantAnswer_Forget{Forget: &assentv1.ForgetResponse{}}}, err
	default:
		return nil, fmt.Errorf("the instance does not know call %d: it is older than the server", r.call.GetId())
	}
}

func (a *answerer) list(r *running, domain string) (*assentv1.ListPreparedResponse, error) {
	if a.participant.Lister == nil {
		return nil, fmt.Errorf("%w: participant %q can't list", participant.ErrConfig, a.participant.Name())
	}
	if err := participant.ValidDomain(domain); err != nil {
		return nil, err
	}
	listing, err := a.participant.Lister.List(&r.ctx, domain)
	if err != nil {
		return nil, err
	}
	response := newListPreparedResponse(listing)
	if bytes := proto.Size(response); bytes > maxListBytes {
		return nil, fmt.Errorf("a list of %d prepared branches has %d bytes, and a stream takes %d", len(listing.Prepared), bytes, maxListBytes)
	}
	return response, nil
}

func (a *answerer) explain(r *running) (*assentv1.ExplainResponse, error) {
	if a.participant.Explainer == nil {
		return nil, errUnsupported
	}
	shown, err := a.participant.Explainer.Explain(&r.ctx)
	if err != nil {
		return nil, err
	}
	response := newExplainResponse(shown)
	if bytes := proto.Size(response); bytes > maxListBytes {
		return nil, fmt.Errorf("what is shown of %d prepared branches has %d bytes, and a stream takes %d", len(shown), bytes, maxListBytes)
	}
	return response, nil
}

func (a *answerer) forget(r *running, refs []*assentv1.BranchRef) error {
	if a.participant.Forgetter == nil {
		return fmt.Errorf("%w: participant %q can't forget", participant.ErrConfig, a.participant.Name())
	}
	branches := make([]participant.Branch, 0, len(refs))
	for _, ref := range refs {
		b, err := readBranchRef(ref)
		if err != nil {
			return fmt.Errorf("a branch to forget: %w", err)
		}
		branches = append(branches, b)
	}
	return a.participant.Forgetter.Forget(&r.ctx, branches)
}

// failed returns what stands for an answer.
func failed(id uint64, err error) *assentv1.ParticipantAnswer {
	return &assentv1.ParticipantAnswer{Id: id, Answer: &assentv1.ParticipantAnswer_Failure{Failure: newFailure(err)}}
}

// answerBytes is about what an answer takes in a frame.
func answerBytes(answer *assentv1.ParticipantAnswer) int {
	switch of := answer.Answer.(type) {
	case *assentv1.ParticipantAnswer_ListPrepared:
		return proto.Size(of.ListPrepared)
	case *assentv1.ParticipantAnswer_Explain:
		return proto.Size(of.Explain)
	}
	return maxReason
}

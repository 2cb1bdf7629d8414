package remote

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// service answers calls with a participant of this process. It is an
// assentv1connect.ParticipantServiceHandler but for the errors, to which writeCodes and
// handler.serveJSON give a status: what is wrong with the call is an invalidError.
type service struct {
	participant *participant.Registered
	epochs      epochs
	turns       turns
	logger      *slog.Logger
}

// invalidError is what is wrong with a call.
type invalidError struct{ error }

// errUnsupported says that the participant lacks an optional interface.
var errUnsupported = fmt.Errorf("the participant lacks this call: %w", errors.ErrUnsupported)

func (s *service) Prepare(ctx context.Context, r *assentv1.PrepareRequest) (*assentv1.PrepareResponse, error) {
	b, err := s.branch(r.GetBranch())
	if err != nil {
		return nil, err
	}
	var vote participant.Vote
	err = s.callAbout(ctx, b, func() (err error) {
		vote, err = s.participant.Prepare(ctx, b)
		return err
	})
	return newPrepareResponse(vote, err)
}

func (s *service) Commit(ctx context.Context, r *assentv1.ParticipantServiceCommitRequest) (*assentv1.ParticipantServiceCommitResponse, error) {
	b, err := s.branch(r.GetBranch())
	if err != nil {
		return nil, err
	}
	return newCommitResponse(s.callAbout(ctx, b, func() error { return s.participant.Commit(ctx, b) }))
}

func (s *service) Rollback(ctx context.Context, r *assentv1.ParticipantServiceRollbackRequest) (*assentv1.ParticipantServiceRollbackResponse, error) {
	b, err := s.branch(r.GetBranch())
	if err != nil {
		return nil, err
	}
	return newRollbackResponse(s.callAbout(ctx, b, func() error { return s.participant.Rollback(ctx, b) }))
}

func (s *service) ListPrepared(ctx context.Context, r *assentv1.ListPreparedRequest) (*assentv1.ListPreparedResponse, error) {
	if s.participant.Lister == nil {
		return nil, errUnsupported
	}
	if err := participant.ValidDomain(r.GetDomain()); err != nil {
		return nil, invalidError{err}
	}
	var listing participant.Listing
	err := s.call("", func() (err error) {
		listing, err = s.participant.Lister.List(ctx, r.GetDomain())
		return err
	})
	if err != nil {
		return nil, err
	}
	return newListPreparedResponse(listing), nil
}

func (s *service) Forget(ctx context.Context, r *assentv1.ForgetRequest) (*assentv1.ForgetResponse, error) {
	if s.participant.Forgetter == nil {
		return nil, errUnsupported
	}
	branches := make([]participant.Branch, 0, len(r.GetBranches()))
	for _, ref := range r.GetBranches() {
		b, err := readBranchRef(ref)
		if err != nil {
			return nil, invalidError{err}
		}
		b.Participant = s.participant.Name()
		branches = append(branches, b)
	}
	if err := s.call("", func() error { return s.participant.Forgetter.Forget(ctx, branches) }); err != nil {
		return nil, err
	}
	return &assentv1.ForgetResponse{}, nil
}

func (s *service) Explain(ctx context.Context, _ *assentv1.ExplainRequest) (*assentv1.ExplainResponse, error) {
	if s.participant.Explainer == nil {
		return nil, errUnsupported
	}
	var shown []participant.Explanation
	err := s.call("", func() (err error) {
		shown, err = s.participant.Explainer.Explain(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return newExplainResponse(shown), nil
}

// branch returns the branch that a call is about, if this participant may be told of it.
func (s *service) branch(ref *assentv1.BranchRef) (participant.Branch, error) {
	b, err := readBranchRef(ref)
	if err != nil {
		return participant.Branch{}, invalidError{err}
	}
	if b.Participant != s.participant.Name() {
		return participant.Branch{}, fmt.Errorf("%w: this is the service of participant %q and the call is for %q: register it under that name, or correct the URL",
			participant.ErrConfig, s.participant.Name(), clipped(b.Participant))
	}
	return b, nil
}

// callAbout makes a call about a branch, when none about the same one is at work (R4).
func (s *service) callAbout(ctx context.Context, b participant.Branch, call func() error) error {
	giveBack, err := s.turns.take(ctx, b)
	if err != nil {
		return err
	}
	defer giveBack()
	if err := s.epochs.admit(b); err != nil { // R9
		return err
	}
	return s.call(b.XID(), call)
}

// call makes a call of the participant. A panic is an error, as the coordinator takes it.
func (s *service) call(xid participant.XID, call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.logger.Error("participant panicked", "participant", s.participant.Name(), "xid", string(xid), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("participant panicked: %v", p)
		}
	}()
	if err = call(); err != nil {
		_ = err.Error() // a nil pointer that became an error panics here
	}
	return err
}

package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant"
)

// Participant is a service in another process. Close gives up the connections that are
// not in use; it is the caller's to do, after the coordinator's Close.
//
// A vote is unknown unless the service gave one (R4), and a decision not acknowledged
// unless it said so (R6). Errors are as [participant.Participant] has them: a state UNKNOWN
// Is participant.ErrUnknownBranch, one of HEURISTIC_… is a *participant.HeuristicError,
// the answer that a newer coordinator was there Is participant.ErrStaleEpoch, and what has to
// be configured otherwise, here or there, Is participant.ErrConfig and says how.
//
// It is a participant.Lister and a participant.Forgetter only where it is configured as one;
// who lists is a participant.Explainer, too. Safe for concurrent use.
type Participant interface {
	participant.Participant
	io.Closer
}

// caller is the coordinator's side of a service, whatever the calls are made of.
type caller struct {
	name    string
	wire    *wire
	service assentv1connect.ParticipantServiceClient
}

// as returns the caller with the optional interfaces that it is configured to have.
func (c *caller) as(lists, forgets bool) Participant {
	switch {
	case lists && forgets:
		return callerBoth{callerLister{c}}
	case lists:
		return callerLister{c}
	case forgets:
		return callerForgetter{c}
	default:
		return c
	}
}

// Name implements participant.Participant.
func (c *caller) Name() string { return c.name }

// Close implements io.Closer.
func (c *caller) Close() error { return c.wire.close() }

// Prepare implements participant.Participant.
func (c *caller) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	ref := c.ref(b)
	r, err := c.service.Prepare(withCallID(ctx, callID(ref, phasePrepare)), &assentv1.PrepareRequest{Branch: ref})
	if err != nil {
		return 0, c.failed("prepare", b, err) // R4
	}
	vote, err := readPrepareResponse(r)
	return vote, c.failed("prepare", b, err)
}

// Commit implements participant.Participant.
func (c *caller) Commit(ctx context.Context, b participant.Branch) error {
	ref := c.ref(b)
	r, err := c.service.Commit(withCallID(ctx, callID(ref, phaseCommit)), &assentv1.ParticipantServiceCommitRequest{Branch: ref})
	if err == nil {
		err = readCommitResponse(r)
	}
	return c.failed("commit", b, err)
}

// Rollback implements participant.Participant.
func (c *caller) Rollback(ctx context.Context, b participant.Branch) error {
	ref := c.ref(b)
	r, err := c.service.Rollback(withCallID(ctx, callID(ref, phaseRollback)), &assentv1.ParticipantServiceRollbackRequest{Branch: ref})
	if err == nil {
		err = readRollbackResponse(r)
	}
	return c.failed("roll back", b, err)
}

// ref returns what the service is told of a branch. Whose it is, who lists it need not say.
func (c *caller) ref(b participant.Branch) *assentv1.BranchRef {
	b.Participant = c.name
	return newBranchRef(b)
}

// failed says what was being done to which branch.
func (c *caller) failed(doing string, b participant.Branch, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s branch %s at participant %q: %w", doing, b.XID(), c.name, readCode(err))
}

// list is participant.Lister's List.
func (c *caller) list(ctx context.Context, domain string) (participant.Listing, error) {
	r, err := c.service.ListPrepared(withCallID(ctx, onceID(domain, phasePrepared)), &assentv1.ListPreparedRequest{Domain: domain})
	var listing participant.Listing
	if err == nil {
		listing, err = readListPreparedResponse(r, domain)
	}
	if err != nil {
		return participant.Listing{}, fmt.Errorf("list domain %q of participant %q: %w", domain, c.name, readCode(err))
	}
	return listing, nil
}

// explain is participant.Explainer's Explain. A service need not have the call: the error
// then Is errors.ErrUnsupported.
func (c *caller) explain(ctx context.Context) ([]participant.Explanation, error) {
	r, err := c.service.Explain(withCallID(ctx, onceID(c.name, phaseExplain)), &assentv1.ExplainRequest{})
	if err == nil {
		return readExplainResponse(r), nil
	}
	if lacksCall(err) {
		err = errors.ErrUnsupported
	}
	return nil, fmt.Errorf("explain what is prepared at participant %q: %w", c.name, readCode(err))
}

// forget is participant.Forgetter's Forget. It makes a call for every maxForget branches,
// and makes them all, whatever becomes of one.
func (c *caller) forget(ctx context.Context, branches []participant.Branch) error {
	var errs []error
	for len(branches) > 0 && ctx.Err() == nil {
		n := min(len(branches), maxForget)
		r := &assentv1.ForgetRequest{Branches: make([]*assentv1.BranchRef, 0, n)}
		for _, b := range branches[:n] {
			r.Branches = append(r.Branches, newBranchName(b))
		}
		if _, err := c.service.Forget(withCallID(ctx, onceID(branches[0].Domain, phaseForget)), r); err != nil {
			errs = append(errs, readCode(err))
		}
		branches = branches[n:]
	}
	if err := errors.Join(append(errs, ctx.Err())...); err != nil {
		return fmt.Errorf("forget branches at participant %q: %w", c.name, err)
	}
	return nil
}

// onceID names a call that is not repeated.
func onceID(domain, phase string) string { return domain + "_" + rand.Text() + "-" + phase }

// callerLister is a caller whose service lists.
type callerLister struct{ *caller }

// List implements participant.Lister.
func (c callerLister) List(ctx context.Context, domain string) (participant.Listing, error) {
	return c.list(ctx, domain)
}

// Explain implements participant.Explainer.
func (c callerLister) Explain(ctx context.Context) ([]participant.Explanation, error) {
	return c.explain(ctx)
}

// callerForgetter is a caller whose service forgets.
type callerForgetter struct{ *caller }

// Forget implements participant.Forgetter.
func (c callerForgetter) Forget(ctx context.Context, branches []participant.Branch) error {
	return c.forget(ctx, branches)
}

// callerBoth is a caller whose service does both.
type callerBoth struct{ callerLister }

// Forget implements participant.Forgetter.
func (c callerBoth) Forget(ctx context.Context, branches []participant.Branch) error {
	return c.forget(ctx, branches)
}

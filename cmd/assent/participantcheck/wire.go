package participantcheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/assent-tm/assent/cmd/assent/output"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/remote"
)

// The phases that change a branch.
const (
	prepare  = "prepare"
	commit   = "commit"
	rollback = "rollback"
)

// call is one over HTTP that may be unlike a coordinator's. It is what openapi.yaml in
// participant/remote describes, written a second time: the service is held to the page, not
// to this program's other half.
type call struct {
	at    string // the end of the path
	phase string // in the body and the id
	xid   participant.XID
	body  map[string]any
	sent  time.Time
}

func newCall(phase string, b participant.Branch) *call {
	body := map[string]any{
		"protocol": 1, "phase": phase, "domain": b.Domain, "transaction_id": b.Tx.String(), "branch": b.Number, "xid": string(b.XID()),
		"epoch": b.Epoch, "participant": b.Participant, "deadline": b.Deadline.UTC().Format(time.RFC3339Nano),
	}
	if len(b.Data) > 0 {
		body["payload"] = string(b.Data)
	}
	return &call{at: phase, phase: phase, xid: b.XID(), body: body, sent: time.Now()}
}

// encoded returns the body with these fields, too.
func (c *call) encoded(more map[string]any) ([]byte, error) {
	body := maps.Clone(c.body)
	maps.Copy(body, more)
	return json.Marshal(body)
}

// signed returns the headers of this body, none if there is no secret.
func (c *call) signed(by *remote.Raw, body []byte) http.Header {
	header := http.Header{}
	by.Sign(header, strings.ReplaceAll(string(c.xid), ":", "_")+"-"+c.phase, c.sent, body)
	return header
}

// post signs the call as is due, sends it, and returns the answer.
func (s *site) post(ctx context.Context, c *call, more map[string]any) (answer, error) {
	body, err := c.encoded(more)
	if err != nil {
		return answer{}, err
	}
	header := http.Header{}
	if len(s.Secrets) > 0 {
		header = c.signed(s.raw, body)
	}
	return s.send(ctx, c.at, header, body)
}

func (s *site) send(ctx context.Context, at string, header http.Header, body []byte) (answer, error) {
	status, said, err := s.raw.Post(ctx, at, header, body)
	return answer{status, said}, err
}

// answer is what came back.
type answer struct {
	status int
	body   []byte
}

func (a answer) String() string {
	return fmt.Sprintf("HTTP status %d %s", a.status, output.Clean(string(a.body[:min(len(a.body), maxShown)])))
}

// says reports whether the answer counts and has this value in this field.
func (a answer) says(field, value string) bool {
	var said map[string]any
	return a.status == http.StatusOK && json.Unmarshal(a.body, &said) == nil && said[field] == value
}

// lacking returns what a case returns that is not applicable.
func lacking(what string) error {
	return fmt.Errorf("%w: %s", participanttest.ErrNotApplicable, what)
}

// opened runs a case with the service as a participant, in bounded time.
func opened(run func(ctx context.Context, s *site, p participant.Participant) error) func(context.Context, *site) error {
	return func(ctx context.Context, s *site) error {
		ctx, cancel := context.WithTimeout(ctx, caseTime)
		defer cancel()
		p, err := s.open()
		if err != nil {
			return err
		}
		defer func() { _ = p.Close() }()
		return run(ctx, s, p)
	}
}

// overHTTP is opened for what is asked over HTTP alone.
func overHTTP(run func(ctx context.Context, s *site, p participant.Participant) error) func(context.Context, *site) error {
	return opened(func(ctx context.Context, s *site, p participant.Participant) error {
		if s.raw == nil {
			return lacking("this is asked over HTTP alone")
		}
		return run(ctx, s, p)
	})
}

const (
	attempts = 20
	pause    = 50 * time.Millisecond
)

// finish makes the call until it is acknowledged, though not for ever: a service may be
// unable for a while.
func finish(ctx context.Context, phase string, b participant.Branch, of func(context.Context, participant.Branch) error) (err error) {
	var heuristic *participant.HeuristicError
	for range attempts {
		err = of(ctx, b)
		switch {
		case phase == rollback && rolledBack(err), err == nil:
			return nil
		case errors.As(err, &heuristic), errors.Is(err, participant.ErrUnknownBranch):
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
	return err
}

// prepared returns a new branch that the service voted prepared for.
func (s *site) prepared(ctx context.Context, p participant.Participant) (participant.Branch, error) {
	b := s.begun()
	return b, votesPrepared(ctx, p, b)
}

func votesPrepared(ctx context.Context, p participant.Participant, b participant.Branch) error {
	vote, err := p.Prepare(ctx, b)
	if vote != participant.VotePrepared {
		return fmt.Errorf("prepare %s: vote %s, error %s; want %s (does --data hold what the service prepares?)", b.XID(), vote, said(err), participant.VotePrepared)
	}
	return nil
}

// said is an error's text, for a sentence that is about there being none.
func said(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}

// invisible returns an error if the branch's effects are visible, and ErrUnseen if nobody
// can tell.
func (s *site) invisible(ctx context.Context, b participant.Branch, what string) error {
	seen, err := s.visible(ctx, b)
	if seen {
		err = fmt.Errorf("%s: effects of %s are visible", what, b.XID())
	}
	return err
}

// changesNothing makes a false call of each phase, which returns an error unless it was
// refused, and sees that the branch is what it was before.
func (s *site) changesNothing(ctx context.Context, p participant.Participant, falsely func(phase string, b participant.Branch) error) error {
	unseen := false
	for _, phase := range []string{prepare, commit, rollback} {
		err := s.untouched(ctx, p, phase, falsely)
		if unseen = unseen || errors.Is(err, participanttest.ErrUnseen); err != nil && !errors.Is(err, participanttest.ErrUnseen) {
			return err
		}
	}
	if unseen {
		return participanttest.ErrUnseen
	}
	return nil
}

func (s *site) untouched(ctx context.Context, p participant.Participant, phase string, falsely func(phase string, b participant.Branch) error) (err error) {
	b := s.begun()
	if phase != prepare {
		if b, err = s.prepared(ctx, p); err != nil {
			return err
		}
	}
	// Whatever became of it, nothing stays prepared.
	defer func() { _ = p.Rollback(ctx, b) }()
	if err := falsely(phase, b); err != nil {
		return err
	}
	switch phase {
	case prepare:
		// A service that acknowledges every commit is commit-unknown's to find.
		if acknowledges(ctx, p, b) && !acknowledges(ctx, p, s.begun()) {
			return fmt.Errorf("prepare %s was refused, and its commit is acknowledged: it was prepared all the same", b.XID())
		}
		return s.invisible(ctx, b, "after a prepare that was refused")
	case commit:
		if err := finish(ctx, rollback, b, p.Rollback); err != nil {
			return fmt.Errorf("commit %s was refused, and the rollback that followed says: %w", b.XID(), err)
		}
		return s.invisible(ctx, b, "after a commit that was refused")
	default:
		if err := finish(ctx, commit, b, p.Commit); err != nil {
			return fmt.Errorf("rollback %s was refused, and the commit that followed says: %w", b.XID(), err)
		}
		return nil
	}
}

// acknowledges reports whether the answer to a Commit means that the branch is committed.
func acknowledges(ctx context.Context, p participant.Participant, b participant.Branch) bool {
	err := p.Commit(ctx, b)
	var heuristic *participant.HeuristicError
	return err == nil || errors.As(err, &heuristic) &&
		(heuristic.Outcome == participant.OutcomeCommitted || heuristic.Outcome == participant.OutcomeHeuristicCommit)
}

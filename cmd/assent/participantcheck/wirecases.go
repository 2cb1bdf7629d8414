package participantcheck

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// firstCases are those without which the others would only repeat what is wrong.
var firstCases = []Case{
	{
		"answers", "A call is answered with status 200 and a state that the contract has; rolling back what was never prepared is acknowledged.",
		"compare URL, --name and --secret-file with what the service expects; participant/remote/openapi.yaml has the bodies",
		opened(func(ctx context.Context, s *site, p participant.Participant) error {
			return finish(ctx, rollback, s.branch(), p.Rollback)
		}),
	},
	{
		"in-time", "A call is answered well within a coordinator's timeouts.call: clients wait for the slowest participant, and a vote that comes too late counts as a refusal.",
		"find what the service waits for while it prepares, commits or rolls back: a lock, a disk, a service behind it; --within sets the limit",
		opened(func(ctx context.Context, s *site, p participant.Participant) error {
			for i := range timedBranches {
				if err := s.timed(ctx, p, i%2 == 0); err != nil {
					return err
				}
			}
			return nil
		}),
	},
}

const timedBranches = 4

// timed prepares a branch and finishes it, each in time. A call that hangs ends with the
// time that a coordinator waits.
func (s *site) timed(ctx context.Context, p participant.Participant, commits bool) error {
	b, last := s.begun(), rollback
	measured := func(phase string, call func(ctx context.Context) error) error {
		ctx, cancel := context.WithTimeout(ctx, s.patience)
		defer cancel()
		begun := time.Now()
		err := call(ctx)
		took := time.Since(begun)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s %s has no answer after %s", phase, b.XID(), took.Round(time.Millisecond))
		case err == nil && took > s.Within:
			return fmt.Errorf("%w: %s %s took %s, limit %s", errSlow, phase, b.XID(), took.Round(time.Microsecond), s.Within)
		}
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience)
		defer cancel()
		_ = p.Rollback(ctx, b)
	}()
	if err := measured(prepare, func(ctx context.Context) error { return votesPrepared(ctx, p, b) }); err != nil {
		return err
	}
	finisher := p.Rollback
	if commits {
		last, finisher = commit, p.Commit
	}
	return measured(last, func(ctx context.Context) error { return finish(ctx, last, b, finisher) })
}

const verifyFix = "verify the signature over the bytes of the body as they came, before anything else is looked at; answer 401 and do nothing"

// wireCases are about calls that no coordinator makes.
var wireCases = []Case{
	{"unsigned", "A call without a signature is refused with status 401, and changes nothing.", verifyFix, asImpostor(nil)},
	{
		"bad-signature", "A call that is signed by another secret is refused with status 401, and changes nothing.",
		verifyFix, func(ctx context.Context, s *site) error {
			key := make([]byte, 32)
			_, _ = rand.Read(key) // crypto/rand: it never returns an error
			other, err := remote.ParseSecret("whsec_" + base64.StdEncoding.EncodeToString(key))
			if err != nil {
				return err
			}
			return asImpostor([]remote.Secret{other})(ctx, s)
		},
	},
	{
		"altered-body", "A call whose body is not the one that was signed is refused with status 401, and changes nothing.",
		verifyFix, falseCalls(func(ctx context.Context, s *site, c *call) (answer, error) {
			body, err := c.encoded(nil)
			if err != nil {
				return answer{}, err
			}
			header := c.signed(s.raw, body)
			if body, err = c.encoded(map[string]any{"altered": true}); err != nil {
				return answer{}, err
			}
			return s.send(ctx, c.at, header, body)
		}, http.StatusUnauthorized),
	},
	{
		"old-timestamp", "A call that was signed more than 5 minutes ago is refused with status 401, and changes nothing: somebody overheard it and repeats it.",
		"compare webhook-timestamp with the service's clock, and refuse what is more than 5 minutes off, either way",
		falseCalls(func(ctx context.Context, s *site, c *call) (answer, error) {
			c.sent = c.sent.Add(-10 * time.Minute)
			return s.post(ctx, c, nil)
		}, http.StatusUnauthorized),
	},
	{
		"early-timestamp", "A call that seems to be signed more than 5 minutes from now is refused with status 401, and changes nothing.",
		"compare webhook-timestamp with the service's clock, and refuse what is more than 5 minutes off, either way",
		falseCalls(func(ctx context.Context, s *site, c *call) (answer, error) {
			c.sent = c.sent.Add(10 * time.Minute)
			return s.post(ctx, c, nil)
		}, http.StatusUnauthorized),
	},
	{
		"other-phase", "A call whose body names another phase than its path is no call, and changes nothing: whoever overhears a signed prepare must not commit by it.",
		"compare the body's phase with the end of the path, and answer 400 if they differ",
		falseCalls(func(ctx context.Context, s *site, c *call) (answer, error) {
			other := map[string]string{prepare: rollback, commit: prepare, rollback: commit}[c.phase]
			c.body["phase"], c.phase = other, other
			return s.post(ctx, c, nil)
		}, 0),
	},
	{
		"malformed", "What is no call gets no status 200.",
		"answer 400 to a body that is not JSON or lacks a field",
		overHTTP(malformed),
	},
	{
		"unknown-fields", "Fields that the service does not know are ignored.",
		"read the fields of the contract, and leave others alone: later versions add some",
		overHTTP(unknownFields),
	},
	{
		"unknown-call", "A call that the service does not have is answered with status 404 or 501.",
		"answer 404 to every path but those of the contract",
		overHTTP(func(ctx context.Context, s *site, _ participant.Participant) error {
			c := newCall("no-such-call", s.branch())
			got, err := s.post(ctx, c, nil)
			if err == nil && got.status != http.StatusNotFound && got.status != http.StatusNotImplemented {
				err = fmt.Errorf("POST no-such-call: %s; want 404", got)
			}
			return err
		}),
	},
}

// asImpostor makes all calls signed by secrets that are not the service's.
func asImpostor(secrets []remote.Secret) func(context.Context, *site) error {
	return opened(func(ctx context.Context, s *site, p participant.Participant) error {
		if len(s.Secrets) == 0 {
			return lacking(noSecret)
		}
		if !s.GRPC {
			return s.impostorOverHTTP(ctx, p, secrets)
		}
		impostor, err := s.openAs(secrets)
		if err != nil {
			return err
		}
		defer func() { _ = impostor.Close() }()
		return s.changesNothing(ctx, p, func(phase string, b participant.Branch) error { return refusedBy(ctx, impostor, phase, b) })
	})
}

const noSecret = "no --secret-file: whoever reaches the service can commit"

func (s *site) impostorOverHTTP(ctx context.Context, p participant.Participant, secrets []remote.Secret) error {
	impostor, err := remote.NewRaw(s.http(secrets))
	if err != nil {
		return err
	}
	defer func() { _ = impostor.Close() }()
	return s.changesNothing(ctx, p, func(phase string, b participant.Branch) error {
		c := newCall(phase, b)
		body, err := c.encoded(nil)
		if err != nil {
			return err
		}
		header := http.Header{}
		if len(secrets) > 0 {
			header = c.signed(impostor, body)
		}
		got, err := s.send(ctx, c.at, header, body)
		return refused(c, got, err, http.StatusUnauthorized)
	})
}

// falseCalls makes calls of each phase and wants this status for them; 0 for any but 200.
func falseCalls(make func(context.Context, *site, *call) (answer, error), want int) func(context.Context, *site) error {
	return overHTTP(func(ctx context.Context, s *site, p participant.Participant) error {
		if want == http.StatusUnauthorized && len(s.Secrets) == 0 {
			return lacking(noSecret)
		}
		return s.changesNothing(ctx, p, func(phase string, b participant.Branch) error {
			c := newCall(phase, b)
			got, err := make(ctx, s, c)
			return refused(c, got, err, want)
		})
	})
}

func refused(c *call, got answer, err error, want int) error {
	switch {
	case err != nil:
		return fmt.Errorf("%s %s: %w", c.at, c.xid, err)
	case want == 0 && got.status == http.StatusOK:
		return fmt.Errorf("%s %s: %s; want it refused", c.at, c.xid, got)
	case want != 0 && got.status != want:
		return fmt.Errorf("%s %s: %s; want %d", c.at, c.xid, got, want)
	default:
		return nil
	}
}

// refusedBy makes a call over gRPC and returns an error if it got an answer that counts.
func refusedBy(ctx context.Context, impostor participant.Participant, phase string, b participant.Branch) error {
	var err error
	var heuristic *participant.HeuristicError
	switch phase {
	case prepare:
		var vote participant.Vote
		if vote, err = impostor.Prepare(ctx, b); vote.Valid() {
			return fmt.Errorf("prepare %s: vote %s, error %s; want it refused", b.XID(), vote, said(err))
		}
	case commit:
		err = impostor.Commit(ctx, b)
	default:
		err = impostor.Rollback(ctx, b)
	}
	if err == nil || errors.As(err, &heuristic) || errors.Is(err, participant.ErrUnknownBranch) {
		return fmt.Errorf("%s %s: it was answered, with the error %s; want it refused", phase, b.XID(), said(err))
	}
	return nil
}

func malformed(ctx context.Context, s *site, p participant.Participant) error {
	b := s.begun()
	defer func() { _ = p.Rollback(ctx, b) }()
	lacking := newCall(prepare, b)
	delete(lacking.body, "xid")
	delete(lacking.body, "transaction_id")
	without, err := lacking.encoded(nil)
	if err != nil {
		return err
	}
	for _, body := range [][]byte{nil, []byte("{"), []byte("[]"), []byte("null"), []byte("\xff"), without} {
		header := http.Header{}
		if len(s.Secrets) > 0 {
			header = lacking.signed(s.raw, body)
		}
		got, err := s.send(ctx, prepare, header, body)
		if err == nil && got.status == http.StatusOK {
			err = fmt.Errorf("%s; want 400", got)
		}
		if err != nil {
			return fmt.Errorf("prepare with the body %q: %w", body, err)
		}
	}
	return nil
}

func unknownFields(ctx context.Context, s *site, p participant.Participant) error {
	b := s.begun()
	defer func() { _ = p.Rollback(ctx, b) }()
	more := map[string]any{"x_unknown": map[string]any{"phase": "x", "list": []int{1}}, "attempt": 1}
	for _, want := range []struct{ phase, field, value string }{
		{prepare, "vote", "PREPARED"}, {commit, "state", "COMMITTED"},
	} {
		got, err := s.post(ctx, newCall(want.phase, b), more)
		if err == nil && !got.says(want.field, want.value) {
			err = fmt.Errorf("%s; want %s %s", got, want.field, want.value)
		}
		if err != nil {
			return fmt.Errorf("%s %s with fields that the contract does not have: %w", want.phase, b.XID(), err)
		}
	}
	return nil
}

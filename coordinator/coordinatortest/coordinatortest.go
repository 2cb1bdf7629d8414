// Package coordinatortest runs transactions of a participant and a bank through a
// coordinator, with its log in a file: what participanttest checks call by call, seen
// from above. [Test] takes the same subject as the kit:
//
//	func TestTransactions(t *testing.T) {
//		subject, err := bank(server.URL("postgres"))
//		subject.Restart = server.Restart
//		coordinatortest.Test(t, subject)
//	}
package coordinatortest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
)

// Test runs each case as a subtest, with a log and a coordinator of its own. Cases for
// which the subject has no Refuse or Restart, or the participant no Lister, pass.
func Test(t *testing.T, subject participanttest.Subject) {
	t.Helper()
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			if err := atSite(t.Context(), t.TempDir(), subject, run); err != nil {
				t.Error(err)
			}
		})
	}
}

// cases are what happens at a site that is open, and what it leaves there.
var cases = map[string]func(context.Context, *site) error{
	"commit": commit, "work-fails": workFails, "refused": refused, "alone": alone, "R10-orphan": orphan, "restarts-under-load": restartsUnderLoad,
}

// commit: both have their effects.
func commit(ctx context.Context, s *site) error {
	d, err := s.transact(ctx, s.subject.Begin)
	if err != nil {
		return err
	}
	return s.requireEffects(ctx, d, true)
}

// workFails: the function's error rolls both back.
func workFails(ctx context.Context, s *site) error {
	failed := errors.New("the work failed")
	d, err := s.transact(ctx, func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
		return errors.Join(s.begin(ctx, p, tx), failed)
	})
	if !errors.Is(err, failed) {
		return errors.Join(errors.New("the function's error is not the answer"), err)
	}
	return s.requireEffects(ctx, d, false)
}

// refused: so does a vote.
func refused(ctx context.Context, s *site) error {
	if s.subject.Refuse == nil {
		return nil
	}
	d, err := s.transact(ctx, s.subject.Refuse)
	if !errors.Is(err, coordinator.ErrRolledBack) {
		return errors.Join(errors.New("ErrRolledBack is not the answer"), err)
	}
	return s.requireEffects(ctx, d, false)
}

// alone: without the bank the branch may commit in one phase.
func alone(ctx context.Context, s *site) error {
	var d deal
	err := s.dtm.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) error {
		return s.begin(ctx, s.participant, &noting{tx, s.participant, &d.branch})
	})
	if err != nil {
		return err
	}
	return s.requireVisible(ctx, d.branch, true)
}

// orphan: a branch that was prepared and never decided is found, and rolled back (R10).
func orphan(ctx context.Context, s *site) error {
	if _, ok := s.participant.(participant.Lister); !ok {
		return nil
	}
	id, err := s.dtm.Begin(ctx)
	if err != nil {
		return err
	}
	var b participant.Branch
	if err := s.begin(ctx, s.participant, &noting{s.dtm.Tx(id), s.participant, &b}); err != nil {
		return err
	}
	if vote, err := s.participant.Prepare(ctx, b); vote != participant.VotePrepared {
		return fmt.Errorf("vote %s: %w", vote, err)
	}
	if err := s.reopen(ctx); err != nil {
		return err
	}
	for s.requireNonePrepared(ctx) != nil {
		if err := pause(ctx); err != nil {
			return err
		}
	}
	if err := s.participant.Commit(ctx, b); err == nil {
		return errors.New("a commit after the rollback was acknowledged")
	}
	return s.requireVisible(ctx, b, false)
}

// pause is between two looks at something that is going to happen.
func pause(ctx context.Context) error {
	select {
	case <-time.After(time.Millisecond):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

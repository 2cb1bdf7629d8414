package participanttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/assent-tm/assent/participant"
)

// brokenObligations break what every participant has to keep.
var brokenObligations = []broken{
	{"has another name each time", []string{"name"}, func(*Subject, *Store) func(*altered) {
		var mu sync.Mutex
		made := 0
		return func(a *altered) {
			mu.Lock()
			defer mu.Unlock()
			made++
			a.name = fmt.Sprintf("bank_a%d", made)
		}
	}},
	{"shows what is only prepared", []string{"prepare-hides", "stale-epoch", "prepare-cut-off", "forget"}, func(s *Subject, store *Store) func(*altered) {
		s.Visible = func(_ context.Context, b participant.Branch) (bool, error) {
			p := store.Participant("bank_a")
			return p.State(b) == StatePrepared || p.Effects(b) > 0, nil
		}
		return func(*altered) {}
	}},
	{"acknowledges a commit and forgets to do it", []string{
		"commit-shows", "deadline-passed", "longest-id", "prepare-twice", "commit-twice", "prepare-after-commit",
		"rollback-after-commit", "commit-from-fresh", "duplicates-overlap",
		"branches-overlap", "stale-epoch", "prepare-cut-off", "commit-cut-off", "list-prepared", "forget",
		"commit-after-forget", "explain",
	}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StatePrepared && ctx.Err() == nil {
				return nil
			}
			return a.Memory.Commit(ctx, b)
		}
	})},
	{"commits when told to roll back", []string{
		"rollback-hides", "deadline-passed", "longest-id", "rollback-twice", "prepare-after-rollback",
		"commit-after-rollback", "rollback-from-fresh", "duplicates-overlap",
		"prepare-meets-rollback", "branches-overlap", "prepare-cut-off", "rollback-cut-off", "forget",
	}, each(func(a *altered) {
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			time.Sleep(moment)
			if a.State(b) == StatePrepared {
				return a.Memory.Commit(ctx, b)
			}
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"prepares once", []string{"prepare-twice", "duplicates-overlap"}, each(func(a *altered) {
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			if a.State(b) == StatePrepared {
				return participant.VoteRefused, participant.ErrRefused
			}
			return a.Memory.Prepare(ctx, b)
		}
	})},
	{"commits once", []string{
		"commit-twice", "prepare-after-commit", "duplicates-overlap", "commit-cut-off", "forget",
	}, each(func(a *altered) {
		var mu sync.Mutex
		a.commit = func(ctx context.Context, b participant.Branch) error {
			mu.Lock()
			defer mu.Unlock()
			if a.State(b) == StateCommitted {
				return errors.New("not in state prepared")
			}
			return a.Memory.Commit(ctx, b)
		}
	})},
	{"rolls back once", []string{
		"refused", "rollback-twice", "duplicates-overlap", "rollback-cut-off", "one-phase-refused",
	}, each(func(a *altered) {
		var mu sync.Mutex
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			mu.Lock()
			defer mu.Unlock()
			if a.State(b) == StateRolledBack {
				return errors.New("not in state prepared")
			}
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"keeps no tombstone", []string{
		"prepare-after-rollback", "rollback-before-prepare", "duplicates-overlap", "prepare-meets-rollback",
		"prepare-cut-off", "rollback-cut-off", "one-phase-after-rollback",
	}, each(func(a *altered) {
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			time.Sleep(moment)
			return a.Memory.Prepare(ctx, b)
		}
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			err := a.Memory.Rollback(ctx, b)
			if err == nil {
				a.drop(b)
			}
			return err
		}
	})},
	{"keeps no tombstone of what was never prepared", []string{
		"rollback-before-prepare", "prepare-meets-rollback", "prepare-cut-off", "list-highest",
		"one-phase-after-rollback",
	}, each(func(a *altered) {
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			time.Sleep(moment)
			return a.Memory.Prepare(ctx, b)
		}
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateUnknown && ctx.Err() == nil {
				return nil
			}
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"prepares again what it committed", []string{"prepare-after-commit", "duplicates-overlap"}, each(func(a *altered) {
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			if a.State(b) == StateCommitted {
				a.drop(b)
			}
			return a.Memory.Prepare(ctx, b)
		}
	})},
	{"votes read-only for what it committed", []string{"prepare-after-commit", "duplicates-overlap"}, each(func(a *altered) {
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			if a.State(b) == StateCommitted {
				return participant.VoteReadOnly, nil
			}
			return a.Memory.Prepare(ctx, b)
		}
	})},
	{"acknowledges the commit of an unknown branch", []string{"commit-unknown"}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			err := a.Memory.Commit(ctx, b)
			if errors.Is(err, participant.ErrUnknownBranch) {
				return nil
			}
			return err
		}
	})},
	{"can't roll back an unknown branch", []string{
		"rollback-unknown", "rollback-before-prepare", "commit-after-rollback", "stale-epoch", "prepare-cut-off",
		"list-prepared", "list-highest", "one-phase-after-rollback",
	}, each(func(a *altered) {
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateUnknown {
				return errors.New("no such branch")
			}
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"rolls back what it committed", []string{"rollback-after-commit", "duplicates-overlap", "one-phase", "forget"}, each(func(a *altered) {
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateCommitted && ctx.Err() == nil {
				a.drop(b)
				a.edit(func(l *ledger) { l.effects[b.XID()]-- })
			}
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"keeps the effects and says rolled back", []string{"rollback-after-commit", "duplicates-overlap", "one-phase", "forget"}, each(func(a *altered) {
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateCommitted {
				return participant.ErrUnknownBranch
			}
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"commits what it rolled back", []string{
		"refused", "commit-after-rollback", "rollback-from-fresh", "duplicates-overlap", "prepare-meets-rollback",
	}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateRolledBack {
				a.edit(func(l *ledger) { l.apply(b) })
			}
			return a.Memory.Commit(ctx, b)
		}
	})},
	{"calls a rolled back branch committed", []string{
		"refused", "commit-after-rollback", "rollback-from-fresh", "duplicates-overlap", "prepare-meets-rollback",
	}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateRolledBack {
				return &participant.HeuristicError{Outcome: participant.OutcomeCommitted}
			}
			return a.Memory.Commit(ctx, b)
		}
	})},
	{"commits only where it prepared", []string{
		"commit-twice", "commit-from-fresh", "duplicates-overlap",
	}, each(func(a *altered) {
		var mine sync.Map
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			mine.Store(b.XID(), true)
			return a.Memory.Prepare(ctx, b)
		}
		a.commit = func(ctx context.Context, b participant.Branch) error {
			if _, known := mine.Load(b.XID()); !known {
				return participant.ErrUnknownBranch
			}
			return a.Memory.Commit(ctx, b)
		}
	})},
	{"rolls back only where it prepared, and says yes elsewhere", []string{"rollback-from-fresh"}, each(func(a *altered) {
		var mine sync.Map
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			mine.Store(b.XID(), true)
			return a.Memory.Prepare(ctx, b)
		}
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StatePrepared {
				if _, known := mine.Load(b.XID()); !known {
					return nil
				}
			}
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"refuses a duplicate that overlaps", []string{"duplicates-overlap"}, each(func(a *altered) {
		var busy sync.Map
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			if _, running := busy.LoadOrStore(b.XID(), true); running {
				return participant.VoteRefused, participant.ErrRefused
			}
			defer busy.Delete(b.XID())
			time.Sleep(moment)
			return a.Memory.Prepare(ctx, b)
		}
	})},
	{"commits twice when commits overlap", []string{"duplicates-overlap"}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StatePrepared && ctx.Err() == nil {
				time.Sleep(moment)
				a.edit(func(l *ledger) { l.apply(b) })
			}
			return a.Memory.Commit(ctx, b)
		}
	})},
	{"prepares over a tombstone that came meanwhile", []string{"prepare-meets-rollback"}, each(func(a *altered) {
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			state := a.State(b)
			time.Sleep(moment)
			if state == StateUnknown && a.State(b) == StateRolledBack && string(b.Data) != DataRefuse {
				a.drop(b)
			}
			return a.Memory.Prepare(ctx, b)
		}
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			time.Sleep(moment / 2)
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"has room for one branch at a time", []string{"branches-overlap"}, each(func(a *altered) {
		var mu sync.Mutex
		var current participant.Branch
		slot := func(b *participant.Branch) participant.Branch {
			mu.Lock()
			defer mu.Unlock()
			if b != nil {
				current = *b
			}
			return current
		}
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			slot(&b)
			time.Sleep(moment)
			return a.Memory.Prepare(ctx, slot(nil))
		}
	})},
	{"never comes back from a cut off prepare", []string{"prepare-cut-off"}, each(func(a *altered) {
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			hang(ctx)
			return a.Memory.Prepare(ctx, b)
		}
	})},
	{"never comes back from a cut off commit", []string{"commit-cut-off"}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			hang(ctx)
			return a.Memory.Commit(ctx, b)
		}
	})},
	{"never comes back from a cut off rollback", []string{"rollback-cut-off"}, each(func(a *altered) {
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			hang(ctx)
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"rolls back when its commit is cut off", []string{"commit-cut-off"}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			err := a.Memory.Commit(ctx, b)
			if errors.Is(err, context.Canceled) {
				_ = a.Memory.Rollback(context.WithoutCancel(ctx), b)
			}
			return err
		}
	})},
	{"calls a commit done that was cut off", []string{"commit-cut-off"}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			err := a.Memory.Commit(ctx, b)
			if errors.Is(err, context.Canceled) {
				return nil
			}
			return err
		}
	})},
	{"calls a commit impossible that was cut off", []string{"commit-cut-off"}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			err := a.Memory.Commit(ctx, b)
			if errors.Is(err, context.Canceled) {
				return &participant.HeuristicError{Outcome: participant.OutcomeHeuristicHazard}
			}
			return err
		}
	})},
	{"calls a rollback impossible that was cut off", []string{"rollback-cut-off"}, each(func(a *altered) {
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			err := a.Memory.Rollback(ctx, b)
			if errors.Is(err, context.Canceled) {
				return &participant.HeuristicError{Outcome: participant.OutcomeHeuristicHazard}
			}
			return err
		}
	})},
	{"rolls back at the deadline", []string{"deadline-passed"}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			if time.Now().After(b.Deadline) {
				_ = a.Memory.Rollback(ctx, b)
			}
			return a.Memory.Commit(ctx, b)
		}
	})},
	{"has a column of 63 bytes for an id", []string{"longest-id"}, each(func(a *altered) {
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			if len(b.XID()) > 63 {
				return participant.VoteRefused, errors.New("value too long for type character varying(63)")
			}
			return a.Memory.Prepare(ctx, b)
		}
	})},
}

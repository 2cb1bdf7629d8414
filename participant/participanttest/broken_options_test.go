package participanttest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/assent-tm/assent/participant"
)

// brokenOptions break what a participant may offer: epochs, refusals and the
// optional interfaces.
var brokenOptions = []broken{
	{"ignores epochs", []string{"stale-epoch"}, each(func(a *altered) {
		a.epochless = true
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			b.Epoch = math.MaxUint64
			return a.Memory.Prepare(ctx, b)
		}
		a.commit = func(ctx context.Context, b participant.Branch) error {
			b.Epoch = math.MaxUint64
			return a.Memory.Commit(ctx, b)
		}
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			b.Epoch = math.MaxUint64
			return a.Memory.Rollback(ctx, b)
		}
		a.onePhase = func(ctx context.Context, b participant.Branch) error {
			b.Epoch = math.MaxUint64
			return a.Memory.CommitOnePhase(ctx, b)
		}
	})},
	{"forgets epochs with its process", []string{"stale-epoch"}, each(func(a *altered) {
		a.epochless = true
		var mu sync.Mutex
		seen := map[participant.Term]uint64{}
		fence := func(b *participant.Branch) error {
			mu.Lock()
			defer mu.Unlock()
			if b.Epoch < seen[b.Tx.Term] {
				return participant.ErrStaleEpoch
			}
			seen[b.Tx.Term] = b.Epoch
			b.Epoch = math.MaxUint64
			return nil
		}
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			if err := fence(&b); err != nil {
				return 0, err
			}
			return a.Memory.Prepare(ctx, b)
		}
		a.commit = func(ctx context.Context, b participant.Branch) error {
			if err := fence(&b); err != nil {
				return err
			}
			return a.Memory.Commit(ctx, b)
		}
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			if err := fence(&b); err != nil {
				return err
			}
			return a.Memory.Rollback(ctx, b)
		}
		a.onePhase = func(ctx context.Context, b participant.Branch) error {
			if err := fence(&b); err != nil {
				return err
			}
			return a.Memory.CommitOnePhase(ctx, b)
		}
	})},
	{"commits in one phase whatever the epoch", []string{"stale-epoch"}, each(func(a *altered) {
		a.epochless = true
		a.onePhase = func(ctx context.Context, b participant.Branch) error {
			a.edit(func(l *ledger) { b.Epoch = max(b.Epoch, l.epochs[b.Tx.Term]) })
			return a.Memory.CommitOnePhase(ctx, b)
		}
	})},
	{"keeps one epoch for all terms", []string{"stale-epoch"}, func(*Subject, *Store) func(*altered) {
		var mu sync.Mutex
		var highest uint64
		return func(a *altered) {
			a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
				mu.Lock()
				highest = max(highest, b.Epoch)
				stale := b.Epoch < highest
				mu.Unlock()
				if stale {
					return participant.VoteRefused, participant.ErrStaleEpoch
				}
				return a.Memory.Prepare(ctx, b)
			}
		}
	}},
	{"prepares what it can't do", []string{"refused"}, each(func(a *altered) {
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			b.Data = nil
			return a.Memory.Prepare(ctx, b)
		}
	})},
	{"commits in one phase what it can't do", []string{"one-phase-refused"}, each(func(a *altered) {
		a.onePhase = func(ctx context.Context, b participant.Branch) error {
			b.Data = nil
			return a.Memory.CommitOnePhase(ctx, b)
		}
	})},
	{"lists by a prefix", []string{"list-prepared"}, each(func(a *altered) {
		a.list = func(ctx context.Context, domain string) (participant.Listing, error) {
			return a.listWhere(ctx, domain, func(e Entry) bool {
				return e.State == StatePrepared && strings.HasPrefix(e.Branch.Domain, domain)
			})
		}
	})},
	{"lists by a pattern", []string{"list-prepared"}, each(func(a *altered) {
		a.list = func(ctx context.Context, domain string) (participant.Listing, error) {
			return a.listWhere(ctx, domain, func(e Entry) bool {
				return e.State == StatePrepared && strings.Contains(string(e.Branch.XID()), domain+":")
			})
		}
	})},
	{"lists finished branches", []string{"duplicates-overlap", "list-prepared"}, each(func(a *altered) {
		a.list = func(ctx context.Context, domain string) (participant.Listing, error) {
			return a.listWhere(ctx, domain, func(e Entry) bool { return e.Branch.Domain == domain })
		}
	})},
	{"lists what this instance prepared", []string{"list-prepared"}, each(func(a *altered) {
		var mine sync.Map
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			mine.Store(b.XID(), true)
			return a.Memory.Prepare(ctx, b)
		}
		a.list = func(ctx context.Context, domain string) (participant.Listing, error) {
			return a.listWhere(ctx, domain, func(e Entry) bool {
				_, known := mine.Load(e.Branch.XID())
				return known && e.State == StatePrepared && e.Branch.Domain == domain
			})
		}
	})},
	{"lists a neighbour's branches under their own name", []string{"duplicates-overlap", "list-prepared"}, each(func(a *altered) {
		a.list = func(ctx context.Context, domain string) (participant.Listing, error) {
			listing, err := a.Memory.List(ctx, domain)
			listing.Prepared = append(listing.Prepared, newBranch("of the domain orders"))
			return listing, err
		}
	})},
	{"names the highest of a term twice", []string{"list-highest"}, each(func(a *altered) {
		a.list = func(ctx context.Context, domain string) (participant.Listing, error) {
			listing, err := a.Memory.List(ctx, domain)
			listing.Highest = slices.Concat(listing.Highest, listing.Highest)
			return listing, err
		}
	})},
	{"remembers the last id for the highest", []string{"list-highest"}, func(_ *Subject, store *Store) func(*altered) {
		return func(a *altered) {
			a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
				a.edit(func(l *ledger) { delete(l.marks, mark{b.Domain, b.Tx.Term}) })
				return a.Memory.Prepare(ctx, b)
			}
		}
	}},
	{"remembers only what it prepared", []string{"list-highest"}, each(func(a *altered) {
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			var before participant.TxID
			at := mark{b.Domain, b.Tx.Term}
			a.edit(func(l *ledger) { before = l.marks[at] })
			err := a.Memory.Rollback(ctx, b)
			a.edit(func(l *ledger) { l.marks[at] = before })
			return err
		}
	})},
	{"commits in one phase each time", []string{"one-phase"}, each(func(a *altered) {
		a.onePhase = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateCommitted {
				a.drop(b)
			}
			return a.Memory.CommitOnePhase(ctx, b)
		}
	})},
	{"has no proof of a one-phase commit", []string{"one-phase"}, each(func(a *altered) {
		a.onePhase = func(ctx context.Context, b participant.Branch) error {
			if a.Effects(b) > 0 {
				return nil
			}
			err := a.Memory.CommitOnePhase(ctx, b)
			if err == nil {
				a.drop(b)
			}
			return err
		}
	})},
	{"takes its one-phase commit for a heuristic", []string{"one-phase"}, each(func(a *altered) {
		a.rollback = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateCommitted {
				return &participant.HeuristicError{Outcome: participant.OutcomeHeuristicCommit}
			}
			return a.Memory.Rollback(ctx, b)
		}
	})},
	{"does not say that it refused in one phase", []string{"one-phase-after-rollback", "one-phase-refused"}, each(func(a *altered) {
		a.onePhase = func(ctx context.Context, b participant.Branch) error {
			err := a.Memory.CommitOnePhase(ctx, b)
			if errors.Is(err, participant.ErrRefused) {
				return errors.New("rolled back")
			}
			return err
		}
	})},
	{"commits in one phase what it rolled back", []string{"one-phase-after-rollback"}, each(func(a *altered) {
		a.onePhase = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateRolledBack && string(b.Data) != DataRefuse {
				a.drop(b)
			}
			return a.Memory.CommitOnePhase(ctx, b)
		}
	})},
	{"forgets prepared branches, too", []string{"forget"}, each(func(a *altered) {
		a.forget = func(context.Context, []participant.Branch) error {
			a.edit(func(l *ledger) {
				for xid, e := range l.branches {
					if e.State == StatePrepared {
						delete(l.branches, xid)
					}
				}
			})
			return nil
		}
	})},
	{"forgets every finished branch", []string{"forget"}, each(func(a *altered) {
		a.forget = func(context.Context, []participant.Branch) error {
			a.edit(func(l *ledger) {
				for xid, e := range l.branches {
					if e.State != StatePrepared {
						delete(l.branches, xid)
					}
				}
			})
			return nil
		}
	})},
	{"commits again what it forgot", []string{"commit-after-forget"}, each(func(a *altered) {
		a.commit = func(ctx context.Context, b participant.Branch) error {
			if a.State(b) == StateUnknown && a.Effects(b) > 0 {
				a.edit(func(l *ledger) { l.apply(b) })
				return nil
			}
			return a.Memory.Commit(ctx, b)
		}
	})},
	{"is not configured", []string{"check"}, each(func(a *altered) {
		a.check = func(context.Context) error {
			return fmt.Errorf("%w: max_prepared_transactions is 0", participant.ErrConfig)
		}
	})},
	{"explains one domain alone", []string{"explain"}, each(func(a *altered) {
		a.explain = func(ctx context.Context) ([]participant.Explanation, error) {
			return a.explainWhere(ctx, func(e *participant.Explanation) bool { return e.Branch.Domain == defaultDomain })
		}
	})},
	{"explains what is finished", []string{"explain"}, each(func(a *altered) {
		a.explain = func(ctx context.Context) ([]participant.Explanation, error) {
			shown, err := a.Memory.Explain(ctx)
			for _, e := range a.Entries() {
				if e.State == StateCommitted {
					shown = append(shown, participant.Explanation{Name: "done", Branch: e.Branch, Commit: "commit", Rollback: "roll back"})
				}
			}
			return shown, err
		}
	})},
	{"explains without a name", []string{"explain"}, each(func(a *altered) {
		a.explain = func(ctx context.Context) ([]participant.Explanation, error) {
			return a.explainWhere(ctx, func(e *participant.Explanation) bool { e.Name = ""; return true })
		}
	})},
	{"explains one way for both", []string{"explain"}, each(func(a *altered) {
		a.explain = func(ctx context.Context) ([]participant.Explanation, error) {
			return a.explainWhere(ctx, func(e *participant.Explanation) bool { e.Commit = e.Rollback; return true })
		}
	})},
}

func (a *altered) explainWhere(ctx context.Context, change func(*participant.Explanation) bool) (kept []participant.Explanation, err error) {
	shown, err := a.Memory.Explain(ctx)
	for _, e := range shown {
		if change(&e) {
			kept = append(kept, e)
		}
	}
	return kept, err
}

func (a *altered) listWhere(ctx context.Context, domain string, match func(Entry) bool) (participant.Listing, error) {
	listing, err := a.Memory.List(ctx, domain)
	listing.Prepared = nil
	for _, e := range a.Entries() {
		if match(e) {
			e.Branch.Domain = domain // as one that doesn't read the XID would say
			listing.Prepared = append(listing.Prepared, e.Branch)
		}
	}
	return listing, err
}

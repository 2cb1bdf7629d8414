package participanttest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/assent-tm/assent/participant"
)

// brokenByRestart keep the contract as long as the service behind does not crash.
var brokenByRestart = []broken{
	{"takes work that it lost for none", []string{"begun-after-restart", "prepare-during-restart"}, func(s *Subject, _ *Store) func(*altered) {
		var work sync.Map
		begin := s.Begin
		s.Begin = func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
			work.Store(tx.ID(), true)
			return begin(ctx, p, tx)
		}
		s.Restart = func(context.Context) error { work.Clear(); return nil }
		return func(a *altered) {
			a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
				time.Sleep(aWhile())
				if _, kept := work.Load(b.Tx); !kept && a.State(b) == StateUnknown && string(b.Data) == "work" {
					return participant.VoteReadOnly, nil
				}
				return a.Memory.Prepare(ctx, b)
			}
		}
	}},
	{"votes for what is not on its disk", []string{"prepare-during-restart"}, func(s *Subject, store *Store) func(*altered) {
		var written sync.Map
		s.Restart = func(context.Context) error {
			store.lose(func(e Entry) bool {
				_, safe := written.Load(e.Branch.XID())
				return e.State == StatePrepared && !safe
			})
			return nil
		}
		return func(a *altered) {
			a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
				vote, err := a.Memory.Prepare(ctx, b)
				time.Sleep(aWhile())
				written.Store(b.XID(), true)
				return vote, err
			}
		}
	}},
	{"loses prepared branches", []string{
		"prepare-during-restart", "commit-after-restart", "rollback-after-restart", "finish-during-restart",
	}, func(s *Subject, store *Store) func(*altered) {
		s.Restart = func(context.Context) error {
			store.lose(func(e Entry) bool { return e.State == StatePrepared })
			return nil
		}
		return func(a *altered) {
			a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
				vote, err := a.Memory.Prepare(ctx, b)
				time.Sleep(aWhile())
				return vote, err
			}
			a.commit = func(ctx context.Context, b participant.Branch) error {
				time.Sleep(aWhile())
				return a.Memory.Commit(ctx, b)
			}
		}
	}},
	{"loses tombstones", []string{"repeat-after-restart"}, func(s *Subject, store *Store) func(*altered) {
		s.Restart = func(context.Context) error {
			store.lose(func(e Entry) bool { return e.State == StateRolledBack })
			return nil
		}
		return func(*altered) {}
	}},
	{"loses what it knows of commits", []string{"repeat-after-restart"}, func(s *Subject, store *Store) func(*altered) {
		s.Restart = func(context.Context) error {
			store.lose(func(e Entry) bool { return e.State == StateCommitted })
			return nil
		}
		return func(a *altered) {
			a.commit = func(ctx context.Context, b participant.Branch) error {
				time.Sleep(aWhile())
				return a.Memory.Commit(ctx, b)
			}
			a.onePhase = func(ctx context.Context, b participant.Branch) error {
				time.Sleep(aWhile())
				return a.Memory.CommitOnePhase(ctx, b)
			}
		}
	}},
	{"commits again what was interrupted", []string{"finish-during-restart"}, func(s *Subject, _ *Store) func(*altered) {
		var restarts atomic.Int32
		s.Restart = func(context.Context) error { restarts.Add(1); return nil }
		return func(a *altered) {
			a.commit = func(ctx context.Context, b participant.Branch) error {
				before, err := restarts.Load(), a.Memory.Commit(ctx, b)
				time.Sleep(aWhile())
				if err == nil && restarts.Load() > before {
					a.edit(func(l *ledger) { l.apply(b) })
				}
				return err
			}
		}
	}},
	{"forgets a one-phase commit that was interrupted", []string{"one-phase-during-restart"}, func(s *Subject, _ *Store) func(*altered) {
		var restarts atomic.Int32
		s.Restart = func(context.Context) error { restarts.Add(1); return nil }
		return func(a *altered) {
			a.onePhase = func(ctx context.Context, b participant.Branch) error {
				before, err := restarts.Load(), a.Memory.CommitOnePhase(ctx, b)
				time.Sleep(aWhile())
				if err == nil && restarts.Load() > before {
					a.drop(b)
					return errors.New("connection lost")
				}
				return err
			}
		}
	}},
}

// lose drops what is kept about branches.
func (s *Store) lose(which func(Entry) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.ledger("bank_a")
	for xid, e := range l.branches {
		if which(e) {
			delete(l.branches, xid)
		}
	}
}

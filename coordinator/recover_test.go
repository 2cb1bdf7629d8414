package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// R3: votes are hints; without a decision nothing commits.
func TestUndecidedIsRolledBackThoughAllVoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		l.mu.Lock()
		l.death.step = len(l.steps) + 4 // preparing, two votes, and the decision
		l.mu.Unlock()
		p := l.play(t.Context(), script{data: map[string]string{"bank_a": work, "bank_b": work}})
		require.ErrorIs(t, p.told, coordinator.ErrOutcomeUnknown)
		for i, name := range []string{"bank_a", "bank_b"} {
			require.Equal(t, participanttest.StatePrepared, s.state(name, p.id, i))
		}
		l.kill()
		l = s.start(t, death{}, everyBank...)
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		for i, name := range []string{"bank_a", "bank_b"} {
			require.Equal(t, participanttest.StateRolledBack, s.state(name, p.id, i))
		}
		var why *coordinator.RolledBackError
		require.ErrorAs(t, l.dtm.Commit(t.Context(), p.id), &why)
		require.Equal(t, record.CausePresumed, why.Cause)
	})
}

// R9: each coordinator that drives a transaction has a higher epoch than the one
// before.
func TestEpochRisesWithEveryRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		id := s.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		last := uint64(0)
		for range 5 {
			var epochs []uint64
			l := s.start(t, death{}) // nobody is registered: it stays in doubt
			observe := &hooked{Memory: s.banks.Participant("bank_a"), commit: func(b participant.Branch) error {
				epochs = append(epochs, b.Epoch)
				return errUnreachable
			}}
			require.NoError(t, l.dtm.Register(observe))
			synctest.Wait()
			require.NotEmpty(t, epochs)
			require.Greater(t, epochs[0], last)
			last = epochs[0]
			l.kill()
		}
		l := s.start(t, death{}, "bank_a", "bank_b")
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		require.Equal(t, participanttest.StateCommitted, s.state("bank_a", id, 0))
	})
}

// R9: once another coordinator has taken the term over, the first one sends
// nothing more and says of what it was doing that the outcome is unknown.
func TestTakenOverCoordinatorIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		first := s.start(t, death{}, everyBank...)
		id, err := first.dtm.Begin(t.Context())
		require.NoError(t, err)
		for _, name := range everyBank {
			require.NoError(t, first.dtm.Enlist(t.Context(), id, first.participant(name), coordinator.WithData([]byte(work))))
		}
		time.Sleep(time.Second) // fake time: begun and enlisted are durable
		first.store.Expire()
		second := s.start(t, death{}, everyBank...)
		require.NoError(t, second.dtm.WaitRecovered(t.Context()))
		before := len(first.told())
		err = first.dtm.Commit(t.Context(), id)
		require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
		require.ErrorIs(t, err, wal.ErrFenced)
		<-first.dtm.Failed()
		require.ErrorIs(t, first.dtm.Err(), coordinator.ErrNotOwner)
		_, err = first.dtm.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrNotOwner)
		time.Sleep(time.Hour) // fake time
		require.Len(t, first.told(), before)
		require.ErrorIs(t, second.dtm.Commit(t.Context(), id), coordinator.ErrRolledBack)
		second.nothingPrepared(t)
	})
}

// R9: the former coordinator still repeats a decision that the new one has
// delivered long ago. Its epoch gives it away.
func TestFormerCoordinatorIsRefusedByItsEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		first := s.start(t, death{}, "bank_a", "bank_b")
		var up atomic.Bool
		var refused atomic.Int32
		bank := &hooked{Memory: s.banks.Participant("bank_c")}
		bank.commit = func(b participant.Branch) error {
			if !up.Load() {
				return errUnreachable
			}
			err := bank.Memory.Commit(t.Context(), b)
			if errors.Is(err, participant.ErrStaleEpoch) {
				refused.Add(1)
			}
			return err
		}
		id, err := first.dtm.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, first.dtm.Enlist(t.Context(), id, first.participant("bank_a")))
		require.NoError(t, first.dtm.Enlist(t.Context(), id, bank))
		require.ErrorIs(t, first.dtm.Commit(t.Context(), id), coordinator.ErrCommitPending)
		first.store.Expire()
		second := s.start(t, death{}, "bank_a", "bank_b", "bank_c")
		require.NoError(t, second.dtm.WaitRecovered(t.Context()))
		require.Equal(t, participanttest.StateCommitted, s.state("bank_c", id, 1))
		up.Store(true)
		time.Sleep(time.Hour) // fake time
		require.Positive(t, refused.Load())
	})
}

// R10: a rollback by absence goes to a participant only after its list was read in
// this run, a logged decision at once; and one participant's list that hangs or
// fails holds up nobody else's branches.
func TestAbsenceWaitsForTheList(t *testing.T) {
	lists := map[string]func(context.Context, int) error{
		"hangs": listNever,
		"fails": func(context.Context, int) error { return errUnreachable },
		"panics": func(context.Context, int) error {
			panic("no list")
		},
	}
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite()
				before := s.start(t, death{}, everyBank...)
				absent := before.leave(t, undecided, "bank_a", "bank_b")
				decided := before.leave(t, record.DecisionCommit, "bank_b", "bank_c")
				before.kill()
				open := make(chan struct{})
				bank := &hooked{Memory: s.banks.Participant("bank_b"), list: func(ctx context.Context, n int) error {
					select {
					case <-open:
						return nil
					default:
						return list(ctx, n)
					}
				}}
				dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{s.banks.Participant("bank_a"), bank, s.banks.Participant("bank_c")}})
				time.Sleep(time.Minute) // fake time
				require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", absent, 0))
				require.Equal(t, participanttest.StatePrepared, s.state("bank_b", absent, 1), "rolled back before its list was read")
				for i, name := range []string{"bank_b", "bank_c"} {
					require.Equal(t, 1, s.banks.Participant(name).Effects(participant.Branch{Domain: "test", Tx: decided, Number: i}))
				}
				close(open)
				require.NoError(t, dtm.WaitRecovered(t.Context()))
				require.NotEqual(t, participanttest.StatePrepared, s.state("bank_b", absent, 1))
			})
		})
	}
}

// R10: a rollback by absence that an earlier run decided, and perhaps told to some,
// rests on absence still.
func TestPresumedDecisionOfEarlierRunWaitsForTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		id := s.leave(t, undecided, "bank_a", "bank_b")
		l := s.start(t, death{step: 6}, everyBank...) // take over, open, append, delete, decide, tell one
		synctest.Wait()
		require.Contains(t, l.steps[5], "rollback")
		l.kill()
		open := make(chan struct{})
		banks := []participant.Participant{s.banks.Participant("bank_b")}
		banks = append(banks, &hooked{Memory: s.banks.Participant("bank_a"), list: func(ctx context.Context, _ int) error {
			select {
			case <-open:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		dtm := s.open(t, coordinator.Config{Participants: banks})
		info, err := dtm.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, record.DecisionRollback, info.Decision)
		time.Sleep(time.Minute) // fake time
		require.Equal(t, participanttest.StatePrepared, s.state("bank_a", id, 0), "rolled back before its list was read")
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_b", id, 1))
		close(open)
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		require.NotEqual(t, participanttest.StatePrepared, s.state("bank_a", id, 0))
	})
}

// A participant that recovery misses leaves its branches in doubt, and listed;
// registering it delivers them.
func TestMissingParticipantLeavesItsBranchesInDoubt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		decided := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		absent := l.leave(t, undecided, "bank_b", "bank_c")
		l.kill()
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{s.banks.Participant("bank_a")}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := dtm.WaitRecovered(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "2 transactions")
		require.ErrorContains(t, err, "bank_b, bank_c")
		infos, err := dtm.List(t.Context(), coordinator.Filter{InDoubt: true})
		require.NoError(t, err)
		require.Len(t, infos, 2)
		require.Equal(t, decided, infos[0].ID)
		require.False(t, infos[0].Branches[0].Missing)
		require.True(t, infos[0].Branches[1].Missing)
		require.Equal(t, absent, infos[1].ID)
		require.True(t, infos[1].Branches[0].Missing)
		require.ErrorIs(t, dtm.Commit(t.Context(), decided), coordinator.ErrCommitPending)
		require.ErrorIs(t, dtm.Commit(t.Context(), absent), coordinator.ErrOutcomeUnknown)

		require.NoError(t, dtm.Register(s.banks.Participant("bank_b")))
		synctest.Wait()
		require.NoError(t, dtm.Commit(t.Context(), decided))
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_b", absent, 0))
		require.ErrorIs(t, dtm.Commit(t.Context(), absent), coordinator.ErrRolledBack)
		require.NoError(t, dtm.Register(s.banks.Participant("bank_c")))
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_c", absent, 1))
	})
}

// R10, R3: a one-phase branch that nobody has registered keeps the decision to
// itself; once registered it says which way it went.
func TestDelegatedBranchSaysWhichWayItWent(t *testing.T) {
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprint(committed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite()
				l := s.start(t, death{}, "bank_a")
				l.mu.Lock()
				l.death = death{len(l.steps) + 2, committed} // delegated, one-phase
				l.mu.Unlock()
				p := l.play(t.Context(), script{data: map[string]string{"bank_a": work}})
				require.ErrorIs(t, p.told, coordinator.ErrOutcomeUnknown)
				l.kill()
				dtm := s.open(t, coordinator.Config{})
				time.Sleep(time.Hour) // fake time: nothing decides in the branch's place
				require.ErrorIs(t, dtm.Rollback(t.Context(), p.id), coordinator.ErrOutcomeUnknown)
				require.NoError(t, dtm.Register(s.banks.Participant("bank_a")))
				require.NoError(t, dtm.WaitRecovered(t.Context()))
				if committed {
					require.NoError(t, dtm.Commit(t.Context(), p.id))
					require.ErrorIs(t, dtm.Rollback(t.Context(), p.id), coordinator.ErrCommitted)
				} else {
					require.ErrorIs(t, dtm.Commit(t.Context(), p.id), coordinator.ErrRolledBack)
					require.NoError(t, dtm.Rollback(t.Context(), p.id))
				}
			})
		})
	}
}

// R2, R13: what was told once is told again after any number of restarts, with its
// reasons; and a request id finds its transaction.
func TestOutcomesOutliveRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		pay1, pay2 := scripts[0], scripts[1]
		pay1.request, pay2.request = "pay 1", "pay 2"
		committed, refused := l.play(t.Context(), pay1), l.play(t.Context(), pay2)
		require.NoError(t, committed.told)
		var why *coordinator.RolledBackError
		require.ErrorAs(t, refused.told, &why)
		require.Equal(t, "bank_b", why.Participant)
		require.Equal(t, record.CauseRefused, why.Cause)
		require.NotEmpty(t, why.Reason)
		// bank_a decides alone while its decision can't be told.
		alone := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		require.NoError(t, s.banks.Participant("bank_a").Rollback(t.Context(), participant.Branch{Domain: "test", Tx: alone, Epoch: s.epoch("bank_a")}))
		l.kill()
		var heuristic *coordinator.HeuristicError
		for restart := range 4 {
			l := s.start(t, death{}, everyBank...)
			dtm := l.dtm
			require.NoError(t, dtm.WaitRecovered(t.Context()))
			require.NoError(t, dtm.Commit(t.Context(), committed.id))
			require.ErrorIs(t, dtm.Rollback(t.Context(), committed.id), coordinator.ErrCommitted)
			var again *coordinator.RolledBackError
			require.ErrorAs(t, dtm.Commit(t.Context(), refused.id), &again)
			require.Equal(t, why, again)
			var now *coordinator.HeuristicError
			require.ErrorAs(t, dtm.Commit(t.Context(), alone), &now)
			require.Equal(t, participant.OutcomeHeuristicMixed, now.Outcome)
			if restart > 0 {
				require.Equal(t, heuristic, now)
			}
			heuristic = now
			for request, p := range map[string]played{"pay 1": committed, "pay 2": refused} {
				id, err := dtm.Begin(t.Context(), coordinator.WithRequestID(request))
				require.NoError(t, err)
				require.Equal(t, p.id, id)
			}
			time.Sleep(time.Minute) // fake time: completed and forgotten
			l.kill()
		}
	})
}

// A log that fails while recovery writes is not a recovered one (R5).
func TestWaitRecoveredSaysWhyItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		s.leave(t, undecided, "bank_a", "bank_b")
		l := s.start(t, death{step: 5}, everyBank...) // take over, open, append, delete, decide
		require.ErrorIs(t, l.dtm.WaitRecovered(t.Context()), coordinator.ErrLogFailed)
		l.kill()
		dtm := s.open(t, coordinator.Config{})
		waited := make(chan error, 1)
		go func() { waited <- dtm.WaitRecovered(context.Background()) }()
		synctest.Wait()
		require.NoError(t, dtm.Close(t.Context()))
		require.ErrorIs(t, <-waited, coordinator.ErrClosed)
	})
}

func TestOpenRefusesForeignDomain(t *testing.T) {
	s := newSite()
	l := s.start(t, death{}, everyBank...)
	l.kill()
	store := s.log.Open()
	_, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "other", Store: store})
	require.ErrorIs(t, err, wal.ErrForeign)
	require.NoError(t, store.Close())
	s.start(t, death{}, everyBank...)
}

// R12: what recovery finds is finished together, with group commits.
func TestRecoveryOfManyIsConcurrent(t *testing.T) {
	const each = 5_000
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		l.deaf = true
		var ids [2 * each]participant.TxID
		for i := range ids {
			id, err := l.dtm.Begin(t.Context())
			require.NoError(t, err)
			require.NoError(t, l.dtm.Enlist(t.Context(), id, l.participant("bank_a")))
			require.NoError(t, l.dtm.Enlist(t.Context(), id, l.participant("bank_b")))
			if ids[i] = id; i < each {
				go func() { _ = l.dtm.Commit(context.Background(), id) }()
			}
		}
		time.Sleep(2 * time.Second) // fake time: all are decided, or flushed
		l.kill()
		l = s.start(t, death{}, everyBank...)
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		for i, id := range ids {
			info, err := l.dtm.Get(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, i < each, info.Outcome == participant.OutcomeCommitted, "%d: %s", i, info.Outcome)
		}
		appends := 0
		for _, step := range l.steps {
			if step == "append" {
				appends++
			}
		}
		t.Log(appends, "appends")
		require.Less(t, appends, 2*each/20)
	})
}

// R12: what recovery found is always accepted, and takes nothing from the limits of
// new work.
func TestInheritedDoesNotCountAgainstLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 20
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		var ids []participant.TxID
		for range each {
			ids = append(ids, l.leave(t, record.DecisionCommit, "bank_a", "bank_b"))
		}
		for range each {
			ids = append(ids, l.leave(t, undecided, "bank_b", "bank_c"))
		}
		l.kill()
		var down atomic.Bool
		down.Store(true)
		tell := func(participant.Branch) error {
			if down.Load() {
				return errUnreachable
			}
			return nil
		}
		var banks []participant.Participant
		for _, name := range everyBank {
			banks = append(banks, &hooked{Memory: s.banks.Participant(name), commit: tell, rollback: tell})
		}
		var found recovery.Plan
		dtm := s.open(t, coordinator.Config{
			Participants: banks, MaxOpen: 1, MaxUndelivered: 1, MaxInFlight: 1,
			Trace: &coordinator.Trace{Inherited: func(plan recovery.Plan) { found = plan }},
		})
		require.Len(t, found.Resend, each)
		require.Len(t, found.RollBack, each)
		time.Sleep(time.Minute) // fake time
		id, err := dtm.Begin(t.Context())
		require.NoError(t, err, "none of them is new work")
		require.ErrorIs(t, dtm.Enlist(t.Context(), id, banks[0]), coordinator.ErrLimit)
		down.Store(false)
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		for i, id := range ids {
			info, err := dtm.Get(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, i < each, info.Outcome == participant.OutcomeCommitted, "%s", info.Outcome)
		}
		require.NoError(t, dtm.Enlist(t.Context(), id, banks[0]))
		_, err = dtm.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrLimit, "nor did they make room")
	})
}

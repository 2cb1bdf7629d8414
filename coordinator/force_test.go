package coordinator_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// R1: with ForceEveryTransition no call returns, and nobody is told anything, while
// the fsync of its own record is under way.
func TestForceEveryTransitionWaitsForEachFsync(t *testing.T) {
	life := []string{
		"log: begun", "log: enlisted", "log: preparing", "a: prepare", "a: prepare returned",
		"log: decided", "a: commit", "log: completed",
	}
	for _, c := range []struct {
		held   string // the append that hangs; the first one is Open's
		n      int
		within string // the call that waits for it
		before int    // how much of the life is over
	}{
		{"begun", 2, "begin", 0},
		{"enlisted", 3, "enlist", 1},
		{"preparing", 4, "commit", 2},
		{"decided", 5, "commit", 5},
		{"completed", 6, "commit", 7},
	} {
		t.Run(c.held, func(t *testing.T) {
			var release chan struct{} // of the bubble
			hold := func(call waltest.Call) waltest.Fault {
				if call.Op == waltest.OpAppend && call.N == c.n {
					<-release
				}
				return waltest.Fault{}
			}
			playWith(t, coordinator.Config{ForceEveryTransition: true}, hold, func(t *testing.T, s *stage) {
				release = make(chan struct{})
				done := make(chan error)
				var within atomic.Value // the call under way
				within.Store("begin")
				go func() {
					id, err := s.Begin(t.Context())
					if err == nil {
						within.Store("enlist")
						err = s.Enlist(t.Context(), id, s.actor("a"))
					}
					if err == nil {
						within.Store("commit")
						err = s.Commit(t.Context(), id)
					}
					within.Store("")
					done <- err
				}()
				synctest.Wait()
				require.Equal(t, c.within, within.Load())
				require.Equal(t, life[:c.before], append([]string{}, s.story.all()...))
				if c.held == "completed" {
					// What it says is true already: it waits as for acknowledgements.
					time.Sleep(coordinator.DefaultCommitWait)
					synctest.Wait()
					require.Empty(t, within.Load())
				}
				close(release)
				require.NoError(t, <-done)
				synctest.Wait()
				require.Equal(t, life, s.story.all())
			})
		})
	}
}

// Whatever returned is found by a restart, though the process dies at that very
// moment. Without ForceEveryTransition what was only begun is lost, as R3 allows.
func TestForceEveryTransitionLosesNothingThatReturned(t *testing.T) {
	for name, force := range map[string]bool{"forced": true, "lazy": false} {
		t.Run(name, func(t *testing.T) {
			playWith(t, coordinator.Config{ForceEveryTransition: force}, nil, func(t *testing.T, s *stage) {
				branch := func(name string) record.Branch { return record.Branch{Participant: name, Data: []byte(name)} }
				enlist := func(id participant.TxID, name string) {
					require.NoError(t, s.Enlist(t.Context(), id, s.actor(name), coordinator.WithData([]byte(name))))
				}
				id, err := s.Begin(t.Context())
				require.NoError(t, err)
				left := s.left(id)
				require.Equal(t, force, left != nil)
				enlist(id, "a")
				if left = s.left(id); force {
					require.Equal(t, []record.Branch{branch("a")}, left.Branches)
				}
				enlist(id, "b")
				if left = s.left(id); force {
					require.Equal(t, []record.Branch{branch("a"), branch("b")}, left.Branches)
					require.False(t, left.Preparing)
				}
				require.Equal(t, force, left != nil)

				require.NoError(t, s.Commit(t.Context(), id))
				left = s.left(id)
				require.Equal(t, record.DecisionCommit, left.Decision)
				require.Equal(t, force, !left.Completed.IsZero())

				id = s.begin()
				enlist(id, "c")
				require.NoError(t, s.Rollback(t.Context(), id))
				left = s.left(id)
				require.Equal(t, record.DecisionRollback, left.Decision)
				require.Equal(t, "c", left.Branches[0].Participant)
			})
		})
	}
}

// left returns what a restart would find of a transaction if the process died now;
// nil if nothing.
func (s *stage) left(id participant.TxID) (found *record.State) {
	s.t.Helper()
	store := s.memory.Clone().Open()
	log, inherited, err := wal.Open(s.t.Context(), store, wal.Config{Domain: "test"})
	require.NoError(s.t, err)
	for _, in := range inherited {
		if in.State.Tx == id {
			found = in.State
		}
	}
	require.NoError(s.t, log.Close(s.t.Context()))
	require.NoError(s.t, store.Close())
	return found
}

// What ForceEveryTransition costs: each record that is not part of another one's
// append is a commit of its own, two fdatasyncs. Nothing else is written.
func TestForceEveryTransitionCommits(t *testing.T) {
	const ro, no = participanttest.DataReadOnly, participanttest.DataRefuse
	for _, c := range []struct {
		name     string
		data     []string // of the branches
		rollback bool
		ended    uint64 // commits after the last Enlist
		outcome  participant.Outcome
	}{
		{name: "commit", data: []string{work, work}, ended: 3, outcome: participant.OutcomeCommitted},             // preparing, decided, completed
		{name: "three branches", data: []string{work, ro, work}, ended: 3, outcome: participant.OutcomeCommitted}, // as many
		{name: "refusal", data: []string{work, no}, ended: 3, outcome: participant.OutcomeRolledBack},
		{name: "rollback", data: []string{work, work}, rollback: true, ended: 2, outcome: participant.OutcomeRolledBack}, // decided, completed
		{name: "one-phase", data: []string{work}, ended: 2, outcome: participant.OutcomeCommitted},                       // delegated, decided with completed
		{name: "read-only", data: []string{ro, ro}, ended: 2, outcome: participant.OutcomeCommitted},                     // preparing, decided with completed
		{name: "nothing enlisted", ended: 1, outcome: participant.OutcomeCommitted},                                      // decided with completed
	} {
		t.Run(c.name, func(t *testing.T) {
			store, err := bolt.Open(filepath.Join(t.TempDir(), "log"), nil)
			require.NoError(t, err)
			defer func() { require.NoError(t, store.Close()) }()
			commits := func() uint64 {
				stats, err := store.Stats()
				require.NoError(t, err)
				return stats.Commits
			}
			finished := make(chan participant.Outcome, 1)
			dtm, err := coordinator.Open(t.Context(), coordinator.Config{
				Domain: "test", Store: store, ForceEveryTransition: true,
				Trace: &coordinator.Trace{Finished: func(_ participant.TxID, o participant.Outcome) { finished <- o }},
			})
			require.NoError(t, err)
			before := commits()
			each := func(want uint64, what string) {
				now := commits()
				require.Equal(t, want, now-before, what)
				before = now
			}
			id, err := dtm.Begin(t.Context())
			require.NoError(t, err)
			each(1, "begin")
			banks := participanttest.NewStore()
			for i, data := range c.data {
				bank := banks.Participant(everyBank[i])
				require.NoError(t, dtm.Enlist(t.Context(), id, bank, coordinator.WithData([]byte(data))))
				each(1, "enlist")
			}
			if c.rollback {
				require.NoError(t, dtm.Rollback(t.Context(), id))
			} else {
				_ = dtm.Commit(context.Background(), id) // Finished says what became of it
			}
			require.Equal(t, c.outcome, <-finished)
			each(c.ended, "to the end")
			require.NoError(t, dtm.Close(t.Context()))
			each(0, "close")
		})
	}
}

// R5: nothing is enlisted or all have only read, so the decision is not waited for, but with
// ForceEveryTransition it is: Commit does not say it was made if that is not known.
func TestR5ForceEveryTransitionTellsNoDecisionThatMayBeLost(t *testing.T) {
	plan := func(c waltest.Call) waltest.Fault {
		if c.Op == waltest.OpAppend && c.N == 3 { // after the catalogue and begun
			return waltest.Fault{Err: errors.New("broken")}
		}
		return waltest.Fault{}
	}
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, coordinator.Config{ForceEveryTransition: true}, plan)
		require.ErrorIs(t, s.Commit(t.Context(), s.begin()), coordinator.ErrOutcomeUnknown)
		require.Error(t, s.Close(t.Context()))
		require.NoError(t, s.store.Close())
	})
}

// Transactions whose time is up together are decided together.
func TestForceEveryTransitionTimeoutsDoNotWaitForEachOther(t *testing.T) {
	var slow atomic.Bool
	plan := func(c waltest.Call) waltest.Fault {
		if c.Op == waltest.OpAppend && slow.Load() {
			time.Sleep(time.Second) // fake time
		}
		return waltest.Fault{}
	}
	playWith(t, coordinator.Config{ForceEveryTransition: true, Timeout: 5 * time.Second}, plan, func(t *testing.T, s *stage) {
		for range 20 {
			s.begin()
		}
		slow.Store(true)
		time.Sleep(8 * time.Second)
		open, err := s.List(t.Context(), coordinator.Filter{})
		require.NoError(t, err)
		require.Empty(t, open)
		slow.Store(false)
	})
}

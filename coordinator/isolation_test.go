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
	"github.com/assent-tm/assent/wal/record"
)

// R6: a participant that answers again is told at once what waited for it. But
// branches that keep failing keep their pauses, also when others succeed in between
// all the time.
func TestR6GoodAnswersDoNotHammerBranchesThatFail(t *testing.T) {
	playWith(t, coordinator.Config{CommitWait: -1}, nil, func(t *testing.T, s *stage) {
		const poisoned = 20
		var poison atomic.Bool
		var calls atomic.Int64
		bad := map[participant.TxID]bool{}
		a := s.actor("a")
		a.commit = func(_ context.Context, b participant.Branch) error {
			if poison.Load() && bad[b.Tx] {
				calls.Add(1)
				return errors.New("poison")
			}
			return nil
		}
		for range poisoned {
			bad[s.begin(a)] = true
		}
		poison.Store(true)
		for id := range bad {
			require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrCommitPending)
		}
		for range 2000 {
			_, err := s.commits(a)
			if err != nil {
				require.ErrorIs(t, err, coordinator.ErrCommitPending)
			}
			time.Sleep(10 * time.Millisecond)
		}
		// 20 s: each has some 10 pauses of its own that double from 50 ms, and was
		// woken about as often.
		require.Less(t, calls.Load(), int64(poisoned*40))
		poison.Store(false)
		time.Sleep(2 * coordinator.DefaultRetryMax)
		for id := range bad {
			require.NoError(t, s.Commit(t.Context(), id))
		}
	})
}

// R12: what waits for a dead participant that was to commit in one phase counts
// against that participant, not against the open transactions of everybody.
func TestR12DeadOnePhaseParticipantDoesNotStopOthers(t *testing.T) {
	playWith(t, coordinator.Config{MaxOpen: 2, MaxUndelivered: 3}, nil, func(t *testing.T, s *stage) {
		dead := s.soloist("dead")
		dead.onePhase = answers(errors.New("down"))
		for range 3 {
			id := s.begin(dead)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.ErrorIs(t, s.Commit(ctx, id), coordinator.ErrOutcomeUnknown)
			cancel()
		}
		_, err := s.commits(s.actor("a"))
		require.NoError(t, err)
		id := s.begin()
		require.ErrorIs(t, s.Enlist(t.Context(), id, dead), coordinator.ErrLimit)
		require.NoError(t, s.Rollback(t.Context(), id))
	})
}

func TestR12ParticipantsAreBounded(t *testing.T) {
	playWith(t, coordinator.Config{MaxParticipants: 2}, nil, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.actor("b")
		id := s.begin(a, b)
		for i := range 3 {
			err := s.Enlist(t.Context(), id, s.actor(fmt.Sprintf("c%d", i)))
			require.ErrorIs(t, err, coordinator.ErrLimit)
			require.ErrorContains(t, err, "MaxParticipants")
		}
		require.NoError(t, s.Enlist(t.Context(), id, a), "one that is registered")
		require.NoError(t, s.Commit(t.Context(), id))
	})
}

// R9: whatever this coordinator says of a former term, to finish what it inherited
// or to clean up an orphan, it says with one epoch: a participant that keeps the
// highest would refuse the lower one for ever.
func TestR9InheritedTransactionsHaveTheCoordinatorsEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		inherited := s.leave(t, record.DecisionCommit, "a", "b")
		epochs := map[participant.TxID]uint64{}
		told := make(chan participant.Branch, 10)
		own := s.banks.Participant("a")
		p := &hooked{Memory: own, commit: func(b participant.Branch) error { told <- b; return nil }}
		b := s.banks.Participant("b")
		d := s.open(t, coordinator.Config{Participants: []participant.Participant{p, b}})
		require.NoError(t, d.WaitRecovered(t.Context()))
		require.NoError(t, d.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
			_, err := tx.Enlist(ctx, p, nil)
			if err == nil {
				_, err = tx.Enlist(ctx, b, nil)
			}
			return err
		}))
		for range 2 {
			branch := <-told
			epochs[branch.Tx] = branch.Epoch
		}
		require.Len(t, epochs, 2)
		for id, epoch := range epochs {
			require.Equal(t, epochs[inherited], epoch, id)
		}
	})
}

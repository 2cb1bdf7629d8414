package coordinator_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/wal/waltest"
)

// R10: one proof anywhere means safe mode, also one in the list that is read last:
// until then nothing is rolled back by absence anywhere. Here a copy of the log from
// before the decision is put back, and only bank_a, which has committed, can tell.
func TestR10TheProofInTheLastListIsInTime(t *testing.T) {
	for name, slow := range map[string]time.Duration{"as fast": 0, "slower": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite()
				l := s.start(t, death{}, "bank_a", "bank_b")
				var backup *waltest.Memory
				c := &hooked{
					Memory:  s.banks.Participant("bank_c"),
					prepare: func(participant.Branch) error { backup = s.log.Clone(); return nil },
					commit:  func(participant.Branch) error { return errUnreachable },
				}
				split, err := l.dtm.Begin(t.Context())
				require.NoError(t, err)
				require.NoError(t, l.dtm.Enlist(t.Context(), split, l.participant("bank_a")))
				require.NoError(t, l.dtm.Enlist(t.Context(), split, c))
				require.ErrorIs(t, l.dtm.Commit(t.Context(), split), coordinator.ErrCommitPending)
				later, err := l.dtm.Begin(t.Context())
				require.NoError(t, err)
				require.NoError(t, l.dtm.Enlist(t.Context(), later, l.participant("bank_a")))
				require.NoError(t, l.dtm.Commit(t.Context(), later))
				l.kill()

				s.log = backup
				a := &hooked{Memory: s.banks.Participant("bank_a"), list: func(context.Context, int) error {
					time.Sleep(slow)
					return nil
				}}
				dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{a, s.banks.Participant("bank_c")}})
				require.ErrorIs(t, dtm.WaitRecovered(t.Context()), coordinator.ErrSafeMode)
				time.Sleep(time.Hour) // fake time: many sweeps
				require.Equal(t, participanttest.StatePrepared, s.state("bank_c", split, 1))
			})
		})
	}
}

// R6: a participant that can't be listed holds up rollbacks by absence at others for no
// longer than a call may take.
func TestR6AListThatHangsHoldsUpOthersForOneCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		absent := s.leave(t, undecided, "bank_a", "bank_b")
		const callTimeout = 3 * time.Second
		var told atomic.Int64
		opened := time.Now()
		b := &hooked{Memory: s.banks.Participant("bank_b"), rollback: func(participant.Branch) error {
			told.Store(int64(time.Since(opened)))
			return nil
		}}
		s.open(t, coordinator.Config{
			CallTimeout:  callTimeout,
			Participants: []participant.Participant{&hooked{Memory: s.banks.Participant("bank_a"), list: listNever}, b},
		})
		time.Sleep(time.Minute) // fake time
		require.Equal(t, int64(callTimeout), told.Load())
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_b", absent, 1))
	})
}

package coordinator_test

import (
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

// quarantine says the operator's word while no coordinator uses the log.
func (s *site) quarantine(t *testing.T) {
	t.Helper()
	store := s.log.Open()
	log, _, err := wal.Open(t.Context(), store, wal.Config{Domain: "test"})
	require.NoError(t, err)
	require.NoError(t, log.Quarantine(t.Context(), "restored from Monday's backup"))
	require.NoError(t, log.Close(t.Context()))
	require.NoError(t, store.Close())
}

// R10: a log in quarantine is in safe mode from the start, without any participant's
// proof, through crashes; after an operator's word the next coordinator works on.
func TestR10QuarantineIsSafeModeUntilAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		decided := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		absent := l.leave(t, undecided, "bank_a", "bank_b")
		bare, err := l.dtm.Begin(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Second) // fake time: begun is durable
		backup := s.log.Clone()
		l.kill()
		// A restart in between: what the lost term knew proves nothing. It lacked the
		// banks that are still to be told.
		l = s.start(t, death{}, "bank_c", "bank_d")
		lost := l.leave(t, undecided, "bank_c", "bank_d")
		l.kill()
		s.log = backup
		s.quarantine(t)
		s.log = s.log.Clone() // a crash right after it

		why := make(chan string, 1)
		l = s.start(t, death{}, everyBank...)
		text, on := l.dtm.SafeMode()
		require.True(t, on)
		require.Contains(t, text, "restored from Monday's backup")
		require.Contains(t, text, "assent log accept")
		_, err = l.dtm.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrSafeMode)
		require.ErrorIs(t, l.dtm.WaitRecovered(t.Context()), coordinator.ErrSafeMode)
		require.ErrorIs(t, l.dtm.Commit(t.Context(), lost), coordinator.ErrSafeMode, "not unknown: lost perhaps")
		time.Sleep(time.Hour) // fake time: many sweeps
		require.NoError(t, l.dtm.Commit(t.Context(), decided))
		for i, name := range []string{"bank_a", "bank_b"} {
			require.Equal(t, participanttest.StatePrepared, s.state(name, absent, i))
		}
		for _, id := range []participant.TxID{absent, bare} {
			info, err := l.dtm.Get(t.Context(), id)
			require.NoError(t, err)
			require.Zero(t, info.Decision, "nothing is decided by absence")
		}
		require.NoError(t, l.dtm.Accept(t.Context(), "compared with both banks"))
		_, on = l.dtm.SafeMode()
		require.True(t, on, "until the log is opened again")
		l.kill()

		dtm := s.open(t, coordinator.Config{
			Participants: []participant.Participant{s.banks.Participant("bank_a"), s.banks.Participant("bank_b"), s.banks.Participant("bank_c")},
			Trace:        &coordinator.Trace{SafeMode: func(reason string) { why <- reason }},
		})
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		_, on = dtm.SafeMode()
		require.False(t, on)
		for i, name := range []string{"bank_a", "bank_b"} {
			require.NotEqual(t, participanttest.StatePrepared, s.state(name, absent, i))
		}
		_, err = dtm.Begin(t.Context())
		require.NoError(t, err)
		orphans, err := dtm.Orphans(t.Context())
		require.NoError(t, err)
		require.Len(t, orphans, 1, "of the lost term, at bank_c")
		require.Equal(t, recovery.ForeignTerm, orphans[0].Verdict)
		require.Empty(t, why)
	})
}

// R10: an acceptance is of what was known then. The same proof counts no more; what
// participants know of a later loss does.
func TestR10AcceptanceEndsOneProofNotTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		require.ErrorContains(t, l.dtm.Accept(t.Context(), "no need"), "not in safe mode")
		backup := s.log.Clone()
		newer := l.leave(t, undecided, "bank_a", "bank_b")
		l.kill()
		s.log = backup
		for range 2 { // of a log that nobody accepts it is found again and again
			l = s.start(t, death{}, everyBank...)
			synctest.Wait() // the lists were read
			_, on := l.dtm.SafeMode()
			require.True(t, on)
			require.ErrorContains(t, l.dtm.Accept(t.Context(), ""), "reason is missing")
			l.kill()
		}
		l = s.start(t, death{}, everyBank...)
		synctest.Wait()
		require.NoError(t, l.dtm.Accept(t.Context(), "compared with both banks"))
		l.kill()

		var proofs atomic.Int32
		l = s.start(t, death{}, everyBank...)
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		time.Sleep(time.Minute) // fake time: a sweep
		for i, name := range []string{"bank_a", "bank_b"} {
			require.NotEqual(t, participanttest.StatePrepared, s.state(name, newer, i), "absence counts again")
		}
		backup = s.log.Clone()
		l.leave(t, undecided, "bank_a", "bank_b")
		l.kill()
		s.log = backup
		dtm := s.open(t, coordinator.Config{
			Participants: []participant.Participant{s.banks.Participant("bank_a")},
			Trace:        &coordinator.Trace{SafeMode: func(string) { proofs.Add(1) }},
		})
		synctest.Wait()
		require.ErrorIs(t, dtm.WaitRecovered(t.Context()), coordinator.ErrSafeMode)
		require.Equal(t, int32(1), proofs.Load())
	})
}

// R10: what nobody's list could say more about is not rolled back by absence either.
func TestR10QuarantineHoldsWhatNobodyLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{})
		bare, err := l.dtm.Begin(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Second) // fake time: begun is durable
		backup := s.log.Clone()
		l.kill()
		s.log = backup
		s.quarantine(t)
		dtm := s.open(t, coordinator.Config{})
		synctest.Wait()
		info, err := dtm.Get(t.Context(), bare)
		require.NoError(t, err)
		require.Zero(t, info.Decision)
	})
}

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
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
)

// R10: a log restored from a backup is found out by what its participants know,
// and does no harm: decisions that it holds are delivered, nothing is begun, and
// nothing is rolled back by absence.
func TestOldLogIsSafeMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		decided := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		absent := l.leave(t, undecided, "bank_a", "bank_b")
		bare, err := l.dtm.Begin(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Second) // fake time: begun is durable
		backup := s.log.Clone()
		newer := l.leave(t, undecided, "bank_a", "bank_b", "bank_c")
		l.kill()
		forged := participant.Branch{Domain: "test", Tx: preceding(decided), Epoch: s.epoch("bank_a")}
		_, err = s.banks.Participant("bank_a").Prepare(t.Context(), forged)
		require.NoError(t, err)

		s.log = backup
		var proofs atomic.Int32
		dtm := s.open(t, coordinator.Config{
			Participants: []participant.Participant{s.banks.Participant("bank_a"), s.banks.Participant("bank_b"), s.banks.Participant("bank_c")},
			Trace:        &coordinator.Trace{SafeMode: func(string) { proofs.Add(1) }},
		})
		require.ErrorIs(t, dtm.WaitRecovered(t.Context()), coordinator.ErrSafeMode)
		time.Sleep(time.Hour) // fake time: many sweeps
		require.Equal(t, int32(1), proofs.Load())
		require.Equal(t, participanttest.StateUnknown, s.state("bank_a", decided, 0), "committed and forgotten")
		require.NoError(t, dtm.Commit(t.Context(), decided))
		for _, id := range []participant.TxID{absent, newer} {
			for i, name := range []string{"bank_a", "bank_b"} {
				require.Equal(t, participanttest.StatePrepared, s.state(name, id, i))
			}
		}
		require.Equal(t, participanttest.StatePrepared, s.banks.Participant("bank_a").State(forged))

		_, err = dtm.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrSafeMode)
		require.ErrorIs(t, dtm.Run(t.Context(), nil), coordinator.ErrSafeMode)
		for _, id := range []participant.TxID{bare, absent, newer, forged.Tx} {
			require.ErrorIs(t, dtm.Enlist(t.Context(), id, s.banks.Participant("bank_d")), coordinator.ErrSafeMode)
			require.ErrorIs(t, dtm.Commit(t.Context(), id), coordinator.ErrSafeMode)
			require.ErrorIs(t, dtm.Rollback(t.Context(), id), coordinator.ErrSafeMode)
		}
		for _, id := range []participant.TxID{newer, forged.Tx} {
			_, err = dtm.Get(t.Context(), id)
			require.ErrorIs(t, err, coordinator.ErrSafeMode)
		}
		for _, id := range []participant.TxID{absent, bare} {
			info, err := dtm.Get(t.Context(), id)
			require.NoError(t, err)
			require.Zero(t, info.Decision)
		}
		orphans, err := dtm.Orphans(t.Context())
		require.NoError(t, err)
		require.Len(t, orphans, 4, "newer at three banks, and forged")
		for _, o := range orphans {
			require.Equal(t, recovery.LogTooOld, o.Verdict)
			require.NotEmpty(t, o.Reason)
		}
	})
}

// preceding returns the id just below, of a transaction that nobody began.
func preceding(id participant.TxID) participant.TxID {
	for i := len(id.UUID) - 1; ; i-- {
		id.UUID[i]--
		if id.UUID[i] != 0xff {
			return id
		}
	}
}

// R10: one proof anywhere, whenever it is found, ends all rollbacks by absence:
// also those that are being repeated, and those of transactions without branches.
func TestSafeModeStopsRollbacksUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		absent := l.leave(t, undecided, "bank_a", "bank_c")
		backup := s.log.Clone()
		l.leave(t, undecided, "bank_b", "bank_c")
		l.kill()
		s.log = backup
		var rollbacks atomic.Int32
		proven := make(chan struct{})
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{
			&hooked{Memory: s.banks.Participant("bank_a"), rollback: func(participant.Branch) error {
				rollbacks.Add(1)
				return errUnreachable
			}},
			&hooked{Memory: s.banks.Participant("bank_b"), list: func(context.Context, int) error {
				<-proven
				return nil
			}},
		}})
		time.Sleep(time.Minute) // fake time
		before := rollbacks.Load()
		require.Positive(t, before)
		close(proven)
		require.ErrorIs(t, dtm.WaitRecovered(t.Context()), coordinator.ErrSafeMode)
		time.Sleep(time.Hour) // fake time
		require.LessOrEqual(t, rollbacks.Load(), before+1, "one may have been under way")
		require.Equal(t, participanttest.StatePrepared, s.state("bank_a", absent, 0))
	})
}

// R10: a proof that comes late, from a participant that was restored or silent
// perhaps, is found by the sweep.
func TestSweepFindsProofOfOldLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		known := l.play(t.Context(), scripts[0]).id
		l.kill()
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{s.banks.Participant("bank_a")}})
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		time.Sleep(time.Second) // fake time: the first sweep is over
		unknown := s.late(t, dtm, "bank_a", preceding(known), 0)
		newer := s.late(t, dtm, "bank_a", following(known), 0)
		time.Sleep(time.Minute) // fake time: a sweep
		require.Equal(t, participanttest.StatePrepared, s.banks.Participant("bank_a").State(unknown))
		require.Equal(t, participanttest.StatePrepared, s.banks.Participant("bank_a").State(newer))
		_, err := dtm.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrSafeMode)
		require.ErrorIs(t, dtm.WaitRecovered(t.Context()), coordinator.ErrSafeMode, "though all was recovered before")
	})
}

// R10, R13: before the participants were listed nobody knows whether the log is an
// old one. "Rolled back" would have the caller pay again what was paid.
func TestNothingUnknownIsRolledBackBeforeListsWereRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		time.Sleep(time.Second) // fake time: the term is durable, and empty
		backup := s.log.Clone()
		lost := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		l.kill()

		s.log = backup
		slow := &hooked{Memory: s.banks.Participant("bank_a"), list: func(ctx context.Context, _ int) error {
			time.Sleep(5 * time.Second) // fake time
			return ctx.Err()
		}}
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{slow}})
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := dtm.Get(short, lost)
		require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
		require.ErrorIs(t, dtm.Commit(t.Context(), lost), coordinator.ErrSafeMode)
		require.ErrorIs(t, dtm.Rollback(t.Context(), lost), coordinator.ErrSafeMode)
	})
}

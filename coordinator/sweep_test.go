package coordinator_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
)

// sightings are the orphans that sweeps reported.
type sightings struct {
	mu   sync.Mutex
	seen []recovery.Orphan
}

func (s *sightings) trace() *coordinator.Trace {
	return &coordinator.Trace{Orphan: func(o recovery.Orphan) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.seen = append(s.seen, o)
	}}
}

func (s *sightings) of(id participant.TxID) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.seen {
		if o.Branch.Tx == id {
			n++
		}
	}
	return n
}

// late is a Prepare that was on its way for so long that the bank has forgotten
// the branch, or never knew it.
func (s *site) late(t *testing.T, dtm *coordinator.DTM, name string, tx participant.TxID, number int) participant.Branch {
	t.Helper()
	b := participant.Branch{Domain: "test", Tx: tx, Number: number, Epoch: epochOf(t, dtm)}
	bank := s.banks.Participant(name)
	require.NoError(t, bank.Forget(t.Context(), []participant.Branch{b}))
	vote, err := bank.Prepare(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	return b
}

// epochOf returns the coordinator's epoch, which is above those of all before it.
func epochOf(t *testing.T, dtm *coordinator.DTM) uint64 {
	t.Helper()
	id, err := dtm.Begin(t.Context())
	require.NoError(t, err)
	b, err := dtm.Tx(id).Enlist(t.Context(), nobody, nil)
	require.NoError(t, err)
	return b.Epoch
}

// siteAfterDeath returns a site whose coordinator died, and the id of a transaction
// that it had committed.
func siteAfterDeath(t *testing.T) (*site, participant.TxID) {
	t.Helper()
	s := newSite()
	l := s.start(t, death{}, everyBank...)
	defer l.kill()
	return s, l.play(t.Context(), scripts[0]).id
}

var nobody = participant.Func("nobody", nil, nil, nil)

// following returns the id just above.
func following(id participant.TxID) participant.TxID {
	for i := len(id.UUID) - 1; ; i-- {
		id.UUID[i]++
		if id.UUID[i] != 0 {
			return id
		}
	}
}

func verdicts(orphans []recovery.Orphan) map[participant.XID]recovery.Verdict {
	m := make(map[participant.XID]recovery.Verdict)
	for _, o := range orphans {
		m[o.Branch.XID()] = o.Verdict
	}
	return m
}

// R10, R13: what Orphans says of each prepared branch, and that the sweep does
// just that.
func TestOrphansAreJudgedAndSwept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		committed, refused := l.play(t.Context(), scripts[0]), l.play(t.Context(), scripts[1])
		l.kill()
		var seen sightings
		a, b, c := s.banks.Participant("bank_a"), s.banks.Participant("bank_b"), s.banks.Participant("bank_c")
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{a, b, c}, Trace: seen.trace()})
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		time.Sleep(time.Second) // fake time: the first sweep is over

		foreign := participant.TxID{Term: participant.NewTerm(1, 99), UUID: committed.id.UUID}
		want := map[participant.XID]recovery.Verdict{
			s.late(t, dtm, "bank_a", foreign, 0).XID():                recovery.ForeignTerm,
			s.late(t, dtm, "bank_a", preceding(refused.id), 63).XID(): recovery.TellPresumed,
			s.late(t, dtm, "bank_b", refused.id, 1).XID():             recovery.TellRollback,
			s.late(t, dtm, "bank_c", committed.id, 2).XID():           recovery.TellCommit,
		}
		others := participant.Branch{Domain: "test-2", Tx: preceding(refused.id), Epoch: epochOf(t, dtm)}
		_, err := a.Prepare(t.Context(), others)
		require.NoError(t, err)
		want[others.XID()] = recovery.OtherDomain

		orphans, err := dtm.Orphans(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, verdicts(orphans))
		for i, o := range orphans {
			require.NotEmpty(t, o.Reason)
			require.Equal(t, "commit "+string(o.Branch.XID()), o.Explanation.Commit)
			require.True(t, i == 0 || orphans[i-1].Branch.Participant <= o.Branch.Participant, "in order")
		}

		time.Sleep(time.Hour) // fake time: many sweeps
		require.Equal(t, participanttest.StatePrepared, s.state("bank_a", foreign, 0), "another log's")
		require.Equal(t, participanttest.StatePrepared, a.State(others), "another domain's")
		// Tombstones stay: nothing durable says that these will not come back.
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", preceding(refused.id), 63))
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_b", refused.id, 1))
		require.Equal(t, participanttest.StateCommitted, s.state("bank_c", committed.id, 2))
		orphans, err = dtm.Orphans(t.Context())
		require.NoError(t, err)
		left := map[participant.XID]recovery.Verdict{others.XID(): recovery.OtherDomain}
		for xid, verdict := range want {
			if verdict == recovery.ForeignTerm {
				left[xid] = verdict
			}
		}
		require.Equal(t, left, verdicts(orphans))
		for _, id := range []participant.TxID{foreign, preceding(refused.id), refused.id, committed.id} {
			require.Equal(t, 1, seen.of(id), "reported once, and what is another domain's not at all")
		}
	})
}

// R13: at or below the mark the outcome was forgotten, and the branch is left to an
// operator; above it there never was a decision.
func TestForgottenIsListedAndLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		first, last := l.play(t.Context(), scripts[0]), l.play(t.Context(), scripts[0])
		begun, err := l.dtm.Begin(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Second) // fake time: begun is durable
		l.kill()
		dtm := s.open(t, coordinator.Config{Retention: -1, Participants: []participant.Participant{s.banks.Participant("bank_a")}})
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		time.Sleep(time.Second) // fake time: the first sweep is over

		for _, id := range []participant.TxID{preceding(first.id), first.id, preceding(last.id), last.id} {
			require.ErrorIs(t, dtm.Commit(t.Context(), id), coordinator.ErrForgotten)
			require.ErrorIs(t, dtm.Rollback(t.Context(), id), coordinator.ErrForgotten)
			_, err := dtm.Get(t.Context(), id)
			require.ErrorIs(t, err, coordinator.ErrForgotten)
		}
		for _, id := range []participant.TxID{following(last.id), preceding(begun), begun} {
			require.ErrorIs(t, dtm.Commit(t.Context(), id), coordinator.ErrRolledBack)
			require.NoError(t, dtm.Rollback(t.Context(), id))
			info, err := dtm.Get(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, participant.OutcomeRolledBack, info.Outcome)
			require.Equal(t, record.CausePresumed, info.Cause)
		}

		forgotten := s.late(t, dtm, "bank_a", last.id, 0)
		never := s.late(t, dtm, "bank_a", following(last.id), 0)
		orphans, err := dtm.Orphans(t.Context())
		require.NoError(t, err)
		require.Equal(t, map[participant.XID]recovery.Verdict{forgotten.XID(): recovery.Forgotten, never.XID(): recovery.TellPresumed}, verdicts(orphans))
		time.Sleep(time.Hour) // fake time: many sweeps
		require.Equal(t, participanttest.StatePrepared, s.state("bank_a", last.id, 0))
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", following(last.id), 0))
	})
}

// moment is one in which something happens while a participant is read: before this
// list is read, or after it was read but not returned.
type moment struct {
	list  int
	after bool
}

// R10: the order of reading, participant, table, log, participant again, keeps the
// sweep from taking a live branch for an orphan, whatever happens in between.
func TestSweepNeverTouchesLiveBranches(t *testing.T) {
	cases := []struct {
		name             string
		prepared, ending moment
	}{
		{"prepared throughout", moment{1, false}, moment{3, false}},
		{"prepared while the first list is returned", moment{1, true}, moment{3, false}},
		{"prepared before the second list", moment{2, false}, moment{3, false}},
		{"ended while the first list is returned", moment{1, false}, moment{1, true}},
		{"ended before the second list", moment{1, false}, moment{2, false}},
		{"ended while the second list is returned", moment{1, false}, moment{2, true}},
		{"all before the second list", moment{2, false}, moment{2, false}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { sweepDuring(t, c.prepared, c.ending) })
		})
	}
}

// sweepDuring reads the orphans while a transaction is prepared and ends.
func sweepDuring(t *testing.T, prepared, ending moment) {
	s := newSite()
	var watching atomic.Bool
	var lists int // by the goroutine of Orphans only
	happens := func(moment) {}
	a := &hooked{
		Memory: s.banks.Participant("bank_a"),
		list: func(context.Context, int) error {
			if watching.Load() {
				lists++
				happens(moment{lists, false})
			}
			return nil
		},
		listed: func() {
			if watching.Load() {
				happens(moment{lists, true})
			}
		},
	}
	answer, ended := make(chan struct{}), make(chan error, 1)
	b := &slowVoter{Memory: s.banks.Participant("bank_b"), answer: answer}
	dtm := s.open(t, coordinator.Config{SweepInterval: -1, Participants: []participant.Participant{a, b}})
	synctest.Wait()
	// A foreign branch, so that no list is empty.
	foreign := s.late(t, dtm, "bank_a", participant.TxID{Term: participant.NewTerm(1, 99)}, 0)
	live, err := dtm.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, dtm.Enlist(t.Context(), live, a))
	require.NoError(t, dtm.Enlist(t.Context(), live, b))
	happens = func(now moment) {
		if now == prepared {
			go func() { ended <- dtm.Commit(context.Background(), live) }()
			synctest.Wait()
			require.Equal(t, participanttest.StatePrepared, s.state("bank_a", live, 0))
		}
		if now == ending {
			close(answer)
			require.NoError(t, <-ended)
			time.Sleep(time.Second) // fake time: completed and forgotten by the bank
		}
	}
	watching.Store(true)
	orphans, err := dtm.Orphans(t.Context())
	watching.Store(false)
	require.NoError(t, err)
	require.Equal(t, map[participant.XID]recovery.Verdict{foreign.XID(): recovery.ForeignTerm}, verdicts(orphans))
	require.Equal(t, 2, lists)
	happens(moment{3, false})
	require.NoError(t, dtm.Commit(t.Context(), live))
}

// slowVoter votes when it is let.
type slowVoter struct {
	*participanttest.Memory
	answer <-chan struct{}
}

func (s *slowVoter) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	select {
	case <-s.answer:
		return s.Memory.Prepare(ctx, b)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// List says nothing: it is bank_a that is watched.
func (s *slowVoter) List(context.Context, string) (participant.Listing, error) {
	return participant.Listing{}, nil
}

// R4, R6: a late Prepare that brings a branch back is cleaned up, though another
// participant of its transaction is down and keeps it live.
func TestBranchThatCameBackOfLiveTransactionIsCleanedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		var down atomic.Bool
		down.Store(true)
		a, c := s.banks.Participant("bank_a"), s.banks.Participant("bank_c")
		b := &hooked{Memory: s.banks.Participant("bank_b"), rollback: func(participant.Branch) error {
			if down.Load() {
				return errUnreachable
			}
			return nil
		}}
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{a, b, c}})
		id, err := dtm.Begin(t.Context())
		require.NoError(t, err)
		for _, p := range []participant.Participant{a, b, c} {
			data := work
			if p == c {
				data = participanttest.DataRefuse
			}
			require.NoError(t, dtm.Enlist(t.Context(), id, p, coordinator.WithData([]byte(data))))
		}
		require.ErrorIs(t, dtm.Commit(t.Context(), id), coordinator.ErrRolledBack)
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", id, 0))
		s.late(t, dtm, "bank_a", id, 0)
		time.Sleep(time.Minute) // fake time: a sweep
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", id, 0))
		require.NotEqual(t, participanttest.StateRolledBack, s.state("bank_b", id, 1))
		down.Store(false)
		time.Sleep(time.Minute) // fake time: a retry
		require.NotEqual(t, participanttest.StatePrepared, s.state("bank_b", id, 1))
	})
}

// An orphan that was told its outcome does not count for its transaction: what that
// still has to tell others is in doubt.
func TestWaitRecoveredIsNotEndedByAnOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		id := s.leave(t, undecided, "bank_a", "bank_b")
		var down atomic.Bool
		down.Store(true)
		a := s.banks.Participant("bank_a")
		b := &hooked{Memory: s.banks.Participant("bank_b"), rollback: func(participant.Branch) error {
			if down.Load() {
				return errUnreachable
			}
			return nil
		}}
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{a, b}})
		synctest.Wait()
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", id, 0))
		s.late(t, dtm, "bank_a", id, 0)
		time.Sleep(time.Minute) // fake time: a sweep
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", id, 0))

		require.Equal(t, participanttest.StatePrepared, s.state("bank_b", id, 1))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, dtm.WaitRecovered(ctx), context.DeadlineExceeded)
		down.Store(false)
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_b", id, 1))
	})
}

// R10: a List that panics or ends its goroutine is read again, and Orphans says so.
func TestListThatDiesIsReadAgain(t *testing.T) {
	for name, die := range map[string]func(){"panic": func() { panic("out of paper") }, "goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite()
				id := s.leave(t, undecided, "bank_a", "bank_b")
				var dies atomic.Bool
				dies.Store(true)
				a := &hooked{Memory: s.banks.Participant("bank_a"), list: func(context.Context, int) error {
					if dies.Load() {
						die()
					}
					return nil
				}}
				dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{a, s.banks.Participant("bank_b")}})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				_, err := dtm.Orphans(ctx)
				require.ErrorContains(t, err, `list participant "bank_a"`)
				require.Zero(t, time.Since(start))
				require.Equal(t, participanttest.StatePrepared, s.state("bank_a", id, 0))
				dies.Store(false)
				require.NoError(t, dtm.WaitRecovered(ctx))
				require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", id, 0))
			})
		})
	}
}

// R6: a list that hangs, and ignores its context too, holds up no other
// participant's sweep, nor Orphans beyond its context.
func TestHangingListDelaysNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, known := siteAfterDeath(t)
		release := make(chan struct{})
		b := &hooked{Memory: s.banks.Participant("bank_b"), list: func(context.Context, int) error {
			<-release
			return nil
		}}
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{s.banks.Participant("bank_a"), b}})
		time.Sleep(time.Second) // fake time: the first sweep is over
		orphan := s.late(t, dtm, "bank_a", preceding(known), 0)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		orphans, err := dtm.Orphans(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, `"bank_b"`)
		require.Equal(t, map[participant.XID]recovery.Verdict{orphan.XID(): recovery.TellPresumed}, verdicts(orphans))
		time.Sleep(time.Minute) // fake time: a sweep
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", preceding(known), 0))
		close(release)
	})
}

// mute is a bank that can't say what it holds.
type mute struct{ *participanttest.Memory }

func (*mute) Explain(context.Context) ([]participant.Explanation, error) { panic(errUnreachable) }

// What a participant can't explain is listed all the same.
func TestOrphansWithoutExplanation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, known := siteAfterDeath(t)
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{&mute{s.banks.Participant("bank_a")}}})
		time.Sleep(time.Second) // fake time: the first sweep is over
		orphan := s.late(t, dtm, "bank_a", preceding(known), 0)
		orphans, err := dtm.Orphans(t.Context())
		require.ErrorContains(t, err, `participant "bank_a"`)
		require.ErrorContains(t, err, errUnreachable.Error())
		require.Equal(t, map[participant.XID]recovery.Verdict{orphan.XID(): recovery.TellPresumed}, verdicts(orphans))
	})
}

// A list that fails is in Orphans' error, and read again at the next sweep.
func TestFailingListIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, known := siteAfterDeath(t)
		var down atomic.Bool
		a := &hooked{Memory: s.banks.Participant("bank_a"), list: func(context.Context, int) error {
			if down.Load() {
				return errUnreachable
			}
			return nil
		}}
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{a}})
		time.Sleep(time.Second) // fake time: the first sweep is over
		s.late(t, dtm, "bank_a", preceding(known), 0)
		down.Store(true)
		_, err := dtm.Orphans(t.Context())
		require.ErrorIs(t, err, errUnreachable)
		time.Sleep(time.Minute) // fake time: sweeps that fail
		require.Equal(t, participanttest.StatePrepared, s.state("bank_a", preceding(known), 0))
		down.Store(false)
		time.Sleep(time.Minute) // fake time: a sweep that does not
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", preceding(known), 0))
	})
}

// R6, R11: an orphan is told until it acknowledges, by one call at a time, and is
// reported once however many sweeps find it.
func TestOrphanIsToldUntilItAcknowledges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, known := siteAfterDeath(t)
		var down atomic.Bool
		var calls, under atomic.Int32
		down.Store(true)
		a := &hooked{Memory: s.banks.Participant("bank_a"), rollback: func(participant.Branch) error {
			calls.Add(1)
			if under.Add(1) > 1 {
				t.Error("two calls at a time")
			}
			defer under.Add(-1)
			time.Sleep(5 * time.Second) // fake time: the call takes long
			if down.Load() {
				return errUnreachable
			}
			return nil
		}}
		var seen sightings
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{a}, SweepInterval: time.Second, Trace: seen.trace()})
		time.Sleep(time.Second)
		orphan := preceding(known)
		s.late(t, dtm, "bank_a", orphan, 0)
		time.Sleep(time.Hour) // fake time
		before := calls.Load()
		require.Greater(t, before, int32(10))
		require.Less(t, before, int32(720), "sweeps don't add to the retries")
		require.Equal(t, 1, seen.of(orphan))
		down.Store(false)
		time.Sleep(time.Minute) // fake time
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", orphan, 0))
		require.LessOrEqual(t, calls.Load(), before+2)
	})
}

func TestNegativeSweepIntervalSweepsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, known := siteAfterDeath(t)
		bank := s.banks.Participant("bank_a")
		_, err := bank.Prepare(t.Context(), participant.Branch{Domain: "test", Tx: preceding(known), Epoch: 1})
		require.NoError(t, err)
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{bank}, SweepInterval: -1})
		synctest.Wait()
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", preceding(known), 0))
		s.late(t, dtm, "bank_a", preceding(preceding(known)), 0)
		time.Sleep(100 * time.Hour) // fake time
		require.Equal(t, participanttest.StatePrepared, s.state("bank_a", preceding(preceding(known)), 0))
	})
}

// R4, R9: the Prepare of a dead coordinator arrives when recovery is over. The
// tombstone refuses it, and so does the epoch; if the participant has neither any
// more, the sweep cleans up.
func TestLatePrepareAfterRecoveryIsCleanedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		var late participant.Branch
		hold := make(chan struct{})
		b := &hooked{Memory: s.banks.Participant("bank_b"), prepare: func(b participant.Branch) error {
			late = b // and does not arrive
			<-hold
			return errUnreachable
		}}
		store := s.log.Open()
		dead, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store})
		require.NoError(t, err)
		id, err := dead.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, dead.Enlist(t.Context(), id, b))
		require.NoError(t, dead.Enlist(t.Context(), id, s.banks.Participant("bank_a")))
		told := make(chan error)
		go func() { told <- dead.Commit(context.Background(), id) }()
		synctest.Wait()
		store.Crash()
		close(hold)
		require.ErrorIs(t, <-told, coordinator.ErrOutcomeUnknown)
		require.Error(t, dead.Close(t.Context()))

		bank := &hooked{Memory: s.banks.Participant("bank_b")}
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{bank, s.banks.Participant("bank_a")}})
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_b", id, 0), "a tombstone, though it never prepared")
		_, err = bank.Memory.Prepare(t.Context(), late)
		require.ErrorIs(t, err, participant.ErrStaleEpoch)
		late.Epoch = epochOf(t, dtm)
		vote, err := bank.Memory.Prepare(t.Context(), late)
		require.ErrorIs(t, err, participant.ErrRefused)
		require.Equal(t, participant.VoteRefused, vote)
		time.Sleep(time.Second) // fake time: the bank was told to forget
		s.late(t, dtm, "bank_b", id, 0)
		time.Sleep(time.Minute) // fake time: a sweep
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_b", id, 0))
	})
}

// R10: what a participant lists against its contract is not touched, and harms
// nobody.
func TestListsAgainstTheContractHarmNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, known := siteAfterDeath(t)
		bank := &liar{Memory: s.banks.Participant("bank_a"), listing: participant.Listing{Prepared: []participant.Branch{
			{Domain: "other", Tx: preceding(known)},
			{Domain: "test-2", Tx: preceding(known), Number: 1},
			{Domain: "test", Tx: preceding(known), Number: -1},
			{Domain: "test", Tx: preceding(known), Number: participant.MaxBranches},
			{Domain: "test"},
		}}}
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{bank}})
		time.Sleep(time.Hour) // fake time: many sweeps
		orphans, err := dtm.Orphans(t.Context())
		require.NoError(t, err)
		require.Len(t, orphans, 1)
		require.Equal(t, recovery.ForeignTerm, orphans[0].Verdict)
		require.Empty(t, bank.Entries())
	})
}

// liar lists what it likes.
type liar struct {
	*participanttest.Memory
	listing participant.Listing
}

func (l *liar) List(context.Context, string) (participant.Listing, error) { return l.listing, nil }

// R10: a log that was restored from a backup older than its last start does not know
// the term of that start.
func TestForeignTermIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, known := siteAfterDeath(t)
		foreign := participant.TxID{Term: participant.NewTerm(9, 99)}
		var banks []participant.Participant
		for _, name := range []string{"bank_a", "bank_b"} {
			banks = append(banks, &liar{Memory: s.banks.Participant(name), listing: participant.Listing{
				Highest: []participant.TxID{known, foreign}, Prepared: []participant.Branch{{Domain: "test", Tx: foreign}},
			}})
		}
		core, logs := observer.New(zap.WarnLevel)
		dtm := s.open(t, coordinator.Config{Participants: banks, Logger: zap.New(core)})
		time.Sleep(time.Hour) // fake time: many sweeps
		_, err := dtm.Orphans(t.Context())
		require.NoError(t, err)
		reports := logs.FilterMessageSnippet("never opened in this log")
		require.Equal(t, 2, reports.Len(), "one of each participant")
		require.Equal(t, 2, reports.FilterField(zap.Stringer("term", foreign.Term)).Len())
		_, err = dtm.Begin(t.Context())
		require.NoError(t, err, "it proves nothing")
	})
}

func TestOrphansRefusesOnceClosed(t *testing.T) {
	s := newSite()
	store := s.log.Open()
	dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store})
	require.NoError(t, err)
	require.NoError(t, dtm.Close(t.Context()))
	_, err = dtm.Orphans(t.Context())
	require.True(t, errors.Is(err, coordinator.ErrClosed))
	require.NoError(t, store.Close())
}

// R9, R10: on a shared store the terms of coordinators that live are not ours.
func TestOtherCoordinatorsBranchesAreLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		answer, ended := make(chan struct{}), make(chan error, 1)
		a := s.banks.Participant("bank_a")
		b := &slowVoter{Memory: s.banks.Participant("bank_b"), answer: answer}
		first := s.open(t, coordinator.Config{Participants: []participant.Participant{a, b}, Timeout: 24 * time.Hour, CallTimeout: 5 * time.Minute})
		id, err := first.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, first.Enlist(t.Context(), id, a))
		require.NoError(t, first.Enlist(t.Context(), id, b))
		go func() { ended <- first.Commit(context.Background(), id) }()
		synctest.Wait()
		require.Equal(t, participanttest.StatePrepared, s.state("bank_a", id, 0))

		second := s.open(t, coordinator.Config{Participants: []participant.Participant{a}})
		require.NoError(t, second.WaitRecovered(t.Context()))
		time.Sleep(3 * time.Minute) // fake time: sweeps
		orphans, err := second.Orphans(t.Context())
		require.NoError(t, err)
		require.Len(t, orphans, 1)
		require.Equal(t, recovery.ForeignTerm, orphans[0].Verdict)
		_, err = second.Get(t.Context(), id)
		require.ErrorIs(t, err, coordinator.ErrNotFound)
		_, err = second.Begin(t.Context())
		require.NoError(t, err, "a foreign id proves nothing")
		close(answer)
		require.NoError(t, <-ended)
	})
}

// R10: sweeps in the midst of live work find no orphan, ever.
func TestSweepsAmongLiveWorkFindNoOrphan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		var seen sightings
		var lists atomic.Int32
		pause := func() { time.Sleep(rand.N(3 * time.Millisecond)) } // fake time
		var banks []participant.Participant
		for _, name := range everyBank {
			step := func(participant.Branch) error {
				pause()
				return nil
			}
			banks = append(banks, &hooked{
				Memory: s.banks.Participant(name), prepare: step, commit: step, rollback: step, listed: pause,
				list: func(context.Context, int) error {
					lists.Add(1)
					pause()
					return nil
				},
			})
		}
		dtm := s.open(t, coordinator.Config{Participants: banks, SweepInterval: time.Millisecond, Trace: seen.trace()})
		var clients sync.WaitGroup
		for i := range 20 {
			clients.Go(func() {
				for range 20 {
					id, err := dtm.Begin(t.Context())
					require.NoError(t, err)
					for n, bank := range banks {
						data := work
						if i%5 == 0 && n == 1 {
							data = participanttest.DataRefuse
						}
						require.NoError(t, dtm.Enlist(t.Context(), id, bank, coordinator.WithData([]byte(data))))
					}
					if err = dtm.Commit(t.Context(), id); i%5 == 0 {
						require.ErrorIs(t, err, coordinator.ErrRolledBack)
					} else {
						require.NoError(t, err)
					}
				}
			})
		}
		clients.Wait()
		require.Zero(t, len(seen.seen), "orphans")
		require.Greater(t, lists.Load(), int32(50))
	})
}

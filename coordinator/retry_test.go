package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
)

// outage makes an actor's Commit fail while it lasts, and counts the calls.
type outage struct {
	over   atomic.Bool
	mu     sync.Mutex
	calls  []time.Time
	atOnce int // calls in flight
	most   int
	takes  time.Duration // of a call that fails
	err    error
}

func (o *outage) answer(context.Context, participant.Branch) error {
	o.mu.Lock()
	o.calls = append(o.calls, time.Now())
	o.atOnce++
	o.most = max(o.most, o.atOnce)
	o.mu.Unlock()
	defer func() {
		o.mu.Lock()
		o.atOnce--
		o.mu.Unlock()
	}()
	if o.over.Load() {
		return nil
	}
	time.Sleep(o.takes)
	return o.err
}

// reset forgets the calls so far.
func (o *outage) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls, o.most = nil, o.atOnce
}

// times returns when the calls came.
func (o *outage) times() []time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.calls)
}

func (o *outage) count() int { return len(o.times()) }

// peak returns how many calls were in flight at once.
func (o *outage) peak() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.most
}

// R6: after ErrCommitPending delivery goes on by itself and never gives up; the
// pauses are random, from 50 ms to a bound that doubles up to 30 s.
func TestRetriesNeverEnd(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, o := s.actor("a"), &outage{err: errDown}
		a.commit = o.answer
		id, err := s.commits(a, s.actor("b"))
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		time.Sleep(never)
		calls := o.times()
		require.Greater(t, len(calls), 1000)

		high, pauses, sum := 50*time.Millisecond, map[time.Duration]bool{}, time.Duration(0)
		for i := range calls[1:] {
			pause := calls[i+1].Sub(calls[i])
			high = min(2*high, 30*time.Second)
			require.GreaterOrEqual(t, pause, 50*time.Millisecond)
			require.LessOrEqual(t, pause, high, "pause %d", i)
			pauses[pause] = true
			sum += pause
		}
		require.Greater(t, len(pauses), len(calls)*9/10, "they are random")
		// A pause is the longer one of the call's and the participant's own, both
		// random: 20 s in the mean.
		require.InDelta(t, 20, (sum / time.Duration(len(calls))).Seconds(), 2)

		info := s.info(id)
		require.Equal(t, len(calls), info.Branches[0].Attempts)
		require.Equal(t, errDown.Error(), info.Branches[0].LastError)
		require.False(t, info.Branches[0].Outcome.Valid())
		require.WithinRange(t, info.Branches[0].NextRetry, time.Now().Add(-30*time.Second), time.Now().Add(30*time.Second))

		o.over.Store(true)
		time.Sleep(time.Minute)
		require.NoError(t, s.Commit(t.Context(), id))
	})
}

// R6: the longest RetryMax there is is a bound like any other, however many failures
// in a row there are.
func TestPausesMayBeOfAnyLength(t *testing.T) {
	const failures = 64
	playWith(t, coordinator.Config{RetryMin: 10 * time.Second, RetryMax: math.MaxInt64}, nil, func(t *testing.T, s *stage) {
		a, o := s.actor("a"), &outage{err: errDown}
		let := make(chan struct{})
		a.commit = func(ctx context.Context, b participant.Branch) error {
			<-let
			return o.answer(ctx, b)
		}
		for range failures {
			id := s.begin(a)
			go func() { _ = s.Commit(context.Background(), id) }()
		}
		synctest.Wait()
		close(let)
		synctest.Wait()
		require.Equal(t, failures, o.count())
	})
}

// Failures are logged when they begin, and then ever rarer.
func TestRetriesAreLoggedEverRarer(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.actor("a")
		a.commit = answers(errDown)
		_, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		time.Sleep(never)
		var attempts []int64
		for _, entry := range s.logs.FilterMessageSnippet("has not acknowledged").All() {
			require.Equal(t, zapcore.WarnLevel, entry.Level)
			attempts = append(attempts, entry.ContextMap()["attempt"].(int64))
		}
		require.Greater(t, len(attempts), 10)
		for i, attempt := range attempts {
			require.Equal(t, int64(1)<<i, attempt)
		}
	})
}

// R6: a participant that is down gets one call at a time, as a probe; when it
// answers, all that waited goes at once.
func TestParticipantThatIsDownIsProbed(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		const transactions = 300
		a, o := s.actor("a"), &outage{err: errDown, takes: 100 * time.Millisecond}
		a.commit = o.answer
		var ids []participant.TxID
		for range transactions {
			id, err := s.commits(a)
			require.ErrorIs(t, err, coordinator.ErrCommitPending)
			ids = append(ids, id)
		}
		o.reset()
		time.Sleep(time.Hour)
		require.Equal(t, 1, o.peak())
		require.Less(t, o.count(), 500, "one transaction alone would be asked 180 times or more")
		require.Greater(t, o.count(), 100)

		o.reset()
		back := make(chan struct{})
		a.recast(func() {
			a.commit = func(ctx context.Context, b participant.Branch) error {
				if !o.over.Swap(true) {
					close(back)
				}
				return o.answer(ctx, b)
			}
		})
		<-back
		synctest.Wait()
		require.Equal(t, transactions, o.count(), "woken by the first one that was acknowledged")
		for _, id := range ids {
			require.NoError(t, s.Commit(t.Context(), id))
		}
	})
}

// A vote shows as well that the participant answers again.
func TestVoteWakesRetries(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, o := s.actor("a"), &outage{err: errDown}
		a.commit = o.answer
		id, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		time.Sleep(time.Hour)
		o.over.Store(true)
		before := s.info(id).Branches[0].NextRetry
		_, err = s.commits(a)
		require.NoError(t, err)
		synctest.Wait()
		require.True(t, s.info(id).Branches[0].Outcome.Valid())
		require.Less(t, time.Now(), before.Add(30*time.Second))
	})
}

// R6: one participant that is dead delays neither other branches nor other
// transactions.
func TestDeadParticipantDelaysNobodyElse(t *testing.T) {
	playWith(t, coordinator.Config{CommitWait: -1}, nil, func(t *testing.T, s *stage) {
		dead, b, c := s.actor("dead"), s.actor("b"), s.actor("c")
		dead.commit = func(ctx context.Context, _ participant.Branch) error {
			<-ctx.Done()
			return ctx.Err()
		}
		start := time.Now()
		for i := range 50 {
			_, err := s.commits(dead, b)
			require.ErrorIs(t, err, coordinator.ErrCommitPending)
			synctest.Wait()
			require.Equal(t, 2*i+1, s.story.count("b: commit"))
			_, err = s.commits(b, c)
			require.NoError(t, errorUnless(err, coordinator.ErrCommitPending))
			synctest.Wait()
		}
		require.Equal(t, 50, s.story.count("c: commit"))
		require.Zero(t, time.Since(start))
	})
}

// errorUnless returns err unless it Is allowed.
func errorUnless(err, allowed error) error {
	if errors.Is(err, allowed) {
		return nil
	}
	return err
}

// A Prepare that was cut short because another branch refused says nothing about
// the participant: its rollbacks are not held back.
func TestCancelledPrepareIsNoOutage(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		const transactions = 20
		slow, refuses, let := s.actor("slow"), s.actor("refuses"), make(chan struct{})
		slow.prepare = func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		refuses.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
			<-let
			return participant.VoteRefused, nil
		}
		for range transactions {
			id := s.begin(slow, refuses)
			go func() { _ = s.Commit(context.Background(), id) }()
		}
		synctest.Wait()
		require.Equal(t, transactions, s.story.count("slow: prepare"))
		close(let)
		synctest.Wait() // no time passes
		require.Equal(t, transactions, s.story.count("slow: rollback"))
	})
}

// A participant that is down, and whose places are all taken by Prepares that hang,
// costs nothing: there is nothing to wake up for.
func TestParticipantThatIsDownAndFullCostsNothing(t *testing.T) {
	playWith(t, coordinator.Config{MaxInFlight: 1}, nil, func(t *testing.T, s *stage) {
		a, let := s.actor("a"), make(chan struct{})
		a.commit = answers(errDown)
		pending, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		time.Sleep(time.Hour)
		a.recast(func() { a.prepare, a.commit = hangs(let), nil })
		_, err = s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrRolledBack)
		time.Sleep(time.Hour) // for ever, if a timer fires again and again
		require.ErrorIs(t, s.Commit(t.Context(), pending), coordinator.ErrCommitPending)
		close(let)
		time.Sleep(time.Minute)
		require.NoError(t, s.Commit(t.Context(), pending))
	})
}

// R7: a participant that does not know what it is to commit has not acknowledged.
// It is reported at once and asked again at the slowest pace, whatever else it
// answers.
func TestUnknownBranchOnCommitIsAHazard(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, o := s.actor("a"), &outage{err: participant.ErrUnknownBranch}
		a.commit = o.answer
		id, err := s.commits(a, s.actor("b"))
		var heuristic *coordinator.HeuristicError
		require.ErrorAs(t, err, &heuristic)
		require.Equal(t, participant.OutcomeHeuristicHazard, heuristic.Outcome)
		require.Contains(t, heuristic.Error(), "branch 0 of participant a: heuristic hazard")
		require.Contains(t, s.story.of("log"), "heuristic")
		require.Equal(t, 1, s.logs.FilterLevelExact(zapcore.ErrorLevel).Len())

		other := &outage{}
		other.over.Store(true)
		a.recast(func() {
			a.commit = func(ctx context.Context, b participant.Branch) error {
				if b.Tx == id {
					return o.answer(ctx, b)
				}
				return other.answer(ctx, b)
			}
		})
		other.err = errDown
		for i := range 10 { // it is down, and answers again
			other.over.Store(i%2 == 1)
			_, err = s.commits(a)
			require.NoError(t, errorUnless(err, coordinator.ErrCommitPending))
		}
		time.Sleep(never)
		calls := o.times()
		require.Greater(t, len(calls), 1000)
		for i := range calls[1:] {
			require.Equal(t, coordinator.DefaultRetryMax, calls[i+1].Sub(calls[i]))
		}
		branch := s.info(id).Branches[0]
		require.True(t, branch.Hazard)
		require.False(t, branch.Outcome.Valid(), "no acknowledgement")

		o.over.Store(true) // it has found the branch
		time.Sleep(time.Minute)
		require.NoError(t, s.Commit(t.Context(), id))
		require.Equal(t, participant.OutcomeCommitted, s.info(id).Outcome)
	})
}

// R7: on Rollback the same answer is one.
func TestUnknownBranchOnRollbackIsAnAcknowledgement(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.actor("a")
		a.rollback = answers(fmt.Errorf("a: %w", participant.ErrUnknownBranch))
		id := s.begin(a)
		require.NoError(t, s.Rollback(t.Context(), id))
		time.Sleep(time.Hour)
		require.Equal(t, []string{"rollback"}, s.story.of("a"))
		require.Equal(t, participant.OutcomeRolledBack, s.info(id).Outcome)
	})
}

// A participant that finds another database behind its name says ErrConfig: that is
// an operator's business at once, and is retried.
func TestErrConfigIsReportedAtOnce(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, o := s.actor("a"), &outage{err: fmt.Errorf("another server than at enlist: %w", participant.ErrConfig)}
		a.commit = o.answer
		id, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		entries := s.logs.FilterLevelExact(zapcore.ErrorLevel).All()
		require.NotEmpty(t, entries)
		require.EqualValues(t, 1, entries[0].ContextMap()["attempt"])
		o.over.Store(true)
		time.Sleep(time.Minute)
		require.NoError(t, s.Commit(t.Context(), id))

		// Also if it was down before.
		s.logs.TakeAll()
		a.recast(func() { a.commit = answers(errDown) })
		_, err = s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		time.Sleep(never)
		require.Empty(t, s.logs.FilterLevelExact(zapcore.ErrorLevel).All())
		a.recast(func() { a.commit = answers(participant.ErrConfig) })
		time.Sleep(time.Minute)
		require.Len(t, s.logs.FilterLevelExact(zapcore.ErrorLevel).All(), 1)
	})
}

// R6, R12: at most MaxInFlight calls at a time, the others queue; and neither kind
// of call starves the other.
func TestCallsTakeTurns(t *testing.T) {
	playWith(t, coordinator.Config{MaxInFlight: 1, CommitWait: -1, CallTimeout: time.Hour, Timeout: time.Hour}, nil, func(t *testing.T, s *stage) {
		a, step := s.actor("a"), make(chan struct{})
		wait := func(context.Context, participant.Branch) error {
			<-step
			return nil
		}
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			return participant.VotePrepared, wait(ctx, b)
		}
		a.commit, a.rollback = wait, wait
		for range 4 { // to be told
			require.NoError(t, s.Rollback(t.Context(), s.begin(a)))
		}
		for range 4 { // to be asked
			id := s.begin(a)
			go func() { _ = s.Commit(context.Background(), id) }()
			synctest.Wait()
		}
		require.Equal(t, []string{"rollback"}, s.story.of("a"))
		var calls []string
		for len(calls) < 8 {
			step <- struct{}{}
			synctest.Wait()
			calls = calls[:0]
			for _, call := range s.story.of("a") {
				if call != "prepare returned" {
					calls = append(calls, call)
				}
			}
		}
		for i := range calls[1:] {
			prepares := calls[i] == "prepare"
			require.NotEqual(t, prepares, calls[i+1] == "prepare", "%v", calls)
		}
		close(step)
	})
}

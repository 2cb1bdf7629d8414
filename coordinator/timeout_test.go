package coordinator_test

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// hangs returns a Prepare that ignores its context and votes prepared once let is
// closed.
func hangs(let <-chan struct{}) func(context.Context, participant.Branch) (participant.Vote, error) {
	return func(context.Context, participant.Branch) (participant.Vote, error) {
		<-let
		return participant.VotePrepared, nil
	}
}

// R4: a vote that is missing counts as a refusal, and the branch as prepared: it is
// rolled back, but only when its Prepare has returned, and a late yes is answered
// with Rollback.
func TestMissingVoteIsARefusal(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		let := make(chan struct{})
		a, b := s.actor("a"), s.actor("b")
		a.prepare = hangs(let)
		start := time.Now()
		id, err := s.commits(a, b)
		require.Equal(t, coordinator.DefaultCallTimeout+coordinator.DefaultCommitWait, time.Since(start))
		var rolledBack *coordinator.RolledBackError
		require.ErrorAs(t, err, &rolledBack)
		require.Equal(t, record.CauseTimeout, rolledBack.Cause)
		require.Equal(t, "votes missing after 10s: a", rolledBack.Reason)

		require.Equal(t, 1, s.story.count("b: rollback"), "it is not held up by the other branch (R6)")
		time.Sleep(time.Hour)
		require.Equal(t, []string{"prepare"}, s.story.of("a"))
		close(let)
		synctest.Wait()
		require.Equal(t, []string{"prepare", "prepare returned", "rollback"}, s.story.of("a"))
		require.Equal(t, participant.VotePrepared, s.info(id).Branches[0].Vote, "the late yes")
		require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrRolledBack)
	})
}

// A refusal cancels the other Prepares at once, not when it is durable, and the
// rollback does not wait for their time to pass.
func TestRefusalCancelsOtherPrepares(t *testing.T) {
	slowLog := func(c waltest.Call) waltest.Fault {
		if c.Op == waltest.OpAppend {
			time.Sleep(time.Second)
		}
		return waltest.Fault{}
	}
	playWith(t, coordinator.Config{}, slowLog, func(t *testing.T, s *stage) {
		a, b, asked := s.actor("a"), s.actor("b"), make(chan time.Time, 1)
		a.prepare = func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
			asked <- time.Now()
			<-ctx.Done()
			asked <- time.Now()
			return 0, context.Cause(ctx)
		}
		b.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
			require.Equal(t, time.Now(), <-asked)
			return participant.VoteRefused, nil
		}
		start := time.Now()
		_, err := s.commits(a, b)
		require.ErrorIs(t, err, coordinator.ErrRolledBack)
		require.Equal(t, start.Add(time.Second), <-asked)
		require.Equal(t, 2*time.Second, time.Since(start), "2 forced writes")
		require.Equal(t, []string{"prepare", "prepare returned", "rollback"}, s.story.of("a"))
	})
}

// A Prepare that waits for a place is taken back.
func TestQueuedPrepareIsTakenBack(t *testing.T) {
	playWith(t, coordinator.Config{MaxInFlight: 1}, nil, func(t *testing.T, s *stage) {
		let := make(chan struct{})
		a, b := s.actor("a"), s.actor("b")
		a.prepare = hangs(let)
		first := s.begin(a)
		go func() { _ = s.Commit(context.Background(), first) }()
		synctest.Wait()

		// a's only place is taken: the next Prepare of a waits in the queue, b refuses.
		b.prepare = says(participant.VoteRefused, nil)
		id := s.begin(a, b)
		start := time.Now()
		require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrRolledBack)
		require.Equal(t, coordinator.DefaultCommitWait, time.Since(start), "a can't be told yet")
		require.Equal(t, []string{"prepare"}, s.story.of("a"), "it was not asked to prepare")
		require.Contains(t, s.info(id).Branches[0].LastError, "not asked to prepare")
		close(let)
		synctest.Wait()
		require.Equal(t, 1, s.story.count("a: prepare"))
		require.Equal(t, 1, s.story.count("a: rollback"), "also a branch that was never asked is told")
	})
}

// R12: a participant that hangs for ever collects no Prepares of transactions that
// have long been rolled back.
func TestQueueOfHangingParticipantIsBounded(t *testing.T) {
	playWith(t, coordinator.Config{MaxInFlight: 1, MaxUndelivered: 10}, nil, func(t *testing.T, s *stage) {
		let := make(chan struct{})
		a := s.actor("a")
		a.prepare = hangs(let)
		refused := 0
		for range 30 {
			id := s.begin()
			if err := s.Enlist(t.Context(), id, a); err != nil {
				require.ErrorIs(t, err, coordinator.ErrLimit)
				refused++
			}
			go func() { _ = s.Commit(context.Background(), id) }()
			time.Sleep(time.Minute)
		}
		require.Equal(t, 19, refused, "one is being called, 10 are to be told")
		require.Equal(t, []string{"prepare"}, s.story.of("a"))
		close(let)
		time.Sleep(time.Minute)
		require.Equal(t, 11, s.story.count("a: rollback"))
		id := s.begin(a)
		require.NoError(t, s.Commit(t.Context(), id))
	})
}

// R8: time decides a rollback, and only before the decision.
func TestTimeDecidesARollback(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.actor("a")
		id := s.beginWith([]coordinator.BeginOption{coordinator.WithTimeout(5 * time.Second)}, a)
		time.Sleep(5*time.Second - 1)
		require.Empty(t, s.story.of("a"))
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		require.Equal(t, []string{"rollback"}, s.story.of("a"))
		var rolledBack *coordinator.RolledBackError
		require.ErrorAs(t, s.Commit(t.Context(), id), &rolledBack)
		require.Equal(t, record.CauseTimeout, rolledBack.Cause)
		require.Equal(t, "not decided within 5s", rolledBack.Reason)
		require.ErrorIs(t, s.Enlist(t.Context(), id, s.actor("b")), coordinator.ErrRolledBack)

		a.commit = answers(errDown)
		id, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		time.Sleep(never)
		require.Equal(t, record.DecisionCommit, s.info(id).Decision)
		require.Zero(t, s.story.count("a: rollback")-1)
	})
}

// The longest times there are mean for ever: nothing ends at once.
func TestTimesWithoutEndDoNotEnd(t *testing.T) {
	const forEver = time.Duration(math.MaxInt64)
	for name, config := range map[string]coordinator.Config{
		"Timeout": {Timeout: forEver}, "CommitWait": {CommitWait: forEver}, "CallTimeout": {CallTimeout: forEver / 10},
		"all": {Timeout: forEver, CommitWait: forEver, CallTimeout: forEver / 10},
	} {
		t.Run(name, func(t *testing.T) {
			playWith(t, config, nil, func(t *testing.T, s *stage) {
				a, let := s.actor("a"), make(chan struct{})
				a.commit = func(context.Context, participant.Branch) error {
					<-let
					return nil
				}
				id := s.begin(a)
				if config.Timeout == forEver {
					time.Sleep(never)
				}
				done := make(chan error, 1)
				go func() { done <- s.Commit(context.Background(), id) }()
				time.Sleep(never)
				if close(let); config.CommitWait == forEver {
					require.NoError(t, <-done)
					return
				}
				require.ErrorIs(t, <-done, coordinator.ErrCommitPending)
			})
		})
	}
}

// The transaction's time may end before that of its calls.
func TestTransactionMayTimeOutBeforeItsCalls(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		let := make(chan struct{})
		a := s.actor("a")
		var deadline time.Time
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			deadline, _ = ctx.Deadline()
			require.Equal(t, deadline, b.Deadline)
			<-let
			return participant.VotePrepared, nil
		}
		start := time.Now()
		id := s.beginWith([]coordinator.BeginOption{coordinator.WithTimeout(3 * time.Second)}, a)
		err := s.Commit(t.Context(), id)
		require.ErrorContains(t, err, "not decided within 3s")
		require.Equal(t, start.Add(3*time.Second), deadline)
		close(let)
	})
}

func TestContextThatEndsBeforeTheDecisionRollsBack(t *testing.T) {
	cause := errors.New("the client hung up")
	play(t, func(t *testing.T, s *stage) {
		ctx, cancel := context.WithCancelCause(t.Context())
		a, b := s.actor("a"), s.actor("b")
		let := make(chan struct{})
		a.prepare = hangs(let)
		id := s.begin(a, b)
		done := make(chan error, 1)
		go func() { done <- s.Commit(ctx, id) }()
		synctest.Wait()
		require.Empty(t, done)
		cancel(cause)
		var rolledBack *coordinator.RolledBackError
		require.ErrorAs(t, <-done, &rolledBack)
		require.Equal(t, record.CauseContext, rolledBack.Cause)
		require.Equal(t, cause.Error(), rolledBack.Reason)
		close(let)

		// One that has ended already asks for a rollback at once.
		c := s.soloist("c")
		id = s.begin(c)
		require.ErrorIs(t, s.Commit(ctx, id), coordinator.ErrRolledBack)
		synctest.Wait()
		require.Equal(t, []string{"rollback"}, s.story.of("c"), "it would have committed at once")

		// But not of a transaction that is decided.
		id, err := s.commits(c)
		require.NoError(t, err)
		require.NoError(t, s.Commit(ctx, id))
	})
}

// R6: after the decision the caller's context ends the waiting and nothing else.
func TestContextThatEndsAfterTheDecisionEndsTheWaiting(t *testing.T) {
	playWith(t, coordinator.Config{CommitWait: time.Hour}, nil, func(t *testing.T, s *stage) {
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		a := s.actor("a")
		a.commit = func(ctx context.Context, _ participant.Branch) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Second):
				return nil
			}
		}
		id := s.begin(a)
		start := time.Now()
		require.ErrorIs(t, s.Commit(ctx, id), coordinator.ErrCommitPending)
		require.Equal(t, 3*time.Second, time.Since(start))
		require.NoError(t, s.Commit(t.Context(), id), "asked again it waits again")
		require.Equal(t, 5*time.Second, time.Since(start))
		require.Equal(t, 1, s.story.count("a: commit"))
	})
}

func TestCommitWaitBoundsTheWaiting(t *testing.T) {
	for wait, takes := range map[time.Duration]time.Duration{0: time.Second, -1: 0, 7 * time.Second: 7 * time.Second} {
		playWith(t, coordinator.Config{CommitWait: wait}, nil, func(t *testing.T, s *stage) {
			let := make(chan struct{})
			a := s.actor("a")
			a.commit = func(context.Context, participant.Branch) error {
				<-let
				return nil
			}
			start := time.Now()
			_, err := s.commits(a)
			require.ErrorIs(t, err, coordinator.ErrCommitPending)
			require.Equal(t, takes, time.Since(start))
			close(let)
		})
	}
}

type valueKey struct{}

// Participants get the values of the context that asked for the decision, and a
// deadline of their own, also when they are told again.
func TestCallsHaveTheCallersValues(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.soloist("a") // two branches: it is asked to prepare
		check := func(ctx context.Context) {
			require.Equal(t, "value", ctx.Value(valueKey{}))
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, time.Now().Add(coordinator.DefaultCallTimeout), deadline)
			require.NoError(t, ctx.Err())
			require.NoError(t, context.Cause(ctx))
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			require.Equal(t, "value", child.Value(valueKey{}))
			require.NoError(t, child.Err())
		}
		var prepared context.Context
		a.prepare = func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
			check(ctx)
			prepared = ctx
			return participant.VotePrepared, nil
		}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), valueKey{}, "value"))
		failures := 2
		a.commit = func(ctx context.Context, _ participant.Branch) error {
			cancel() // the caller's context, after the decision
			check(ctx)
			if failures--; failures >= 0 {
				return errDown
			}
			return nil
		}
		id := s.begin(a, s.actor("b"))
		require.ErrorIs(t, s.Commit(ctx, id), coordinator.ErrCommitPending)
		time.Sleep(time.Minute)
		require.NoError(t, s.Commit(t.Context(), id))
		require.Equal(t, 3, s.story.count("a: commit"))
		require.ErrorIs(t, prepared.Err(), context.Canceled, "it is let go of with the decision")

		// CommitOnePhase and Rollback.
		solo := s.soloist("solo")
		solo.onePhase = func(ctx context.Context, _ participant.Branch) error {
			check(ctx)
			return nil
		}
		id = s.begin(solo)
		require.NoError(t, s.Commit(context.WithValue(t.Context(), valueKey{}, "value"), id))
		solo.rollback = solo.onePhase
		id = s.begin(solo)
		require.NoError(t, s.Rollback(context.WithValue(t.Context(), valueKey{}, "value"), id))
	})
}

// A call's context ends at its deadline, and says why, to those who wait and those
// who look.
func TestContextOfCallsEndsAtItsDeadline(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		looks, waits := s.actor("looks"), s.actor("waits")
		looks.commit = func(ctx context.Context, _ participant.Branch) error {
			time.Sleep(coordinator.DefaultCallTimeout)
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			require.ErrorIs(t, context.Cause(ctx), context.DeadlineExceeded)
			<-ctx.Done()
			return nil
		}
		waits.commit = func(ctx context.Context, _ participant.Branch) error {
			start := time.Now()
			child, cancel := context.WithCancel(ctx)
			defer cancel()
			<-child.Done()
			require.Equal(t, coordinator.DefaultCallTimeout, time.Since(start))
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
			return nil
		}
		id, err := s.commits(looks, waits)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		time.Sleep(time.Minute)
		require.NoError(t, s.Commit(t.Context(), id))
	})
}

// A participant that panics, or ends its goroutine, gives an unknown answer.
func TestPanicIsAnUnknownAnswer(t *testing.T) {
	for name, die := range map[string]func(){
		"panic":  func() { panic("out of paper") },
		"goexit": runtime.Goexit,
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *stage) {
				var dies atomic.Bool
				dies.Store(true)
				once := func() error {
					if dies.Swap(false) {
						die()
					}
					return nil
				}
				a, b := s.forgetter("a"), s.actor("b")
				a.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
					return participant.VotePrepared, once()
				}
				a.rollback = func(context.Context, participant.Branch) error { return once() }
				a.commit, b.commit = a.rollback, nil
				a.forget = func(context.Context, []participant.Branch) error { return once() }

				_, err := s.commits(a, b)
				var rolledBack *coordinator.RolledBackError
				require.ErrorAs(t, err, &rolledBack)
				require.Equal(t, record.CauseUnknownVote, rolledBack.Cause)
				require.Equal(t, 1, s.story.count("a: rollback"))
				if name == "panic" {
					require.Equal(t, "participant panicked: out of paper", rolledBack.Reason)
					require.Equal(t, 1, s.logs.FilterMessage("participant panicked").Len())
				}
				time.Sleep(time.Minute) // and forgotten

				dies.Store(true)
				require.NoError(t, s.Rollback(t.Context(), s.begin(a, b)))
				time.Sleep(time.Minute)
				require.Equal(t, 3, s.story.count("a: rollback"), "told again")

				a.recast(func() { a.prepare = nil })
				dies.Store(true)
				_, err = s.commits(a, b)
				require.NoError(t, err, "the retry comes within CommitWait")
				require.Equal(t, 2, s.story.count("a: commit"))
				dies.Store(true)
				time.Sleep(time.Minute)
				require.Equal(t, 3, s.story.count("a: forget"))
				_, err = s.commits(a, b)
				require.NoError(t, err)
				time.Sleep(time.Minute)
				require.Equal(t, 4, s.story.count("a: forget"), "it is called again")

				solo := s.soloist("solo")
				solo.onePhase = func(context.Context, participant.Branch) error { return once() }
				dies.Store(true)
				require.NoError(t, s.Commit(t.Context(), s.begin(solo)))
				require.Equal(t, 2, s.story.count("solo: commit one-phase"))
			})
		})
	}
}

// A nil pointer that became an error can't be read: an unknown answer, too. A vote
// decides without its error.
func TestErrorThatCannotBeReadIsAnUnknownAnswer(t *testing.T) {
	for name, unreadable := range map[string]error{
		"heuristic": (*participant.HeuristicError)(nil),
		"any other": (*os.PathError)(nil),
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *stage) {
				a, b, failures := s.actor("a"), s.actor("b"), 1
				once := func(context.Context, participant.Branch) error {
					if failures--; failures >= 0 {
						return unreadable
					}
					return nil
				}
				a.commit, a.rollback = once, once
				id, err := s.commits(a, b)
				require.NoError(t, err, "the retry comes within CommitWait")
				require.Equal(t, 2, s.story.count("a: commit"))
				require.Equal(t, participant.OutcomeCommitted, s.info(id).Outcome)

				failures = 1
				require.NoError(t, s.Rollback(t.Context(), s.begin(a)))
				time.Sleep(time.Minute)
				require.Equal(t, 2, s.story.count("a: rollback"))

				var rolledBack *coordinator.RolledBackError
				for vote, cause := range map[participant.Vote]record.Cause{
					participant.VotePrepared: record.CauseUnknownVote, participant.VoteRefused: record.CauseRefused,
				} {
					a.prepare = says(vote, unreadable)
					_, err = s.commits(a, b)
					require.ErrorAs(t, err, &rolledBack)
					require.Equal(t, cause, rolledBack.Cause)
				}
			})
		})
	}
}

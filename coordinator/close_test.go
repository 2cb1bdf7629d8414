package coordinator_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

func TestCloseRollsBackWhatIsUndecided(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, b, let := s.actor("a"), s.actor("b"), make(chan struct{})
		b.prepare = func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
			select {
			case <-let:
				return participant.VotePrepared, nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		committed, err := s.commits(a)
		require.NoError(t, err)
		active, preparing := s.begin(a), s.begin(a, b)
		done := make(chan error, 1)
		go func() { done <- s.Commit(context.Background(), preparing) }()
		synctest.Wait()

		start := time.Now()
		require.NoError(t, s.Close(t.Context()))
		require.Less(t, time.Since(start), time.Second)
		var rolledBack *coordinator.RolledBackError
		require.ErrorAs(t, <-done, &rolledBack)
		require.Equal(t, record.CauseClosed, rolledBack.Cause)
		require.Equal(t, 2, s.story.count("a: rollback"), "both are told")
		require.Equal(t, []string{"prepare", "prepare returned", "rollback"}, s.story.of("b"))
		events := s.story.all()
		time.Sleep(never)
		require.Equal(t, events, s.story.all(), "and then it is silent")

		require.NoError(t, s.Close(t.Context()), "again")
		_, err = s.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrClosed)
		require.ErrorIs(t, s.Err(), coordinator.ErrClosed)
		require.ErrorIs(t, s.Enlist(t.Context(), active, a), coordinator.ErrClosed)
		require.ErrorIs(t, s.Commit(t.Context(), active), coordinator.ErrClosed)
		require.ErrorIs(t, s.Commit(t.Context(), committed), coordinator.ErrClosed)
		require.ErrorIs(t, s.Rollback(t.Context(), active), coordinator.ErrClosed)
		require.ErrorIs(t, s.Register(b), coordinator.ErrClosed)
		require.ErrorIs(t, s.Run(t.Context(), nil), coordinator.ErrClosed)
		require.Equal(t, record.DecisionRollback, s.info(active).Decision)
		list, err := s.List(t.Context(), coordinator.Filter{Done: true})
		require.NoError(t, err)
		require.Len(t, list, 3)
	})
}

// What is not acknowledged is left to recovery; it isn't waited for.
func TestCloseLeavesWhatIsDown(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.actor("a")
		a.commit = answers(errDown)
		_, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		start := time.Now()
		require.NoError(t, s.Close(t.Context()))
		require.Zero(t, time.Since(start))
	})
}

// A call under way gets its time, and then its context ends.
func TestCloseWaitsForCalls(t *testing.T) {
	for name, takes := range map[string]time.Duration{"that return": 3 * time.Second, "that do not": never} {
		t.Run(name, func(t *testing.T) {
			playWith(t, coordinator.Config{CommitWait: time.Hour}, nil, func(t *testing.T, s *stage) {
				a := s.actor("a")
				a.commit = func(ctx context.Context, _ participant.Branch) error {
					select {
					case <-time.After(takes):
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
				id := s.begin(a)
				done := make(chan error, 1)
				go func() { done <- s.Commit(context.Background(), id) }()
				synctest.Wait()
				start := time.Now()
				require.NoError(t, s.Close(t.Context()))
				waits := min(takes, coordinator.DefaultCallTimeout)
				require.GreaterOrEqual(t, time.Since(start), waits)
				require.Less(t, time.Since(start), waits+time.Second)
				require.Equal(t, name == "that return", <-done == nil)
			})
		})
	}
}

// Closing does not make a Commit wait longer for acknowledgements than CommitWait.
func TestCloseKeepsCommitWait(t *testing.T) {
	for name, prepare := range map[string]time.Duration{"decided before": 0, "decided by Close": never} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *stage) {
				a := s.actor("a")
				a.prepare = func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
					select {
					case <-time.After(prepare):
						return participant.VotePrepared, nil
					case <-ctx.Done():
						return 0, ctx.Err()
					}
				}
				hang := func(ctx context.Context, _ participant.Branch) error {
					<-ctx.Done()
					return ctx.Err()
				}
				a.commit, a.rollback = hang, hang
				id, answered := s.begin(a), make(chan time.Time, 1)
				go func() {
					_ = s.Commit(context.Background(), id)
					answered <- time.Now()
				}()
				synctest.Wait()
				start := time.Now()
				require.NoError(t, s.Close(t.Context()))
				require.Equal(t, start.Add(coordinator.DefaultCommitWait), <-answered)
			})
		})
	}
}

// A participant that ignores its context for ever: Commit answers in time, Close
// says that it is still waiting.
func TestCloseSaysThatAParticipantHangs(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, let := s.actor("a"), make(chan struct{})
		a.prepare = hangs(let)
		id, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrRolledBack)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		err = s.Close(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "still being waited for")
		require.Equal(t, time.Minute, time.Since(start))
		require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrClosed)
		close(let)
		require.NoError(t, s.Close(t.Context()), "now it has returned")
		require.Equal(t, []string{"prepare", "prepare returned"}, s.story.of("a"), "nothing is sent any more")
	})
}

// R1: also what is still on its way to the disk when Close comes is decided, and
// told.
func TestCloseWaitsForDecisions(t *testing.T) {
	slowLog := func(c waltest.Call) waltest.Fault {
		if c.Op == waltest.OpAppend {
			time.Sleep(time.Second)
		}
		return waltest.Fault{}
	}
	playWith(t, coordinator.Config{}, slowLog, func(t *testing.T, s *stage) {
		a := s.actor("a")
		id := s.begin(a)
		done := make(chan error, 1)
		go func() { done <- s.Commit(context.Background(), id) }()
		synctest.Wait() // the list is being sealed
		require.NoError(t, s.Close(t.Context()))
		require.ErrorIs(t, <-done, coordinator.ErrRolledBack)
		require.Equal(t, []string{"rollback"}, s.story.of("a"))
	})
}

// A disk that hangs holds Close up no longer than its context; then calls under way
// end as well.
func TestCloseEndsThoughTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let, hung := make(chan struct{}), make(chan struct{}, 1)
		s := newStage(t, coordinator.Config{}, func(c waltest.Call) waltest.Fault {
			if c.Op == waltest.OpAppend && c.N > 3 {
				select {
				case hung <- struct{}{}:
				default:
				}
				<-let
			}
			return waltest.Fault{}
		})
		b, ended := s.actor("b"), make(chan time.Time, 1)
		b.commit = func(ctx context.Context, _ participant.Branch) error {
			<-ctx.Done()
			ended <- time.Now()
			return ctx.Err()
		}
		_, err := s.commits(b)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		id := s.begin(s.actor("a"))
		done := make(chan error, 1)
		go func() { done <- s.Commit(context.Background(), id) }()
		<-hung
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Second, time.Since(start))
		require.Equal(t, start.Add(time.Second), <-ended)
		synctest.Wait()
		require.ErrorIs(t, <-done, coordinator.ErrOutcomeUnknown, "nobody knows the decision")
		close(let)
		require.NoError(t, s.Close(t.Context()))
		require.Equal(t, record.DecisionRollback, s.info(id).Decision)
		require.NoError(t, s.store.Close())
	})
}

// R3: a Close that gives up leaves what is undecided to the next Open.
func TestCloseThatGivesUpRollsBackNoMore(t *testing.T) {
	slowLog := func(c waltest.Call) waltest.Fault {
		if c.Op == waltest.OpAppend {
			time.Sleep(time.Second)
		}
		return waltest.Fault{}
	}
	playWith(t, coordinator.Config{}, slowLog, func(t *testing.T, s *stage) {
		a, told := s.actor("a"), 0
		ids := make([]participant.TxID, 5000)
		for i := range ids {
			ids[i] = s.begin(a)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.Close(ctx), context.DeadlineExceeded)
		require.NoError(t, s.Close(t.Context()))
		for _, id := range ids {
			if s.info(id).Decision.Valid() {
				told++
			}
		}
		require.Positive(t, told)
		require.Less(t, told, 2500)
	})
}

// Commits, begins and closes at the same time: every transaction that was begun
// gets an answer, and every Close waits for the end.
func TestCloseLeavesNoCallerWithoutAnAnswer(t *testing.T) {
	for range 20 {
		play(t, func(t *testing.T, s *stage) {
			a, b := s.actor("a"), s.actor("b")
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					for {
						err := s.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
							for _, p := range []participant.Participant{a, b} {
								if _, err := tx.Enlist(ctx, p, nil); err != nil {
									return err
								}
							}
							return nil
						})
						if err != nil {
							require.NoError(t, errorUnless(errorUnless(err, coordinator.ErrClosed), coordinator.ErrRolledBack))
							return
						}
					}
				})
			}
			for range 3 {
				wg.Go(func() {
					require.NoError(t, s.Close(t.Context()))
					_, err := s.Begin(t.Context())
					require.ErrorIs(t, err, coordinator.ErrClosed)
				})
			}
			wg.Wait()
			list, err := s.List(t.Context(), coordinator.Filter{})
			require.NoError(t, err)
			for _, info := range list {
				require.True(t, info.Decision.Valid() || len(info.Branches) == 0, "%+v", info)
			}
		})
	}
}

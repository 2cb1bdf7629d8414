package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

// uses are transactions of every kind: what they enlist, and how they are to end.
var uses = []struct {
	name   string
	enlist func(s *stage) []participant.Participant
	ask    func(s *stage, ctx context.Context, id participant.TxID) error
	want   error // if nothing fails
}{
	{"commit", two, ask, nil},
	{"refusal", func(s *stage) []participant.Participant {
		a := s.actor("a")
		a.prepare = says(participant.VoteRefused, nil)
		return []participant.Participant{a, s.actor("b")}
	}, ask, coordinator.ErrRolledBack},
	{"rollback", two, func(s *stage, ctx context.Context, id participant.TxID) error {
		if err := s.Rollback(ctx, id); err != nil {
			return err
		}
		return s.Commit(ctx, id)
	}, coordinator.ErrRolledBack},
	{"one-phase", func(s *stage) []participant.Participant { return []participant.Participant{s.soloist("a")} }, ask, nil},
	{"heuristic", func(s *stage) []participant.Participant {
		a := s.actor("a")
		a.commit = answers(&participant.HeuristicError{Outcome: participant.OutcomeRolledBack})
		return []participant.Participant{a, s.actor("b")}
	}, ask, &coordinator.HeuristicError{}},
	{"retry", func(s *stage) []participant.Participant {
		a := s.actor("a")
		a.commit = answers(errDown)
		return []participant.Participant{a, s.actor("b")}
	}, ask, coordinator.ErrCommitPending},
	{"nothing enlisted", func(*stage) []participant.Participant { return nil }, ask, nil},
}

func two(s *stage) []participant.Participant {
	return []participant.Participant{s.actor("a"), s.forgetter("b")}
}

func ask(s *stage, ctx context.Context, id participant.TxID) error { return s.Commit(ctx, id) }

// R5: whichever append fails, and however, the coordinator sends nothing more,
// never takes the failure for an abort, and says so.
func TestNothingIsSentAfterTheLogFailed(t *testing.T) {
	faults := map[string]waltest.Fault{
		"not written": {Err: errDown},
		"written":     {Err: errDown, Applied: true},
		"panic":       {Panic: "driver"},
		"fenced":      {Err: wal.ErrFenced},
	}
	for _, use := range uses {
		for name, fault := range faults {
			t.Run(use.name+", "+name, func(t *testing.T) {
				failed := true
				for n := 2; failed; n++ { // 1 is that of Open
					synctest.Test(t, func(t *testing.T) {
						s, f := newFailing(t, n, fault)
						id, err := s.begin(use.enlist(s)...), error(nil)
						err = use.ask(s, t.Context(), id)
						time.Sleep(time.Minute)
						synctest.Wait()
						if failed = f.failed; failed {
							f.check(t, s, id, err, fault)
						} else if want := new(coordinator.HeuristicError); errors.As(use.want, &want) {
							require.ErrorAs(t, err, &want)
						} else {
							require.ErrorIs(t, err, use.want)
						}
					})
				}
			})
		}
	}
}

// failing is a log of which one append fails, once everything else is at rest.
type failing struct {
	failed  bool
	decided bool // before it failed
	after   int  // the first event after the failure
}

func newFailing(t *testing.T, n int, fault waltest.Fault) (*stage, *failing) {
	var s *stage
	f := &failing{}
	s = newStage(t, coordinator.Config{}, func(c waltest.Call) waltest.Fault {
		if c.Op != waltest.OpAppend || c.N != n {
			return waltest.Fault{}
		}
		time.Sleep(time.Millisecond)
		events := s.story.all()
		f.failed, f.after = true, len(events)
		f.decided = slices.ContainsFunc(events, func(e string) bool {
			return strings.HasPrefix(e, "log: ") && strings.Contains(e, "decided")
		})
		return fault
	})
	return s, f
}

func (f *failing) check(t *testing.T, s *stage, id participant.TxID, err error, fault waltest.Fault) {
	events := s.story.all()[f.after:]
	if fault.Applied {
		events = events[1:] // the write that failed
	}
	for _, event := range events {
		require.Contains(t, []string{"a: prepare returned", "b: prepare returned"}, event, "sent after the failure, or written again")
	}
	<-s.Failed()
	refused := coordinator.ErrLogFailed
	if errors.Is(fault.Err, wal.ErrFenced) {
		refused = coordinator.ErrNotOwner
	}
	// Nothing was asked: not a word of an outcome.
	_, begin := s.Begin(t.Context())
	for _, err := range []error{s.Err(), begin, s.Enlist(t.Context(), id, s.actor("c")), s.Register(s.actor("d"))} {
		require.ErrorIs(t, err, refused)
		require.NotErrorIs(t, err, coordinator.ErrOutcomeUnknown)
	}

	again, told := s.Commit(t.Context(), id), s.told(id)
	switch {
	case f.decided:
		require.NotErrorIs(t, err, coordinator.ErrOutcomeUnknown, "the decision was durable")
	case told:
		// Nothing enlisted, or the branch that commits in one phase has answered: the
		// decision is durable elsewhere, or depends on nobody.
	default:
		require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
		require.ErrorIs(t, s.Rollback(t.Context(), id), coordinator.ErrOutcomeUnknown)
		require.Equal(t, protocol.Stopped, s.info(id).Phase)
	}
	require.Equal(t, fmt.Sprint(err == nil, errors.Is(err, coordinator.ErrOutcomeUnknown), errors.Is(err, coordinator.ErrRolledBack)),
		fmt.Sprint(again == nil, errors.Is(again, coordinator.ErrOutcomeUnknown), errors.Is(again, coordinator.ErrRolledBack)),
		"%v, and later %v", err, again)
	s.closesPoisoned()
}

// told reports whether the transaction has a decision that no forced append is
// needed for.
func (s *stage) told(id participant.TxID) bool {
	info := s.info(id)
	return info.Decision.Valid() && (len(info.Branches) == 0 || s.story.count("a: commit one-phase") > 0)
}

// A log that fails with many transactions on it: each is told that its outcome is
// unknown, and Close does not wait for what is not sent any more.
func TestLogFailureReachesEveryWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, coordinator.Config{}, waltest.At(waltest.OpAppend, 4, waltest.Fault{Err: errDown}))
		a, b, let := s.actor("a"), s.actor("b"), make(chan struct{})
		a.prepare, b.commit = hangs(let), answers(errDown)
		pending, err := s.commits(b) // appends 2 and 3
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		active := s.begin()
		done := make(chan error, 100)
		var ids []participant.TxID
		for range 100 {
			ids = append(ids, s.begin(a))
		}
		for _, id := range ids {
			go func() { done <- s.Commit(t.Context(), id) }()
		}
		for range 100 {
			require.ErrorIs(t, <-done, coordinator.ErrOutcomeUnknown)
		}
		require.ErrorIs(t, s.Commit(t.Context(), pending), coordinator.ErrCommitPending, "that was decided")
		require.ErrorIs(t, s.Commit(t.Context(), active), coordinator.ErrOutcomeUnknown)
		start := time.Now()
		close(let)
		s.closesPoisoned()
		require.Zero(t, time.Since(start))
	})
}

// R5: from the moment the log has failed, whoever has noticed it or not.
func TestNothingIsDecidedAfterTheLogFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		let, notice := make(chan struct{}), make(chan struct{})
		s := newStage(t, coordinator.Config{Logger: zap.NewNop().WithOptions(zap.WrapCore(func(zapcore.Core) zapcore.Core {
			return zapcore.RegisterHooks(zapcore.NewCore(zapcore.NewJSONEncoder(zapcore.EncoderConfig{}), zapcore.AddSync(io.Discard), zapcore.ErrorLevel),
				func(zapcore.Entry) error {
					<-notice // hold up what tells the transactions
					return nil
				})
		}))}, waltest.At(waltest.OpAppend, 3, waltest.Fault{Err: errDown}))
		a, b := s.actor("a"), s.actor("b")
		a.prepare = hangs(let)
		waiting, empty, active := s.begin(a), s.begin(), s.begin(b)
		done := make(chan error, 1)
		go func() { done <- s.Commit(context.Background(), waiting) }()
		synctest.Wait() // append 2
		_, err := s.commits(b)
		require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
		require.Empty(t, done)
		require.ErrorIs(t, s.Commit(t.Context(), empty), coordinator.ErrOutcomeUnknown, "not even what is decided lazily")
		require.ErrorIs(t, s.Rollback(t.Context(), active), coordinator.ErrOutcomeUnknown)
		close(notice)
		require.ErrorIs(t, <-done, coordinator.ErrOutcomeUnknown, "it waits for no append")
		synctest.Wait()
		require.Equal(t, protocol.Stopped, s.info(waiting).Phase)
		close(let)
		synctest.Wait()
		require.Equal(t, []string{"prepare", "prepare returned"}, s.story.of("a"))
		s.closesPoisoned()
	})
}

// What was not asked has no unknown outcome, though its own record is in doubt.
func TestLogThatFailsInBeginOrEnlistAsksNothing(t *testing.T) {
	for name, fails := range map[string]int{"begin": 2, "enlist": 3} { // 1 is that of Open
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStage(t, coordinator.Config{ForceEveryTransition: true}, func(c waltest.Call) waltest.Fault {
					if c.Op != waltest.OpAppend || c.N != fails {
						return waltest.Fault{}
					}
					return waltest.Fault{Err: errDown, Applied: true}
				})
				id, err := s.Begin(t.Context())
				if name == "enlist" {
					require.NoError(t, err)
					err = s.Enlist(t.Context(), id, s.actor("a"))
				}
				require.ErrorIs(t, err, coordinator.ErrLogFailed)
				require.NotErrorIs(t, err, coordinator.ErrOutcomeUnknown)
				s.closesPoisoned()
			})
		})
	}
}

// R9: another coordinator has taken the term over while this one was asleep.
func TestFencedCoordinatorSendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, coordinator.Config{}, nil)
		a, b := s.actor("a"), s.actor("b")
		id := s.begin(a, b)
		time.Sleep(time.Second)
		s.store.Expire()
		taker := s.memory.Open()
		dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: taker, Participants: []participant.Participant{a, b}})
		require.NoError(t, err)
		require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrOutcomeUnknown)
		<-s.Failed()
		require.ErrorIs(t, s.Err(), coordinator.ErrNotOwner)
		require.NotContains(t, s.story.of("a"), "prepare")
		require.ErrorIs(t, dtm.Commit(t.Context(), id), coordinator.ErrRolledBack)
		s.closesPoisoned()
		require.NoError(t, dtm.Close(t.Context()))
		require.NoError(t, taker.Close())
	})
}

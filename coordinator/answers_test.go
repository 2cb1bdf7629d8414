package coordinator_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// R1: what is told rests on what is durable; and no more is forced than ARCHITECTURE.md
// allows. What is lazy comes with the flush.
func TestNothingIsToldBeforeItIsDurable(t *testing.T) {
	t.Run("commit", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			_, err := s.commits(s.actor("a"), s.actor("b"))
			require.NoError(t, err)
			events := s.story.all()
			require.Len(t, events, 8, "2 forced writes: %v", events)
			require.Equal(t, begunWith(2)+" preparing", events[0])
			require.ElementsMatch(t, []string{"a: prepare", "a: prepare returned", "b: prepare", "b: prepare returned"}, events[1:5])
			require.Equal(t, "log: decided", events[5])
			require.ElementsMatch(t, []string{"a: commit", "b: commit"}, events[6:])
			time.Sleep(time.Second)
			require.Equal(t, "log: completed", s.story.all()[8])
			time.Sleep(never)
			require.Len(t, s.story.all(), 9, "an idle coordinator writes nothing")
		})
	})
	t.Run("forget", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			f := s.forgetter("f")
			_, err := s.commits(f, s.actor("a"))
			require.NoError(t, err)
			time.Sleep(time.Second)
			events := s.story.all()
			require.Equal(t, []string{"log: completed", "f: forget"}, events[len(events)-2:])
		})
	})
	t.Run("one-phase", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			_, err := s.commits(s.soloist("a"))
			require.NoError(t, err)
			require.Equal(t, []string{begunWith(1) + " delegated", "a: commit one-phase"}, s.story.all(), "1 forced write")
			time.Sleep(time.Second)
			require.Equal(t, "log: decided completed", s.story.all()[2])
		})
	})
	t.Run("rollback before prepare", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			id := s.begin(s.actor("a"))
			require.NoError(t, s.Rollback(t.Context(), id))
			synctest.Wait()
			require.Equal(t, []string{begunWith(1) + " decided", "a: rollback"}, s.story.all(), "1 forced write")
		})
	})
	t.Run("rollback after prepare", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a := s.actor("a")
			a.prepare = says(participant.VoteRefused, nil)
			_, err := s.commits(a)
			require.ErrorIs(t, err, coordinator.ErrRolledBack)
			require.Equal(t, []string{
				begunWith(1) + " preparing", "a: prepare", "a: prepare returned", "log: decided", "a: rollback",
			}, s.story.all(), "2 forced writes")
		})
	})
}

// begunWith is the beginning of what a transaction's first forced write holds.
func begunWith(branches int) string { return "log: begun" + strings.Repeat(" enlisted", branches) }

// R1: what no participant depends on is decided lazily; read-only branches leave
// after phase one.
func TestWhatNobodyDependsOnIsDecidedLazily(t *testing.T) {
	t.Run("nothing enlisted", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			_, err := s.commits()
			require.NoError(t, err)
			require.NoError(t, s.Rollback(t.Context(), s.begin()))
			require.Empty(t, s.story.all(), "0 forced writes")
			time.Sleep(time.Second)
			require.Equal(t, []string{"log: begun decided completed begun decided completed"}, s.story.all())
		})
	})
	t.Run("all read-only", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a := s.actor("a")
			a.prepare = says(participant.VoteReadOnly, nil)
			_, err := s.commits(a)
			require.NoError(t, err)
			require.Equal(t, []string{begunWith(1) + " preparing", "a: prepare", "a: prepare returned"}, s.story.all(), "1 forced write")
			time.Sleep(time.Second)
			require.Equal(t, []string{"decided completed"}, s.story.of("log")[1:])
		})
	})
	t.Run("some read-only", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a := s.actor("a")
			a.prepare = says(participant.VoteReadOnly, nil)
			_, err := s.commits(a, s.actor("b"))
			require.NoError(t, err)
			require.Equal(t, []string{"prepare", "prepare returned"}, s.story.of("a"), "it left after phase one")
			require.Equal(t, []string{"prepare", "prepare returned", "commit"}, s.story.of("b"))
		})
	})
}

// Each call returns after an fsync of its own.
func TestForceEveryTransitionSyncsEachCall(t *testing.T) {
	playWith(t, coordinator.Config{ForceEveryTransition: true}, nil, func(t *testing.T, s *stage) {
		id := s.begin()
		require.Equal(t, []string{"log: begun"}, s.story.all())
		f := s.forgetter("f")
		require.NoError(t, s.Enlist(t.Context(), id, f))
		require.Equal(t, []string{"log: begun", "log: enlisted"}, s.story.all())
		require.NoError(t, s.Commit(t.Context(), id))
		synctest.Wait()
		require.Equal(t, []string{
			"log: begun", "log: enlisted", "log: preparing", "f: prepare", "f: prepare returned",
			"log: decided", "f: commit", "log: completed", "f: forget",
		}, s.story.all())
		require.Equal(t, protocol.Done, s.info(id).Phase)

		_, err := s.commits()
		require.NoError(t, err)
		_, err = s.commits(s.soloist("solo"))
		require.NoError(t, err)
	})
}

// The table of Commit's answers, in its order of precedence: each row holds what
// the rows below it have, too, and its answer wins.
func TestCommitAnswersByPrecedence(t *testing.T) {
	mixed := &participant.HeuristicError{Outcome: participant.OutcomeHeuristicMixed, Err: errors.New("half of it")}
	t.Run("outcome unknown before all", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			// The third append is that of the decision; a refused.
			s := newStage(t, coordinator.Config{}, waltest.At(waltest.OpAppend, 3, waltest.Fault{Err: errDown}))
			a := s.actor("a")
			a.prepare = says(participant.VoteRefused, nil)
			_, err := s.commits(a)
			require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
			require.NotErrorIs(t, err, coordinator.ErrRolledBack)
			s.closesPoisoned()
		})
	})
	t.Run("heuristic before pending", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a, b := s.actor("a"), s.actor("b")
			a.commit, b.commit = answers(mixed), answers(errDown)
			_, err := s.commits(a, b)
			var heuristic *coordinator.HeuristicError
			require.ErrorAs(t, err, &heuristic)
			require.NotErrorIs(t, err, coordinator.ErrCommitPending)
			require.NotErrorIs(t, err, coordinator.ErrRolledBack)
			require.Equal(t, record.DecisionCommit, heuristic.Decision)
		})
	})
	t.Run("heuristic before rolled back", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a, b := s.actor("a"), s.actor("b")
			a.prepare = says(participant.VoteRefused, errors.New("no money"))
			b.rollback = answers(mixed)
			_, err := s.commits(a, b)
			var heuristic *coordinator.HeuristicError
			require.ErrorAs(t, err, &heuristic)
			require.ErrorIs(t, err, coordinator.ErrRolledBack, "that was the decision")
			require.Equal(t, record.DecisionRollback, heuristic.Decision)
		})
	})
	t.Run("rolled back, though a participant was not told yet", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a, b := s.actor("a"), s.actor("b")
			a.prepare = says(participant.VoteRefused, errors.New("no money"))
			b.rollback = answers(errDown)
			id, err := s.commits(a, b)
			var rolledBack *coordinator.RolledBackError
			require.ErrorAs(t, err, &rolledBack)
			require.Equal(t, &coordinator.RolledBackError{Tx: id, Cause: record.CauseRefused, Participant: "a", Reason: "no money"}, rolledBack)
			require.Equal(t, "commit transaction "+id.String()+": rolled back: a branch refused: participant a: no money", err.Error())
		})
	})
	t.Run("pending", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a := s.actor("a")
			a.commit = answers(errDown)
			c := s.actor("c")
			c.commit = answers(errDown)
			id, err := s.commits(a, s.actor("b"), c)
			require.ErrorIs(t, err, coordinator.ErrCommitPending)
			require.EqualError(t, err, "commit transaction "+id.String()+": committed, but participants are still to be told: a, c")
		})
	})
	t.Run("committed", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			_, err := s.commits(s.actor("a"), s.actor("b"))
			require.NoError(t, err)
		})
	})
}

// R4: what is no vote is no yes, whatever else it is.
func TestWhatIsNoVoteIsNoYes(t *testing.T) {
	for _, v := range []struct {
		name  string
		vote  participant.Vote
		err   error
		cause record.Cause // 0: commits
	}{
		{"prepared", participant.VotePrepared, nil, 0},
		{"read-only", participant.VoteReadOnly, nil, 0},
		{"refused", participant.VoteRefused, nil, record.CauseRefused},
		{"refused with a reason", participant.VoteRefused, errDown, record.CauseRefused},
		{"an error", 0, errDown, record.CauseUnknownVote},
		{"neither", 0, nil, record.CauseUnknownVote},
		{"no such vote", 99, nil, record.CauseUnknownVote},
		{"prepared, with an error", participant.VotePrepared, errDown, record.CauseUnknownVote},
		{"read-only, with an error", participant.VoteReadOnly, errDown, record.CauseUnknownVote},
	} {
		t.Run(v.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *stage) {
				a, b := s.actor("a"), s.actor("b")
				a.prepare = says(v.vote, v.err)
				id, err := s.commits(a, b)
				if v.cause == 0 {
					require.NoError(t, err)
					return
				}
				var rolledBack *coordinator.RolledBackError
				require.ErrorAs(t, err, &rolledBack)
				require.Equal(t, v.cause, rolledBack.Cause)
				require.Equal(t, "a", rolledBack.Participant)
				if v.err != nil {
					require.Equal(t, v.err.Error(), rolledBack.Reason)
				}
				require.Equal(t, 1, s.story.count("a: rollback"), "also the one that refused is told")
				require.Equal(t, 1, s.story.count("b: rollback"))
				require.Equal(t, v.cause, s.info(id).Cause)
			})
		})
	}
}

// R3: the branch has the decision; neither Rollback, nor a timeout, nor the
// caller's context, nor Close decides.
func TestOnlyBranchDecidesInOnePhase(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a := s.soloist("a")
			a.onePhase = answers(participant.ErrRefused)
			id, err := s.commits(a)
			require.ErrorIs(t, err, coordinator.ErrRolledBack)
			require.NoError(t, s.Rollback(t.Context(), id), "it is rolled back")
			require.Equal(t, []string{"commit one-phase"}, s.story.of("a"))
		})
	})
	t.Run("two branches take two phases", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			_, err := s.commits(s.soloist("a"), s.soloist("b"))
			require.NoError(t, err)
			require.Equal(t, []string{"prepare", "prepare returned", "commit"}, s.story.of("a"))
		})
	})
	t.Run("silent", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a := s.soloist("a")
			a.onePhase = answers(errDown)
			start := time.Now()
			id, err := s.commits(a)
			require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
			require.Equal(t, coordinator.DefaultTimeout, time.Since(start), "Commit does not wait for ever")

			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.ErrorIs(t, s.Rollback(ctx, id), coordinator.ErrOutcomeUnknown)
			time.Sleep(time.Hour)
			require.Equal(t, protocol.Delegated, s.info(id).Phase, "the deadline is long over and decides nothing")
			require.NotContains(t, s.story.of("a"), "rollback")

			a.recast(func() { a.onePhase = nil })
			require.NoError(t, s.Commit(t.Context(), id), "asked again, with the same id")
			require.ErrorIs(t, s.Rollback(t.Context(), id), coordinator.ErrCommitted)
		})
	})
	t.Run("hangs when the coordinator is closed", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a := s.soloist("a")
			a.onePhase = func(ctx context.Context, _ participant.Branch) error {
				<-ctx.Done()
				return ctx.Err()
			}
			id := s.begin(a)
			done := make(chan error)
			go func() { done <- s.Commit(context.Background(), id) }()
			synctest.Wait()
			require.NoError(t, s.Close(t.Context()))
			require.ErrorIs(t, <-done, coordinator.ErrOutcomeUnknown)
			require.Equal(t, []string{"commit one-phase"}, s.story.of("a"))
		})
	})
	t.Run("heuristic", func(t *testing.T) {
		play(t, func(t *testing.T, s *stage) {
			a := s.soloist("a")
			a.onePhase = answers(&participant.HeuristicError{Outcome: participant.OutcomeHeuristicMixed})
			_, err := s.commits(a)
			var heuristic *coordinator.HeuristicError
			require.ErrorAs(t, err, &heuristic)
			require.Equal(t, participant.OutcomeHeuristicMixed, heuristic.Outcome)
		})
	})
}

// Participants that decided alone: what the caller is told, and which of them
// agree with the decision and are no heuristic.
func TestHeuristicOutcomeIsReported(t *testing.T) {
	did := func(o participant.Outcome) error {
		return &participant.HeuristicError{Outcome: o, Err: errors.New("an operator did it")}
	}
	for _, h := range []struct {
		name    string
		refuse  bool
		a, b    error
		outcome participant.Outcome
	}{
		{"commit: all rolled back", false, did(participant.OutcomeRolledBack), did(participant.OutcomeHeuristicRollback), participant.OutcomeHeuristicRollback},
		{"commit: one rolled back", false, nil, did(participant.OutcomeHeuristicRollback), participant.OutcomeHeuristicMixed},
		{"commit: one mixed", false, nil, did(participant.OutcomeHeuristicMixed), participant.OutcomeHeuristicMixed},
		{"commit: one can't say", false, nil, did(participant.OutcomeHeuristicHazard), participant.OutcomeHeuristicHazard},
		{"commit: committed alone", false, nil, did(participant.OutcomeHeuristicCommit), 0},
		{"rollback: one committed", true, nil, did(participant.OutcomeCommitted), participant.OutcomeHeuristicMixed},
		{"rollback: all committed", true, did(participant.OutcomeHeuristicCommit), did(participant.OutcomeCommitted), participant.OutcomeHeuristicMixed},
		{"rollback: rolled back alone", true, did(participant.OutcomeRolledBack), nil, 0},
	} {
		t.Run(h.name, func(t *testing.T) {
			play(t, func(t *testing.T, s *stage) {
				a, b := s.actor("a"), s.actor("b")
				parties := []participant.Participant{a, b}
				if h.refuse {
					c := s.actor("c")
					c.prepare = says(participant.VoteRefused, nil)
					parties = append(parties, c)
				}
				a.commit, b.commit, a.rollback, b.rollback = answers(h.a), answers(h.b), answers(h.a), answers(h.b)
				id, err := s.commits(parties...)
				require.Equal(t, h.refuse, errors.Is(err, coordinator.ErrRolledBack))
				var heuristic *coordinator.HeuristicError
				require.Equal(t, h.outcome != 0, errors.As(err, &heuristic), "%v", err)
				if heuristic == nil {
					return
				}
				require.Equal(t, id, heuristic.Tx)
				require.Equal(t, h.outcome, heuristic.Outcome)
				require.NotEmpty(t, heuristic.Branches)
				require.Contains(t, heuristic.Error(), "branch 1 of participant b")
				synctest.Wait()
				require.Contains(t, strings.Join(s.story.of("log"), " "), "heuristic", "recorded")
				time.Sleep(time.Hour)
				require.Equal(t, h.outcome, s.info(id).Outcome, "also when only what is retained is left")
				require.ErrorAs(t, s.Commit(t.Context(), id), &heuristic)
				require.LessOrEqual(t, len(s.story.of("b")), 3, "an answer is an acknowledgement")
			})
		})
	}
}

// R2: asked twice, or otherwise, the answer is the recorded one.
func TestTheDecisionIsWrittenOnce(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		id, err := s.commits(s.actor("a"))
		require.NoError(t, err)
		require.NoError(t, s.Commit(t.Context(), id))
		require.ErrorIs(t, s.Rollback(t.Context(), id), coordinator.ErrCommitted)
		time.Sleep(time.Minute) // only what is retained is left
		require.NoError(t, s.Commit(t.Context(), id))
		require.ErrorIs(t, s.Rollback(t.Context(), id), coordinator.ErrCommitted)
		require.Equal(t, 1, s.story.count("a: commit"))
		require.Zero(t, s.story.count("a: rollback"))

		id = s.begin(s.actor("b"))
		require.NoError(t, s.Rollback(t.Context(), id))
		require.NoError(t, s.Rollback(t.Context(), id))
		require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrRolledBack)
		time.Sleep(time.Minute)
		require.NoError(t, s.Rollback(t.Context(), id))
		require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrRolledBack)
		require.Equal(t, []string{"rollback"}, s.story.of("b"))

		id = s.begin()
		require.NoError(t, s.Commit(t.Context(), id))
		require.ErrorIs(t, s.Rollback(t.Context(), id), coordinator.ErrCommitted)
	})
}

// Asked many times at once, each participant is asked and told once, and each
// caller gets the answer.
func TestConcurrentCommitsAskOnce(t *testing.T) {
	for name, refuse := range map[string]bool{"commit": false, "rollback": true} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *stage) {
				a, b := s.actor("a"), s.actor("b")
				if refuse {
					b.prepare = says(participant.VoteRefused, nil)
				}
				id, done := s.begin(a, b), make(chan error)
				for range 10 {
					go func() { done <- s.Commit(t.Context(), id) }()
				}
				for range 10 {
					require.Equal(t, refuse, errors.Is(<-done, coordinator.ErrRolledBack))
				}
				for _, name := range []string{"a", "b"} {
					require.LessOrEqual(t, s.story.count(name+": prepare"), 1)
					require.Equal(t, 1, s.story.count(name+": commit")+s.story.count(name+": rollback"))
				}
				require.Equal(t, []string{"begun enlisted enlisted preparing", "decided"}, s.story.of("log"))
			})
		})
	}
}

func TestUnknownIDIsNotFound(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		known := s.begin()
		foreign := participant.TxID{Term: known.Term + 1, UUID: known.UUID}
		unborn := known
		unborn.UUID[0] ^= 0x80
		for _, id := range []participant.TxID{{}, foreign, unborn} {
			require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrNotFound)
			require.ErrorIs(t, s.Rollback(t.Context(), id), coordinator.ErrNotFound)
			require.ErrorIs(t, s.Enlist(t.Context(), id, s.actor("a")), coordinator.ErrNotFound)
			_, err := s.Get(t.Context(), id)
			require.ErrorIs(t, err, coordinator.ErrNotFound)
		}
	})
}

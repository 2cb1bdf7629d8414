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
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

var because = coordinator.Word{Who: "alice", Reason: "the bank is gone"}

// pending leaves a committed transaction that b has not acknowledged.
func (s *stage) pending(a, b participant.Participant) participant.TxID {
	s.t.Helper()
	id, err := s.commits(a, b)
	require.ErrorIs(s.t, err, coordinator.ErrCommitPending)
	synctest.Wait()
	return id
}

func requireWords(t *testing.T, dtm *coordinator.DTM, id participant.TxID, verbs ...record.Verb) {
	t.Helper()
	words, err := dtm.Words(t.Context(), id)
	require.NoError(t, err)
	require.Len(t, words, len(verbs))
	for i, w := range words {
		require.Equal(t, verbs[i], w.Verb)
		require.Equal(t, uint64(i+1), w.Number)
		require.Equal(t, "alice", w.Who)
		require.Equal(t, "the bank is gone", w.Reason)
		require.False(t, w.At.IsZero())
		require.Equal(t, id, w.Tx)
	}
}

// Retry tells at once what would wait, also at a participant that is down.
func TestRetryTellsAtOnce(t *testing.T) {
	playWith(t, coordinator.Config{RetryMin: time.Hour, RetryMax: time.Hour}, nil, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.actor("b")
		b.commit = answers(errDown)
		ids := []participant.TxID{s.pending(a, b), s.pending(a, b), s.pending(a, b), s.pending(a, b), s.pending(a, b)}
		b.recast(func() { b.commit = nil })
		actions, err := s.Retry(t.Context(), ids[2], coordinator.Word{Who: "alice", Reason: "x", DryRun: true})
		require.NoError(t, err)
		require.Equal(t, []string{"branch 1 of participant b: told to commit at once"}, actions)
		synctest.Wait()
		require.Equal(t, protocol.Telling, s.info(ids[2]).Phase, "a dry run does nothing")
		requireWords(t, s.DTM, ids[2])

		again, err := s.Retry(t.Context(), ids[2], because)
		require.NoError(t, err)
		require.Equal(t, actions, again)
		time.Sleep(time.Second)
		require.Equal(t, participant.OutcomeCommitted, s.info(ids[2]).Branches[1].Outcome)
		requireWords(t, s.DTM, ids[2], record.VerbRetry)
		_, err = s.Retry(t.Context(), ids[2], because)
		require.ErrorIs(t, err, coordinator.ErrUnfit, "it has ended")
		time.Sleep(2 * time.Hour)
		for _, id := range ids {
			require.NoError(t, s.Commit(t.Context(), id))
		}
	})
}

// R1: a word is durable before it takes effect.
func TestR1WordIsDurableBeforeItTakesEffect(t *testing.T) {
	slow := func(c waltest.Call) waltest.Fault {
		if c.Op == waltest.OpAppend {
			time.Sleep(time.Minute)
		}
		return waltest.Fault{}
	}
	playWith(t, coordinator.Config{Timeout: time.Hour, CallTimeout: time.Hour, RetryMin: 24 * time.Hour, RetryMax: 24 * time.Hour}, slow, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.actor("b")
		b.commit = answers(errDown)
		id := s.pending(a, b)
		before := s.story.count("b: commit")
		go func() { _, _ = s.Retry(t.Context(), id, because) }()
		time.Sleep(time.Minute - time.Second)
		require.Equal(t, before, s.story.count("b: commit"))
		requireWords(t, s.DTM, id)
		time.Sleep(2 * time.Second)
		require.Equal(t, before+1, s.story.count("b: commit"))
		requireWords(t, s.DTM, id, record.VerbRetry)

		done := make(chan struct{})
		go func() {
			_, err := s.ForgetBranch(t.Context(), id, "b", because)
			require.NoError(t, err)
			close(done)
		}()
		time.Sleep(time.Minute - time.Second)
		require.False(t, s.info(id).Branches[1].Outcome.Valid())
		<-done
		require.Equal(t, participant.OutcomeHeuristicHazard, s.info(id).Branches[1].Outcome)
	})
}

// R5: a word whose write failed may be in the log or not: nothing comes of it in this
// run.
func TestR5WordThatMayNotBeDurable(t *testing.T) {
	var broken bool
	plan := func(c waltest.Call) waltest.Fault {
		if c.Op == waltest.OpAppend && broken {
			return waltest.Fault{Err: errors.New("disk gone"), Applied: true}
		}
		return waltest.Fault{}
	}
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, coordinator.Config{}, plan)
		a, b := s.actor("a"), s.actor("b")
		b.commit = answers(errDown)
		id := s.pending(a, b)
		time.Sleep(time.Second)
		broken = true
		_, err := s.Pause(t.Context(), id, because)
		require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
		require.False(t, s.info(id).Paused)
		_, err = s.Pause(t.Context(), id, because)
		require.ErrorIs(t, err, coordinator.ErrLogFailed)
		s.closesPoisoned()
	})
}

// Pause holds back what is queued and what would be repeated; Resume lets it go on.
func TestPauseHoldsDeliveryBack(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.actor("b")
		b.commit = answers(errDown)
		id, other := s.pending(a, b), s.pending(a, b)
		_, err := s.Resume(t.Context(), id, because)
		require.ErrorIs(t, err, coordinator.ErrUnfit)
		actions, err := s.Pause(t.Context(), id, because)
		require.NoError(t, err)
		require.Equal(t, []string{"branch 1 of participant b: not told to commit until resumed"}, actions)
		for _, say := range []func(context.Context, participant.TxID, coordinator.Word) ([]string, error){s.Pause, s.Retry} {
			_, err := say(t.Context(), id, because)
			require.ErrorIs(t, err, coordinator.ErrUnfit)
		}
		b.recast(func() { b.commit = nil })
		time.Sleep(time.Hour)
		info := s.info(id)
		require.True(t, info.Paused)
		require.False(t, info.Branches[1].Outcome.Valid())
		require.Zero(t, info.Branches[1].NextRetry)
		require.NoError(t, s.Commit(t.Context(), other), "others go on")
		require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrCommitPending)
		require.Equal(t, 1, s.Stats().Paused)
		require.Equal(t, 1, s.Participants()[1].Undelivered)

		_, err = s.Resume(t.Context(), id, because)
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, s.Commit(t.Context(), id))
		require.False(t, s.info(id).Paused)
		requireWords(t, s.DTM, id, record.VerbPause, record.VerbResume)
		require.Zero(t, s.Participants()[1].Undelivered)
	})
}

// Who resumes does not wait for a retry that was due long after.
func TestResumeTellsAtOnce(t *testing.T) {
	playWith(t, coordinator.Config{RetryMin: time.Hour, RetryMax: time.Hour}, nil, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.actor("b")
		b.commit = answers(errDown)
		id := s.pending(a, b)
		_, err := s.Pause(t.Context(), id, because)
		require.NoError(t, err)
		b.recast(func() { b.commit = nil })
		_, err = s.Resume(t.Context(), id, because)
		require.NoError(t, err)
		synctest.Wait()
		require.NoError(t, s.Commit(t.Context(), id))
	})
}

// Words on transactions that are not decided, or have ended, are refused, and nothing is
// recorded.
func TestWordsThatDoNotFit(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.actor("b")
		open := s.begin(a)
		all := map[string]func(participant.TxID, coordinator.Word) error{
			"retry": func(id participant.TxID, w coordinator.Word) error { _, err := s.Retry(t.Context(), id, w); return err },
			"pause": func(id participant.TxID, w coordinator.Word) error { _, err := s.Pause(t.Context(), id, w); return err },
			"resume": func(id participant.TxID, w coordinator.Word) error {
				_, err := s.Resume(t.Context(), id, w)
				return err
			},
			"forget": func(id participant.TxID, w coordinator.Word) error {
				_, err := s.ForgetBranch(t.Context(), id, "a", w)
				return err
			},
			"resolve": func(id participant.TxID, w coordinator.Word) error {
				_, err := s.Resolve(t.Context(), id, "a", participant.OutcomeCommitted, w)
				return err
			},
		}
		ended, err := s.commits(a)
		require.NoError(t, err)
		time.Sleep(time.Second)
		before := len(s.story.of("log"))
		for name, say := range all {
			err := say(open, because)
			require.ErrorIs(t, err, coordinator.ErrUnfit, name)
			require.ErrorContains(t, err, "undecided: its timeout", name)
			require.ErrorContains(t, err, open.String(), name)
			require.ErrorIs(t, say(ended, because), coordinator.ErrUnfit, name)
			require.ErrorIs(t, say(participant.TxID{Term: 1}, because), coordinator.ErrNotFound, name)
			require.ErrorContains(t, say(ended, coordinator.Word{Who: "alice"}), "needs a reason", name)
			require.ErrorIs(t, say(ended, coordinator.Word{Reason: strings.Repeat("x", record.MaxReason+1)}), coordinator.ErrLimit, name)
			require.ErrorIs(t, say(ended, coordinator.Word{Reason: "x", Who: strings.Repeat("x", record.MaxWho+1)}), coordinator.ErrLimit, name)
		}
		b.commit = answers(errDown)
		pending := s.pending(a, b)
		_, err = s.ForgetBranch(t.Context(), pending, "nobody", because)
		require.ErrorIs(t, err, coordinator.ErrUnfit)
		require.ErrorContains(t, err, `"nobody"`)
		require.ErrorIs(t, all["forget"](pending, because), coordinator.ErrUnfit, "a has acknowledged")
		_, err = s.Resolve(t.Context(), pending, "b", participant.OutcomeHeuristicMixed, because)
		require.Error(t, err)
		time.Sleep(time.Second)
		for _, kinds := range s.story.of("log")[before:] {
			require.NotContains(t, kinds, "operator")
		}
		b.recast(func() { b.commit = nil })
	})
}

// A branch that is given up is told nothing any more, and the hazard is for ever.
func TestForgetBranchGivesABranchUp(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.forgetter("b")
		b.commit = answers(errDown)
		id := s.pending(a, b)
		actions, err := s.ForgetBranch(t.Context(), id, "b", because)
		require.NoError(t, err)
		require.Equal(t, []string{"branch 1 of participant b: given up; its outcome is recorded as heuristic hazard"}, actions)
		told := s.story.count("b: commit")
		time.Sleep(time.Hour)
		require.Equal(t, told, s.story.count("b: commit"))
		require.Zero(t, s.story.count("b: forget"), "it may still be prepared there")
		var heuristic *coordinator.HeuristicError
		require.ErrorAs(t, s.Commit(t.Context(), id), &heuristic)
		require.Equal(t, record.DecisionCommit, heuristic.Decision, "R2")
		require.Equal(t, []string{"branch 1 of participant b: heuristic hazard"}, heuristic.Branches)
		require.Equal(t, protocol.Done, s.info(id).Phase)
		require.Zero(t, s.Participants()[1].Undelivered)
		requireWords(t, s.DTM, id, record.VerbForgetBranch)
		require.Contains(t, s.story.of("log"), "heuristic operator")
	})
	// Also one that is being told: whatever it answers.
	playWith(t, coordinator.Config{CallTimeout: time.Hour}, nil, func(t *testing.T, s *stage) {
		a, b, hung := s.actor("a"), s.actor("b"), make(chan struct{})
		b.commit = func(context.Context, participant.Branch) error { <-hung; return errDown }
		id := s.pending(a, b)
		_, err := s.ForgetBranch(t.Context(), id, "b", because)
		require.NoError(t, err)
		close(hung)
		time.Sleep(time.Hour)
		require.Equal(t, 1, s.story.count("b: commit"))
		require.Zero(t, s.Participants()[1].Undelivered)
	})
}

// R2: what an operator did by hand acknowledges the decision, or is recorded as against
// it; it never changes it.
func TestR2ResolveNeverChangesTheDecision(t *testing.T) {
	for _, c := range []struct {
		by      participant.Outcome
		outcome participant.Outcome
		says    string
	}{
		{participant.OutcomeCommitted, participant.OutcomeCommitted, "committed, which acknowledges the decision"},
		{participant.OutcomeRolledBack, participant.OutcomeHeuristicMixed, "rolled back against the decision, which is recorded as heuristic"},
	} {
		play(t, func(t *testing.T, s *stage) {
			a, b := s.actor("a"), s.actor("b")
			b.commit = answers(errDown)
			id := s.pending(a, b)
			actions, err := s.Resolve(t.Context(), id, "b", c.by, because)
			require.NoError(t, err)
			require.Equal(t, []string{"branch 1 of participant b: " + c.says}, actions)
			told := s.story.count("b: commit")
			for range 2 { // live, and retained
				info := s.info(id)
				require.Equal(t, record.DecisionCommit, info.Decision)
				require.Equal(t, c.outcome, info.Outcome)
				time.Sleep(time.Hour / 2)
			}
			require.Equal(t, told, s.story.count("b: commit"))
			requireWords(t, s.DTM, id, record.VerbResolve)
			_, err = s.Resolve(t.Context(), id, "b", c.by, because)
			require.ErrorIs(t, err, coordinator.ErrUnfit)
		})
	}
}

// R3: of the branch that decides, and is silent, the word is the answer.
func TestR3ResolveAnswersForABranchThatDecides(t *testing.T) {
	for by, want := range map[participant.Outcome]error{participant.OutcomeCommitted: nil, participant.OutcomeRolledBack: coordinator.ErrRolledBack} {
		playWith(t, coordinator.Config{Timeout: time.Minute}, nil, func(t *testing.T, s *stage) {
			a := s.soloist("a")
			a.onePhase = answers(errDown)
			id, err := s.commits(a)
			require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
			for name, say := range map[string]func() error{
				"pause":  func() error { _, err := s.Pause(t.Context(), id, because); return err },
				"forget": func() error { _, err := s.ForgetBranch(t.Context(), id, "a", because); return err },
			} {
				err := say()
				require.ErrorIs(t, err, coordinator.ErrUnfit, name)
				require.ErrorContains(t, err, "its only branch decides", name)
			}
			actions, err := s.Retry(t.Context(), id, because)
			require.NoError(t, err)
			require.Equal(t, []string{"branch 0 of participant a: asked how it ended at once"}, actions)
			synctest.Wait()
			actions, err = s.Resolve(t.Context(), id, "a", by, because)
			require.NoError(t, err)
			require.Equal(t, []string{"branch 0 of participant a: " + by.String() + ", which is the decision"}, actions)
			told := s.story.count("a: commit one-phase")
			err = s.Commit(t.Context(), id)
			if want == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, want)
				require.ErrorContains(t, err, "the bank is gone")
			}
			time.Sleep(time.Hour / 2)
			require.Equal(t, told, s.story.count("a: commit one-phase"))
			require.Contains(t, s.story.of("log"), "decided operator")
			require.Equal(t, by, s.info(id).Outcome)
		})
	}
}

// What operators said survives a restart, and what it came to does not change by it.
func TestWordsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		paused := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		forgotten := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		resolved := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		against := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		for _, err := range []error{
			second(l.dtm.Pause(t.Context(), paused, because)),
			second(l.dtm.ForgetBranch(t.Context(), forgotten, "bank_b", because)),
			second(l.dtm.Resolve(t.Context(), resolved, "bank_b", participant.OutcomeCommitted, because)),
			second(l.dtm.Resolve(t.Context(), against, "bank_b", participant.OutcomeRolledBack, because)),
		} {
			require.NoError(t, err)
		}
		for range 2 {
			l.kill()
			l = s.start(t, death{}, everyBank...)
			time.Sleep(time.Minute)
			info, err := l.dtm.Get(t.Context(), paused)
			require.NoError(t, err)
			require.True(t, info.Paused)
			require.Equal(t, protocol.Telling, info.Phase)
			requireWords(t, l.dtm, paused, record.VerbPause)
			for id, outcome := range map[participant.TxID]participant.Outcome{
				forgotten: participant.OutcomeHeuristicHazard, resolved: participant.OutcomeCommitted, against: participant.OutcomeHeuristicMixed,
			} {
				info, err := l.dtm.Get(t.Context(), id)
				require.NoError(t, err)
				require.Equal(t, protocol.Done, info.Phase)
				require.Equal(t, outcome, info.Outcome)
				words, err := l.dtm.Words(t.Context(), id)
				require.NoError(t, err)
				require.Len(t, words, 1)
			}
			require.Equal(t, participanttest.StatePrepared, s.state("bank_b", paused, 1))
			require.Equal(t, participanttest.StatePrepared, s.state("bank_b", forgotten, 1), "nobody tells it")
		}
		orphans, err := l.dtm.Orphans(t.Context())
		require.NoError(t, err)
		require.Len(t, orphans, 1)
		require.Equal(t, forgotten, orphans[0].Branch.Tx)
		require.Equal(t, recovery.GivenUp, orphans[0].Verdict)
		_, err = l.dtm.Resume(t.Context(), paused, because)
		require.NoError(t, err)
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		require.NoError(t, l.dtm.Commit(t.Context(), paused))
	})
}

func second[A any](_ A, err error) error { return err }

// R3: after a crash, too, the operator may answer for the branch that decides; until then
// it stays undecided.
func TestR3ResolveOfAnInheritedDelegation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		l.mu.Lock()
		l.deaf = true
		l.mu.Unlock()
		id, err := l.dtm.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, l.dtm.Enlist(t.Context(), id, l.participant("bank_a")))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, l.dtm.Commit(ctx, id), coordinator.ErrOutcomeUnknown)
		l.kill()
		l = s.start(t, death{}) // nobody registers the bank
		time.Sleep(time.Minute)
		_, err = l.dtm.ForgetBranch(t.Context(), id, "bank_a", because)
		require.ErrorIs(t, err, coordinator.ErrUnfit)
		_, err = l.dtm.Resolve(t.Context(), id, "bank_a", participant.OutcomeCommitted, because)
		require.NoError(t, err)
		require.NoError(t, l.dtm.Commit(t.Context(), id))
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		l.kill()
		l = s.start(t, death{}, everyBank...)
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		require.NoError(t, l.dtm.Commit(t.Context(), id))
		requireWords(t, l.dtm, id, record.VerbResolve)
	})
}

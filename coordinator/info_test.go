package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zapcore"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

func TestGetSaysWhatIsKnown(t *testing.T) {
	playWith(t, coordinator.Config{Timeout: 10 * time.Hour, CallTimeout: 10 * time.Hour, RetainBytes: 1 << 20}, nil, func(t *testing.T, s *stage) {
		a, b, letVote, letCommit := s.actor("a"), s.actor("b"), make(chan struct{}), make(chan struct{})
		b.prepare = hangs(letVote)
		a.commit = func(context.Context, participant.Branch) error {
			<-letCommit
			return nil
		}
		b.commit = answers(errDown)
		id := s.beginWith([]coordinator.BeginOption{coordinator.WithName("n")}, a, b)
		info := s.info(id)
		require.Equal(t, protocol.Active, info.Phase)
		require.Zero(t, info.Decision)
		require.Zero(t, info.Outcome)
		require.Equal(t, "n", info.Name)
		require.Equal(t, []coordinator.BranchInfo{{Number: 0, Participant: "a"}, {Number: 1, Participant: "b"}}, info.Branches)

		go func() { _ = s.Commit(context.Background(), id) }()
		synctest.Wait()
		info = s.info(id)
		require.Equal(t, protocol.Preparing, info.Phase)
		require.Equal(t, participant.VotePrepared, info.Branches[0].Vote)
		require.False(t, info.Branches[1].Vote.Valid())

		close(letVote)
		synctest.Wait()
		info = s.info(id)
		require.Equal(t, protocol.Telling, info.Phase)
		require.Equal(t, record.DecisionCommit, info.Decision)
		require.Equal(t, 0, info.Branches[0].Attempts, "under way")
		require.Equal(t, 1, info.Branches[1].Attempts)
		require.Equal(t, errDown.Error(), info.Branches[1].LastError)
		require.WithinRange(t, info.Branches[1].NextRetry, time.Now().Add(50*time.Millisecond), time.Now().Add(100*time.Millisecond))

		b.recast(func() { b.commit = nil })
		time.Sleep(time.Second)
		info = s.info(id)
		require.Equal(t, 2, info.Branches[1].Attempts)
		require.Empty(t, info.Branches[1].LastError)
		require.Equal(t, participant.OutcomeCommitted, info.Branches[1].Outcome)
		require.Zero(t, info.Branches[1].NextRetry)
		require.False(t, info.Branches[0].Outcome.Valid())

		begun := info.Begun
		close(letCommit)
		time.Sleep(time.Second)
		info = s.info(id)
		require.Equal(t, protocol.Done, info.Phase)
		require.Equal(t, participant.OutcomeCommitted, info.Outcome)
		require.Equal(t, begun.UnixMilli(), info.Begun.UnixMilli())
		require.Equal(t, []coordinator.BranchInfo{
			{Number: 0, Participant: "a", Vote: participant.VotePrepared, Outcome: participant.OutcomeCommitted},
			{Number: 1, Participant: "b", Vote: participant.VotePrepared, Outcome: participant.OutcomeCommitted},
		}, info.Branches, "what is retained")
	})
}

func TestGetSaysWhyItWasRolledBack(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.actor("a")
		a.prepare = says(participant.VoteRefused, errors.New("no money"))
		id, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrRolledBack)
		for range 2 { // live, and retained
			info := s.info(id)
			require.Equal(t, record.CauseRefused, info.Cause)
			require.Equal(t, "no money", info.Reason)
			require.Equal(t, participant.VoteRefused, info.Branches[0].Vote)
			time.Sleep(time.Minute)
		}
		require.EqualError(t, s.Commit(t.Context(), id), err.Error())
	})
}

func TestListFiltersInOrder(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.actor("b")
		b.commit = answers(errDown)
		done, err := s.commits(a)
		require.NoError(t, err)
		pending, err := s.commits(a, b)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		mine := s.beginWith([]coordinator.BeginOption{coordinator.WithOwner("me")}, a)
		open := s.begin(b)
		list := func(f coordinator.Filter) (ids []participant.TxID) {
			t.Helper()
			infos, err := s.List(t.Context(), f)
			require.NoError(t, err)
			for _, info := range infos {
				ids = append(ids, info.ID)
			}
			return ids
		}
		tx := func(ids ...participant.TxID) []participant.TxID { return ids }
		require.Equal(t, tx(pending, mine, open), list(coordinator.Filter{}))
		require.Equal(t, tx(done, pending, mine, open), list(coordinator.Filter{Done: true}))
		require.Equal(t, tx(done, pending), list(coordinator.Filter{Done: true, Limit: 2}))
		require.Equal(t, tx(pending), list(coordinator.Filter{InDoubt: true}))
		require.Equal(t, tx(pending, open), list(coordinator.Filter{Participant: "b"}))
		require.Equal(t, tx(mine), list(coordinator.Filter{Owner: "me"}))
		require.Empty(t, list(coordinator.Filter{Owner: "me", InDoubt: true}))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = s.List(ended, coordinator.Filter{})
		require.ErrorIs(t, err, context.Canceled)

		for range 2000 {
			_, err := s.commits()
			require.NoError(t, err)
		}
		require.Len(t, list(coordinator.Filter{Done: true}), 1000, "the default limit")
		require.Len(t, list(coordinator.Filter{Done: true, Limit: 5000}), 2004)
	})
}

// Every hook is called, with what happened, and before the caller is told; a hook
// may ask for the transaction.
func TestTraceTellsEverything(t *testing.T) {
	var s *stage
	traced := &story{}
	look := func(id participant.TxID) string {
		info, err := s.Get(context.Background(), id)
		if err != nil {
			return err.Error()
		}
		return info.Decision.String()
	}
	took := func(d time.Duration) time.Duration { return d.Round(time.Second) }
	trace := &coordinator.Trace{
		Begun:    func(participant.TxID) { traced.add("begun") },
		Enlisted: func(b participant.Branch) { traced.add("enlisted %d %s", b.Number, b.Participant) },
		Voted: func(b participant.Branch, vote participant.Vote, err error, d time.Duration) {
			traced.add("voted %s %s %v %s", b.Participant, vote, err, took(d))
		},
		Decided: func(id participant.TxID, decision record.Decision, cause record.Cause) {
			time.Sleep(time.Millisecond) // nobody is told meanwhile
			traced.add("decided %s %d, Get says %s", decision, cause, look(id))
		},
		Told: func(b participant.Branch, decision record.Decision, attempt int, err error, d time.Duration) {
			traced.add("told %s %s attempt %d %v %s", b.Participant, decision, attempt, err, took(d))
		},
		Finished: func(id participant.TxID, outcome participant.Outcome) {
			time.Sleep(time.Millisecond)
			traced.add("finished %s, Get says %s", outcome, look(id))
		},
	}
	synctest.Test(t, func(t *testing.T) {
		s = newStage(t, coordinator.Config{Trace: trace}, nil)
		a, failures := s.actor("a"), 1
		a.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
			time.Sleep(3 * time.Second)
			return participant.VotePrepared, nil
		}
		a.commit = func(context.Context, participant.Branch) error {
			if failures--; failures >= 0 {
				return errDown
			}
			return nil
		}
		_, err := s.commits(a)
		require.NoError(t, err)
		require.Equal(t, []string{
			"begun", "enlisted 0 a", "voted a prepared <nil> 3s", "decided commit 0, Get says commit",
			"told a commit attempt 1 connection refused 0s", "told a commit attempt 2 <nil> 0s", "finished committed, Get says commit",
		}, traced.all())

		traced.events = nil
		require.NoError(t, s.Rollback(t.Context(), s.begin(a)))
		require.Equal(t, fmt.Sprintf("decided rollback %d, Get says rollback", record.CauseRequested), traced.all()[2], "when Rollback returns")
		time.Sleep(time.Second)
		require.Equal(t, []string{"told a rollback attempt 1 <nil> 0s", "finished rolled back, Get says rollback"}, traced.all()[3:])

		traced.events = nil
		_, err = s.commits(s.soloist("solo"))
		require.NoError(t, err)
		require.Equal(t, []string{
			"begun", "enlisted 0 solo", "told solo commit attempt 1 <nil> 0s", "decided commit 0, Get says commit", "finished committed, Get says commit",
		}, traced.all())
	})
}

// An operator is told what needs one, and not more.
func TestOperatorIsToldWhatNeedsOne(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		highest := func() zapcore.Level {
			synctest.Wait()
			level := zapcore.InvalidLevel
			for _, entry := range s.logs.TakeAll() {
				if level == zapcore.InvalidLevel || entry.Level > level {
					level = entry.Level
				}
			}
			return level
		}
		a := s.actor("a")
		highest()
		_, err := s.commits(a)
		require.NoError(t, err)
		require.Equal(t, zapcore.DebugLevel, highest(), "a clean commit")

		id := s.beginWith([]coordinator.BeginOption{coordinator.WithName("transfer")}, a)
		time.Sleep(6 * time.Second)
		require.NoError(t, s.Commit(t.Context(), id))
		slow := s.logs.FilterMessage("transaction decided").All()
		require.Equal(t, "transfer", slow[0].ContextMap()["name"])
		require.Equal(t, zapcore.InfoLevel, highest(), "a slow one")

		require.NoError(t, s.Rollback(t.Context(), s.begin(a)))
		synctest.Wait()
		entries := s.logs.FilterMessage("transaction decided").All()
		require.Contains(t, entries[0].ContextMap()["error"], "rollback was requested")
		require.Equal(t, zapcore.InfoLevel, highest(), "rolled back")

		a.commit = answers(errDown)
		_, err = s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		require.Equal(t, zapcore.WarnLevel, highest(), "pending")

		b := s.actor("b")
		b.commit = answers(&participant.HeuristicError{Outcome: participant.OutcomeRolledBack})
		_, err = s.commits(b)
		var heuristic *coordinator.HeuristicError
		require.ErrorAs(t, err, &heuristic)
		require.Equal(t, zapcore.ErrorLevel, highest(), "heuristic")
		a.recast(func() { a.commit = nil })
	})
}

package protocol

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

const (
	committed         = participant.OutcomeCommitted
	rolledBack        = participant.OutcomeRolledBack
	heuristicCommit   = participant.OutcomeHeuristicCommit
	heuristicRollback = participant.OutcomeHeuristicRollback
	hazard            = participant.OutcomeHeuristicHazard
	mixed             = participant.OutcomeHeuristicMixed
)

func decidedAlone(o participant.Outcome) error {
	return fmt.Errorf("telling the branch: %w", &participant.HeuristicError{Outcome: o, Err: errors.New("operator")})
}

// R6, R7: which answers end a branch, and how.
func TestAnswer(t *testing.T) {
	unknown := fmt.Errorf("asking: %w", participant.ErrUnknownBranch)
	for _, c := range []struct {
		told         record.Decision
		err          error
		outcome      participant.Outcome
		acknowledged bool
	}{
		{record.DecisionCommit, nil, committed, true},
		{record.DecisionCommit, unknown, hazard, false}, // R7
		{record.DecisionCommit, errors.New("connection reset"), 0, false},
		{record.DecisionCommit, participant.ErrConfig, 0, false},
		{record.DecisionCommit, participant.ErrStaleEpoch, 0, false},
		{record.DecisionCommit, participant.ErrRefused, 0, false}, // not its to refuse any more
		{record.DecisionCommit, decidedAlone(committed), committed, true},
		{record.DecisionCommit, decidedAlone(heuristicCommit), committed, true},
		{record.DecisionCommit, decidedAlone(rolledBack), heuristicRollback, true},
		{record.DecisionCommit, decidedAlone(heuristicRollback), heuristicRollback, true},
		{record.DecisionCommit, decidedAlone(mixed), mixed, true},
		{record.DecisionCommit, decidedAlone(hazard), hazard, true},
		{record.DecisionCommit, decidedAlone(0), hazard, true},
		{record.DecisionRollback, nil, rolledBack, true},
		{record.DecisionRollback, unknown, rolledBack, true}, // R7
		{record.DecisionRollback, errors.New("connection reset"), 0, false},
		{record.DecisionRollback, participant.ErrConfig, 0, false},
		{record.DecisionRollback, decidedAlone(rolledBack), rolledBack, true},
		{record.DecisionRollback, decidedAlone(heuristicRollback), rolledBack, true},
		{record.DecisionRollback, decidedAlone(committed), heuristicCommit, true},
		{record.DecisionRollback, decidedAlone(heuristicCommit), heuristicCommit, true},
		{record.DecisionRollback, decidedAlone(mixed), mixed, true},
		{record.DecisionRollback, decidedAlone(99), hazard, true},
	} {
		outcome, acknowledged := Answer(c.told, c.err)
		require.Equal(t, c.outcome, outcome, "%s: %v", c.told, c.err)
		require.Equal(t, c.acknowledged, acknowledged, "%s: %v", c.told, c.err)
	}
}

// R3, R7: only "committed" and "refused" are certain.
func TestAnswerOnePhase(t *testing.T) {
	for _, c := range []struct {
		err          error
		outcome      participant.Outcome
		acknowledged bool
	}{
		{nil, committed, true},
		{fmt.Errorf("insufficient funds: %w", participant.ErrRefused), rolledBack, true},
		{participant.ErrUnknownBranch, 0, false},
		{participant.ErrConfig, 0, false},
		{errors.New("connection reset"), 0, false},
		{decidedAlone(committed), committed, true},
		{decidedAlone(rolledBack), heuristicRollback, true}, // the machine takes it for the decision
		{decidedAlone(mixed), mixed, true},
		{decidedAlone(0), hazard, true},
	} {
		outcome, acknowledged := AnswerOnePhase(c.err)
		require.Equal(t, c.outcome, outcome, "%v", c.err)
		require.Equal(t, c.acknowledged, acknowledged, "%v", c.err)
	}
}

func TestOutcomeLattice(t *testing.T) {
	readOnly := Branch{Vote: participant.VoteReadOnly, Outcome: committed}
	silent := Branch{Vote: participant.VotePrepared}
	suspect := Branch{Vote: participant.VotePrepared, Hazard: true}
	cleared := Branch{Vote: participant.VotePrepared, Hazard: true, Outcome: committed}
	ended := func(o participant.Outcome) Branch { return Branch{Vote: participant.VotePrepared, Outcome: o} }
	for name, c := range map[string]struct {
		decision record.Decision
		branches []Branch
		want     participant.Outcome
	}{
		"undecided":                              {0, []Branch{silent}, 0},
		"nobody took part":                       {record.DecisionCommit, nil, committed},
		"all followed a commit":                  {record.DecisionCommit, []Branch{ended(committed), ended(committed)}, committed},
		"all followed a rollback":                {record.DecisionRollback, []Branch{ended(rolledBack), ended(rolledBack)}, rolledBack},
		"not acknowledged yet":                   {record.DecisionCommit, []Branch{ended(committed), silent}, committed},
		"all rolled back alone":                  {record.DecisionCommit, []Branch{ended(heuristicRollback), ended(heuristicRollback)}, heuristicRollback},
		"all committed alone":                    {record.DecisionRollback, []Branch{ended(heuristicCommit), ended(heuristicCommit)}, heuristicCommit},
		"one rolled back alone":                  {record.DecisionCommit, []Branch{ended(committed), ended(heuristicRollback)}, mixed},
		"one committed alone":                    {record.DecisionRollback, []Branch{ended(heuristicCommit), ended(rolledBack)}, mixed},
		"one rolled back alone, one told":        {record.DecisionCommit, []Branch{silent, ended(heuristicRollback)}, mixed},
		"read-only does not count at a commit":   {record.DecisionCommit, []Branch{readOnly, ended(heuristicRollback)}, heuristicRollback},
		"read-only has followed a rollback":      {record.DecisionRollback, []Branch{readOnly, ended(heuristicCommit)}, mixed},
		"mixed absorbs":                          {record.DecisionCommit, []Branch{ended(mixed), ended(hazard), ended(heuristicRollback)}, mixed},
		"hazard is above heuristic":              {record.DecisionCommit, []Branch{ended(hazard), ended(heuristicRollback)}, hazard},
		"hazard is above committed":              {record.DecisionCommit, []Branch{ended(hazard), ended(committed)}, hazard},
		"an open suspicion is a hazard":          {record.DecisionCommit, []Branch{ended(committed), suspect}, hazard},
		"a suspicion that was cleared is none":   {record.DecisionCommit, []Branch{ended(committed), cleared}, committed},
		"a suspicion does not hide what is sure": {record.DecisionCommit, []Branch{ended(committed), suspect, ended(heuristicRollback)}, mixed},
	} {
		m := Machine{decision: c.decision, branches: c.branches}
		require.Equal(t, c.want, m.Outcome(), name)
	}
}

// begun returns a machine with branches that can commit in one phase or not.
func begun(onePhasers ...bool) Machine {
	m, _ := New(record.Begun{Tx: theTx})
	for _, o := range onePhasers {
		realStep(&m, Enlist("p", nil, o))
	}
	return m
}

func feed(m *Machine, events ...Event) (last []Effect) {
	for _, ev := range events {
		last = realStep(m, ev)
	}
	return last
}

func TestEnlistAfterTheListIsSealed(t *testing.T) {
	for name, ev := range map[string]Event{
		"commit": CommitRequested(), "rollback": RollbackRequested(record.CauseClosed, ""), "deadline": DeadlinePassed(""), "log failure": LogFailed(),
	} {
		m := begun(false)
		feed(&m, ev)
		before := m.Clone()
		effects, err := m.Step(Enlist("late", nil, false))
		require.ErrorIs(t, err, ErrSealed, name)
		require.Empty(t, effects.All(), name)
		require.Equal(t, before, m, name)
	}
}

func TestTooManyBranches(t *testing.T) {
	m := begun(make([]bool, participant.MaxBranches)...)
	require.Len(t, m.Branches(), participant.MaxBranches)
	_, err := m.Step(Enlist("one more", nil, false))
	require.ErrorIs(t, err, ErrTooManyBranches)
	require.Len(t, m.Branches(), participant.MaxBranches)
}

// Two branches need both phases, whatever they can do.
func TestOnePhaseIsForOneBranch(t *testing.T) {
	m := begun(true, true)
	require.Equal(t, []Effect{appendForced(record.Preparing{Tx: theTx})}, feed(&m, CommitRequested()))
}

// R10 lets a rollback by absence wait for the participant's list.
func TestPresumed(t *testing.T) {
	m := begun(false)
	feed(&m, RollbackRequested(record.CauseRequested, ""))
	require.False(t, m.Presumed(), "a rollback that was asked for")

	state := record.NewState(theTx)
	require.NoError(t, state.Apply(record.Enlisted{Tx: theTx, Participant: "p"}))
	m = Resume(state)
	require.True(t, m.Presumed(), "found undecided")
	decided := feed(&m, Resumed())
	require.True(t, decided[0].Records()[0].(record.Decided).Presumed)
	require.True(t, m.Presumed(), "decided for want of a decision")
	feed(&m, Appended(record.KindDecided, Durable))
	require.True(t, m.Presumed(), "while it is told")

	require.NoError(t, state.Apply(decided[0].Records()[0]))
	m = Resume(state)
	require.True(t, m.Presumed(), "the log remembers that it was presumed")

	delegated := record.NewState(theTx)
	require.NoError(t, delegated.Apply(record.Enlisted{Tx: theTx, Participant: "p"}))
	require.NoError(t, delegated.Apply(record.Delegated{Tx: theTx}))
	m = Resume(delegated)
	feed(&m, Resumed())
	require.True(t, m.Presumed(), "the branch is asked to roll back because nothing else is known")
	feed(&m, Acknowledged(0, heuristicCommit, ""))
	require.False(t, m.Presumed(), "the branch has decided")

	found := record.NewState(theTx)
	require.NoError(t, found.Apply(record.Decided{Tx: theTx, Decision: record.DecisionCommit, By: record.NoBranch}))
	m = Resume(found)
	require.False(t, m.Presumed(), "found committed")
}

// R3: what the only branch says is the decision; only what is neither committed nor
// rolled back is a heuristic outcome.
func TestOnePhaseAnswers(t *testing.T) {
	for _, c := range []struct {
		answer, want participant.Outcome
		decision     record.Decision
		forced       bool
	}{
		{committed, committed, record.DecisionCommit, false},
		{rolledBack, rolledBack, record.DecisionRollback, false},
		{heuristicCommit, committed, record.DecisionCommit, false},
		{heuristicRollback, rolledBack, record.DecisionRollback, false},
		{mixed, mixed, record.DecisionCommit, true},
		{hazard, hazard, record.DecisionCommit, true},
	} {
		m := begun(true)
		effects := feed(&m, CommitRequested(), Appended(record.KindDelegated, Durable), Acknowledged(0, c.answer, ""))
		require.Equal(t, c.decision, m.Decision(), c.answer.String())
		require.Equal(t, c.forced, effects[0].Forced, c.answer.String())
		require.Equal(t, Effect{Kind: EffectFinish, Outcome: c.want}, effects[len(effects)-1], c.answer.String())
	}
}

// R5, R9: whatever came of an append but "durable", nothing more is sent.
func TestFailedAppendStops(t *testing.T) {
	for _, result := range []Result{Unknown, Fenced, 0} {
		m := begun(false, false)
		effects := feed(&m, CommitRequested(), Appended(record.KindPreparing, result))
		require.Equal(t, []Effect{{Kind: EffectFinish}}, effects, result.String())
		require.Equal(t, Stopped, m.Phase())
		require.Empty(t, feed(&m, RollbackRequested(record.CauseRequested, "")))
		require.Empty(t, feed(&m, Appended(record.KindPreparing, Durable)))
	}
	m := begun(false)
	feed(&m, CommitRequested(), Appended(record.KindPreparing, Durable))
	require.Equal(t, []Effect{{Kind: EffectCancelPrepare}, {Kind: EffectFinish}}, feed(&m, LogFailed()), "while a vote is missing")
	m = begun()
	feed(&m, CommitRequested(), Appended(record.KindCompleted, Durable))
	require.Empty(t, feed(&m, LogFailed()))
	require.Equal(t, Done, m.Phase(), "what is done stays done")
}

// R4: a vote that is none of the three is unknown, not a promise of anything.
func TestInvalidVoteIsUnknown(t *testing.T) {
	for _, vote := range []participant.Vote{0, 4, 99} {
		m := begun(false, false)
		feed(&m, CommitRequested(), Appended(record.KindPreparing, Durable), Voted(0, participant.VotePrepared, ""))
		decided := feed(&m, Voted(1, vote, "garbled"))[0].Records()[0].(record.Decided)
		require.Equal(t, record.Decided{
			Tx: theTx, Decision: record.DecisionRollback, Votes: []participant.Vote{participant.VotePrepared, 0},
			Cause: record.CauseUnknownVote, Reason: "garbled", By: 1,
		}, decided)
		require.Zero(t, m.Branches()[1].Vote)
	}
}

// The reason of a rollback is cut to what a record may hold.
func TestReasonIsCut(t *testing.T) {
	m := begun(false)
	long := make([]byte, 2*record.MaxReason)
	effects := feed(&m, RollbackRequested(record.CauseRequested, string(long)))
	require.Len(t, effects[0].Records()[0].(record.Decided).Reason, record.MaxReason)
}

func TestZeroMachineIsUnusable(t *testing.T) {
	m := begun()
	require.Panics(t, func() { _, _ = m.Step(Event{}) })
	require.Equal(t, "invalid phase 0", Phase(0).String())
	require.Equal(t, "invalid result 0", Result(0).String())
}

// The same events give the same effects, and a clone goes its own way. Whatever
// the order of events, a stopped or finished machine asks for nothing.
func TestDeterminism(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		onePhasers := rapid.SliceOfN(rapid.Bool(), 1, 4).Draw(t, "branches")
		first, second := begun(onePhasers...), begun(onePhasers...)
		for range rapid.IntRange(1, 40).Draw(t, "events") {
			ev := drawEvent(t, len(onePhasers))
			aside := first.Clone()
			ended := first.Phase() == Done || first.Phase() == Stopped
			effects := feed(&first, ev)
			if ended {
				require.Empty(t, effects)
			}
			require.Equal(t, effects, feed(&second, ev))
			require.Equal(t, first, second)
			require.Equal(t, effects, feed(&aside, ev))
		}
	})
}

func drawEvent(t *rapid.T, branches int) Event {
	branch := rapid.IntRange(0, branches-1).Draw(t, "branch")
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0:
		return CommitRequested()
	case 1:
		return RollbackRequested(record.CauseRequested, "")
	case 2:
		return DeadlinePassed("")
	case 3, 4:
		kind := rapid.SampledFrom([]record.Kind{record.KindPreparing, record.KindDelegated, record.KindDecided, record.KindCompleted})
		result := rapid.SampledFrom([]Result{Durable, Durable, Durable, Unknown, Fenced})
		return Appended(kind.Draw(t, "record"), result.Draw(t, "result"))
	case 5, 6:
		return Voted(branch, participant.Vote(rapid.IntRange(0, 4).Draw(t, "vote")), "")
	case 7, 8:
		return Acknowledged(branch, participant.Outcome(rapid.IntRange(1, 6).Draw(t, "outcome")), "")
	default:
		return Hazard(branch, "")
	}
}

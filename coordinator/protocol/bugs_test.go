package protocol

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Seeded bugs: the classic mistakes of coordinators, each a wrapper around the real
// machine or the real replay. The exploration has to find every one, by the rule
// that it breaks; `go test -v -run SeededBugs` tells the shortest story of each.

type stepFunc = func(*Machine, Event) []Effect

// wrong makes a system of the real one, but for its step.
func wrong(step stepFunc) system { return system{step: step, replay: replay} }

var bugs = []struct {
	name string
	system
	onePhase bool
	rule     string // that the exploration sees broken
}{
	{"commit is told before the decision is durable", wrong(tellBeforeDurable), false, "R1"},
	{"prepare is sent before the list of branches is durable", wrong(prepareBeforeDurable), false, "R1"},
	{"branches are forgotten before the completion is durable", wrong(forgetBeforeDurable), false, "R1"},
	{"a timeout overwrites the decision", wrong(timeoutOverwrites), false, "AC2"},
	{"the last record wins at replay", system{realSystem.step, replayLast}, false, "R2"},
	{"logged votes are replayed as a commit", wrong(votesAreDecision), false, "R3"},
	{"a delegated branch is rolled back like any undecided one", wrong(presumeDelegated), true, "R3"},
	{"a delegated branch is rolled back by a request", wrong(rollBackDelegated), true, "R3"},
	{"a late yes is ignored", wrong(ignoreLateYes), false, "AC5"},
	{"a branch with an unknown vote is taken for gone", wrong(unknownIsGone), false, "R4"},
	{"a branch that refused is not told to roll back", wrong(spareRefused), false, "R4"},
	{"rollback does not wait for the cancelled prepare", wrong(tellDuringPrepare), false, "R4"},
	{"a read-only branch is told to commit", wrong(tellReadOnly), false, "R4"},
	{"an append error is read as an abort", wrong(errorIsAbort), false, "R5"},
	{"the transaction completes at the first acknowledgement", wrong(completeEarly), false, "R6"},
	{"an unknown branch is taken for a committed one", wrong(absenceIsSuccess), false, "R7"},
	{"a heuristic outcome is not recorded", wrong(forgetHeuristic), false, "AC2"},
	{"a settled hazard stays in the log", wrong(leaveHazard), false, "AC2"},
	{"the first yes decides", wrong(firstYesDecides), false, "AC3"},
	{"read-only is read as a refusal", wrong(readOnlyIsRefusal), false, "AC4"},
}

// wordBugs are mistakes with operators' words.
var wordBugs = []struct {
	name string
	system
	onePhase bool
	rule     string
}{
	{"an operator's word is lost at replay", system{realSystem.step, replayWithoutWords}, false, "R2"},
	{"an operator's word takes effect before it is durable", wrong(heedBeforeDurable), false, "R4"},
	{"an answer is taken while an operator's word on the branch is on its way", wrong(answerOvertakes), false, "AC2"},
	{"the branch that decides may still answer while the operator's word is on its way", wrong(wordOverDecision), true, "R2"},
}

func TestSeededBugsOfWords(t *testing.T) {
	for _, bug := range wordBugs {
		t.Run(bug.name, func(t *testing.T) {
			s := setting{branches: 1, votes: allVotes, onePhase: bug.onePhase, system: bug.system, budget: budget{crash: 2, alone: 1, word: 1}}
			x := explore(&s, nil)
			require.NotNil(t, x.broken, "not found in %d states", x.states)
			t.Logf("%s: %s\n%s", x.broken.rule, x.broken.what, story(&s, x.trace))
			require.Equal(t, bug.rule, x.broken.rule, x.broken.what)
		})
	}
}

func replayWithoutWords(records []record.Record) (*record.State, error) {
	return replay(slices.DeleteFunc(slices.Clone(records), func(r record.Record) bool { return r.Kind() == record.KindOperator }))
}

func heedBeforeDurable(m *Machine, ev Event) []Effect {
	effects := realStep(m, ev)
	if ev.Kind == EventSaid && len(effects) > 0 {
		effects = append(effects, list(m.heard())...)
	}
	return effects
}

func answerOvertakes(m *Machine, ev Event) []Effect {
	if ev.Kind == EventAcknowledged && m.awaitsWord(ev.Branch) {
		m.spoken.pending = record.Operator{}
	}
	return realStep(m, ev)
}

// wordOverDecision leaves the register to the branch while the operator's word, which is a
// decision, too, is on its way.
func wordOverDecision(m *Machine, ev Event) []Effect {
	if ev.Kind == EventAcknowledged && m.phase == Deciding && m.awaitsWord(ev.Branch) {
		m.phase, m.spoken.pending = Delegated, record.Operator{}
	}
	return realStep(m, ev)
}

func TestSeededBugs(t *testing.T) {
	for _, bug := range bugs {
		t.Run(bug.name, func(t *testing.T) {
			s := setting{
				branches: 2, votes: allVotes, system: bug.system,
				budget: budget{crash: 1, late: 1, failedAppend: 1, rollbackCall: 1, deadline: 1, alone: 1, amnesia: 1},
			}
			if bug.onePhase {
				s.branches, s.onePhase = 1, true
			}
			x := explore(&s, nil)
			require.NotNil(t, x.broken, "not found in %d states", x.states)
			t.Logf("%s: %s\n%s", x.broken.rule, x.broken.what, story(&s, x.trace))
			require.Equal(t, bug.rule, x.broken.rule, x.broken.what)
		})
	}
}

func realStep(m *Machine, ev Event) []Effect { return realSystem.step(m, ev) }

func list(effects Effects) []Effect { return effects.All() }

func appends(effects []Effect, d record.Decision) bool {
	return slices.ContainsFunc(effects, func(e Effect) bool {
		return slices.ContainsFunc(e.Records(), func(r record.Record) bool {
			decided, ok := r.(record.Decided)
			return ok && decided.Decision == d
		})
	})
}

func tellBeforeDurable(m *Machine, ev Event) []Effect {
	effects := realStep(m, ev)
	if m.phase == Deciding && appends(effects, record.DecisionCommit) {
		effects = append(effects, Effect{Kind: EffectCommit, Branches: m.all()})
	}
	return effects
}

func prepareBeforeDurable(m *Machine, ev Event) []Effect {
	effects := realStep(m, ev)
	if m.phase == Sealing && ev.Kind == EventCommitRequested {
		effects = append(effects, Effect{Kind: EffectPrepare, Branches: m.all()})
	}
	return effects
}

func forgetBeforeDurable(m *Machine, ev Event) []Effect {
	effects := realStep(m, ev)
	if m.phase == Completing && len(effects) > 0 {
		effects = append(effects, Effect{Kind: EffectForget, Branches: m.all()})
	}
	return effects
}

func timeoutOverwrites(m *Machine, ev Event) []Effect {
	if ev.Kind == EventDeadline && m.phase == Telling && m.decision == record.DecisionCommit {
		m.decision = record.DecisionRollback
		return list(m.decide(record.DecisionRollback, why{cause: record.CauseTimeout}, record.NoBranch))
	}
	return realStep(m, ev)
}

// replayLast believes what the last record says of the transaction's standing, and
// so forgets the decision when something was written after it.
func replayLast(records []record.Record) (*record.State, error) {
	s, err := replay(records)
	if err == nil && records[len(records)-1].Kind() == record.KindHeuristic {
		s.Decision = 0
	}
	return s, err
}

func votesAreDecision(m *Machine, ev Event) []Effect {
	missing := func(b Branch) bool { return b.Vote != participant.VotePrepared }
	if ev.Kind == EventResumed && !m.decision.Valid() && len(m.branches) > 0 && !slices.ContainsFunc(m.branches, missing) {
		return list(m.decide(record.DecisionCommit, why{}, record.NoBranch))
	}
	first := ev.Kind == EventVote && m.phase == Preparing && !m.branches[ev.Branch].Answered
	effects := realStep(m, ev)
	if first {
		votes := make([]record.Branch, len(m.branches))
		for i, b := range m.branches {
			votes[i].Vote = b.Vote
		}
		effects = append([]Effect{appendLazy(record.Carried{State: record.State{Tx: m.tx, Branches: votes, By: record.NoBranch}})}, effects...)
	}
	return effects
}

func presumeDelegated(m *Machine, ev Event) []Effect {
	if ev.Kind == EventResumed {
		m.delegatedBefore = false
	}
	return realStep(m, ev)
}

func rollBackDelegated(m *Machine, ev Event) []Effect {
	if ev.Kind == EventRollbackRequested && m.phase == Delegated {
		return list(m.decide(record.DecisionRollback, why{cause: ev.Cause}, record.NoBranch))
	}
	return realStep(m, ev)
}

func ignoreLateYes(m *Machine, ev Event) []Effect {
	if ev.Kind == EventVote && ev.Vote == participant.VotePrepared && m.phase == Telling {
		m.branches[ev.Branch].Answered = true
		return nil
	}
	return realStep(m, ev)
}

func unknownIsGone(m *Machine, ev Event) []Effect {
	effects := realStep(m, ev)
	if ev.Kind == EventVote && !ev.Vote.Valid() {
		m.branches[ev.Branch].Outcome = participant.OutcomeRolledBack
	}
	return effects
}

func spareRefused(m *Machine, ev Event) []Effect {
	first := ev.Kind == EventVote && !m.branches[ev.Branch].Answered
	effects := realStep(m, ev)
	if first && ev.Vote == participant.VoteRefused {
		m.branches[ev.Branch].Outcome = participant.OutcomeRolledBack
	}
	return effects
}

func tellDuringPrepare(m *Machine, ev Event) []Effect {
	effects := realStep(m, ev)
	for i, e := range effects {
		if e.Kind == EffectRollback && ev.Kind == EventAppended {
			effects[i].Branches = m.all()
		}
	}
	return effects
}

func tellReadOnly(m *Machine, ev Event) []Effect {
	effects := realStep(m, ev)
	for i, e := range effects {
		if e.Kind == EffectCommit {
			effects[i].Branches = m.all()
		}
	}
	return effects
}

func errorIsAbort(m *Machine, ev Event) []Effect {
	if ev.Kind == EventAppended && ev.Result == Unknown && m.phase == Deciding && m.deciding.Decision == record.DecisionCommit {
		m.phase, m.decision = Telling, record.DecisionRollback
		return list(m.tell(m.all()))
	}
	return realStep(m, ev)
}

func completeEarly(m *Machine, ev Event) []Effect {
	first := ev.Kind == EventAcknowledged && !m.branches[ev.Branch].Outcome.Valid()
	effects := realStep(m, ev)
	if first && m.phase == Telling && m.decision == record.DecisionCommit {
		return append(effects, list(m.complete())...)
	}
	return effects
}

func absenceIsSuccess(m *Machine, ev Event) []Effect {
	if ev.Kind == EventHazard {
		ev = Acknowledged(ev.Branch, participant.OutcomeCommitted, "")
	}
	return realStep(m, ev)
}

func forgetHeuristic(m *Machine, ev Event) []Effect {
	return withoutHeuristic(realStep(m, ev), participant.Outcome.Heuristic)
}

func leaveHazard(m *Machine, ev Event) []Effect {
	return withoutHeuristic(realStep(m, ev), func(o participant.Outcome) bool { return o == participant.OutcomeCommitted })
}

func withoutHeuristic(effects []Effect, drop func(participant.Outcome) bool) []Effect {
	return slices.DeleteFunc(effects, func(e Effect) bool {
		if e.Kind != EffectAppend {
			return false
		}
		h, ok := e.Records()[0].(record.Heuristic)
		return ok && drop(h.Outcome)
	})
}

func firstYesDecides(m *Machine, ev Event) []Effect {
	if ev.Kind == EventVote && ev.Vote == participant.VotePrepared && m.phase == Preparing && !m.branches[ev.Branch].Answered {
		m.branches[ev.Branch].Answered, m.branches[ev.Branch].Vote = true, ev.Vote
		return list(m.decide(record.DecisionCommit, why{}, record.NoBranch))
	}
	return realStep(m, ev)
}

func readOnlyIsRefusal(m *Machine, ev Event) []Effect {
	if ev.Kind == EventVote && ev.Vote == participant.VoteReadOnly {
		ev.Vote = participant.VoteRefused
	}
	return realStep(m, ev)
}

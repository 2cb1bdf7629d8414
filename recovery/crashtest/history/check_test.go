package history_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	h "github.com/assent-tm/assent/recovery/crashtest/history"
)

const (
	yes = h.VotePrepared
	ro  = h.VoteReadOnly
	no  = h.VoteRefused
)

func seq(parts ...any) []any { return parts }

// Each rule has a history that breaks it and nothing else, and one beside it that
// keeps all.
var cases = []struct {
	name   string
	rule   h.Rule
	tx     string
	lines  []int
	broken []any
	kept   []any
}{
	{
		"a branch that rolled back beside a commit", h.Agreement, "t",
		[]int{10, 12},
		seq(begun(yes, yes), decided("t", h.Commit), tell("t", 1, h.Commit), ack("t", 1, h.Rollback)),
		seq(begun(yes, yes), decided("t", h.Commit), tell("t", 1, h.Commit), ack("t", 1, h.Commit)),
	},
	{
		"a heuristic is reported, not judged", h.Agreement, "t",
		[]int{7, 8},
		seq(begun(yes), decided("t", h.Commit), ack("t", 0, h.Rollback)),
		seq(begun(yes), decided("t", h.Commit), outcome(h.KindHeuristic, "t", 0, h.Rollback), ack("t", 0, h.Rollback)),
	},
	{
		"a branch that commits alone", h.Agreement, "t",
		[]int{5, 7},
		seq(begun(yes), ack("t", 0, h.Commit)),
		seq(begun(yes), ack("t", 0, h.Rollback)),
	},
	{
		"a branch is told otherwise than decided (R2)", h.Agreement, "t",
		[]int{7, 8},
		seq(begun(no), decided("t", h.Rollback), tell("t", 0, h.Commit)),
		seq(begun(no), decided("t", h.Rollback), tell("t", 0, h.Rollback)),
	},
	{
		"the register is written twice (R2)", h.NoReversal, "t",
		[]int{7, 8},
		seq(begun(yes), decided("t", h.Commit), decided("t", h.Rollback)),
		seq(begun(yes), decided("t", h.Commit), decided("t", h.Commit)),
	},
	{
		"votes of before the crash commit nothing (R3)", h.NoReversal, "t",
		[]int{9, 10},
		seq(begun(yes), crash, start, recovered("t", h.Undecided), decided("t", h.Commit)),
		seq(begun(yes), crash, start, recovered("t", h.Undecided), decided("t", h.Rollback)),
	},
	{
		"a refusal is overruled", h.CommitNeedsVotes, "t",
		[]int{8, 10},
		seq(begun(no, yes), decided("t", h.Commit)),
		seq(begun(no, yes), decided("t", h.Rollback)),
	},
	{
		"a branch that never voted", h.CommitNeedsVotes, "t",
		[]int{7, 9},
		seq(begun(yes, ""), decided("t", h.Commit)),
		seq(begun(yes, yes), decided("t", h.Commit)),
	},
	{
		"an unknown answer is no vote, though a late yes comes (R4)", h.CommitNeedsVotes, "t",
		[]int{6, 8},
		seq(begun(h.VoteUnknown), vote("t", 0, yes), decided("t", h.Commit)),
		seq(begun(h.VoteUnknown), vote("t", 0, yes), decided("t", h.Rollback)),
	},
	{
		"one-phase commit of two", h.CommitNeedsVotes, "t",
		[]int{2, 5},
		seq(of(h.KindBegin, "t"), enlist("t", 0), enlist("t", 1), of(h.KindDelegated, "t")),
		seq(of(h.KindBegin, "t"), enlist("t", 0), of(h.KindDelegated, "t"), onePhase("t"), at(h.KindEffect, "t", 0), ack("t", 0, h.Commit)),
	},
	{
		"rolled back for nothing", h.NoFailureCommits, "t",
		[]int{2, 6, 7},
		seq(begun(yes), decided("t", h.Rollback)),
		seq(begun(yes), of(h.KindDeadline, "t"), decided("t", h.Rollback)),
	},
	{
		"a failure long ago excuses nothing", h.NoFailureCommits, "t",
		[]int{4, 8, 9},
		seq(fault, repaired, begun(yes), decided("t", h.Rollback)),
		seq(fault, begun(yes), decided("t", h.Rollback)),
	},
	{
		"in doubt for ever", h.Settles, "t",
		[]int{6, 9},
		seq(begun(yes), crash, repaired, settled),
		seq(begun(yes), crash, start, tell("t", 0, h.Rollback), ack("t", 0, h.Rollback), repaired, settled),
	},
	{
		"a failed prepare is cleaned up (R4)", h.Settles, "t",
		[]int{5, 8},
		seq(begun(h.VoteUnknown), decided("t", h.Rollback), settled),
		seq(begun(h.VoteUnknown), decided("t", h.Rollback), tell("t", 0, h.Rollback), ack("t", 0, h.Rollback), settled),
	},
	{
		"a delegated branch is silent (R3)", h.Settles, "t",
		[]int{5, 6},
		seq(of(h.KindBegin, "t"), enlist("t", 0), of(h.KindDelegated, "t"), onePhase("t"), settled),
		seq(of(h.KindBegin, "t"), enlist("t", 0), of(h.KindDelegated, "t"), onePhase("t"), ack("t", 0, h.Rollback), settled),
	},
	{
		"who refused holds nothing", h.Settles, "t",
		[]int{8, 11},
		seq(begun(yes, no), decided("t", h.Rollback), settled),
		seq(begun(no, no), decided("t", h.Rollback), settled),
	},
	{
		"a commit call without an end", h.Settles, "t",
		[]int{2, 5},
		seq(call(1, "t", h.OpCommit), of(h.KindBegin, "t"), enlist("t", 0), settled),
		seq(call(1, "t", h.OpCommit), of(h.KindBegin, "t"), enlist("t", 0), decided("t", h.Rollback), settled),
	},
	{
		"an outcome told is lost", h.ToldHolds, "t",
		[]int{4, 5},
		seq(of(h.KindBegin, "t"), call(1, "t", h.OpCommit), answer(1, h.Commit), outcome(h.KindInquiry, "t", 0, h.Rollback)),
		seq(of(h.KindBegin, "t"), call(1, "t", h.OpCommit), answer(1, h.Commit), crash, outcome(h.KindInquiry, "t", 0, h.Rollback)),
	},
	{
		"a client hears before the log (R1)", h.LogBeforeTell, "t",
		[]int{2, 8},
		seq(begun(yes), call(1, "t", h.OpCommit), answer(1, h.Commit)),
		seq(begun(yes), call(1, "t", h.OpCommit), decided("t", h.Commit), answer(1, h.Commit)),
	},
	{
		"a branch hears before the log (R1)", h.LogBeforeTell, "t",
		[]int{2, 7},
		seq(begun(yes), tell("t", 0, h.Commit)),
		seq(begun(yes), decided("t", h.Commit), tell("t", 0, h.Commit)),
	},
	{
		"a failed write is taken for a rollback (R5)", h.LogBeforeTell, "t",
		[]int{2, 8},
		seq(begun(yes), fault, tell("t", 0, h.Rollback)),
		seq(begun(yes), fault, start, tell("t", 0, h.Rollback)),
	},
	{
		"prepare before the list is durable (R1)", h.LogBeforeTell, "t",
		[]int{2, 4},
		seq(of(h.KindBegin, "t"), enlist("t", 0), at(h.KindPrepare, "t", 0)),
		seq(of(h.KindBegin, "t"), enlist("t", 0), of(h.KindPreparing, "t"), at(h.KindPrepare, "t", 0)),
	},
	{
		"only read-only outcomes are lazy", h.LogBeforeTell, "t",
		[]int{2, 10},
		seq(begun(ro, yes), lazily("t", h.Commit)),
		seq(begun(ro, ro), lazily("t", h.Commit), call(1, "t", h.OpCommit), answer(1, h.Commit), crash, start, call(2, "t", h.OpGet), answer(2, h.Rollback)),
	},
	{
		"one phase before delegated is durable", h.LogBeforeTell, "t",
		[]int{2, 4},
		seq(of(h.KindBegin, "t"), enlist("t", 0), onePhase("t")),
		seq(of(h.KindBegin, "t"), enlist("t", 0), of(h.KindDelegated, "t"), onePhase("t")),
	},
	{
		"a decision is lost", h.RecoveryIdempotent, "t",
		[]int{7, 10},
		seq(begun(yes), decided("t", h.Commit), crash, start, recovered("t", h.Undecided)),
		seq(begun(yes), decided("t", h.Commit), crash, start, recovered("t", h.Commit)),
	},
	{
		"the second replay differs", h.RecoveryIdempotent, "t",
		[]int{8, 9},
		seq(begun(yes), crash, recovered("t", h.Undecided), recovered("t", h.Commit)),
		seq(begun(yes), crash, recovered("t", h.Undecided), recovered("t", h.Rollback)),
	},
	{
		"forgotten too early", h.CompletedBeforeForget, "t",
		[]int{6, 8},
		seq(begun(yes), decided("t", h.Commit), of(h.KindForget, "t")),
		seq(begun(yes), decided("t", h.Commit), ack("t", 0, h.Commit), of(h.KindForget, "t")),
	},
	{
		"applied twice", h.ExactlyOnce, "t",
		[]int{8, 9},
		seq(begun(yes), decided("t", h.Commit), at(h.KindEffect, "t", 0), at(h.KindEffect, "t", 0)),
		seq(begun(yes), decided("t", h.Commit), at(h.KindEffect, "t", 0), ack("t", 0, h.Commit), ack("t", 0, h.Commit)),
	},
	{
		"applied too early", h.ExactlyOnce, "t",
		[]int{5, 7},
		seq(begun(yes), at(h.KindEffect, "t", 0)),
		seq(begun(yes), decided("t", h.Commit), at(h.KindEffect, "t", 0)),
	},
	{
		"never applied", h.ExactlyOnce, "t",
		[]int{8, 9},
		seq(begun(yes), decided("t", h.Commit), ack("t", 0, h.Commit), settled),
		seq(begun(yes), decided("t", h.Commit), ack("t", 0, h.Commit), at(h.KindEffect, "t", 0), settled),
	},
	{
		"commit for a read-only branch", h.ReadOnlyLeaves, "t",
		[]int{8, 11},
		seq(begun(ro, yes), decided("t", h.Commit), tell("t", 0, h.Commit)),
		seq(begun(ro, yes), decided("t", h.Commit), tell("t", 1, h.Commit)),
	},
	{
		"a foreign branch is ended (R10)", h.Untouched, "x",
		[]int{2, 3},
		seq(plant("p0", "x", h.OwnerForeign), finished("p0", "x", h.Rollback)),
		seq(plant("p0", "x", h.OwnerOurs), finished("p0", "x", h.Rollback)),
	},
	{
		"a foreign branch is gone (R10)", h.Untouched, "x",
		[]int{2, 4},
		seq(plant("p0", "x", h.OwnerForeign), settled, counted(h.KindListed, "p0", 0)),
		seq(plant("p0", "x", h.OwnerForeign), settled, left("p0", "x"), counted(h.KindListed, "p0", 1)),
	},
	{
		"an orphan is committed (R10)", h.Untouched, "x",
		[]int{2, 3},
		seq(plant("p0", "x", h.OwnerOurs), finished("p0", "x", h.Commit)),
		seq(plant("p0", "x", h.OwnerOurs), finished("p0", "x", h.Rollback)),
	},
	{
		"an orphan is left (R10)", h.Settles, "x",
		[]int{2, 3, 4},
		seq(plant("p0", "x", h.OwnerOurs), settled, left("p0", "x"), counted(h.KindListed, "p0", 1)),
		seq(plant("p0", "x", h.OwnerOurs), settled, counted(h.KindListed, "p0", 0)),
	},
	{
		"a branch nobody enlisted", h.Untouched, "t",
		[]int{2, 3},
		seq(of(h.KindBegin, "t"), ack("t", 0, h.Rollback)),
		seq(of(h.KindBegin, "t"), enlist("t", 0), ack("t", 0, h.Rollback)),
	},
	{
		"an id twice", h.UniqueIDs, "t",
		[]int{2, 3},
		seq(of(h.KindBegin, "t"), of(h.KindBegin, "t")),
		seq(of(h.KindBegin, "t"), of(h.KindBegin, "u")),
	},
	{"money is made", h.SumHolds, "", []int{2, 3}, seq(sum(5), sum(6)), seq(sum(5), sum(5))},
	{
		"a row at one of two", h.WitnessRows, "t",
		[]int{5, 7},
		seq(of(h.KindBegin, "t"), enlist("t", 0), enlist("t", 1), row("p0", "t"), counted(h.KindWitnesses, "p0", 1), counted(h.KindWitnesses, "p1", 0)),
		seq(of(h.KindBegin, "t"), enlist("t", 0), enlist("t", 1), row("p0", "t"), counted(h.KindWitnesses, "p0", 1), row("p1", "t"), counted(h.KindWitnesses, "p1", 1)),
	},
	{
		"a row of a rollback", h.WitnessRows, "t",
		[]int{7, 8},
		seq(begun(no), decided("t", h.Rollback), row("p0", "t"), counted(h.KindWitnesses, "p0", 1)),
		seq(begun(no), decided("t", h.Rollback), counted(h.KindWitnesses, "p0", 0)),
	},
	{
		"undecided after the decision was told (R2)", h.Linearizable, "t",
		[]int{7, 9, 10, 11},
		seq(begun(yes), call(1, "t", h.OpCommit), decided("t", h.Commit), answer(1, h.Commit), call(2, "t", h.OpGet), answer(2, h.Undecided)),
		seq(begun(yes), call(1, "t", h.OpCommit), decided("t", h.Commit), call(2, "t", h.OpGet), answer(1, h.Commit), answer(2, h.Undecided)),
	},
}

func TestEachRule(t *testing.T) {
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			violations, err := h.Check(history(c.broken...))
			require.NoError(t, err)
			require.Len(t, violations, 1)
			require.Equal(t, c.rule, violations[0].Rule)
			require.Equal(t, c.tx, violations[0].Tx)
			require.Equal(t, c.lines, violations[0].Lines, violations[0].String())
			violations, err = h.Check(history(c.kept...))
			require.NoError(t, err)
			require.Empty(t, violations)
		})
	}
}

package recovery_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
)

// id is a transaction of the term with this counter; ids of a term are ordered by
// number.
func id(term uint32, number byte) participant.TxID {
	return participant.TxID{Term: participant.NewTerm(term, 7), UUID: unique(number)}
}

func unique(number byte) (u uuid.UUID) {
	u[0] = number
	return u
}

func branch(tx participant.TxID, number int) participant.Branch {
	return participant.Branch{Domain: "test", Tx: tx, Number: number}
}

// terms: of term 1 the log has forgotten ids up to 3 and knows ids up to 6; of
// term 2 nothing was begun durably.
func terms() recovery.Marks {
	one, two := id(1, 0).Term, id(2, 0).Term
	return recovery.Marks{
		one: {Term: one, Mark: unique(3), Highest: unique(6)},
		two: {Term: two},
	}
}

// R10, R13: what becomes of a prepared branch.
func TestJudge(t *testing.T) {
	const commit, rollback = record.DecisionCommit, record.DecisionRollback
	undecided := record.Decision(0)
	cases := []struct {
		name   string
		tx     participant.TxID
		known  *recovery.BranchState
		tooOld string
		want   recovery.Verdict
		reason string
	}{
		{"unlisted term", id(3, 5), nil, "", recovery.ForeignTerm, "never opened in this log"},
		{"unlisted term, old log", id(3, 5), nil, "proof", recovery.ForeignTerm, "never opened in this log"},
		{"live", id(1, 5), &recovery.BranchState{Decision: undecided, Live: true}, "", recovery.Leave, "live"},
		{"live and committed", id(1, 5), &recovery.BranchState{Decision: commit, Live: true}, "", recovery.Leave, "live"},
		{"live and rolled back", id(1, 5), &recovery.BranchState{Decision: rollback, Live: true}, "", recovery.Leave, "live"},
		{"ended without a decision", id(1, 5), &recovery.BranchState{Decision: undecided, Live: false}, "", recovery.Leave, "undecided"},
		{"committed", id(1, 5), &recovery.BranchState{Decision: commit, Live: false}, "", recovery.TellCommit, "committed"},
		{"rolled back", id(1, 5), &recovery.BranchState{Decision: rollback, Live: false}, "", recovery.TellRollback, "rolled back"},
		{"committed, old log", id(1, 5), &recovery.BranchState{Decision: commit, Live: false}, "proof", recovery.TellCommit, "committed"},
		{"rolled back, old log", id(1, 5), &recovery.BranchState{Decision: rollback, Live: false}, "proof", recovery.TellRollback, "rolled back"},
		{"given up", id(1, 5), &recovery.BranchState{Decision: commit, GivenUp: true}, "", recovery.GivenUp, "decided: commit"},
		{"given up, and another branch live", id(1, 5), &recovery.BranchState{Decision: rollback, Live: true, GivenUp: true}, "", recovery.Leave, "live"},
		// A retained outcome comes before the mark: those at or below it may be kept.
		{"committed, below the mark", id(1, 2), &recovery.BranchState{Decision: commit, Live: false}, "", recovery.TellCommit, "committed"},
		{"live, below the mark", id(1, 2), &recovery.BranchState{Decision: undecided, Live: true}, "", recovery.Leave, "live"},
		{"unknown, below the mark", id(1, 2), nil, "", recovery.Forgotten, "may have committed"},
		{"unknown, at the mark", id(1, 3), nil, "", recovery.Forgotten, "may have committed"},
		{"unknown, just above the mark", id(1, 4), nil, "", recovery.TellPresumed, "no decision"},
		{"unknown, at the highest", id(1, 6), nil, "", recovery.TellPresumed, "no decision"},
		{"unknown, above the highest", id(1, 7), nil, "", recovery.LogTooOld, "only up to"},
		{"unknown, in a term in which nothing was begun", id(2, 1), nil, "", recovery.LogTooOld, "only up to"},
		{"unknown, at the mark, old log", id(1, 3), nil, "proof", recovery.Forgotten, "may have committed"},
		{"unknown, just above the mark, old log", id(1, 4), nil, "proof", recovery.LogTooOld, "proof"},
		{"unknown, above the highest, old log", id(1, 7), nil, "proof", recovery.LogTooOld, "only up to"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := recovery.Evidence{Branches: map[participant.XID]recovery.BranchState{}, Marks: terms(), TooOld: c.tooOld}
			if c.known != nil {
				e.Branches[branch(c.tx, 1).XID()] = *c.known
			}
			verdict, reason := recovery.Judge(branch(c.tx, 1), e)
			require.Equal(t, c.want, verdict, "%s", verdict)
			require.Contains(t, reason, c.reason)
		})
	}
}

// R10: only branches on both lists are judged, and of those only what no live
// transaction has is an orphan.
func TestSweepJudgesWhatBothListsHold(t *testing.T) {
	before, both, after, live := branch(id(1, 4), 0), branch(id(1, 4), 1), branch(id(1, 4), 2), branch(id(1, 5), 0)
	e := recovery.Evidence{Marks: terms(), Branches: map[participant.XID]recovery.BranchState{live.XID(): {Live: true}}}
	list := func(branches ...participant.Branch) participant.Listing {
		return participant.Listing{Prepared: branches}
	}
	orphans := recovery.Sweep("bank", list(before, both, live), list(live, both, after), e)
	want := both
	want.Participant = "bank"
	require.Equal(t, []recovery.Orphan{{Branch: want, Verdict: recovery.TellPresumed, Reason: orphans[0].Reason}}, orphans)
	require.Empty(t, recovery.Sweep("bank", list(), list(both), e))
	require.Empty(t, recovery.Sweep("bank", list(both), list(), e))
	// The other domain's branch has another XID.
	foreign := both
	foreign.Domain = "other"
	require.Empty(t, recovery.Sweep("bank", list(both), list(foreign), e))
}

// R10: one id above the highest of a listed term proves the log old.
func TestProofOfOldLog(t *testing.T) {
	cases := []struct {
		name    string
		listing participant.Listing
		proves  bool
	}{
		{"empty", participant.Listing{}, false},
		{"at the highest", participant.Listing{Highest: []participant.TxID{id(1, 6)}}, false},
		{"above the highest", participant.Listing{Highest: []participant.TxID{id(1, 1), id(1, 7)}}, true},
		{"unlisted term", participant.Listing{Highest: []participant.TxID{id(3, 7)}, Prepared: []participant.Branch{branch(id(3, 7), 0)}}, false},
		{"prepared at the highest", participant.Listing{Prepared: []participant.Branch{branch(id(1, 6), 0)}}, false},
		{"prepared above the highest", participant.Listing{Prepared: []participant.Branch{branch(id(1, 6), 0), branch(id(1, 7), 0)}}, true},
		{"nothing begun in the term", participant.Listing{Highest: []participant.TxID{id(2, 1)}}, true},
		{"forgotten", participant.Listing{Highest: []participant.TxID{id(1, 2)}}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			proof := recovery.ProofOfOldLog("bank", c.listing, terms(), 0)
			require.Equal(t, c.proves, proof != "", proof)
			if c.proves {
				require.Contains(t, proof, `"bank"`)
			}
		})
	}
}

// R10: an operator's acceptance covers the terms up to its own, and no other.
func TestAcceptedTermsProveNothing(t *testing.T) {
	one, two := id(1, 7), id(2, 1)
	listing := func(ids ...participant.TxID) participant.Listing { return participant.Listing{Highest: ids} }
	require.NotEmpty(t, recovery.ProofOfOldLog("bank", listing(one), terms(), 0))
	require.Empty(t, recovery.ProofOfOldLog("bank", listing(one), terms(), one.Term))
	require.NotEmpty(t, recovery.ProofOfOldLog("bank", listing(one, two), terms(), one.Term), "a later term still does")
	require.Empty(t, recovery.ProofOfOldLog("bank", listing(one, two), terms(), two.Term))

	verdict := func(tx participant.TxID, e recovery.Evidence) recovery.Verdict {
		e.Marks = terms()
		v, _ := recovery.Judge(branch(tx, 1), e)
		return v
	}
	require.Equal(t, recovery.TellPresumed, verdict(one, recovery.Evidence{Accepted: one.Term}), "absence counts again")
	require.Equal(t, recovery.LogTooOld, verdict(two, recovery.Evidence{Accepted: one.Term}))
	require.Equal(t, recovery.LogTooOld, verdict(one, recovery.Evidence{Accepted: one.Term, TooOld: "proof"}), "a new proof ends it")
	require.Equal(t, recovery.Forgotten, verdict(id(1, 2), recovery.Evidence{Accepted: one.Term}))
	require.Equal(t, recovery.ForeignTerm, verdict(id(3, 1), recovery.Evidence{Accepted: id(9, 1).Term}))
}

// R10: every term that is not this log's, once.
func TestForeignTerms(t *testing.T) {
	l := participant.Listing{
		Highest:  []participant.TxID{id(4, 1), id(1, 9), id(3, 1)},
		Prepared: []participant.Branch{branch(id(3, 2), 0), branch(id(2, 1), 0), branch(id(5, 1), 1)},
	}
	require.Equal(t, []participant.Term{id(3, 0).Term, id(4, 0).Term, id(5, 0).Term}, recovery.ForeignTerms(l, terms()))
	require.Empty(t, recovery.ForeignTerms(participant.Listing{Highest: []participant.TxID{id(1, 9), id(2, 0)}}, terms()))
}

func TestProofLeavesTheListAsItIs(t *testing.T) {
	highest := append(make([]participant.TxID, 0, 8), id(1, 6))
	recovery.ProofOfOldLog("bank", participant.Listing{Highest: highest, Prepared: []participant.Branch{branch(id(1, 5), 0)}}, terms(), 0)
	require.Equal(t, participant.TxID{}, highest[:2][1])
}

func TestVerdictNamesItself(t *testing.T) {
	seen := make(map[string]bool)
	for v := recovery.Leave; v <= recovery.NoBranch; v++ {
		require.NotContains(t, v.String(), "invalid")
		require.False(t, seen[v.String()], "%s twice", v)
		seen[v.String()] = true
	}
	require.Equal(t, "invalid verdict 0", recovery.Verdict(0).String())
}

// What the service shows is added to the orphans, and what is not the domain's comes
// after them. Live branches are no orphans, whoever shows them (R10).
func TestExplain(t *testing.T) {
	shown := func(name string, b participant.Branch) participant.Explanation {
		return participant.Explanation{Name: name, Branch: b, Commit: "commit " + name, Rollback: "roll back " + name}
	}
	named := func(b participant.Branch) participant.Branch { b.Participant = "bank"; return b }
	forgotten, gone, live := branch(id(1, 2), 0), branch(id(1, 3), 0), branch(id(1, 6), 1)
	other := participant.Branch{Domain: "test-2", Tx: id(1, 2)}
	orphans := []recovery.Orphan{
		{Branch: named(forgotten), Verdict: recovery.Forgotten, Reason: "may have committed"},
		{Branch: named(gone), Verdict: recovery.Forgotten, Reason: "may have committed"},
	}
	got := recovery.Explain("bank", "test", orphans, []participant.Explanation{
		shown("other", other), shown("forgotten", forgotten), shown("live", live), shown("theirs", participant.Branch{}),
	})
	require.Len(t, got, 4)
	require.Equal(t, recovery.Orphan{Branch: named(forgotten), Verdict: recovery.Forgotten, Reason: "may have committed", Explanation: shown("forgotten", forgotten)}, got[0])
	require.Equal(t, recovery.Orphan{Branch: named(gone), Verdict: recovery.Forgotten, Reason: "may have committed"}, got[1])
	require.Equal(t, recovery.OtherDomain, got[2].Verdict)
	require.Equal(t, named(other), got[2].Branch)
	require.Contains(t, got[2].Reason, `domain "test-2"`)
	require.Equal(t, shown("other", other), got[2].Explanation)
	require.Equal(t, recovery.NoBranch, got[3].Verdict)
	require.Equal(t, participant.Branch{Participant: "bank"}, got[3].Branch)
	require.Contains(t, got[3].Reason, "another application")
	require.Equal(t, shown("theirs", participant.Branch{}), got[3].Explanation)
}

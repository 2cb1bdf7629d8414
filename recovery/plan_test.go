package recovery_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/record"
)

// state is what the log says after these records.
func state(t *testing.T, number byte, records ...record.Record) *record.State {
	t.Helper()
	s := record.NewState(id(1, number))
	for _, r := range records {
		switch r := r.(type) {
		case record.Decided:
			r.Tx = s.Tx
			require.NoError(t, s.Apply(r))
		case record.Preparing:
			require.NoError(t, s.Apply(record.Preparing{Tx: s.Tx}))
		case record.Delegated:
			require.NoError(t, s.Apply(record.Delegated{Tx: s.Tx}))
		case record.Completed:
			require.NoError(t, s.Apply(record.Completed{Tx: s.Tx, At: time.UnixMilli(1)}))
		default:
			require.FailNow(t, "unexpected record")
		}
	}
	return s
}

// planned names the part of the plan that holds the only transaction.
func planned(s *record.State) string {
	plan, only := recovery.NewPlan([]*record.State{s}), []*record.State{s}
	switch {
	case slices.Equal(plan.Resend, only):
		return "resend"
	case slices.Equal(plan.RollBack, only):
		return "roll back"
	case slices.Equal(plan.Ask, only):
		return "ask"
	default:
		return "keep"
	}
}

func TestHowATransactionGoesOn(t *testing.T) {
	yes := []participant.Vote{participant.VotePrepared, participant.VotePrepared}
	commit := record.Decided{Decision: record.DecisionCommit, Votes: yes, By: -1}
	refused := record.Decided{Decision: record.DecisionRollback, Cause: record.CauseRefused, By: 1}
	presumed := record.Decided{Decision: record.DecisionRollback, Presumed: true, Cause: record.CausePresumed, By: -1}
	cases := []struct {
		name    string
		records []record.Record
		want    string
	}{
		{"begun only", nil, "roll back"},
		{"preparing", []record.Record{record.Preparing{}}, "roll back"},
		{"committed", []record.Record{record.Preparing{}, commit}, "resend"},
		{"rolled back by a vote", []record.Record{record.Preparing{}, refused}, "resend"},
		// R10: an earlier run's absence is absence still.
		{"rolled back by absence", []record.Record{record.Preparing{}, presumed}, "roll back"},
		{"delegated", []record.Record{record.Delegated{}}, "ask"},
		{"delegated and answered", []record.Record{record.Delegated{}, commit}, "resend"},
		{"completed", []record.Record{commit, record.Completed{}}, "keep"},
		{"rolled back by absence and completed", []record.Record{presumed, record.Completed{}}, "keep"},
		{"delegated and completed", []record.Record{record.Delegated{}, commit, record.Completed{}}, "keep"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, planned(state(t, 1, c.records...)))
		})
	}
	t.Run("R3: votes alone are nothing", func(t *testing.T) {
		s := state(t, 1, record.Preparing{})
		s.Branches = []record.Branch{{Participant: "a", Vote: participant.VotePrepared}, {Participant: "b", Vote: participant.VotePrepared}}
		require.Equal(t, "roll back", planned(s))
	})
}

func TestPlanHoldsWhatIsInDoubtInOrder(t *testing.T) {
	commit := record.Decided{Decision: record.DecisionCommit, By: -1}
	keep1, keep2 := state(t, 1, commit, record.Completed{}), state(t, 5, commit, record.Completed{})
	resend1, resend2 := state(t, 2, commit), state(t, 6, commit)
	back1, back2 := state(t, 3), state(t, 7, record.Preparing{})
	ask1, ask2 := state(t, 4, record.Delegated{}), state(t, 8, record.Delegated{})
	plan := recovery.NewPlan([]*record.State{keep1, resend1, back1, ask1, keep2, resend2, back2, ask2})
	require.Equal(t, recovery.Plan{
		Resend: []*record.State{resend1, resend2}, RollBack: []*record.State{back1, back2},
		Ask: []*record.State{ask1, ask2},
	}, plan)
	require.Equal(t, 6, plan.InDoubt())
	require.Zero(t, recovery.NewPlan(nil).InDoubt())
}

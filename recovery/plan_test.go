package recovery_test

import (
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

func TestNextStep(t *testing.T) {
	yes := []participant.Vote{participant.VotePrepared, participant.VotePrepared}
	commit := record.Decided{Decision: record.DecisionCommit, Votes: yes, By: -1}
	refused := record.Decided{Decision: record.DecisionRollback, Cause: record.CauseRefused, By: 1}
	presumed := record.Decided{Decision: record.DecisionRollback, Presumed: true, Cause: record.CausePresumed, By: -1}
	cases := []struct {
		name    string
		records []record.Record
		want    recovery.Step
	}{
		{"begun only", nil, recovery.RollBack},
		{"preparing", []record.Record{record.Preparing{}}, recovery.RollBack},
		{"committed", []record.Record{record.Preparing{}, commit}, recovery.Resend},
		{"rolled back by a vote", []record.Record{record.Preparing{}, refused}, recovery.Resend},
		// R10: an earlier run's absence is absence still.
		{"rolled back by absence", []record.Record{record.Preparing{}, presumed}, recovery.RollBack},
		{"delegated", []record.Record{record.Delegated{}}, recovery.Ask},
		{"delegated and answered", []record.Record{record.Delegated{}, commit}, recovery.Resend},
		{"completed", []record.Record{commit, record.Completed{}}, recovery.Keep},
		{"rolled back by absence and completed", []record.Record{presumed, record.Completed{}}, recovery.Keep},
		{"delegated and completed", []record.Record{record.Delegated{}, commit, record.Completed{}}, recovery.Keep},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.want, recovery.NextStep(state(t, 1, c.records...)))
		})
	}
	t.Run("R3: votes alone are nothing", func(t *testing.T) {
		s := state(t, 1, record.Preparing{})
		s.Branches = []record.Branch{{Participant: "a", Vote: participant.VotePrepared}, {Participant: "b", Vote: participant.VotePrepared}}
		require.Equal(t, recovery.RollBack, recovery.NextStep(s))
	})
}

func TestPlanKeepsEveryTransactionInOrder(t *testing.T) {
	commit := record.Decided{Decision: record.DecisionCommit, By: -1}
	keep1, keep2 := state(t, 1, commit, record.Completed{}), state(t, 5, commit, record.Completed{})
	resend1, resend2 := state(t, 2, commit), state(t, 6, commit)
	back1, back2 := state(t, 3), state(t, 7, record.Preparing{})
	ask1, ask2 := state(t, 4, record.Delegated{}), state(t, 8, record.Delegated{})
	plan := recovery.NewPlan([]*record.State{keep1, resend1, back1, ask1, keep2, resend2, back2, ask2})
	require.Equal(t, recovery.Plan{
		Keep: []*record.State{keep1, keep2}, Resend: []*record.State{resend1, resend2},
		RollBack: []*record.State{back1, back2}, Ask: []*record.State{ask1, ask2},
	}, plan)
	require.Equal(t, 6, plan.InDoubt())
	require.Zero(t, recovery.NewPlan(nil).InDoubt())
}

func TestStepNamesItself(t *testing.T) {
	for step, name := range map[recovery.Step]string{
		0: "invalid step 0", recovery.Keep: "keep", recovery.Resend: "resend", recovery.RollBack: "roll back", recovery.Ask: "ask", 9: "invalid step 9",
	} {
		require.Equal(t, name, step.String())
	}
}

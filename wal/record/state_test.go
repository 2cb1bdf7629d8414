package record_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// merge applies records to a fresh state, each of them read back from its frame; a
// Reader does the same.
func merge(t require.TestingT, records []record.Record) *record.State {
	s, same := record.NewState(records[0].TxID()), record.NewState(records[0].TxID())
	reader := record.NewReader()
	for _, r := range records {
		frame, err := record.Append(nil, r)
		require.NoError(t, err)
		read, _, err := record.Next(frame)
		require.NoError(t, err)
		require.NoError(t, s.Apply(read))
		_, err = reader.Next(frame)
		require.NoError(t, err)
		require.NoError(t, reader.ApplyTo(same))
		clear(frame) // a state shares no memory with it
	}
	require.Equal(t, s, same)
	return s
}

// R9: replay is a merge. The order of records does not matter, nor that some come
// twice, nor that some were merged and re-written before.
func TestR9MergeLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := genHistory(t)
		want := merge(t, history)

		require.Equal(t, want, merge(t, rapid.Permutation(history).Draw(t, "order")), "commutative")

		var regrouped []record.Record
		for range rapid.IntRange(0, 3).Draw(t, "carried") {
			part := rapid.SliceOfN(rapid.SampledFrom(history), 1, len(history)).Draw(t, "part")
			regrouped = append(regrouped, record.Carried{State: *merge(t, part)})
		}
		regrouped = append(regrouped, history...)
		require.Equal(t, want, merge(t, rapid.Permutation(regrouped).Draw(t, "regrouped")), "associative, idempotent")

		require.Equal(t, want, merge(t, []record.Record{record.Carried{State: *want}}), "a carried state is the state")
	})
}

func TestContradictionsAreNotRepaired(t *testing.T) {
	tx := participant.TxID{Term: participant.NewTerm(1, 1)}
	for name, records := range map[string][]record.Record{
		"R2: two decisions": {
			record.Decided{Tx: tx, Decision: record.DecisionCommit},
			record.Decided{Tx: tx, Decision: record.DecisionRollback},
		},
		"R2: two decisions, one carried": {
			record.Decided{Tx: tx, Decision: record.DecisionRollback},
			record.Carried{State: record.State{Tx: tx, Decision: record.DecisionCommit}},
		},
		"two participants in one branch": {
			record.Enlisted{Tx: tx, Participant: "a"},
			record.Enlisted{Tx: tx, Participant: "b"},
		},
		"two data in one branch": {
			record.Enlisted{Tx: tx, Participant: "a", Data: []byte("1")},
			record.Enlisted{Tx: tx, Participant: "a", Data: []byte("2")},
		},
		"two outcomes of one branch": {
			record.Heuristic{Tx: tx, Outcome: participant.OutcomeHeuristicCommit},
			record.Heuristic{Tx: tx, Outcome: participant.OutcomeHeuristicRollback},
		},
		"another transaction": {
			record.Preparing{Tx: participant.TxID{Term: participant.NewTerm(2, 1)}},
		},
		"a header": {record.Header{Term: tx.Term}},
	} {
		t.Run(name, func(t *testing.T) {
			s := record.NewState(tx)
			var err error
			for _, r := range records {
				require.NoError(t, err)
				err = s.Apply(r)
			}
			require.ErrorIs(t, err, record.ErrConflict)
		})
	}
}

func TestAHazardIsSettledByWhatIsLearntLater(t *testing.T) {
	tx := participant.TxID{Term: participant.NewTerm(1, 1)}
	s := record.NewState(tx)
	require.NoError(t, s.Apply(record.Heuristic{Tx: tx, Outcome: participant.OutcomeHeuristicHazard, Reason: "unknown branch"}))
	require.NoError(t, s.Apply(record.Heuristic{Tx: tx, Outcome: participant.OutcomeCommitted, Reason: "seen"}))
	require.Equal(t, record.Branch{Outcome: participant.OutcomeCommitted, Reason: "seen"}, s.Branches[0])
}

func TestWhatACoordinatorSawWinsOverWhatRecoveryPresumed(t *testing.T) {
	tx := participant.TxID{Term: participant.NewTerm(1, 1)}
	seen := record.Decided{Tx: tx, Decision: record.DecisionRollback, Cause: record.CauseTimeout, By: -1}
	presumed := record.Decided{Tx: tx, Decision: record.DecisionRollback, Presumed: true, Cause: record.CausePresumed, By: -1}
	for _, order := range [][]record.Record{{seen, presumed}, {presumed, seen}} {
		s := merge(t, order)
		require.False(t, s.Presumed)
		require.Equal(t, record.CauseTimeout, s.Cause)
		require.Equal(t, participant.OutcomeRolledBack, s.Decision.Outcome())
	}
}

func TestTermMarksOnlyGrow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genHeader(t), genHeader(t)
		x := record.TermMarks{Term: a.Term, Highest: a.Highest, Mark: a.Mark}
		y := record.TermMarks{Term: a.Term, Highest: b.Highest, Mark: b.Mark}
		require.Equal(t, x.Merge(y), y.Merge(x))
		require.Equal(t, x, x.Merge(x))
		require.Equal(t, x.Merge(y), x.Merge(y).Merge(y))
	})
}

func TestTimesKeepTheirMilliseconds(t *testing.T) {
	tx := participant.TxID{Term: participant.NewTerm(1, 1)}
	at := time.Date(2026, 1, 2, 3, 4, 5, 678_999_999, time.UTC)
	s := merge(t, []record.Record{record.Begun{Tx: tx, At: at, Timeout: 1500 * time.Microsecond}})
	require.True(t, s.At.Equal(at.Truncate(time.Millisecond)))
	require.Equal(t, time.Millisecond, s.Timeout)
}

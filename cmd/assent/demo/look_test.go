package demo

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// What is prepared when a coordinator is dead, the next one finds in its log; and no deal
// that was answered as committed has a branch that is.
func TestPreparedMeansUnfinished(t *testing.T) {
	var txs []participant.TxID
	for i := range 3 {
		txs = append(txs, participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.UUID{15: byte(i)}})
	}
	prepared := map[participant.TxID]bool{txs[1]: true}
	s := &Storm[string]{
		InDoubt: func(context.Context, string) (map[participant.TxID]bool, error) { return prepared, nil },
		Deals:   []*Deal[string]{{Number: 1, Txs: txs[:1], Answer: AnswerCommitted}, {Number: 2, Txs: txs[1:2]}},
		Toll:    Toll{InDoubt: map[participant.TxID]bool{}},
	}
	require.NoError(t, s.count(t.Context(), ""))
	s.compare(Event{Left: txs[1:]})
	require.Empty(t, s.Kept().Wrong)
	require.Equal(t, Toll{MetInDoubt: 1, InDoubt: prepared}, s.Toll)

	require.NoError(t, s.count(t.Context(), ""))
	s.compare(Event{Left: txs[2:]})
	s.compare(Event{}) // of a coordinator before which nobody looked
	require.Len(t, s.Kept().Wrong, 1)
	require.Contains(t, s.Kept().Wrong[0], txs[1].String())

	s.Deals[1].Answer = AnswerCommitted
	require.NoError(t, s.count(t.Context(), ""))
	s.compare(Event{Left: txs})
	require.Len(t, s.Kept().Wrong, 2)
	require.Contains(t, s.Kept().Wrong[1], "deal 2 was committed in transaction "+txs[1].String())
}

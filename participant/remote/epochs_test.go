package remote

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
)

func at(term uint32, epoch uint64) participant.Branch {
	return participant.Branch{Tx: participant.TxID{Term: participant.NewTerm(term, 1)}, Epoch: epoch}
}

// R9: of each term the highest epoch stands, in whatever order they come.
func TestR9TheHighestEpochStands(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e epochs
		highest := map[uint32]uint64{}
		for range rapid.IntRange(1, 50).Draw(t, "calls") {
			term, epoch := rapid.Uint32Range(1, 3).Draw(t, "term"), rapid.Uint64Range(0, 5).Draw(t, "epoch")
			err := e.admit(at(term, epoch))
			if epoch < highest[term] {
				require.ErrorIs(t, err, participant.ErrStaleEpoch)
				continue
			}
			require.NoError(t, err)
			highest[term] = epoch
		}
	})
}

// R12: beyond the bound the term that was known for longest is forgotten.
func TestR12EpochsAreBounded(t *testing.T) {
	var e epochs
	for term := range uint32(2*maxTerms + 3) {
		require.NoError(t, e.admit(at(term+1, 5)))
		require.NoError(t, e.admit(at(term+1, 6)))
		require.ErrorIs(t, e.admit(at(max(term, 1), 4)), participant.ErrStaleEpoch)
	}
	require.Len(t, e.highest, maxTerms)
	require.Len(t, e.known, maxTerms)
	require.ErrorIs(t, e.admit(at(maxTerms+4, 5)), participant.ErrStaleEpoch)
	require.NoError(t, e.admit(at(maxTerms+3, 1)), "it was forgotten")
	require.ErrorIs(t, e.admit(at(2*maxTerms+3, 5)), participant.ErrStaleEpoch)
}

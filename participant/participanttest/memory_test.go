package participanttest

import (
	"context"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

func newBranch(data string) participant.Branch {
	return participant.Branch{
		Domain: "orders", Epoch: 1, Data: []byte(data),
		Tx: participant.TxID{Term: participant.NewTerm(1, 7), UUID: uuid.Must(uuid.NewV7())},
	}
}

func TestMemoryShowsWhatBecameOfABranch(t *testing.T) {
	ctx, store := t.Context(), NewStore()
	bankA, bankB, b := store.Participant("bank_a"), store.Participant("bank_b"), newBranch("")
	require.Equal(t, StateUnknown, bankA.State(b))

	vote, err := bankA.Prepare(ctx, b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	require.Equal(t, StatePrepared, bankA.State(b))
	require.Zero(t, bankA.Effects(b))
	require.Equal(t, StateUnknown, bankB.State(b), "participants share a store, not their branches")

	require.NoError(t, store.Participant("bank_a").Commit(ctx, b))
	require.Equal(t, StateCommitted, bankA.State(b))
	require.Equal(t, 1, bankA.Effects(b))

	later := newBranch("")
	require.NoError(t, bankA.Rollback(ctx, later))
	require.Equal(t, StateRolledBack, bankA.State(later))
	require.Equal(t, []Entry{{b, StateCommitted}, {later, StateRolledBack}}, bankA.Entries())

	inDoubt := newBranch("")
	_, err = bankA.Prepare(ctx, inDoubt)
	require.NoError(t, err)
	require.NoError(t, bankA.Forget(ctx, []participant.Branch{b, later, inDoubt}))
	require.Equal(t, []Entry{{inDoubt, StatePrepared}}, bankA.Entries(), "a prepared branch is never forgotten")
	require.Equal(t, 1, bankA.Effects(b), "effects outlive what is kept about the branch")
}

func TestMemoryVotesAsItsDataSays(t *testing.T) {
	p := NewStore().Participant("bank_a")
	readOnly, refused := newBranch(DataReadOnly), newBranch(DataRefuse)
	for range 2 {
		vote, err := p.Prepare(t.Context(), readOnly)
		require.NoError(t, err)
		require.Equal(t, participant.VoteReadOnly, vote)

		vote, err = p.Prepare(t.Context(), refused)
		require.ErrorIs(t, err, participant.ErrRefused)
		require.Equal(t, participant.VoteRefused, vote)
	}
	require.Equal(t, StateUnknown, p.State(readOnly), "finished, with nothing to remember")
	require.Equal(t, StateRolledBack, p.State(refused))

	require.NoError(t, p.CommitOnePhase(t.Context(), newBranch(DataReadOnly)))
	require.ErrorIs(t, p.CommitOnePhase(t.Context(), newBranch(DataRefuse)), participant.ErrRefused)
}

func TestMemoryDoesNothingOnceTheContextHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p, b := NewStore().Participant("bank_a"), newBranch("")
	vote, err := p.Prepare(ctx, b)
	require.ErrorIs(t, err, context.Canceled)
	require.False(t, vote.Valid(), "unknown, not refused (R4)")
	require.ErrorIs(t, p.Commit(ctx, b), context.Canceled)
	require.ErrorIs(t, p.Rollback(ctx, b), context.Canceled)
	require.ErrorIs(t, p.CommitOnePhase(ctx, b), context.Canceled)
	require.ErrorIs(t, p.Forget(ctx, nil), context.Canceled)
	require.ErrorIs(t, p.Check(ctx), context.Canceled)
	_, err = p.List(ctx, "orders")
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, p.Entries())
}

func TestStateZeroIsUnknown(t *testing.T) {
	var state State
	require.Equal(t, "unknown", state.String())
	require.Equal(t, "invalid state 9", State(9).String())
}

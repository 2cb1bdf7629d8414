package coordinator_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/wal/waltest"
)

func open(t *testing.T, log *waltest.Memory, config coordinator.Config) *coordinator.DTM {
	t.Helper()
	store := log.Open()
	config.Domain, config.Store = "test", store
	dtm, err := coordinator.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, dtm.Close(context.Background()))
		require.NoError(t, store.Close())
	})
	return dtm
}

func TestCommitReachesEveryParticipant(t *testing.T) {
	banks := participanttest.NewStore()
	a, b := banks.Participant("bank_a"), banks.Participant("bank_b")
	dtm := open(t, waltest.NewMemory(), coordinator.Config{Participants: []participant.Participant{a, b}})
	var branches []participant.Branch
	require.NoError(t, dtm.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		for _, p := range []participant.Participant{a, b} {
			branch, err := tx.Enlist(ctx, p, nil)
			if err != nil {
				return err
			}
			branches = append(branches, branch)
		}
		return nil
	}))
	require.Equal(t, participanttest.StateCommitted, a.State(branches[0]))
	require.Equal(t, participanttest.StateCommitted, b.State(branches[1]))
}

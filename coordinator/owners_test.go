package coordinator_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/waltest"
)

// One owner can't take what others need, and what it has begun ends as ever.
func TestR12AnOwnersTransactionsAreBounded(t *testing.T) {
	dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: waltest.NewMemory().Open(), MaxOpenPerOwner: 2})
	require.NoError(t, err)
	defer func() { require.NoError(t, dtm.Close(t.Context())) }()
	begin := func(owner string) (participant.TxID, error) {
		return dtm.Begin(t.Context(), coordinator.WithOwner(owner))
	}
	var ids []participant.TxID
	for range 2 {
		id, err := begin("alice")
		require.NoError(t, err)
		ids = append(ids, id)
	}
	_, err = begin("alice")
	require.ErrorIs(t, err, coordinator.ErrLimit)
	require.ErrorContains(t, err, `owner "alice"`)
	_, err = dtm.Submit(t.Context(), nil, coordinator.WithOwner("alice"))
	require.ErrorIs(t, err, coordinator.ErrLimit)
	for _, other := range []string{"bob", "", "", ""} {
		_, err = begin(other)
		require.NoError(t, err, "%q", other)
	}
	require.NoError(t, dtm.Commit(t.Context(), ids[0]))
	_, err = begin("alice")
	require.NoError(t, err)
	require.NoError(t, dtm.Rollback(t.Context(), ids[1]))
	_, err = begin("alice")
	require.NoError(t, err)
	_, err = begin("alice")
	require.ErrorIs(t, err, coordinator.ErrLimit)

	_, err = coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: waltest.NewMemory().Open(), MaxOpenPerOwner: -1})
	require.ErrorContains(t, err, "MaxOpenPerOwner")
}

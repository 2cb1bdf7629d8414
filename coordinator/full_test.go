package coordinator_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/waltest"
)

func agreeable(name string) participant.Participant {
	ok := func(context.Context, participant.TxID) error { return nil }
	return participant.Func(name, func(context.Context, participant.TxID) (bool, error) { return true, nil }, ok, ok)
}

// R12: Begin and Enlist are refused, with a name for it; Commit and Rollback go on.
func TestR12AFullLogBeginsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := waltest.NewMemory()
		store := memory.Open()
		a, b, c := agreeable("a"), agreeable("b"), agreeable("c")
		dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store})
		require.NoError(t, err)
		begin := func() participant.TxID {
			id, err := dtm.Begin(t.Context())
			require.NoError(t, err)
			require.NoError(t, dtm.Enlist(t.Context(), id, a))
			require.NoError(t, dtm.Enlist(t.Context(), id, b))
			return id
		}
		first, second, third := begin(), begin(), begin()
		memory.SetCapacity(memory.Bytes() + 1<<20)
		require.NoError(t, dtm.Commit(t.Context(), first)) // the log learns of it
		synctest.Wait()

		_, err = dtm.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrLogFull)
		require.ErrorIs(t, err, coordinator.ErrLimit)
		require.ErrorContains(t, err, "raise its capacity", "the store says what helps")
		require.ErrorIs(t, dtm.Enlist(t.Context(), second, c), coordinator.ErrLogFull)
		err = dtm.Run(t.Context(), func(context.Context, *coordinator.Tx) error { return errors.New("not called") })
		require.ErrorIs(t, err, coordinator.ErrLogFull)
		require.NoError(t, dtm.Commit(t.Context(), second), "of what it has enlisted")
		require.NoError(t, dtm.Rollback(t.Context(), third))

		memory.SetCapacity(0)
		_, err = dtm.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrLogFull, "the store is asked because of it")
		synctest.Wait()
		require.NoError(t, dtm.Commit(t.Context(), begin()))
		require.NoError(t, dtm.Close(context.Background()))
		require.NoError(t, store.Close())
	})
}

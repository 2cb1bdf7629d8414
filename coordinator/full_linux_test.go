package coordinator_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/wal/bolt"
)

// R5, R12: the same with a log on a disk that is really full, a coordinator that
// can't finish on it, and the next one.
func TestR5R12AFullDiskBeginsNothing(t *testing.T) {
	capability.Need(t, capability.Mount)
	dir := t.TempDir()
	require.NoError(t, syscall.Mount("assent-test", dir, "tmpfs", 0, "size=64m"))
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	path, filler := filepath.Join(dir, "log"), filepath.Join(dir, "filler")
	a, b := agreeable("a"), agreeable("b")
	open := func() (*bolt.Store, *coordinator.DTM) {
		store, err := bolt.Open(path, nil)
		require.NoError(t, err)
		dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store, Participants: []participant.Participant{a, b}})
		require.NoError(t, err)
		return store, dtm
	}
	store, dtm := open()
	begin := func() (participant.TxID, error) {
		id, err := dtm.Begin(t.Context())
		if err == nil {
			err = errors.Join(dtm.Enlist(t.Context(), id, a), dtm.Enlist(t.Context(), id, b))
		}
		return id, err
	}
	fill(t, filler)
	var begun []participant.TxID
	for {
		id, err := begin()
		if errors.Is(err, syscall.ENOSPC) {
			require.ErrorIs(t, err, coordinator.ErrLogFull)
			require.ErrorContains(t, err, path)
			break
		}
		if err == nil {
			begun = append(begun, id)
		}
	}
	t.Logf("%d transactions began", len(begun))
	require.Greater(t, len(begun), 100)
	for _, id := range begun[:50] {
		require.NoError(t, dtm.Commit(t.Context(), id))
	}
	require.NoError(t, store.Close()) // under the coordinator: it can't say goodbye
	_ = dtm.Close(context.Background())

	store, dtm = open()
	require.NoError(t, dtm.WaitRecovered(t.Context()))
	require.NoError(t, dtm.Commit(t.Context(), begun[0]))
	require.ErrorIs(t, dtm.Commit(t.Context(), begun[50]), coordinator.ErrRolledBack, "it was not decided")
	require.NoError(t, os.Remove(filler))
	id, err := begin()
	for err != nil {
		require.ErrorIs(t, err, coordinator.ErrLogFull)
		runtime.Gosched() // the file system is asked again after a moment
		id, err = begin()
	}
	require.NoError(t, dtm.Commit(t.Context(), id))
	require.NoError(t, dtm.Close(context.Background()))
	require.NoError(t, store.Close())
}

// fill takes all space that is left on the disk of name.
func fill(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	require.NoError(t, err)
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			size /= 2
		}
	}
	require.NoError(t, f.Close())
}

package logfile

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/bolt"
)

// A log whose last commit is left out is not simply in order: it may have been told.
func TestATornCommitIsShown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	store, err := bolt.Open(path, &bolt.Options{SingleSync: true})
	require.NoError(t, err)
	log, _, err := wal.Open(t.Context(), store, wal.Config{Domain: "orders", Owner: "test"})
	require.NoError(t, err)
	content, err := os.ReadFile(path) // as a crash leaves it
	require.NoError(t, err)
	require.NoError(t, log.Close(t.Context()))
	require.NoError(t, store.Close())

	for _, torn := range []bool{false, true} {
		if torn {
			newest, page := 0, os.Getpagesize()
			const txid = 16 + 48 // in a meta page
			if binary.NativeEndian.Uint64(content[page+txid:]) > binary.NativeEndian.Uint64(content[txid:]) {
				newest = page
			}
			content[newest+txid] ^= 1
		}
		require.NoError(t, os.WriteFile(path, content, 0o600))
		report, err := Examine(t.Context(), path)
		require.NoError(t, err)
		for _, asJSON := range []bool{false, true} {
			var verified, stat bytes.Buffer
			require.NoError(t, report.WriteVerified(&verified, asJSON))
			require.NoError(t, report.WriteStat(&stat, asJSON, time.Now()))
			require.Equal(t, torn, bytes.Contains(verified.Bytes(), []byte("torn")), verified.String())
			require.Equal(t, torn, bytes.Contains(stat.Bytes(), []byte("torn")), stat.String())
		}
	}
}

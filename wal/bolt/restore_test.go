package bolt

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

var ofBanks = wal.Config{Domain: "banks", Owner: "test:1"}

// banking returns the path of a log with one transaction to be told and one that
// ended a day ago.
func banking(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	log, _, err := wal.Open(t.Context(), s, ofBanks)
	require.NoError(t, err)
	for n, ended := range []bool{false, true} {
		id := participant.TxID{Term: log.Term(), UUID: uuid.UUID{byte(n + 1)}}
		place := log.NewPlace(id)
		at := time.Now().Add(-24 * time.Hour)
		records := []record.Record{
			record.Begun{Tx: id, At: at},
			record.Enlisted{Tx: id, Participant: "bank_a"},
			record.Preparing{Tx: id},
			record.Decided{Tx: id, Decision: record.DecisionCommit, Votes: []participant.Vote{participant.VotePrepared}, By: record.NoBranch},
		}
		if ended {
			records = append(records, record.Completed{Tx: id, At: at})
		}
		batch, err := log.Append(place, true, records...)
		require.NoError(t, err)
		<-batch.Done()
		require.NoError(t, batch.Err())
	}
	require.NoError(t, log.Close(t.Context()))
	require.NoError(t, s.Close())
	return path
}

func contentsOf(t *testing.T, path string) *wal.Contents {
	t.Helper()
	c, err := wal.Read(t.Context(), openedReader(t, path))
	require.NoError(t, err)
	return c
}

// R10: what is restored is in quarantine, lacks nothing, and any log that was there
// is kept.
func TestR10RestoreQuarantines(t *testing.T) {
	path := banking(t)
	was := contentsOf(t, path)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	require.NoError(t, openedReader(t, path).Snapshot(snapshot))
	reason := RestoreOptions{Reason: "disk of host 7 died"}

	_, err := Restore(t.Context(), snapshot, path, reason)
	require.ErrorIs(t, err, fs.ErrExist)
	require.Equal(t, was, contentsOf(t, path))

	for _, source := range []string{snapshot, path} { // a log that nobody uses will do
		dest := filepath.Join(t.TempDir(), "restored")
		restored, err := Restore(t.Context(), source, dest, reason)
		require.NoError(t, err)
		require.Equal(t, Restored{Path: dest, Domain: "banks"}, restored)
		requireRestored(t, was, dest)
	}

	former := read(t, path)
	reason.Replace = true
	restored, err := Restore(t.Context(), snapshot, path, reason)
	require.NoError(t, err)
	require.Equal(t, former, read(t, restored.Replaced))
	requireRestored(t, was, path)
	again, err := Restore(t.Context(), snapshot, path, reason)
	require.NoError(t, err)
	require.NotEqual(t, restored.Replaced, again.Replaced, "in the same second, too")
	files := folder(t, path)
	require.Len(t, files, 4, "the log, its lock, and two that were replaced")

	// R9: the lost log may have been opened many times after it was copied.
	for range 3 {
		require.NoError(t, open(t, restored.Replaced).Close())
	}
	lost := open(t, restored.Replaced)
	lostStream := openTerm(t, lost)
	require.NoError(t, lost.Close())
	s := open(t, path)
	log, inherited, err := wal.Open(t.Context(), s, ofBanks)
	require.NoError(t, err)
	require.Greater(t, log.Epoch(), lostStream.Epoch()+1000)
	require.True(t, log.Words().Quarantined())
	require.Len(t, inherited, 2, "also the outcome whose retention has ended")
	require.NoError(t, log.Close(t.Context()))
}

func requireRestored(t *testing.T, was *wal.Contents, path string) {
	t.Helper()
	now := contentsOf(t, path)
	require.True(t, now.Words.Quarantined())
	require.Equal(t, "disk of host 7 died", now.Words.Quarantine.Reason)
	require.Equal(t, was.Transactions, now.Transactions)
	require.Equal(t, was.Terms, now.Terms[:len(was.Terms)])
	info := openedReader(t, path).Info()
	require.True(t, info.Closed)
	require.False(t, info.Snapshot)
}

// R9: a copy may be restored again and again; each time the epochs are above those that
// the logs gave that were restored from it before, whatever became of their files.
func TestR9EpochsRiseWhenACopyIsRestoredAgain(t *testing.T) {
	path := banking(t)
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	require.NoError(t, openedReader(t, path).Snapshot(snapshot))
	told := uint64(0)
	for range 3 {
		_, err := Restore(t.Context(), snapshot, path, RestoreOptions{Reason: "why", Replace: true})
		require.NoError(t, err)
		told = restarted(t, path, told)
	}
	require.NoError(t, os.Remove(path))
	_, err := Restore(t.Context(), snapshot, path, RestoreOptions{Reason: "why"})
	require.NoError(t, err)
	told = restarted(t, path, told)

	// The clock is of no use: the log that is replaced tells.
	path = banking(t)
	for _, replaced := range []uint64{0, told} {
		s := open(t, path)
		require.NoError(t, s.update("leap", func(tx *bbolt.Tx) error { return leap(tx, replaced, time.Time{}) }))
		require.NoError(t, s.Close())
		require.Greater(t, restarted(t, path, replaced), uint64(epochLeap))
	}
}

// restarted starts a coordinator's log some times and returns the last epoch. All are
// above the one given.
func restarted(t *testing.T, path string, told uint64) uint64 {
	t.Helper()
	for range 3 {
		s := open(t, path)
		log, inherited, err := wal.Open(t.Context(), s, ofBanks)
		require.NoError(t, err)
		require.Greater(t, inherited[0].Epoch, told)
		told = log.Epoch()
		require.NoError(t, log.Close(t.Context()))
		require.NoError(t, s.Close())
	}
	return told
}

// Whatever is wrong, the log that is there stays, and nothing is left behind.
func TestRestoreThatFailsChangesNothing(t *testing.T) {
	path, source := banking(t), banking(t)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, open(t, empty).Close())
	damaged := filepath.Join(t.TempDir(), "damaged")
	require.NoError(t, os.WriteFile(damaged, flipped(read(t, source), 16+20), 0o600))
	before := folder(t, path)
	for name, c := range map[string]struct {
		source string
		reason string
		want   error
		says   string
	}{
		"damaged":       {damaged, "why", wal.ErrDamaged, "checksum"},
		"no such":       {damaged + "2", "why", fs.ErrNotExist, "damaged2"},
		"never used":    {empty, "why", nil, "nothing to restore"},
		"itself":        {path, "why", nil, "from itself"},
		"without words": {source, "", nil, "reason is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Restore(t.Context(), c.source, path, RestoreOptions{Reason: c.reason, Replace: true})
			require.ErrorContains(t, err, c.says)
			if c.want != nil {
				require.ErrorIs(t, err, c.want)
			}
			require.Equal(t, before, folder(t, path))
		})
	}
	s := open(t, path)
	_, err := Restore(t.Context(), source, path, RestoreOptions{Reason: "why", Replace: true})
	require.ErrorIs(t, err, wal.ErrLocked)
	require.NoError(t, s.Close())
}

// A restore that was killed leaves a whole copy behind; the next one removes it.
func TestRestoreRemovesWhatACrashLeft(t *testing.T) {
	path, source := banking(t), banking(t)
	beside := func(name string) string { return filepath.Join(filepath.Dir(path), name) }
	for _, name := range []string{".log.restore-123", ".log.restore-1x", ".log.restore-1.restore-2"} {
		require.NoError(t, os.Mkdir(beside(name), 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(beside(name), "log"), nil, 0o600))
	}
	_, err := Restore(t.Context(), source, path, RestoreOptions{Reason: "why", Replace: true})
	require.NoError(t, err)
	require.NoDirExists(t, beside(".log.restore-123"))
	require.DirExists(t, beside(".log.restore-1x"), "not ours")
	require.DirExists(t, beside(".log.restore-1.restore-2"), "another log's")
}

// While a log is replaced there is one at every moment: a coordinator that found none
// would begin a new log, and take every prepared branch for another log's.
func TestRestoreLeavesNoMomentWithoutALog(t *testing.T) {
	path, source := banking(t), banking(t)
	stop := make(chan struct{})
	missing := make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				missing <- nil
				return
			default:
			}
			if _, err := os.Lstat(path); err != nil {
				missing <- err
				return
			}
		}
	}()
	for range 20 {
		_, err := Restore(t.Context(), source, path, RestoreOptions{Reason: "why", Replace: true})
		require.NoError(t, err)
	}
	close(stop)
	require.NoError(t, <-missing)
}

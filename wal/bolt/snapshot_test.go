package bolt

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

// A snapshot holds what was acknowledged before it was asked for, whole segments
// only, and is no log to be opened. The writer goes on meanwhile.
func TestSnapshotWhileTheLogIsUsed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	stream := openTerm(t, s)
	var mu sync.Mutex
	acknowledged, stop := uint64(0), false
	var writer sync.WaitGroup
	started := make(chan struct{})
	writer.Go(func() {
		for seq, done := uint64(1), false; !done; seq++ {
			if err := stream.Append(t.Context(), seq, waltest.Segment(int(seq), 3000, 100), nil); err != nil {
				t.Error(err)
				return
			}
			if seq == 10 {
				close(started)
			}
			mu.Lock()
			acknowledged, done = seq, stop
			mu.Unlock()
		}
	})
	<-started
	for _, name := range []string{"first", "second"} {
		mu.Lock()
		before := acknowledged
		mu.Unlock()
		copied := filepath.Join(t.TempDir(), name)
		require.NoError(t, s.Snapshot(t.Context(), copied))
		info, err := os.Stat(copied)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		r := openedReader(t, copied)
		require.True(t, r.Info().Snapshot)
		seqs := r.numbers(t, 0)
		require.GreaterOrEqual(t, len(seqs), int(before))
		require.Equal(t, uint64(len(seqs)), seqs[len(seqs)-1])
		_, err = Open(copied, smallMap)
		require.ErrorIs(t, err, ErrSnapshot)
		require.ErrorContains(t, err, "assent log restore")
	}
	mu.Lock()
	stop = true
	mu.Unlock()
	writer.Wait()
	require.Len(t, segments(t, s, stream.Term()), int(acknowledged), "the log itself is as it should be")
}

func TestSnapshotOverwritesNothingAndLeavesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	appendTo(t, openTerm(t, s), 1)
	there := filepath.Join(t.TempDir(), "there")
	require.NoError(t, os.WriteFile(there, []byte("mine"), 0o600))
	require.ErrorIs(t, s.Snapshot(t.Context(), there), fs.ErrExist)
	require.ErrorIs(t, openedReader(t, path).Snapshot(there), fs.ErrExist)
	require.Equal(t, "mine", string(read(t, there)))
	require.ErrorIs(t, publish(path, there), fs.ErrExist, "one that comes at the last moment, too")

	gone, cancel := context.WithCancel(t.Context())
	cancel()
	copied := filepath.Join(filepath.Dir(there), "copied")
	require.ErrorIs(t, s.Snapshot(gone, copied), context.Canceled)
	require.ErrorIs(t, s.Snapshot(t.Context(), filepath.Join(copied, "below")), fs.ErrNotExist)
	require.Equal(t, map[string]string{there: "mine"}, folder(t, copied))
	require.NoError(t, s.Snapshot(t.Context(), copied), "no failure of a copy is the log's")

	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Snapshot(t.Context(), copied+"2"), wal.ErrClosed)
}

// A reader's snapshot is the file's content, and the mark.
func TestSnapshotOfALogThatIsNotInUse(t *testing.T) {
	path, _ := written(t)
	want := contents(t, path)
	want["meta/snapshot"] = string(sealed(snapshotKey))
	before := folder(t, path)
	copied := filepath.Join(t.TempDir(), "copied")
	require.NoError(t, openedReader(t, path).Snapshot(copied))
	require.Equal(t, want, contents(t, copied))
	require.Equal(t, before, folder(t, path))
	again := copied + "2"
	require.NoError(t, openedReader(t, copied).Snapshot(again), "of a snapshot, too")
	require.Equal(t, want, contents(t, again))
}

func TestCompact(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	stream := openTerm(t, s)
	for seq := uint64(1); seq <= 600; seq++ {
		appendTo(t, stream, seq)
	}
	drop := make([]uint64, 599)
	for i := range drop {
		drop[i] = uint64(i + 1)
	}
	appendTo(t, stream, 601, drop...)
	_, _, err := Compact(path)
	require.ErrorIs(t, err, wal.ErrLocked)
	require.NoError(t, s.Close())
	want := contents(t, path)
	for _, clean := range []bool{true, false} {
		if !clean {
			crash(t, open(t, path))
		}
		size := int64(len(read(t, path)))
		before, after, err := Compact(path)
		require.NoError(t, err)
		require.Equal(t, size, before)
		require.Equal(t, int64(len(read(t, path))), after)
		if clean {
			require.Less(t, after*10, before)
		}
		require.Equal(t, want, contents(t, path), "closed cleanly, too: it was copied (R5)")
	}
	require.Equal(t, []uint64{600, 601}, segments(t, open(t, path), stream.Term()))
}

func TestCompactRefusesWhatIsNoLog(t *testing.T) {
	dir := t.TempDir()
	_, _, err := Compact(filepath.Join(dir, "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	names, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, names, "no lock file for nothing")

	path, _ := written(t)
	damaged := flipped(read(t, path), 16+20)
	require.NoError(t, os.WriteFile(path, damaged, 0o600))
	_, _, err = Compact(path)
	require.ErrorIs(t, err, wal.ErrDamaged)
	require.Equal(t, damaged, read(t, path))
}

func TestADamagedMarkIsDamage(t *testing.T) {
	path, _ := written(t)
	edit(t, path, func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(snapshotKey, []byte("four and more")) })
	_, err := Open(path, smallMap)
	require.ErrorIs(t, err, wal.ErrDamaged)
	require.NotErrorIs(t, err, ErrSnapshot)
}

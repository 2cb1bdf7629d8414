package bolt

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

func openedReader(t *testing.T, path string) *Reader {
	t.Helper()
	r, err := OpenReader(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// folder returns everything in the log's folder: names, and what they hold.
func folder(t *testing.T, path string) map[string]string {
	t.Helper()
	found := map[string]string{}
	require.NoError(t, filepath.WalkDir(filepath.Dir(path), func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			found[name] = string(read(t, name))
		}
		return err
	}))
	return found
}

// numbers returns the segments of the term that the reader has, checked.
func (r *Reader) numbers(t *testing.T, term int) (seqs []uint64) {
	t.Helper()
	require.NoError(t, r.Scan(t.Context(), r.Terms()[term], func(seq uint64, segment []byte) error {
		require.Equal(t, waltest.Segment(int(seq), 3000, 100), segment)
		seqs = append(seqs, seq)
		return nil
	}))
	return seqs
}

// What a store appended is what a reader reads, closed or not, and reading leaves
// nothing behind, no lock file either.
func TestReaderReadsAndChangesNothing(t *testing.T) {
	path, first := written(t)
	require.NoError(t, os.Remove(path+".lock"))
	before := folder(t, path)
	r := openedReader(t, path)
	require.Equal(t, []uint64{3, 4, 5, 6}, r.numbers(t, 0))
	require.Equal(t, []uint64{1}, r.numbers(t, 1))
	require.ErrorIs(t, r.Scan(t.Context(), first.Term()+1, nil), wal.ErrNoTerm)
	info := r.Info()
	require.True(t, info.Closed)
	require.False(t, info.Snapshot)
	require.Equal(t, uint32(format), info.Format)
	require.Equal(t, uint32(2), info.Opened)
	require.Equal(t, TermInfo{Term: first.Term(), Epoch: first.Epoch(), Owner: "owner", Oldest: 3, Newest: 6}, info.Terms[0])
	require.Equal(t, int64(len(before[path])), info.Size)
	require.Greater(t, info.UsedPages, int64(4))
	require.LessOrEqual(t, info.UsedPages, info.Pages)
	require.NoError(t, r.unchanged())
	require.Equal(t, before, folder(t, path))

	s := open(t, path)
	appendTo(t, openTerm(t, s), 1)
	crash(t, s)
	unclean := openedReader(t, path)
	require.False(t, unclean.Info().Closed)
	require.Equal(t, []uint64{1}, unclean.numbers(t, 2))
	require.Equal(t, info.Identity, unclean.Info().Identity)
}

// A log in use can be read while nothing is written, and the reader knows when that
// was not so.
func TestReaderNoticesTheWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	stream := openTerm(t, s)
	appendTo(t, stream, 1)
	r := openedReader(t, path)
	require.Equal(t, []uint64{1}, r.numbers(t, 0))
	appendTo(t, stream, 2)
	require.ErrorIs(t, r.unchanged(), wal.ErrLocked)
	require.ErrorContains(t, r.unchanged(), "Store.Snapshot")
	require.ErrorIs(t, r.Scan(t.Context(), stream.Term(), func(uint64, []byte) error { return nil }), wal.ErrLocked)
	require.ErrorIs(t, r.Snapshot(path+".snapshot"), wal.ErrLocked)
	require.NoFileExists(t, path+".snapshot")
}

// A reader beside a busy writer is never wrong: it has a commit as it was, or says
// that the log is in use; what looks like damage it does not report. The writer
// notices nothing.
func TestReaderBesideABusyWriter(t *testing.T) {
	const keep = 200 // segments: to read them takes longer than several appends
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	stream := openTerm(t, s)
	appendTo(t, stream, 1)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for seq := uint64(2); ; seq++ {
			select {
			case <-stop:
				return
			default:
			}
			var drop []uint64
			if seq > keep {
				drop = []uint64{seq - keep}
			}
			if err := stream.Append(t.Context(), seq, waltest.Segment(int(seq), 3000, 100), drop); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for busy := 0; busy < 30; {
		r, err := openReader(path)
		if err == nil {
			next := uint64(0)
			err = r.Scan(t.Context(), stream.Term(), func(seq uint64, segment []byte) error {
				if next != 0 && seq != next {
					t.Errorf("segment %d, where %d was due", seq, next)
				}
				next = seq + 1
				return nil
			})
			require.NoError(t, r.Close())
		}
		if err != nil {
			require.ErrorIs(t, err, wal.ErrLocked)
			busy++
		}
	}
	close(stop)
	writer.Wait()
	require.NoError(t, openedReader(t, path).unchanged())
}

func TestReaderRefusesWhatOpenRefuses(t *testing.T) {
	path, _ := written(t)
	content := read(t, path)
	for name, damage := range map[string]struct {
		content []byte
		want    error
	}{
		"empty":        {nil, wal.ErrDamaged},
		"cut off":      {content[:3*os.Getpagesize()], wal.ErrDamaged},
		"another's":    {[]byte("#!/bin/sh\nexec true\n# and so on, for some more bytes than a page header has\n\n"), wal.ErrForeign},
		"flipped byte": {flipped(content, 16+20), wal.ErrDamaged},
		"undamaged":    {content, nil},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			require.NoError(t, os.WriteFile(path, damage.content, 0o600))
			r, err := OpenReader(path)
			require.ErrorIs(t, err, damage.want)
			if err == nil {
				require.NoError(t, r.Close())
			}
		})
	}
	_, err := OpenReader(filepath.Join(t.TempDir(), "none"))
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = OpenReader(t.TempDir())
	require.ErrorIs(t, err, wal.ErrForeign)
}

func flipped(content []byte, at int) []byte {
	damaged := append([]byte{}, content...)
	damaged[at] ^= 1
	return damaged
}

var errDisk = errors.New("disk on fire")

type burning struct{}

func (burning) ReadAt([]byte, int64) (int, error) { return 0, errDisk }

func TestAFingerprintIsReadOrNot(t *testing.T) {
	_, err := fingerprint(burning{})
	require.ErrorIs(t, err, errDisk)
}

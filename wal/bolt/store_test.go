package bolt

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	goleak.VerifyTestMain(m)
}

// singleSyncEnv runs every test with SingleSync.
const singleSyncEnv = "ASSENT_BOLT_TEST_SINGLE_SYNC"

// smallMap spares tests on a small machine the address space.
var smallMap = &Options{MapSize: 1 << 20, SingleSync: os.Getenv(singleSyncEnv) != ""}

func open(t *testing.T, path string) *Store {
	t.Helper()
	s, err := Open(path, smallMap)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() }) // most are closed by then
	return s
}

// crash leaves the log as the death of the process does.
func crash(t *testing.T, s *Store) {
	t.Helper()
	_ = s.fail("crash", errors.New("the process is dead"))
	require.NoError(t, s.Close())
}

func openTerm(t *testing.T, s *Store) wal.Stream {
	t.Helper()
	stream, err := s.Open(t.Context(), "owner")
	require.NoError(t, err)
	return stream
}

func appendTo(t *testing.T, s wal.Stream, seq uint64, drop ...uint64) {
	t.Helper()
	require.NoError(t, s.Append(t.Context(), seq, waltest.Segment(int(seq), 3000, 100), drop))
}

// segments returns the numbers of a term's segments.
func segments(t *testing.T, s *Store, term participant.Term) (seqs []uint64) {
	t.Helper()
	require.NoError(t, s.Scan(t.Context(), term, func(seq uint64, segment []byte) error {
		require.Equal(t, waltest.Segment(int(seq), 3000, 100), segment)
		seqs = append(seqs, seq)
		return nil
	}))
	return seqs
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Sys().(*syscall.Stat_t).Ino
}

func TestStoreConforms(t *testing.T) {
	waltest.Test(t, waltest.Subject{New: func(t *testing.T) waltest.Log {
		path := filepath.Join(t.TempDir(), "log")
		return waltest.Log{
			Open:  func(t *testing.T) wal.Store { return open(t, path) },
			Crash: func(t *testing.T, s wal.Store) { crash(t, s.(*Store)) },
		}
	}})
}

func TestOpenFailsWhenTermsAreExhausted(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"))
	require.NoError(t, s.update("set", func(tx *bbolt.Tx) error {
		return tx.Bucket(metaBucket).Put(countersKey, counters{terms: 1<<24 - 2, epoch: 1 << 40}.value())
	}))
	last := openTerm(t, s)
	require.Equal(t, uint32(1<<24-1), last.Term().Counter())
	_, err := s.Open(t.Context(), "owner")
	require.ErrorIs(t, err, wal.ErrTermsExhausted)
	appendTo(t, last, 1) // the term that is open goes on
}

func TestOwnerNameIsBounded(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"))
	_, err := s.Open(t.Context(), string(make([]byte, maxOwner+1)))
	require.ErrorContains(t, err, "256 bytes")
	_, err = s.Open(t.Context(), string(make([]byte, maxOwner)))
	require.NoError(t, err)
}

func TestBrokenSegmentIsRefused(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"))
	stream := openTerm(t, s)
	whole := waltest.Segment(1, 3000, 100)
	for _, broken := range [][]byte{nil, whole[:len(whole)-1], whole[1:], make([]byte, maxSegment+1)} {
		require.Error(t, stream.Append(t.Context(), 1, broken, nil))
	}
	appendTo(t, stream, 1)
}

// R9: all orphans cost one durable write, however many there are.
func TestTakeOverOfAllOrphansIsOneTransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	for range 10 {
		openTerm(t, s)
	}
	crash(t, s)

	s = open(t, path)
	orphans, later, err := s.Orphans(t.Context())
	require.NoError(t, err)
	require.Len(t, orphans, 10)
	require.Nil(t, later)
	before := s.commits.Load()
	for _, term := range orphans {
		_, err := s.TakeOver(t.Context(), term, "taker")
		require.NoError(t, err)
	}
	require.Equal(t, before+1, s.commits.Load())
}

// R9: the epoch keeps a former owner out, whoever it is and whatever it believes.
func TestLowerEpochIsFenced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	former := openTerm(t, s).(*stream)
	appendTo(t, former, 1)
	crash(t, s)

	s = open(t, path)
	late := &stream{store: s, term: former.term, epoch: former.epoch}
	appendTo(t, late, 2) // nobody took the term over yet
	taken, err := s.TakeOver(t.Context(), former.term, "taker")
	require.NoError(t, err)
	require.ErrorIs(t, late.Append(t.Context(), 3, waltest.Segment(3), nil), wal.ErrFenced)
	require.ErrorIs(t, late.Release(t.Context()), wal.ErrFenced)
	require.ErrorIs(t, late.Delete(t.Context()), wal.ErrFenced)
	appendTo(t, taken, 3)
	require.Equal(t, []uint64{1, 2, 3}, segments(t, s, former.term))
}

// An orphan that was taken over together with another belongs to the taker who
// asks for it, with an epoch of its own.
func TestAClaimIsOnlyForItsOwner(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	a, b := openTerm(t, s), openTerm(t, s)
	crash(t, s)
	s = open(t, path)
	first, err := s.TakeOver(t.Context(), a.Term(), "first")
	require.NoError(t, err)
	second, err := s.TakeOver(t.Context(), b.Term(), "second")
	require.NoError(t, err)
	require.Greater(t, second.Epoch(), first.Epoch())
	appendTo(t, first, 1)
	appendTo(t, second, 1)
	owner, known, err := s.Owner(t.Context(), b.Term())
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, "second", owner)
}

func TestAppendIsOneTransaction(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"))
	stream := openTerm(t, s)
	before, err := s.Stats()
	require.NoError(t, err)
	for seq := uint64(1); seq <= 10; seq++ {
		appendTo(t, stream, seq)
	}
	appendTo(t, stream, 11, 1, 2, 3)
	after, err := s.Stats()
	require.NoError(t, err)
	require.Equal(t, before.Commits+11, after.Commits)
	require.Positive(t, after.FileBytes)
}

// A log that is continued for long must not grow: pages of dropped segments are
// used again, and so are the stream's buffers.
func TestFileDoesNotGrow(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "log"))
	stream := openTerm(t, s).(*stream)
	var size int64
	for seq := uint64(1); seq <= 300; seq++ {
		var drop []uint64
		if seq > 20 {
			drop = []uint64{seq - 20}
		}
		appendTo(t, stream, seq, drop...)
		if seq == 100 {
			stats, err := s.Stats()
			require.NoError(t, err)
			size = stats.FileBytes
		}
	}
	stats, err := s.Stats()
	require.NoError(t, err)
	require.Equal(t, size, stats.FileBytes)
	require.Less(t, cap(stream.values), 20_000)
}

// One Append of a group of 20 records, each with two participants' data.
func BenchmarkAppend(b *testing.B) {
	s, err := Open(filepath.Join(b.TempDir(), "log"), nil)
	require.NoError(b, err)
	stream, err := s.Open(b.Context(), "owner")
	require.NoError(b, err)
	segment := waltest.Segment(1, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50)
	b.SetBytes(int64(len(segment)))
	b.ReportAllocs()
	var drop []uint64
	low := uint64(1)
	for seq := uint64(1); b.Loop(); seq++ {
		if drop = drop[:0]; seq-low == 1024 {
			for ; seq-low > 512; low++ {
				drop = append(drop, low)
			}
		}
		if err := stream.Append(b.Context(), seq, segment, drop); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, s.Close())
}

package bolt

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/assent-tm/assent/wal"
)

var singleSync = &Options{MapSize: 1 << 20, SingleSync: true}

// concurrent are the tests in which several goroutines or processes use a log at once.
const concurrent = "^(TestStoreConforms|TestSnapshotWhileTheLogIsUsed|TestReaderBesideABusyWriter|" +
	"TestR1R5AcknowledgedAppendsSurviveKill|TestR12StuckTransactionsDoNotGrowTheFile)$"

// A log with one sync per commit keeps every promise: all tests of this package,
// once more, but those that are about it anyway. In a short run those that are concurrent.
func TestAllTestsWithSingleSync(t *testing.T) {
	if smallMap.SingleSync {
		t.Log("this is that run")
		return
	}
	args := []string{"-test.count=1", "-test.skip=TestAllTestsWithSingleSync|TornCommit|DamageOfALogInUse"}
	if testing.Short() {
		args = append(args, "-test.short", "-test.run="+concurrent)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), singleSyncEnv+"=1")
	out, err := cmd.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
}

// used returns the files of a log in use after each of its last three commits, the
// oldest first.
func used(t *testing.T) (files [3][]byte) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	s, err := Open(path, singleSync)
	require.NoError(t, err)
	stream := openTerm(t, s)
	for seq := uint64(1); seq <= 10; seq++ {
		appendTo(t, stream, seq)
	}
	for i := range files {
		appendTo(t, stream, uint64(11+i), uint64(1+i))
		files[i] = read(t, path)
	}
	crash(t, s)
	return files
}

func summed(t *testing.T, file []byte) (state, summary) {
	t.Helper()
	im, s, err := examine(bytes.NewReader(file), int64(len(file)), checkProof)
	require.NoError(t, err)
	sum, err := sumUp(im)
	require.NoError(t, err)
	return sum, s
}

// R5: any byte of a log in use is changed after the last commit was durable. Nothing
// older than the commit before comes back, and nothing that never was. That the last
// commit itself may be lost is the price: damage of what it wrote looks as if it
// were torn.
func TestR5DamageOfALogInUseLosesAtMostTheLastCommit(t *testing.T) {
	files := used(t)
	before, _ := summed(t, files[1])
	last, _ := summed(t, files[2])
	content := files[2]
	im, err := openImage(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	content = content[:int64(im.meta.highWater)*im.pageSize]
	refused, kept, lost, step := 0, 0, 0, 7
	if testing.Short() {
		step *= 17
	}
	for i := rand.IntN(step); i < len(content); i += step {
		content[i] ^= 0x10
		im, s, err := examine(bytes.NewReader(content), int64(len(content)), checkProof)
		content[i] ^= 0x10
		if err != nil {
			refused++
			continue
		}
		got, err := sumUp(im)
		require.NoError(t, err)
		switch {
		case got == last: // in no use, or the older meta page
			kept++
		case got == before && s.torn:
			lost++
		default:
			t.Fatalf("byte %d: an older or another state", i)
		}
	}
	t.Logf("%d refused, %d change nothing, %d take the last commit for a torn one", refused, kept, lost)
	require.Positive(t, refused)
	require.Positive(t, lost)
}

// Never more than one commit is left out.
func TestR5TwoTornCommitsAreDamage(t *testing.T) {
	files := used(t)
	want, _ := summed(t, files[1])
	torn := files[2]
	im, err := openImage(bytes.NewReader(torn), int64(len(torn)))
	require.NoError(t, err)
	torn[int64(im.meta.root)*im.pageSize+pageHeaderSize] ^= 1
	got, s := summed(t, torn)
	require.Equal(t, want, got)
	require.True(t, s.torn)

	older, err := openOlder(bytes.NewReader(torn), int64(len(torn)))
	require.NoError(t, err)
	torn[int64(older.meta.root)*im.pageSize+pageHeaderSize] ^= 1
	require.ErrorIs(t, openBytes(t, torn), wal.ErrDamaged)
}

// R5: that a commit was left out is told, once: the copy that is made lacks nothing.
func TestR5ATornCommitIsWarnedOf(t *testing.T) {
	content := used(t)[2]
	im, err := openImage(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "log")
	for _, torn := range []bool{true, false} {
		if torn {
			content[int64(im.meta.root)*im.pageSize+pageHeaderSize] ^= 1
			require.NoError(t, os.WriteFile(path, content, 0o600))
		}
		core, logs := observer.New(zap.WarnLevel)
		s, err := Open(path, &Options{MapSize: 1 << 20, SingleSync: true, Logger: zap.New(core)})
		require.NoError(t, err)
		stats, err := s.Stats()
		require.NoError(t, err)
		require.Equal(t, torn, stats.Torn)
		warnings := logs.FilterMessageSnippet("torn").FilterField(zap.String("path", path))
		require.Equal(t, torn, warnings.Len() == 1)
		crash(t, s)
	}
}

// R5: on a full disk the log goes on in its file: nothing may be left there of a
// commit that was never made, whose chunks' keys are given again.
func TestR5NothingIsLeftOfACommitNeverMade(t *testing.T) {
	content := used(t)[2]
	want, _ := summed(t, content)
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, content, 0o600))
	require.NoError(t, rewrite(path))
	content = read(t, path)
	got, s := summed(t, content)
	require.Equal(t, want, got)
	require.False(t, s.torn)

	im, err := openImage(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	_, err = im.inspect()
	require.NoError(t, err)
	zero := make([]byte, im.pageSize)
	for at := 2 * im.pageSize; at < im.size; at += im.pageSize {
		if number := at / im.pageSize; number >= int64(len(im.seen)) || !im.seen[number] {
			require.Equalf(t, zero, content[at:at+im.pageSize], "page %d", number)
		}
	}
}

// A log that was written with two syncs never goes back: there the last commit was
// durable before its meta page was, so a fault in it is damage.
func TestR5WithTwoSyncsNothingIsLeftOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s, err := Open(path, &Options{MapSize: 1 << 20})
	require.NoError(t, err)
	stream := openTerm(t, s)
	for seq := uint64(1); seq <= 10; seq++ {
		appendTo(t, stream, seq)
	}
	crash(t, s)
	content := read(t, path)
	im, err := openImage(bytes.NewReader(content), int64(len(content)))
	require.NoError(t, err)
	content[int64(im.meta.root)*im.pageSize+pageHeaderSize] ^= 1
	for _, o := range []*Options{nil, singleSync} {
		require.NoError(t, os.WriteFile(path, content, 0o600))
		_, err = Open(path, o)
		require.ErrorIs(t, err, wal.ErrDamaged)
	}
}

// The fault of a disk is not taken for a torn commit.
func TestR5WhatCannotBeReadIsNotTorn(t *testing.T) {
	files := used(t)
	im, err := openImage(bytes.NewReader(files[2]), int64(len(files[2])))
	require.NoError(t, err)
	for _, page := range []uint64{0, 1, im.meta.root} {
		bad := &badDisk{Reader: bytes.NewReader(files[2]), at: int64(page) * im.pageSize}
		_, _, err := examine(bad, int64(len(files[2])), checkProof)
		require.ErrorIs(t, err, errBadSector)
		require.NotErrorIs(t, explain("log", err), wal.ErrDamaged)
	}
}

// badDisk can't read one page.
type badDisk struct {
	*bytes.Reader
	at int64
}

var errBadSector = errors.New("bad sector")

func (d *badDisk) ReadAt(b []byte, off int64) (int, error) {
	if off <= d.at && d.at < off+int64(len(b)) {
		return 0, errBadSector
	}
	return d.Reader.ReadAt(b, off)
}

var _ io.ReaderAt = (*badDisk)(nil)

// The setting may change from one start to the next, after a clean end and after a
// crash; files of the two kinds don't mix.
func TestSingleSyncIsSwitchedOnAndOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	s := open(t, path)
	stream := openTerm(t, s)
	kind := smallMap.SingleSync
	for seq := uint64(1); seq <= 30; seq++ {
		appendTo(t, stream, seq)
		clean := random.IntN(2) == 0
		if !clean {
			crash(t, s)
		}
		require.NoError(t, s.Close())
		before, o := inode(t, path), &Options{MapSize: 1 << 20, SingleSync: random.IntN(2) == 0}
		var err error
		s, err = Open(path, o)
		require.NoError(t, err)
		require.Equal(t, clean && o.SingleSync == kind, before == inode(t, path))
		kind = o.SingleSync
		stats, err := s.Stats()
		require.NoError(t, err)
		require.False(t, stats.Torn)
		require.Equal(t, kind, hasProof(t, s))
		stream, err = s.TakeOver(t.Context(), stream.Term(), "owner")
		require.NoError(t, err)
		require.Len(t, segments(t, s, stream.Term()), int(seq))
	}
	require.NoError(t, s.Close())
}

func hasProof(t *testing.T, s *Store) (has bool) {
	t.Helper()
	require.NoError(t, s.view("look", func(tx *bbolt.Tx) error {
		has = tx.Bucket(metaBucket).Get(proofKey) != nil
		return nil
	}))
	return has
}

// R5: a refused transaction is not told as durable, nor does it break the next.
func TestRefusalWithSingleSync(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "log"), singleSync)
	require.NoError(t, err)
	stream := openTerm(t, s)
	appendTo(t, stream, 1)
	for range 3 {
		require.Error(t, stream.Append(t.Context(), 7, []byte{}, nil))
		require.Error(t, stream.Append(t.Context(), 1, read(t, s.path)[:1], nil))
	}
	appendTo(t, stream, 2)
	crash(t, s)
	_, err = check(s.path)
	require.NoError(t, err)
}

package bolt

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest/capability"
)

const (
	powerCuts     = 30
	syncRangeDone = 1 | 2 | 4 // SYNC_FILE_RANGE_WAIT_BEFORE, _WRITE and _WAIT_AFTER
)

// R5: the same as with simulated images, on a real file system. The disk is a loop
// device: what its file holds at a moment is what a power cut leaves, with the
// kernel's own choice of when blocks and sizes are written, and with ext4's journal
// replayed by the next mount. Each cut comes when a commit was written and not
// synced, and some of its pages were written back.
func TestR5ATornCommitOnARealFileSystem(t *testing.T) {
	capability.Need(t, capability.Loop, capability.Mount)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	disk := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.WriteFile(disk, nil, 0o600))
	require.NoError(t, os.Truncate(disk, 16<<20))
	command(t, "mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", "-J", "size=4", disk)
	dir := mount(t, disk)
	path := filepath.Join(dir, "log")
	s, err := Open(path, &Options{MapSize: 1 << 15, SingleSync: true})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	stream := openTerm(t, s)
	seq, made, torn := uint64(0), 0, 0
	next := func() {
		seq++
		var drop []uint64
		if seq > keep {
			drop = []uint64{seq - keep}
		}
		appendTo(t, stream, seq, drop...)
	}
	for range powerCuts {
		for range random.IntN(4) {
			next()
		}
		s.db.once, s.db.NoSync = false, true // all of commit but its sync
		next()
		s.db.once, s.db.NoSync = true, false
		writeBack(t, random, s.db.file)
		if random.IntN(2) == 0 { // what the journal holds by then goes with it
			syncOther(t, dir)
		}

		copied := filepath.Join(t.TempDir(), "disk")
		require.NoError(t, os.WriteFile(copied, read(t, disk), 0o600))
		require.NoError(t, s.db.Sync())
		at := mount(t, copied)
		left, err := Open(filepath.Join(at, "log"), &Options{MapSize: 1 << 15, SingleSync: true})
		require.NoError(t, err)
		found := segments(t, left, stream.Term())
		newest := uint64(0)
		if len(found) > 0 {
			newest = found[len(found)-1]
		}
		require.Contains(t, []uint64{seq - 1, seq}, newest)
		require.Len(t, found, int(min(newest, keep)))
		stats, err := left.Stats()
		require.NoError(t, err)
		if stats.Torn {
			torn++
		}
		if newest == seq {
			made++
		}
		require.NoError(t, left.Close())
		require.NoError(t, syscall.Unmount(at, 0))
		require.NoError(t, os.Remove(copied))
	}
	t.Logf("%d power cuts: %d commits were made, %d torn", powerCuts, made, torn)
	require.Positive(t, torn)
}

// writeBack has the kernel write some of the pages that are waiting for it.
func writeBack(t *testing.T, random *rand.Rand, f *os.File) {
	t.Helper()
	info, err := f.Stat()
	require.NoError(t, err)
	page, share := int64(os.Getpagesize()), random.Float64()
	for at := int64(0); at < info.Size(); at += page {
		meta := at < 2*page && random.IntN(4) > 0
		if meta || random.Float64() < share {
			require.NoError(t, syscall.SyncFileRange(int(f.Fd()), at, page, syncRangeDone))
		}
	}
}

func syncOther(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "other"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	require.NoError(t, err)
	_, err = f.WriteString("x")
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, f.Close())
}

func mount(t *testing.T, disk string) string {
	t.Helper()
	dir := t.TempDir()
	command(t, "mount", "-o", "loop", disk, dir)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) }) // most are by then
	return dir
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoErrorf(t, err, "%s: %s", name, out)
}

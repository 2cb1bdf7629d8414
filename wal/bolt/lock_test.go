package bolt

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

// R9: one writer.
func TestR9ALogHasOneWriter(t *testing.T) {
	path, _ := written(t)
	require.NoError(t, os.WriteFile(path+".lock", []byte("123456789012345\n"), 0o600)) // who had it before
	s := open(t, path)
	lock := inode(t, path+".lock")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(path, link))
	for _, name := range []string{path, link} {
		_, err := Open(name, nil)
		require.ErrorIs(t, err, wal.ErrLocked)
		require.ErrorContains(t, err, "this process has it open already")
		require.ErrorContains(t, err, path)
	}
	require.NoError(t, s.Close())
	s = open(t, link)
	crash(t, s)
	s = open(t, link) // a copy
	require.NoError(t, s.Close())
	info, err := os.Lstat(link)
	require.NoError(t, err)
	require.NotZero(t, info.Mode()&os.ModeSymlink, "the copy replaced the link, not the log")
	require.Equal(t, lock, inode(t, path+".lock"), "the lock file was replaced")

	require.NoError(t, os.Symlink(filepath.Join(t.TempDir(), "nothing"), link+"2"))
	_, err = Open(link+"2", nil)
	require.ErrorContains(t, err, "link to nothing")
}

func TestAnotherProcessIsNamed(t *testing.T) {
	path, first := written(t)
	c := startChild(t, "hold", path)
	require.Equal(t, "open", c.line(t))
	_, err := Open(path, nil)
	require.ErrorIs(t, err, wal.ErrLocked)
	require.ErrorContains(t, err, fmt.Sprintf("held by process %d; stop it first", c.cmd.Process.Pid))
	c.kill(t)
	require.Equal(t, []uint64{3, 4, 5, 6}, segments(t, open(t, path), first.Term()))
}

// The lock is taken before anything else, so that a second opener can't touch the
// temporary file of the first.
func TestLockIsTakenFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(temporary(path), nil, 0o600))
	lock, err := acquire(path, 0)
	require.NoError(t, err)
	_, err = Open(path, nil)
	require.ErrorIs(t, err, wal.ErrLocked)
	require.FileExists(t, temporary(path))
	require.NoFileExists(t, path)
	require.NoError(t, lock.Close())
	open(t, path)
}

func TestOpenWaitsForTheLock(t *testing.T) {
	path, _ := written(t)
	former := open(t, path)
	opened := make(chan error)
	go func() {
		s, err := Open(path, &Options{MapSize: smallMap.MapSize, LockWait: time.Minute})
		if err == nil {
			err = s.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatalf("opened a log that was in use: %v", err)
	default:
	}
	require.NoError(t, former.Close())
	require.NoError(t, <-opened)
}

func TestALogOpenInAnotherProgramIsInUse(t *testing.T) {
	path, _ := written(t)
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	_, err = openDatabase(path, 0)
	require.ErrorIs(t, err, wal.ErrLocked)
	require.NoError(t, db.Close())
}

// A failed open lets go of the lock.
func TestFailedOpenUnlocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(path, []byte("this is no log at all"), 0o600))
	_, err := Open(path, nil)
	require.ErrorIs(t, err, wal.ErrForeign)
	lock, err := acquire(path, 0)
	require.NoError(t, err)
	require.NoError(t, lock.Close())
}

// R9: also when somebody removed the lock file of a log that is in use, or gave the
// log a second name, whose lock file is another one.
func TestR9ALogHasOneWriterWithoutItsLockFile(t *testing.T) {
	path, _ := written(t)
	s := open(t, path)
	stream, err := s.Open(t.Context(), "first")
	require.NoError(t, err)
	require.NoError(t, os.Remove(path+".lock"))
	second := filepath.Join(filepath.Dir(path), "second")
	require.NoError(t, os.Link(path, second))
	for _, name := range []string{path, second} {
		_, err = Open(name, nil)
		require.ErrorIs(t, err, wal.ErrLocked)
		require.ErrorContains(t, err, name)
	}
	require.NoError(t, stream.Append(t.Context(), 1, waltest.Segment(1, 10), nil))
	require.NoError(t, s.Close())
}

// R5: what is written to a file without a name is lost.
func TestR5LogThatWasReplacedTakesNothing(t *testing.T) {
	path, _ := written(t)
	s := open(t, path)
	stream, err := s.Open(t.Context(), "first")
	require.NoError(t, err)
	require.NoError(t, os.Rename(path, path+".old"))
	require.NoError(t, stream.Append(t.Context(), 1, waltest.Segment(1, 10), nil), "it has a name")
	require.NoError(t, os.Remove(path+".old"))
	for range 2 {
		err = stream.Append(t.Context(), 2, waltest.Segment(2, 10), nil)
		require.ErrorContains(t, err, "removed or replaced")
	}
	require.NoError(t, s.Close())
}

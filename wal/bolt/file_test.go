package bolt

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/wal"
)

// written returns the path of a log that was closed cleanly, with two terms; the
// first one is given back.
func written(t *testing.T) (path string, first wal.Stream) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	first = openTerm(t, s)
	for seq := uint64(1); seq <= 5; seq++ {
		appendTo(t, first, seq)
	}
	appendTo(t, first, 6, 1, 2)
	appendTo(t, openTerm(t, s), 1)
	require.NoError(t, s.Close())
	return path, first
}

func TestOpenCreatesALog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, s.Close())

	names, err := os.ReadDir(filepath.Dir(path))
	require.NoError(t, err)
	require.Len(t, names, 2) // the log and its lock
	_, err = Open(filepath.Join(path, "below"), nil)
	require.Error(t, err)
	_, err = Open(filepath.Join(filepath.Dir(path), "none", "log"), nil)
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// A crash in the middle of creation or of a copy leaves a temporary file, which is
// never taken for a log.
func TestLeftoversOfACrashAreRemoved(t *testing.T) {
	whole, _ := written(t)
	content := read(t, whole)
	for name, left := range map[string][]byte{"empty": {}, "garbage": []byte("garbage"), "part": content[:5000], "whole": content} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			require.NoError(t, os.WriteFile(temporary(path), left, 0o600))
			s := open(t, path)
			require.NoFileExists(t, temporary(path))
			now, _, err := s.Orphans(t.Context())
			require.NoError(t, err)
			require.Empty(t, now) // created afresh
			stream := openTerm(t, s)
			appendTo(t, stream, 1)
			crash(t, s)

			require.NoError(t, os.WriteFile(temporary(path), left, 0o600))
			require.Equal(t, []uint64{1}, segments(t, open(t, path), stream.Term()))
			require.NoFileExists(t, temporary(path))
		})
	}
}

// R5: only a log that was closed cleanly is continued in its file.
func TestUncleanLogIsCopied(t *testing.T) {
	path, first := written(t)
	before := inode(t, path)

	s := open(t, path)
	require.Equal(t, before, inode(t, path), "a clean log was copied")
	require.NoError(t, s.Close())
	s = open(t, path)
	crash(t, s) // nothing was even written
	require.Equal(t, before, inode(t, path))

	created := identity(t, path)
	s = open(t, path)
	require.NotEqual(t, before, inode(t, path), "an unclean log was continued in place")
	require.Equal(t, []uint64{3, 4, 5, 6}, segments(t, s, first.Term()))
	require.NoError(t, s.Close())
	require.Equal(t, created, identity(t, path))

	before = inode(t, path)
	s = open(t, path)
	require.Equal(t, before, inode(t, path))
	require.NoError(t, s.Close())
}

// identity reads what tells one log from another.
func identity(t *testing.T, path string) (id []byte) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	require.NoError(t, err)
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		id, err = unseal(createdKey, tx.Bucket(metaBucket).Get(createdKey))
		id = append([]byte{}, id...)
		return err
	}))
	require.NoError(t, db.Close())
	require.Len(t, id, 16)
	return id
}

// The mark of a clean close goes before anything else is written.
func TestMarkGoesFirst(t *testing.T) {
	path, _ := written(t)
	marked := func() bool {
		s, err := check(path)
		require.NoError(t, err)
		return s.closed
	}
	require.True(t, marked())
	s := open(t, path)
	require.False(t, marked())
	crash(t, s)
	require.False(t, marked())
}

func TestManyBatchesAreCopied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	s := open(t, path)
	stream := openTerm(t, s)
	require.NoError(t, s.update("fill", func(tx *bbolt.Tx) error {
		value := make([]byte, 4+1+1<<20)
		for seq := uint64(1); seq <= 3*copyBatch>>20; seq++ {
			key := chunkKey{term: stream.Term(), seq: seq}.append(nil)
			if err := tx.Bucket(logBucket).Put(key, append([]byte{}, seal(key, value)...)); err != nil {
				return err
			}
		}
		e, err := readEntry(tx, stream.Term())
		e.high = 3 * copyBatch >> 20
		if err != nil {
			return err
		}
		return putEntry(tx, stream.Term(), e)
	}))
	crash(t, s)
	before := contents(t, path)
	s = open(t, path)
	require.NoError(t, s.Close())
	after := contents(t, path)
	delete(after, "meta/closed")
	require.True(t, maps.Equal(before, after))
}

// contents returns everything in the file.
func contents(t *testing.T, path string) map[string]string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { require.NoError(t, f.Close()) }()
	info, err := f.Stat()
	require.NoError(t, err)
	im, err := openImage(f, info.Size())
	require.NoError(t, err)
	return imageContents(t, im)
}

func imageContents(t *testing.T, im *image) map[string]string {
	t.Helper()
	found := map[string]string{}
	buckets, err := im.buckets()
	require.NoError(t, err)
	for _, bucket := range buckets {
		require.NoError(t, im.each(bucket, func(it item) error {
			if !bytes.Equal(it.key, proofKey) { // it differs from commit to commit
				found[string(bucket.key)+"/"+string(it.key)] = string(it.value)
			}
			return nil
		}))
	}
	return found
}

// bbolt never gives space back by itself.
func TestSparseLogIsCopied(t *testing.T) {
	path, first := written(t)
	require.NoError(t, os.Truncate(path, sparseSize+1))
	s := open(t, path)
	stats, err := s.Stats()
	require.NoError(t, err)
	require.Less(t, stats.FileBytes, int64(sparseSize))
	require.Equal(t, []uint64{3, 4, 5, 6}, segments(t, s, first.Term()))
}

// A bbolt tool may have written the file: then bbolt would read a list of free
// pages that nobody checked.
func TestListOfFreePagesIsNotTrusted(t *testing.T) {
	path, first := written(t)
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	if smallMap.SingleSync { // the tool's commit has no proof
		require.ErrorIs(t, openBytes(t, read(t, path)), wal.ErrDamaged)
		return
	}
	before := inode(t, path)
	s := open(t, path)
	require.NotEqual(t, before, inode(t, path))
	require.Equal(t, []uint64{3, 4, 5, 6}, segments(t, s, first.Term()))
}

func TestCopyThatFailsChangesNothing(t *testing.T) {
	path, _ := written(t)
	s := open(t, path)
	crash(t, s)
	before := read(t, path)
	require.NoError(t, os.MkdirAll(filepath.Join(temporary(path), "in the way"), 0o700))
	_, err := Open(path, nil)
	require.ErrorContains(t, err, temporary(path))
	require.Equal(t, before, read(t, path))

	require.NoError(t, os.RemoveAll(temporary(path)))
	halfway := errors.New("no space")
	err = replace(path, func(db *bbolt.DB) error {
		require.NoError(t, writeEmpty(db))
		return halfway
	})
	require.ErrorIs(t, err, halfway)
	require.Equal(t, before, read(t, path))
	require.NoFileExists(t, temporary(path))
}

// Whoever copies the log, root for one, must not shut its coordinator or its readers out.
func TestACopyKeepsOwnerAndMode(t *testing.T) {
	snapshot := filepath.Join(t.TempDir(), "snapshot")
	require.NoError(t, openedReader(t, banking(t)).Snapshot(snapshot))
	for name, rewrite := range map[string]func(path string) error{
		"unclean": func(path string) error {
			crash(t, open(t, path))
			return open(t, path).Close()
		},
		"compact": func(path string) error {
			_, _, err := Compact(path)
			return err
		},
		"restore": func(path string) error {
			_, err := Restore(t.Context(), snapshot, path, RestoreOptions{Reason: "why", Replace: true})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := banking(t)
			owner := uint32(os.Geteuid())
			if owner == 0 {
				owner = 4711 // only root may give a file away
			}
			require.NoError(t, os.Chown(path, int(owner), -1))
			require.NoError(t, os.Chmod(path, 0o640))
			before := inode(t, path)
			require.NoError(t, rewrite(path))
			require.NotEqual(t, before, inode(t, path))
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.Equal(t, os.FileMode(0o640), info.Mode())
			require.Equal(t, owner, info.Sys().(*syscall.Stat_t).Uid)
		})
	}
}

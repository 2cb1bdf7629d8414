package bolt

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/wal"
)

// cached is a file as a process sees it after a failed fsync: what it reads need not
// be on the disk, and won't ever be unless it is written again.
type cached struct {
	*bytes.Reader
	content   []byte
	pageSize  int64
	allocated map[int64]bool
	dirty     map[int64]bool
	onDisk    map[int64]bool
	syncs     int
	// fail is asked before each call that changes the disk.
	fail func(call string, page int64) error
}

func newCached(s *specimen) *cached {
	content := bytes.Clone(s.content)
	return &cached{
		Reader: bytes.NewReader(content), content: content, pageSize: int64(s.pageSize),
		allocated: map[int64]bool{0: true, 1: true}, dirty: map[int64]bool{}, onDisk: map[int64]bool{},
		fail: func(string, int64) error { return nil },
	}
}

func (c *cached) Name() string { return "log" }

func (c *cached) Allocate(low, high int64) error {
	c.allocated[low/c.pageSize] = true
	return c.fail("allocate", low/c.pageSize)
}

func (c *cached) WriteAt(b []byte, offset int64) (int, error) {
	for page := offset / c.pageSize; page*c.pageSize < offset+int64(len(b)); page++ {
		if err := c.fail("write", page); err != nil {
			return 0, err
		}
		if !c.allocated[page] {
			return 0, errors.New("written where no block was taken")
		}
		c.dirty[page] = true
	}
	copy(c.content[offset:], b)
	return len(b), nil
}

func (c *cached) Sync() error {
	c.syncs++
	if err := c.fail("sync", int64(c.syncs)); err != nil {
		return err
	}
	maps.Copy(c.onDisk, c.dirty)
	clear(c.dirty)
	return nil
}

// R5: a log that can't be copied is on disk, page by page, before anything of it is
// told, and its meta pages not before what they refer to.
func TestR5RewriteInPlacePutsEveryPageOnDisk(t *testing.T) {
	s := newSpecimen(t)
	c := newCached(s)
	c.fail = func(call string, page int64) error {
		if call == "write" && page < 2 {
			require.Equal(t, s.inUse(), slices.Sorted(maps.Keys(c.onDisk)))
		}
		return nil
	}
	require.NoError(t, rewritePages(c, int64(len(c.content))))
	require.Equal(t, append([]int64{0, 1}, s.inUse()...), slices.Sorted(maps.Keys(c.onDisk)))
	require.Empty(t, c.dirty)
	require.Equal(t, s.content, c.content)
}

func (s *specimen) inUse() (all []int64) {
	for id, kind := range s.kinds {
		if kind == "leaf page" || kind == "branch page" {
			all = append(all, int64(id))
		}
	}
	return all
}

// R5: a page that does not reach the disk this time either fails the open, and no
// fsync is tried again.
func TestR5RewriteInPlaceFails(t *testing.T) {
	s := newSpecimen(t)
	for _, at := range []struct {
		call string
		page int64
	}{{"allocate", s.inUse()[3]}, {"write", s.inUse()[5]}, {"write", 0}, {"sync", 1}, {"sync", 2}} {
		c := newCached(s)
		c.fail = func(call string, page int64) error {
			if call == at.call && page == at.page {
				return syscall.ENOSPC
			}
			return nil
		}
		require.ErrorIs(t, rewritePages(c, int64(len(c.content))), syscall.ENOSPC)
		require.LessOrEqual(t, c.syncs, 2)
		if at.call != "sync" || at.page == 1 {
			require.NotContains(t, c.onDisk, int64(0), "%v", at)
		}
		require.Equal(t, s.content, c.content)
	}
}

// What is written back is what was examined.
func TestRewriteInPlaceReadsTheSameTwice(t *testing.T) {
	s := newSpecimen(t)
	for _, page := range []int64{0, 1, s.inUse()[7]} {
		c := newCached(s)
		c.fail = func(call string, _ int64) error {
			if call == "allocate" {
				c.content[page*c.pageSize+40] ^= 1 // the disk, or its cable
				c.fail = func(string, int64) error { return nil }
			}
			return nil
		}
		require.ErrorIs(t, rewritePages(c, int64(len(c.content))), wal.ErrDamaged)
		require.NotContains(t, c.onDisk, page)
	}
}

package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// disks are small file systems of the test's own.
var disks = []struct {
	name  string
	needs []capability.Capability
	mount func(t *testing.T, dir string, bytes int64)
}{
	{"tmpfs", []capability.Capability{capability.Mount}, mountTmpfs},
	{"ext4", []capability.Capability{capability.Mount, capability.Loop}, mountExt4},
}

// onDisks runs a test on a disk of each kind and of this size.
func onDisks(t *testing.T, size int64, fn func(t *testing.T, d disk)) {
	t.Helper()
	for _, kind := range disks {
		t.Run(kind.name, func(t *testing.T) {
			capability.Need(t, kind.needs...)
			fn(t, mounted(t, kind.mount, size))
		})
	}
}

// mounted returns a new disk of this size, until the test ends.
func mounted(t *testing.T, mount func(t *testing.T, dir string, size int64), size int64) disk {
	t.Helper()
	d := disk{dir: filepath.Join(t.TempDir(), "disk")}
	require.NoError(t, os.Mkdir(d.dir, 0o700))
	mount(t, d.dir, size)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(d.dir, syscall.MNT_DETACH)) })
	return d
}

func mountTmpfs(t *testing.T, dir string, size int64) {
	t.Helper()
	require.NoError(t, syscall.Mount("assent-test", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)))
}

func mountExt4(t *testing.T, dir string, size int64) {
	t.Helper()
	image := dir + ".image"
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, size))
	for _, command := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, dir}} {
		output, err := exec.Command(command[0], command[1:]...).CombinedOutput()
		require.NoErrorf(t, err, "%v: %s", command, output)
	}
}

// disk is a mounted file system.
type disk struct{ dir string }

func (d disk) path() string { return filepath.Join(d.dir, "log") }

// fill takes all space that is left, to the last block; free gives it back.
func (d disk) fill(t *testing.T) (free func()) {
	t.Helper()
	name := filepath.Join(d.dir, "filler")
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(t, err)
	for size := 1 << 20; size > 0; {
		if _, err = f.Write(make([]byte, size)); err != nil {
			require.ErrorIs(t, err, syscall.ENOSPC)
			size /= 2
		}
	}
	_ = f.Sync() // what the file system promised too much of
	require.NoError(t, f.Close())
	return func() { require.NoError(t, os.Remove(name)) }
}

func TestStoreConformsOnAFullDisk(t *testing.T) {
	onDisks(t, 128<<20, func(t *testing.T, d disk) {
		n := 0
		waltest.Test(t, waltest.Subject{New: func(t *testing.T) waltest.Log {
			n++
			path := filepath.Join(d.dir, fmt.Sprint("log", n))
			t.Cleanup(func() { _ = os.Remove(path) }) // the disk is for one log at a time
			return waltest.Log{
				Open:  func(t *testing.T) wal.Store { return open(t, path) },
				Crash: func(t *testing.T, s wal.Store) { crash(t, s.(*Store)) },
				Fill:  d.fill,
			}
		}})
	})
}

// client is a coordinator's side of a log: transactions with two branches.
type client struct {
	log  *wal.Log
	live []*wal.Place
	n    uint64
}

func openClient(t *testing.T, s *Store) (*client, []wal.Inherited) {
	t.Helper()
	log, inherited, err := wal.Open(t.Context(), s, wal.Config{Domain: "test", Owner: "test"})
	require.NoError(t, err)
	t.Cleanup(func() { _ = log.Close(context.Background()) }) // most are closed or have failed
	return &client{log: log}, inherited
}

// begin begins a transaction, with so many bytes of data at each of two branches.
func (c *client) begin(data int) error {
	c.n++
	id := participant.TxID{Term: c.log.Term()}
	copy(id.UUID[:], fmt.Sprintf("%016x", c.n))
	place := c.log.NewPlace(id)
	_, err := c.log.Append(place, false,
		record.Begun{Tx: id, At: time.Now(), Timeout: time.Minute},
		record.Enlisted{Tx: id, Number: 0, Participant: "bank_a", Data: make([]byte, data)},
		record.Enlisted{Tx: id, Number: 1, Participant: "bank_b", Data: make([]byte, data)})
	if err == nil {
		c.live = append(c.live, place)
	}
	return err
}

// end decides and completes all that is live. Some refusals have much to say.
func (c *client) end(t *testing.T) {
	t.Helper()
	var last *wal.Batch
	for i, place := range c.live {
		decided := record.Decided{
			Tx: place.ID(), Decision: record.DecisionRollback, Cause: record.CauseRefused,
			Votes: []participant.Vote{participant.VoteRefused, participant.VotePrepared},
		}
		if i < 1000 {
			decided.Reason = strings.Repeat("x", record.MaxReason)
		}
		for _, r := range []record.Record{record.Preparing{Tx: place.ID()}, decided, record.Completed{Tx: place.ID(), At: time.Now()}} {
			var err error
			last, err = c.log.Append(place, i%100 == 0, r)
			require.NoError(t, err)
		}
		if i%1000 == 0 {
			<-last.Done()
		}
	}
	<-last.Done()
	require.NoError(t, last.Err())
	c.live = nil
}

// fillUp begins transactions until the log is full.
func (c *client) fillUp(t *testing.T, data int) {
	t.Helper()
	for range 10_000_000 {
		err := c.begin(data)
		if err == nil {
			continue
		}
		require.ErrorIs(t, err, wal.ErrFull)
		if errors.Is(err, syscall.ENOSPC) {
			return
		}
		runtime.Gosched() // full of what is being written
	}
	t.Fatal("the log does not notice that its disk is full")
}

// R5, R12: a full disk is met when transactions begin, not when they are decided:
// what has begun ends on it, survives a crash on it, is recovered on it, and ends
// then; and when there is space again transactions begin again.
func TestR5R12AFullDiskIsMetAtTheDoor(t *testing.T) {
	for name, data := range map[string]int{"no data": 0, "some data": 300, "most data": participant.MaxData} {
		t.Run(name, func(t *testing.T) {
			onDisks(t, 128<<20, func(t *testing.T, d disk) { fullDisk(t, d, data) })
		})
	}
}

func fullDisk(t *testing.T, d disk, data int) {
	s := open(t, d.path())
	c, _ := openClient(t, s)
	for range 100 {
		require.NoError(t, c.begin(data))
	}
	free := d.fill(t)
	c.fillUp(t, data)
	err := c.begin(data)
	require.ErrorIs(t, err, wal.ErrFull)
	require.ErrorContains(t, err, d.path())
	require.ErrorContains(t, err, "free some")
	t.Logf("%d transactions have begun", len(c.live))

	// Half of them end.
	begun := len(c.live)
	half := c.live[begun/2:]
	c.live = c.live[:begun/2]
	c.end(t)
	c.live = half
	crash(t, s)
	_ = c.log.Close(context.Background()) // it has no store

	before := inode(t, d.path())
	s = open(t, d.path())
	require.Equal(t, before, inode(t, d.path()), "there is no space for a copy")
	require.NoFileExists(t, temporary(d.path()))
	again, inherited := openClient(t, s)
	require.Len(t, inherited, begun)
	again.fillUp(t, data)
	for _, in := range inherited {
		if in.State.Completed.IsZero() {
			again.live = append(again.live, in.Place)
		}
	}
	require.GreaterOrEqual(t, len(again.live), len(c.live))
	again.end(t)

	free()
	for again.begin(data) != nil {
		runtime.Gosched() // the file system is asked again after a moment
	}
	require.NoError(t, again.log.Close(t.Context()))
	require.NoError(t, s.Close())
}

// A file that was copied may have holes where no commit must meet one.
func TestHolesAreFilledFirst(t *testing.T) {
	onDisks(t, 64<<20, func(t *testing.T, d disk) {
		s := open(t, d.path())
		stream := openTerm(t, s)
		require.NoError(t, os.Truncate(d.path(), 2*growthStep))
		s.space = space{} // as Open finds it
		_, before, err := sizeAndBlocks(s.db.file)
		require.NoError(t, err)
		require.Less(t, before, int64(2*growthStep))
		have, err := stream.Reserve(100 << 20)
		require.ErrorIs(t, err, syscall.ENOSPC, "more than the disk has")
		require.Less(t, have, int64(100<<20))
		_, after, err := sizeAndBlocks(s.db.file)
		require.NoError(t, err)
		require.GreaterOrEqual(t, after, int64(2*growthStep))
	})
}

// Where blocks can't be taken, what is free is looked up.
func TestFullDiskIsNoticedWithoutBlocksOfItsOwn(t *testing.T) {
	onDisks(t, 64<<20, func(t *testing.T, d disk) {
		s := open(t, d.path())
		stream := openTerm(t, s)
		s.space = space{unsure: true}
		for range 2 {
			have, err := stream.Reserve(20 << 20)
			require.NoError(t, err)
			require.GreaterOrEqual(t, have, int64(20<<20))
			free := d.fill(t)
			_, err = stream.Reserve(20 << 20)
			require.ErrorIs(t, err, syscall.ENOSPC)
			free()
		}
		require.Zero(t, s.space.allocated)
	})
}

// A log that bbolt must not write as it is needs its copy.
func TestUnfitLogIsNotContinuedOnAFullDisk(t *testing.T) {
	s := newSpecimen(t)
	unfit := -1
	for bit := range 8 * len(s.content) {
		if s.kinds[bit/8/s.pageSize] != "branch page" {
			continue
		}
		content := bytes.Clone(s.content)
		content[bit/8] ^= 1 << (bit % 8)
		if _, found, err := s.examine(content); err == nil && found.unfit {
			unfit = bit
			break
		}
	}
	require.Positive(t, unfit)
	onDisks(t, 64<<20, func(t *testing.T, d disk) {
		content := bytes.Clone(s.content)
		content[unfit/8] ^= 1 << (unfit % 8)
		require.NoError(t, os.WriteFile(d.path(), content, 0o600))
		free := d.fill(t)
		_, err := Open(d.path(), smallMap)
		require.ErrorIs(t, err, wal.ErrFull)
		require.Equal(t, content, read(t, d.path()))
		free()
		s.same(t, d.path())
	})
}

// What surrounds a log that is in order, in the words of the damage table.
func TestDamageTableOfSurroundings(t *testing.T) {
	tb := &table{}
	onDisks(t, 64<<20, func(t *testing.T, d disk) {
		kind := " (" + filepath.Base(t.Name()) + ")"
		s := open(t, d.path())
		stream := openTerm(t, s)
		appendTo(t, stream, 1)
		crash(t, s)
		require.NoError(t, syscall.Mount("", d.dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		_, err := Open(d.path(), smallMap)
		tb.add("a directory that can't be written"+kind, verdict(t, err))
		require.NoError(t, syscall.Mount("", d.dir, "", syscall.MS_REMOUNT, ""))

		free := d.fill(t)
		_, err = Open(d.path()+" of another name", smallMap)
		tb.add("a full disk at the first open"+kind, verdict(t, err))
		require.ErrorContains(t, err, "free some")
		s = open(t, d.path())
		require.Equal(t, []uint64{1}, segments(t, s, stream.Term()))
		tb.add("a full disk at open"+kind, columns[0])

		// Nobody asks for a reserve: the log must fail, and lose nothing.
		stream = openTerm(t, s)
		large := make([]int, 60)
		for i := range large {
			large[i] = 4000
		}
		acknowledged := 0
		for err = nil; err == nil; {
			if err = stream.Append(t.Context(), uint64(acknowledged+1), waltest.Segment(acknowledged+1, large...), nil); err == nil {
				acknowledged++
			}
		}
		tb.add("a full disk at append"+kind, verdict(t, err))
		require.ErrorContains(t, err, "free some")
		require.ErrorContains(t, err, "reopen it")
		crash(t, s)
		free()
		s = open(t, d.path())
		found := 0
		require.NoError(t, s.Scan(t.Context(), stream.Term(), func(seq uint64, segment []byte) error {
			found++
			require.Equal(t, waltest.Segment(found, large...), segment)
			return nil
		}))
		require.Contains(t, []int{acknowledged, acknowledged + 1}, found, "of the last one nobody knows")
		tb.add("a full disk at append, opened again"+kind, columns[0])
		require.NoError(t, s.Close())
	})
	t.Log(tb)
	for _, row := range tb.rows {
		switch name, _, _ := strings.Cut(row, " ("); name {
		case "a directory that can't be written":
			require.Equal(t, map[string]int{"of the system": 1}, tb.cells[row], row)
		case "a full disk at the first open", "a full disk at append":
			require.Equal(t, map[string]int{"ErrFull": 1}, tb.cells[row], row)
		default:
			require.Equal(t, map[string]int{"same state": 1}, tb.cells[row], row)
		}
	}
}

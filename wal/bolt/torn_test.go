package bolt

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

const (
	tornImages  = 10_000
	tornCommits = 30 // of one log
	sectorSize  = 512
)

// R5: whatever part of an unsynced commit a power cut leaves, whole pages or torn
// sectors in any order, the log is as after the last commit that was acknowledged, or
// as after the one that was being made. Never older, never damaged.
func TestR5ATornCommitIsMadeOrNotMade(t *testing.T) {
	smallFiles(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	c := &cutter{T: t, random: rand.New(rand.NewPCG(seed, 0))}
	images := tornImages
	if testing.Short() {
		images /= 5
	}
	for c.images < images || (slices.Contains(c.wrong[:], 0) && c.images < 5*tornImages) {
		c.run()
	}
	t.Logf("%d images of %d commits: %d show the commit before, %d of them by stepping back; %d opened",
		c.images, c.commits, c.before, c.torn, c.opened)
	t.Logf("control: of those that stepped back, %d come back wrong without the number in the proof, %d without the sum, %d without proofs",
		c.wrong[0], c.wrong[1], c.wrong[2])
	require.Greater(t, c.torn, images/5)
	for i, wrong := range c.wrong {
		require.Positivef(t, wrong, "control %d: the check is not what makes the difference", i)
	}
}

// controls are checks that are too weak.
var controls = [...]proofCheck{
	func(says, found proof) error {
		if says.sum != found.sum {
			return errors.New("sum")
		}
		return nil
	},
	func(says, found proof) error {
		if says.txid != found.txid {
			return errors.New("txid")
		}
		return nil
	},
	func(proof, proof) error { return nil },
}

// cutter uses a log, and cuts the power in each of its commits.
type cutter struct {
	*testing.T
	random *rand.Rand
	path   string
	store  *Store
	terms  []*writtenTerm

	owner     string
	keep      uint64 // segments that a term keeps
	maxRecord int    // bytes

	now   []byte // the file, all of it durable
	state state  // what it holds

	logs, images, commits, before, torn, opened int
	wrong                                       [len(controls)]int
}

// writtenTerm is a term that is in use.
type writtenTerm struct {
	wal.Stream
	low, high uint64
}

// state is the sum of what a log holds.
type state [sha256.Size]byte

// run uses one log for a while.
func (c *cutter) run() {
	c.path = filepath.Join(c.TempDir(), "log")
	c.terms, c.owner, c.keep, c.maxRecord = nil, "o", 5, 2000
	c.open()
	if c.logs++; c.logs%2 == 0 {
		// The terms have a page of their own, and there are so few pages that each
		// often takes the place of an older one of its kind.
		c.owner, c.keep, c.maxRecord = strings.Repeat("o", 200), 1, 400
		for range 6 {
			c.newTerm()
		}
		c.look()
	}
	for range tornCommits {
		switch n := c.random.IntN(40); {
		case len(c.terms) == 0 || n == 0:
			c.commit("open", func() { c.newTerm() })
		case n == 1 && len(c.terms) > 1:
			c.commit("delete", c.deleteTerm)
		case n == 2:
			c.crash()
		case n == 3:
			c.close()
		default:
			c.commit("append", c.append)
		}
	}
	require.NoError(c, c.store.Close())
	require.NoError(c, os.Remove(c.path))
}

func (c *cutter) open() {
	var err error
	c.store, err = Open(c.path, &Options{MapSize: 1 << 15, SingleSync: true})
	require.NoError(c, err)
	c.look()
}

// look reads the file, all of which is durable.
func (c *cutter) look() {
	c.now = read(c.T, c.path)
	var err error
	c.state, _, err = c.examine(c.now, checkProof)
	require.NoError(c, err)
}

func (c *cutter) newTerm() {
	p, err := c.store.Open(c.Context(), c.owner)
	require.NoError(c, err)
	c.terms = append(c.terms, &writtenTerm{Stream: p})
}

func (c *cutter) deleteTerm() {
	i := c.random.IntN(len(c.terms))
	require.NoError(c, c.terms[i].Delete(c.Context()))
	c.terms = append(c.terms[:i], c.terms[i+1:]...)
}

func (c *cutter) append() {
	p := c.terms[c.random.IntN(len(c.terms))]
	sizes := make([]int, 1+c.random.IntN(4))
	for i := range sizes {
		sizes[i] = c.random.IntN(c.maxRecord)
	}
	var drop []uint64
	for p.low+c.keep < p.high && c.random.IntN(8) > 0 {
		p.low++
		drop = append(drop, p.low)
	}
	p.high++
	require.NoError(c, p.Append(c.Context(), p.high, waltest.Segment(int(p.high), sizes...), drop))
}

// crash opens the log anew, in a new file, and takes its terms over.
func (c *cutter) crash() {
	crash(c.T, c.store)
	c.open()
	c.takeOver()
}

func (c *cutter) takeOver() {
	for _, p := range c.terms {
		c.commit("take over", func() {
			var err error
			p.Stream, err = c.store.TakeOver(c.Context(), p.Term(), c.owner)
			require.NoError(c, err)
		})
	}
}

// close closes the log, as markClosed does, and opens it again in the same file.
func (c *cutter) close() {
	c.store.db.once = false
	for range 2 {
		c.commit("close", func() {
			require.NoError(c, c.store.update("close", func(tx *bbolt.Tx) error {
				return tx.Bucket(metaBucket).Put(closedKey, sealed(closedKey))
			}))
		})
	}
	before := inode(c.T, c.path)
	crash(c.T, c.store) // all marks are there
	closed, state := c.now, c.state
	c.open()
	require.Equal(c, before, inode(c.T, c.path))
	c.cutPower("begin", closed, state, true)
	c.takeOver()
}

// commit makes one commit, and looks at what the disk can hold before it is durable.
func (c *cutter) commit(what string, make func()) {
	before, state, twice := c.now, c.state, !c.store.db.once
	commits := c.store.commits.Load()
	make()
	if c.store.commits.Load() == commits {
		return // had been done together with another
	}
	require.Equal(c, commits+1, c.store.commits.Load())
	c.look()
	c.cutPower(what, before, state, twice)
}

// cutPower checks images of the time between two durable states.
func (c *cutter) cutPower(what string, before []byte, state state, twice bool) {
	c.commits++
	for range 40 {
		image := c.tear(before, twice)
		c.images++
		got, s, err := c.examine(image, checkProof)
		if err != nil || (got != state && got != c.state) {
			name := filepath.Join(c.ArtifactDir(), "torn.db") // kept with -artifacts: bbolt takes free pages in any order
			require.NoError(c, os.WriteFile(name, image, 0o600))
			c.Fatalf("%s: image %d, %s: state %x, want %x or %x: %v", what, c.images, name, got[:4], state[:4], c.state[:4], err)
		}
		if twice && s.torn {
			c.Fatalf("%s: image %d: stepped back behind a commit with two syncs", what, c.images)
		}
		if got == state {
			c.before++
		}
		if s.torn {
			c.torn++
			for i, control := range controls {
				if weak, _, err := c.examine(image, control); err != nil || (weak != state && weak != c.state) {
					c.wrong[i]++
				}
			}
		}
		if c.images%100 == 0 {
			c.openImage(image, got, s)
		}
	}
}

// tear returns what the disk may hold when only a part of what was written since
// `before` has reached it.
func (c *cutter) tear(before []byte, twice bool) []byte {
	image := bytes.Clone(c.now)
	copy(image, before)
	clear(image[len(before):])
	unit := sectorSize
	if c.random.IntN(2) == 0 {
		unit = os.Getpagesize()
	}
	var data, metas []int // where units begin that were written
	for at := 0; at < len(image); at += unit {
		switch {
		case bytes.Equal(image[at:at+unit], c.now[at:at+unit]):
		case at < 2*os.Getpagesize():
			metas = append(metas, at)
		default:
			data = append(data, at)
		}
	}
	if twice { // its meta page is written when the others are durable
		if c.random.IntN(2) == 0 {
			metas = nil
		} else {
			for _, at := range data {
				copy(image[at:at+unit], c.now[at:])
			}
		}
	}
	written := metas
	if c.random.IntN(4) == 0 {
		written = nil
	}
	c.random.Shuffle(len(data), func(i, j int) { data[i], data[j] = data[j], data[i] })
	switch c.random.IntN(4) { // one or all but one is the worst
	case 0:
		written = append(written, data[:min(1, len(data))]...)
	case 1:
		written = append(written, data[min(1, len(data)):]...)
	default:
		written = append(written, data[:c.random.IntN(len(data)+1)]...)
	}
	for _, at := range written {
		copy(image[at:at+unit], c.now[at:])
	}
	if len(data) > 0 && !twice && c.random.IntN(8) == 0 {
		c.garbage(image[data[0] : data[0]+sectorSize]) // as it was being written
	}
	if !twice && len(before) < len(image) && c.random.IntN(8) == 0 {
		image = image[:len(before)] // nor is the size durable
	}
	return image
}

func (c *cutter) garbage(b []byte) {
	for i := range b {
		b[i] = byte(c.random.Uint32())
	}
}

// examine reads an image as Open does.
func (c *cutter) examine(content []byte, check proofCheck) (state, summary, error) {
	im, s, err := examine(bytes.NewReader(content), int64(len(content)), check)
	if err != nil {
		return state{}, s, err
	}
	sum, err := sumUp(im)
	return sum, s, err
}

func sumUp(im *image) (state, error) {
	clear(im.seen)
	sum := newProver()
	buckets, err := im.buckets()
	for _, bucket := range buckets {
		sum.add(bucket.key, nil)
		err = errors.Join(err, im.each(bucket, func(it item) error {
			sum.add(it.key, it.value)
			return nil
		}))
	}
	return sum.proof(0).sum, err
}

// openImage lets bbolt open an image, too, and reads all segments.
func (c *cutter) openImage(content []byte, want state, was summary) {
	c.opened++
	path := filepath.Join(c.TempDir(), "log")
	require.NoError(c, os.WriteFile(path, content, 0o600))
	s, err := Open(path, &Options{SingleSync: true})
	require.NoError(c, err)
	stats, err := s.Stats()
	require.NoError(c, err)
	require.Equal(c, was.torn, stats.Torn)
	terms, _, err := s.Orphans(c.Context())
	require.NoError(c, err)
	for _, term := range terms {
		require.NoError(c, s.Scan(c.Context(), term, func(uint64, []byte) error { return nil }))
	}
	require.NoError(c, s.update("mark again", func(tx *bbolt.Tx) error {
		if !was.closed {
			return nil
		}
		return tx.Bucket(metaBucket).Put(closedKey, sealed(closedKey))
	}))
	crash(c.T, s)
	got, _, err := c.examine(read(c.T, path), checkProof)
	require.NoError(c, err)
	require.Equal(c, want, got)
	require.NoError(c, os.Remove(path))
}

// smallFiles keeps files small that are copied thousands of times.
func smallFiles(t *testing.T) {
	step, room := growthStep, overhead
	t.Cleanup(func() { growthStep, overhead = step, room })
	growthStep, overhead = 32<<10, 8<<10
}

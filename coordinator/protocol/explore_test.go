package protocol

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// The exploration walks every order in which things can happen to a transaction,
// breadth first, and looks at every state once. What it found is pinned: a change
// of the machine shows as a changed count, and is made on purpose or not at all.

// exploration is what a walk found.
type exploration struct {
	states int // different worlds
	steps  int // ways from one to the next
	ends   int // worlds in which nothing goes on by itself
	// orphans counts the ends at which a Prepare that came after Forget has left a
	// prepared branch that no log names. It is the sweep's to find (R10).
	orphans int
	// trace leads to the first violation; shortest, as the walk is breadth first.
	trace  []action
	broken *violation
}

// visit is one state on the way: where it came from.
type visit struct {
	from uint32
	by   action
}

type walk struct {
	exploration
	setting *setting
	seen    map[[2]uint64]struct{}
	visits  []visit
	// watch looks at every step; nil looks at none.
	watch func(before, after *world)
}

// place is a world on the frontier, with its visit.
type place struct {
	world *world
	visit uint32
	id    [2]uint64
}

func explore(s *setting, watch func(before, after *world)) exploration {
	k := walk{setting: s, seen: map[[2]uint64]struct{}{}, watch: watch}
	start := newWorld(s)
	id := start.fingerprint(nil)
	k.seen[id] = struct{}{}
	k.visits = []visit{{}}
	for level := []place{{start, 0, id}}; len(level) > 0 && k.broken == nil; {
		level = k.widen(level)
	}
	k.states = len(k.visits)
	return k.exploration
}

// widen returns the states one step beyond the level that were not seen before.
func (k *walk) widen(level []place) (next []place) {
	var actions []action
	key := make([]byte, 0, 256)
	var spare *world // a world that was seen before, for its room
	for n, p := range level {
		level[n].world = nil
		var progress int
		actions, progress = p.world.actions(actions[:0])
		if progress == 0 {
			k.end(p)
		}
		for nth, a := range actions {
			w := p.world.copyTo(spare)
			spare = nil
			w.do(a)
			k.steps++
			if k.watch != nil {
				k.watch(p.world, w)
			}
			id := w.fingerprint(key[:0])
			if nth < progress && id == p.id {
				w.violate("AC5", "something goes on for ever and changes nothing")
			}
			if w.broken != nil {
				k.found(w.broken, p.visit, a)
				return nil
			}
			if _, seen := k.seen[id]; seen {
				spare = w
				continue
			}
			k.seen[id] = struct{}{}
			k.visits = append(k.visits, visit{p.visit, a})
			next = append(next, place{w, uint32(len(k.visits) - 1), id})
		}
		if k.broken != nil {
			return nil
		}
	}
	return next
}

func (k *walk) end(p place) {
	k.ends++
	w := p.world
	w.checkSettled()
	if w.broken != nil {
		k.found(w.broken, p.visit, action{})
	}
	for i := range w.branches {
		if w.branches[i].is == orphan {
			k.orphans++
			break
		}
	}
}

func (k *walk) found(v *violation, from uint32, last action) {
	if k.broken != nil {
		return
	}
	k.broken = v
	if last.verb != 0 {
		k.trace = append(k.trace, last)
	}
	for ; from != 0; from = k.visits[from].from {
		k.trace = append(k.trace, k.visits[from].by)
	}
	slices.Reverse(k.trace)
}

// story tells a trace, with what the machine did at every step.
func story(s *setting, trace []action) string {
	var b strings.Builder
	told := *s
	told.step = func(m *Machine, ev Event) []Effect {
		effects := s.step(m, ev)
		for _, e := range effects {
			fmt.Fprintf(&b, "        -> %s\n", naming(nil).effect(e))
		}
		return effects
	}
	w := newWorld(&told)
	for n, a := range trace {
		fmt.Fprintf(&b, "    %2d  %s\n", n+1, w.describe(a))
		w.do(a)
	}
	return b.String()
}

var (
	seedA = maphash.MakeSeed()
	seedB = maphash.MakeSeed()
)

// fingerprint identifies a state. It is a hash of 128 bits: that two of n states
// are taken for one has a chance of n^2/2^129.
func (w *world) fingerprint(key []byte) [2]uint64 {
	key = w.encode(key)
	return [2]uint64{maphash.Bytes(seedA, key), maphash.Bytes(seedB, key)}
}

// encode writes down all that the future of the world depends on. Branches are
// written in the order of what is known of them: worlds that differ only in which
// branch has which number count once. Left out is what follows from the rest:
// whether the client was answered follows from the phase.
func (w *world) encode(key []byte) []byte {
	m := &w.m
	decided := w.onDisk.decision.Valid() // then AC4 has no question left
	key = append(key, byte(m.phase), byte(m.decision), byte(m.deciding.Decision), bits(m.pending.cause != 0, m.delegatedBefore),
		bits(w.gone, w.poisoned, w.commit, w.excused || decided, w.undecided, w.lives > 1),
		byte(w.joined), byte(w.told), byte(w.known), byte(len(m.branches)), byte(len(w.pending)), byte(w.onDisk.decision),
		bits(w.onDisk.begun, w.onDisk.preparing, w.onDisk.delegated, w.onDisk.completed))
	for _, n := range w.left {
		key = append(key, byte(n))
	}
	order := w.encodeBranches()
	var place [maxBranches]byte
	for n, b := range order[:w.joined] {
		key = append(key, b[:len(b)-1]...)
		place[b[len(b)-1]] = byte(n)
	}
	for _, p := range w.pending {
		key = append(key, byte(len(p.records)), bits(p.forced))
		for _, r := range p.records {
			key = encodeRecord(key, r, &place)
		}
	}
	return key
}

// encodedBranch ends in the branch's number.
type encodedBranch [13]byte

// encodeBranches writes what the participant, the network, the machine and the log
// know of each branch. The log's part is what its records say together: their
// order does not matter, as the tests of package record show.
func (w *world) encodeBranches() (all [maxBranches]encodedBranch) {
	for i := range w.joined {
		b := &w.branches[i]
		all[i] = encodedBranch{
			byte(b.is), byte(b.word), bits(b.answered, b.cancelled, w.oracle && b.promised, w.oracle && b.heard), byte(b.call), b.astray,
			byte(w.onDisk.votes[i]), byte(w.onDisk.outcomes[i]), bits(i < w.onDisk.enlisted),
		}
		if b.answered {
			all[i][2] |= byte(b.answer) << 4
		}
		if i < len(w.m.branches) {
			m := &w.m.branches[i]
			all[i][8] = byte(m.Vote)<<4 | byte(m.Outcome)
			all[i][9] = bits(m.Asked, m.Answered, m.Hazard, true)
		}
		all[i][10] = w.onDisk.words[i]
		if w.m.awaitsWord(i) {
			all[i][11] = wordByte(w.m.spoken.pending)
		}
		all[i][12] = byte(i)
		for j := i; j > 0 && bytes.Compare(all[j][:], all[j-1][:]) < 0; j-- {
			all[j], all[j-1] = all[j-1], all[j]
		}
	}
	return all
}

// encodeRecord leaves out what is for people only: causes and reasons.
func encodeRecord(key []byte, r record.Record, place *[maxBranches]byte) []byte {
	key = append(key, byte(r.Kind()))
	switch r := r.(type) {
	case record.Enlisted:
		key = append(key, place[r.Number])
	case record.Decided:
		var votes [maxBranches]byte
		for i, v := range r.Votes {
			votes[place[i]] = byte(v)
		}
		key = append(key, byte(r.Decision))
		key = append(key, votes[:]...)
	case record.Heuristic:
		key = append(key, place[r.Number], byte(r.Outcome))
	case record.Operator:
		key = append(key, place[r.Branch], wordByte(r))
	}
	return key
}

func bits(all ...bool) (b byte) {
	for i, is := range all {
		if is {
			b |= 1 << i
		}
	}
	return b
}

const (
	yes   = participant.VotePrepared
	none  = participant.VoteReadOnly
	no    = participant.VoteRefused
	fails = participant.Vote(0)
)

var allVotes = []participant.Vote{yes, none, no, fails}

// worlds are the settings that are walked, and what was found there. A mishap that
// is not named does not happen: with three branches, all of them at once are too
// many states for a test (one crash alone: 13,346,813).
var worlds = []struct {
	setting
	states, steps, ends, orphans int
}{
	{
		setting: setting{name: "no branches", budget: everything},
		states:  95, steps: 186, ends: 18, orphans: 0,
	},
	{
		setting: setting{name: "one branch", branches: 1, votes: allVotes, budget: everything},
		states:  81903, steps: 329904, ends: 23940, orphans: 2630,
	},
	{
		setting: setting{name: "one branch, in one phase", branches: 1, onePhase: true, budget: everything},
		states:  6093, steps: 24708, ends: 1483, orphans: 0,
	},
	{
		setting: setting{name: "one branch, in one phase, taken over", branches: 1, onePhase: true, haunted: true, budget: everything},
		states:  5083, steps: 22423, ends: 1261, orphans: 0,
	},
	{
		setting: setting{
			name: "one branch, and an operator", branches: 1, votes: allVotes,
			budget: budget{crash: 2, lost: 1, late: 1, failedAppend: 1, rollbackCall: 1, alone: 1, amnesia: 1, word: 2},
		},
		states: 107145, steps: 357639, ends: 22393, orphans: 212,
	},
	{
		setting: setting{
			name: "one branch, in one phase, and an operator", branches: 1, onePhase: true,
			budget: budget{crash: 2, lost: 1, doubled: 1, failedAppend: 1, rollbackCall: 1, deadline: 1, alone: 1, word: 2},
		},
		states: 27725, steps: 126121, ends: 4556, orphans: 0,
	},
	{
		setting: setting{
			name: "two branches, and an operator", branches: 2, votes: allVotes,
			budget: budget{crash: 1, lost: 1, rollbackCall: 1, amnesia: 1, word: 2},
		},
		states: 160058, steps: 615213, ends: 32718, orphans: 734,
	},
	{
		setting: setting{
			name: "two branches, taken over", branches: 2, votes: allVotes, haunted: true,
			budget: budget{crash: 2, lost: 1, failedAppend: 1, rollbackCall: 1, alone: 1, amnesia: 1},
		},
		states: 248941, steps: 1150762, ends: 48810, orphans: 8684,
	},
	{
		setting: setting{name: "two branches", branches: 2, votes: allVotes, budget: everything},
		states:  1886290, steps: 10466918, ends: 397527, orphans: 89552,
	},
	{
		setting: setting{
			name: "three branches", branches: 3, votes: allVotes,
			budget: budget{crash: 2, lost: 1, doubled: 1, late: 1, failedAppend: 1, rollbackCall: 1, deadline: 1},
		},
		states: 1102779, steps: 7493327, ends: 217018, orphans: 72686,
	},
	{
		setting: setting{
			name: "three branches that may decide alone", branches: 3, votes: allVotes,
			budget: budget{crash: 2, lost: 1, failedAppend: 1, alone: 1, amnesia: 1},
		},
		states: 889364, steps: 4301345, ends: 148958, orphans: 17646,
	},
}

var everything = budget{
	crash: 2, lost: 1, doubled: 1, late: 1, failedAppend: 1, rollbackCall: 1, deadline: 1, alone: 1, amnesia: 1,
}

func TestExplore(t *testing.T) {
	for i := range worlds {
		c := &worlds[i]
		t.Run(c.name, func(t *testing.T) {
			if testing.Short() && c.states > 10_000 {
				t.Skip("a large world")
			}
			s := c.setting
			s.system = realSystem
			x := explore(&s, nil)
			if x.broken != nil {
				t.Fatalf("%s: %s\n%s", x.broken.rule, x.broken.what, story(&s, x.trace))
			}
			t.Logf("%d states, %d steps; of %d ends %d leave an orphan to the sweep", x.states, x.steps, x.ends, x.orphans)
			require.Equal(t, []int{c.states, c.steps, c.ends, c.orphans}, []int{x.states, x.steps, x.ends, x.orphans},
				"states, steps, ends, orphans: change them on purpose only")
		})
	}
}

package protocol

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// The oracle: Lamport's specification TwoPhase of two-phase commit, enumerated, and
// every step of the explored worlds projected on it. Our machine may do less than
// the specification allows, but nothing else.
//
// TwoPhase has no read-only votes, no one-phase commit and no participant that
// decides alone or loses its memory, so these are left out of the worlds compared
// with it. It has no crashes either, and needs none: a crash and what recovery
// makes of it must be steps that it allows, too.

// twoPhase is a state of TwoPhase: rmState, tmState, tmPrepared and msgs. A
// resource manager's "Prepared" is in msgs for ever, once sent.
type twoPhase struct {
	rm            [6]rmState
	tm            tmState
	tmPrepared    uint8 // a bit for each resource manager
	sent          uint8 // its message Prepared is in msgs
	commit, abort bool  // these are in msgs
}

type (
	rmState uint8
	tmState uint8
)

const (
	rmWorking rmState = iota
	rmPrepared
	rmCommitted
	rmAborted
)

const (
	tmInit tmState = iota
	tmCommitted
	tmAborted
)

// next calls yield with every state that is one step of TPNext away.
func (s twoPhase) next(n int, yield func(twoPhase)) {
	if s.tm == tmInit {
		if t := s; s.tmPrepared == 1<<n-1 { // TMCommit
			t.tm, t.commit = tmCommitted, true
			yield(t)
		}
		t := s // TMAbort
		t.tm, t.abort = tmAborted, true
		yield(t)
	}
	for r := range n {
		if s.tm == tmInit && s.sent&(1<<r) != 0 { // TMRcvPrepared
			t := s
			t.tmPrepared |= 1 << r
			yield(t)
		}
		if s.rm[r] == rmWorking {
			t := s // RMPrepare
			t.rm[r], t.sent = rmPrepared, t.sent|1<<r
			yield(t)
			t = s // RMChooseToAbort
			t.rm[r] = rmAborted
			yield(t)
		}
		if s.commit { // RMRcvCommitMsg
			t := s
			t.rm[r] = rmCommitted
			yield(t)
		}
		if s.abort { // RMRcvAbortMsg
			t := s
			t.rm[r] = rmAborted
			yield(t)
		}
	}
}

// consistent is TCConsistent: never one committed and another aborted.
func (s twoPhase) consistent(n int) bool {
	return !slices.Contains(s.rm[:n], rmCommitted) || !slices.Contains(s.rm[:n], rmAborted)
}

func (s twoPhase) describe(n int) string {
	var rm []string
	for r, state := range s.rm[:n] {
		text := [...]string{"working", "prepared", "committed", "aborted"}[state]
		if s.sent&(1<<r) != 0 && state != rmPrepared {
			text += ", was prepared"
		}
		if s.tmPrepared&(1<<r) != 0 {
			text += ", heard"
		}
		rm = append(rm, text)
	}
	return [...]string{"init", "committed", "aborted"}[s.tm] + ": " + strings.Join(rm, " | ")
}

// reachable returns the states of TwoPhase with n resource managers.
func reachable(n int) map[twoPhase]bool {
	seen := map[twoPhase]bool{{}: true}
	for todo := []twoPhase{{}}; len(todo) > 0; {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		s.next(n, func(t twoPhase) {
			if !seen[t] {
				seen[t] = true
				todo = append(todo, t)
			}
		})
	}
	return seen
}

func TestTwoPhase(t *testing.T) {
	// The counts that TLC gives for the specification.
	for n, want := range []int{1: 12, 2: 56, 3: 288, 4: 1568, 5: 8832, 6: 50816} {
		if n == 0 || testing.Short() && n > 4 {
			continue
		}
		states := reachable(n)
		require.Len(t, states, want, "%d resource managers", n)
		for s := range states {
			require.True(t, s.consistent(n), s.describe(n))
		}
	}
}

// project reads a world as a state of TwoPhase. Its register is the durable
// decision: what is only on its way to the disk has not happened.
func (w *world) project() (s twoPhase) {
	switch w.onDisk.decision {
	case record.DecisionCommit:
		s.tm, s.commit = tmCommitted, true
	case record.DecisionRollback:
		s.tm, s.abort = tmAborted, true
	}
	for i := range w.setting.branches {
		b := &w.branches[i]
		switch {
		case b.word == record.DecisionCommit:
			s.rm[i] = rmCommitted
		case b.word == record.DecisionRollback: // also an orphan: the branch had ended
			s.rm[i] = rmAborted
		case b.is == prepared:
			s.rm[i] = rmPrepared
		}
		if b.promised {
			s.sent |= 1 << i
		}
		if b.heard {
			s.tmPrepared |= 1 << i
		}
	}
	return s
}

func TestMachineRefinesTwoPhase(t *testing.T) {
	for _, c := range []struct {
		branches int
		budget   budget
		// How much of TwoPhase is made use of: all of it. What would not be is listed
		// by the test, and has to be given a reason here.
		states, steps int
	}{
		{2, budget{crash: 2, lost: 1, doubled: 1, late: 1, failedAppend: 1, rollbackCall: 1, deadline: 1}, 56, 93},
		{3, budget{crash: 1, lost: 1, doubled: 1, late: 1, rollbackCall: 1}, 288, 653},
	} {
		t.Run(fmt.Sprintf("%d branches", c.branches), func(t *testing.T) {
			if testing.Short() && c.branches > 2 {
				t.Skip("short")
			}
			s := setting{
				branches: c.branches, votes: []participant.Vote{yes, no, fails}, budget: c.budget, oracle: true, system: realSystem,
			}
			states, steps := map[twoPhase]bool{}, map[[2]twoPhase]bool{}
			x := explore(&s, func(before, after *world) {
				from, to := before.project(), after.project()
				if from == to || steps[[2]twoPhase{from, to}] {
					return
				}
				if !from.leadsTo(to, c.branches) {
					after.violate("TwoPhase", "there is no step\n\tfrom "+from.describe(c.branches)+"\n\tto   "+to.describe(c.branches))
				}
				for _, order := range permutations[c.branches] {
					states[from.permuted(order)], states[to.permuted(order)] = true, true
					steps[[2]twoPhase{from.permuted(order), to.permuted(order)}] = true
				}
			})
			if x.broken != nil {
				t.Fatalf("%s: %s\n%s", x.broken.rule, x.broken.what, story(&s, x.trace))
			}
			all := reachable(c.branches)
			possible := map[[2]twoPhase]bool{}
			for s := range all {
				if !states[s] {
					t.Logf("never seen: %s", s.describe(c.branches))
				}
				s.next(c.branches, func(to twoPhase) {
					if s == to || possible[[2]twoPhase{s, to}] {
						return
					}
					possible[[2]twoPhase{s, to}] = true
					if !steps[[2]twoPhase{s, to}] {
						t.Logf("never taken: %s -> %s", s.describe(c.branches), to.describe(c.branches))
					}
				})
			}
			t.Logf("%d of %d states seen, %d of %d steps taken", len(states), len(all), len(steps), len(possible))
			require.Equal(t, c.states, len(states))
			require.Equal(t, c.steps, len(steps))
		})
	}
}

// permutations of the branches: the exploration looks at one numbering of each
// state.
var permutations = [][][]int{
	2: {{0, 1}, {1, 0}},
	3: {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}},
}

func (s twoPhase) permuted(order []int) twoPhase {
	t := s
	t.sent, t.tmPrepared = 0, 0
	for i, from := range order {
		t.rm[i] = s.rm[from]
		t.sent |= s.sent >> from & 1 << i
		t.tmPrepared |= s.tmPrepared >> from & 1 << i
	}
	return t
}

// leadsTo: the step is one of TwoPhase.
func (s twoPhase) leadsTo(to twoPhase, n int) (found bool) {
	s.next(n, func(t twoPhase) { found = found || t == to })
	return found
}

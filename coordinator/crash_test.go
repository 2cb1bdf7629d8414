package coordinator_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
)

// script is a transaction to be played: who is enlisted with which data, and how
// it is ended.
type script struct {
	name     string
	request  string
	data     map[string]string
	rollback bool
	slow     string
	force    bool
	// commits: without a crash it commits.
	commits bool
	// reversible: its outcome may be lost, since it changed nothing (ARCHITECTURE.md,
	// forced writes).
	reversible bool
}

var (
	scripts = []script{
		{name: "commit", data: map[string]string{"bank_a": work, "bank_b": work, "bank_c": participanttest.DataReadOnly}, commits: true},
		{name: "refusal", data: map[string]string{"bank_a": work, "bank_b": participanttest.DataRefuse, "bank_c": work}},
		{name: "timeout with a late yes", data: map[string]string{"bank_a": work, "bank_b": work}, slow: "bank_b"},
		{name: "rollback", data: map[string]string{"bank_a": work, "bank_b": work}, rollback: true},
		{name: "one-phase", data: map[string]string{"bank_a": work}, commits: true},
		{name: "one-phase refusal", data: map[string]string{"bank_a": participanttest.DataRefuse}},
		{name: "read-only", data: map[string]string{"bank_a": participanttest.DataReadOnly, "bank_b": participanttest.DataReadOnly}, commits: true, reversible: true},
		{name: "nothing enlisted", commits: true, reversible: true},
		{name: "commit with every transition forced", data: map[string]string{"bank_a": work, "bank_b": work}, commits: true, force: true},
	}
	everyBank = []string{"bank_a", "bank_b", "bank_c"}
)

// played is what a client knows of a transaction.
type played struct {
	id participant.TxID
	// told is the answer; asked is false if there was no call of Commit or
	// Rollback to answer.
	asked bool
	told  error
}

// play is the client's side. It goes on until everything that follows by itself
// has happened.
func (l *life) play(ctx context.Context, sc script) (p played) {
	if l.dtm == nil {
		return p
	}
	var err error
	if p.id, err = l.dtm.Begin(ctx, coordinator.WithRequestID(sc.request)); err != nil {
		return played{}
	}
	for _, name := range everyBank {
		if data, ok := sc.data[name]; ok {
			if err := l.dtm.Enlist(ctx, p.id, l.participant(name), coordinator.WithData([]byte(data))); err != nil {
				return p
			}
		}
	}
	p.asked = true
	if sc.rollback {
		if p.told = l.dtm.Rollback(ctx, p.id); p.told == nil {
			p.told = coordinator.ErrRolledBack
		}
	} else {
		p.told = l.dtm.Commit(ctx, p.id)
	}
	time.Sleep(time.Minute) // fake time: completions, Forget, sweeps
	return p
}

// asserter is a *testing.T or a *rapid.T.
type asserter interface {
	require.TestingT
	Helper()
}

// holds checks that the transaction ended one way everywhere, the way that its
// client was told before and is told now (AC1, AC2, D1).
func (l *life) holds(t asserter, sc script, p played) (committed bool) {
	t.Helper()
	worked := 0
	for i, name := range enlisted(sc) {
		bank := l.site.banks.Participant(name)
		b := participant.Branch{Domain: "test", Tx: p.id, Number: i}
		effects := bank.Effects(b)
		require.LessOrEqual(t, effects, 1, "effects at %s", name)
		if sc.data[name] == work {
			require.True(t, worked == 0 || committed == (effects == 1), "mixed outcome")
			committed = effects == 1
			worked++
		} else {
			require.Zero(t, effects, name)
		}
	}
	l.nothingPrepared(t)
	if p.id.IsZero() {
		return false
	}
	now := l.dtm.Commit(context.Background(), p.id)
	require.True(t, now == nil || errors.Is(now, coordinator.ErrRolledBack), "it is said to have ended: %v", now)
	if worked == 0 {
		committed = now == nil
	}
	require.Equal(t, committed, now == nil, "what is said now, %v, is not what happened", now)
	switch {
	case !p.asked || sc.reversible:
	case p.told == nil, errors.Is(p.told, coordinator.ErrCommitPending):
		require.True(t, committed, "its client was told that it committed: %v", p.told)
	case errors.Is(p.told, coordinator.ErrRolledBack):
		require.False(t, committed, "its client was told that it was rolled back: %v", p.told)
	default:
		require.ErrorIs(t, p.told, coordinator.ErrOutcomeUnknown)
	}
	return committed
}

func enlisted(sc script) (names []string) {
	for _, name := range everyBank {
		if _, ok := sc.data[name]; ok {
			names = append(names, name)
		}
	}
	return names
}

func (l *life) nothingPrepared(t asserter) {
	t.Helper()
	for _, name := range everyBank {
		for _, e := range l.site.banks.Participant(name).Entries() {
			require.NotEqual(t, participanttest.StatePrepared, e.State, "%s is left", e.Branch.XID())
		}
	}
}

// lives plays the script in a life that dies, then starts lives that die too, then
// one that lives, and checks what is left.
func lives(t *testing.T, sc script, deaths ...death) (first, second *life) {
	s := newSite()
	s.slow, s.force = sc.slow, sc.force
	first = s.start(t, deaths[0], everyBank...)
	p := first.play(t.Context(), sc)
	first.kill()
	for _, d := range deaths[1:] {
		l := s.start(t, d, everyBank...)
		if l.dtm != nil {
			time.Sleep(time.Minute) // fake time: it recovers until it dies
		}
		l.kill()
		second = l
	}
	last := s.start(t, death{}, everyBank...)
	require.NoError(t, last.dtm.WaitRecovered(t.Context()))
	committed := last.holds(t, sc, p)
	if deaths[0].step > len(first.steps) {
		require.Equal(t, sc.commits, committed, "no crash, and yet its client was told %v", p.told)
	}
	// Once more: recovered twice is recovered once.
	time.Sleep(time.Minute) // fake time: completed, forgotten
	last.kill()
	again := s.start(t, death{}, everyBank...)
	require.NoError(t, again.dtm.WaitRecovered(t.Context()))
	again.holds(t, sc, p)
	require.Empty(t, again.told(), "what was acknowledged is told again")
	return first, second
}

// told are the steps of a life that told a participant something.
func (l *life) told() (steps []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, step := range l.steps {
		switch step {
		case "open", "takeover", "append", "delete", "release":
		default:
			steps = append(steps, step)
		}
	}
	return steps
}

// every calls fn with every death of a process, until fn returns false: there was
// no such step.
func every(fn func(death) bool) {
	for step := 1; ; step++ {
		if !fn(death{step, false}) {
			return
		}
		fn(death{step, true})
	}
}

// R1 to R4, R11: whatever the coordinator dies between, the transaction ends one
// way everywhere, and never another way than its client was told.
func TestCrashAtEveryStepIsRecovered(t *testing.T) {
	for _, sc := range scripts {
		t.Run(sc.name, func(t *testing.T) {
			every(func(d death) (reached bool) {
				synctest.Test(t, func(t *testing.T) {
					t.Log(d)
					first, _ := lives(t, sc, d)
					reached = len(first.steps) >= d.step
				})
				return reached && !t.Failed()
			})
		})
	}
}

// Crash recovery can crash as well, also in the middle of Open.
func TestCrashAtEveryStepOfRecoveryIsRecovered(t *testing.T) {
	for _, sc := range scripts[:5] {
		t.Run(sc.name, func(t *testing.T) {
			every(func(d death) (reached bool) {
				if d.applied {
					return true // the crash before the next step differs only for the client
				}
				every(func(d2 death) (reached2 bool) {
					synctest.Test(t, func(t *testing.T) {
						t.Log(d, "then", d2)
						first, second := lives(t, sc, d, d2)
						reached, reached2 = len(first.steps) >= d.step, len(second.steps) >= d2.step
					})
					return reached2 && !t.Failed()
				})
				return reached && !t.Failed()
			})
		})
	}
}

// chapter is one life of a random story: which scripts its clients play at the same
// time, and when the process dies; beyond its last step it is killed while idle.
type chapter struct {
	Plays []int
	Death death
}

func chapters() *rapid.Generator[[]chapter] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) chapter {
		return chapter{
			Plays: rapid.SliceOfN(rapid.IntRange(0, len(scripts)-2), 0, 3).Draw(t, "plays"),
			Death: death{rapid.IntRange(1, 40).Draw(t, "step"), rapid.Bool().Draw(t, "applied")},
		}
	}), 5, 50)
}

// AC1, AC2, D1: over up to 50 restarts with random transactions, each ends one way
// everywhere, and no answer is ever taken back.
func TestRandomRestartsKeepEveryAnswer(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		story := chapters().Draw(rt, "story")
		var failure any
		synctest.Test(t, func(t *testing.T) {
			defer func() { failure = recover() }() // rapid's, to be told in its goroutine
			tell(t, rt, story)
		})
		if failure != nil {
			panic(failure)
		}
	})
}

func tell(t *testing.T, rt *rapid.T, story []chapter) {
	s := newSite()
	type act struct {
		script
		played
	}
	var acts []act
	answers := make(map[participant.TxID]bool) // true: committed
	ask := func(l *life) {
		for _, a := range acts {
			if a.reversible || a.id.IsZero() || l.dtm == nil {
				continue
			}
			err := l.dtm.Commit(t.Context(), a.id)
			committed := err == nil || errors.Is(err, coordinator.ErrCommitPending)
			if !committed && !errors.Is(err, coordinator.ErrRolledBack) {
				continue
			}
			before, asked := answers[a.id]
			require.True(rt, !asked || before == committed, "%s: now it is said: %v", a.name, err)
			answers[a.id] = committed
		}
	}
	for _, c := range story {
		l := s.start(t, c.Death, everyBank...)
		ask(l)
		plays := make([]act, len(c.Plays))
		var clients sync.WaitGroup
		for i, n := range c.Plays {
			clients.Go(func() { plays[i] = act{scripts[n], l.play(t.Context(), scripts[n])} })
		}
		clients.Wait()
		acts = append(acts, plays...)
		ask(l)
		l.kill()
	}
	last := s.start(t, death{}, everyBank...)
	require.NoError(rt, last.dtm.WaitRecovered(t.Context()))
	ask(last)
	for _, a := range acts {
		last.holds(rt, a.script, a.played)
	}
}

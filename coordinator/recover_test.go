package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// site is what outlives a coordinator's process: its log, and the participants'
// databases.
type site struct {
	log   *waltest.Memory
	banks *participanttest.Store
	// slow names a participant whose Prepare outlasts its context and prepares all
	// the same.
	slow  string
	force bool
}

func newSite() *site {
	return &site{log: waltest.NewMemory(), banks: participanttest.NewStore()}
}

// life is one process on a site. From its death on, nothing that it still does
// has an effect, as with a killed process.
type life struct {
	site  *site
	store *waltest.MemoryStore
	dtm   *coordinator.DTM // nil if it died before Open returned
	// registered are its participants.
	registered map[string]*mortal

	mu sync.Mutex
	// steps are the changes it made to the log or to a participant.
	steps []string
	death death
	dead  bool
	// mute: no vote comes back. deaf: no decision gets through.
	mute, deaf bool
}

// death says at which step a process dies, counted from 1, and whether that step
// still takes effect. Zero: it does not die by itself.
type death struct {
	step    int
	applied bool
}

func (d death) String() string {
	if d.applied {
		return fmt.Sprintf("after step %d", d.step)
	}
	return fmt.Sprintf("before step %d", d.step)
}

// start begins a life. The process is killed with the test at the latest.
func (s *site) start(t *testing.T, death death, names ...string) *life {
	t.Helper()
	l := &life{site: s, store: s.log.Open(), death: death, registered: map[string]*mortal{}}
	config := coordinator.Config{Domain: "test", Store: waltest.Faulty(l.store, l.fault), ForceEveryTransition: s.force}
	for _, name := range names {
		config.Participants = append(config.Participants, l.participant(name))
	}
	t.Cleanup(l.kill)
	dtm, err := coordinator.Open(t.Context(), config)
	if death.step == 0 {
		require.NoError(t, err)
	}
	l.dtm = dtm
	return l
}

// kill ends the process if it lives, and waits for what is left of it.
func (l *life) kill() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.store.Crash()
	if l.dtm != nil {
		_ = l.dtm.Close(context.Background()) // its log is gone
	}
}

// take counts a step: whether it takes effect, and whether anybody hears of it.
func (l *life) take(what string) (effective, heard bool) {
	if l.dead {
		return false, false
	}
	l.steps = append(l.steps, what)
	if len(l.steps) == l.death.step {
		l.dead = true
		return l.death.applied, false
	}
	return true, true
}

// fault is the plan of the store.
func (l *life) fault(c waltest.Call) waltest.Fault {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch c.Op {
	case waltest.OpScan, waltest.OpOrphans, waltest.OpOwner:
		if l.dead {
			return waltest.Fault{Err: waltest.ErrCrashed}
		}
		return waltest.Fault{}
	default:
	}
	switch effective, heard := l.take(c.Op.String()); {
	case heard:
		return waltest.Fault{}
	default:
		return waltest.Fault{Err: waltest.ErrCrashed, Applied: effective}
	}
}

// mortal is a participant as seen by one process.
type mortal struct {
	*participanttest.Memory
	life *life
}

func (l *life) participant(name string) *mortal {
	if l.registered[name] == nil {
		l.registered[name] = &mortal{l.site.banks.Participant(name), l}
	}
	return l.registered[name]
}

// do makes a call, all or nothing.
func (m *mortal) do(what string, call func() error) error {
	m.life.mu.Lock()
	defer m.life.mu.Unlock()
	if m.life.deaf && what != "prepare" {
		return errUnreachable
	}
	effective, heard := m.life.take(what + " " + m.Name())
	err := error(waltest.ErrCrashed)
	if effective {
		err = call()
	}
	if !heard {
		err = waltest.ErrCrashed
	}
	return err
}

func (m *mortal) Prepare(ctx context.Context, b participant.Branch) (vote participant.Vote, err error) {
	slow := m.life.site.slow == m.Name()
	if slow {
		<-ctx.Done()
	}
	m.life.mu.Lock()
	mute := m.life.mute
	m.life.mu.Unlock()
	if mute {
		defer func() { <-ctx.Done() }()
	}
	err = m.do("prepare", func() (err error) {
		vote, err = m.Memory.Prepare(context.WithoutCancel(ctx), b)
		return err
	})
	if slow || errors.Is(err, waltest.ErrCrashed) {
		return 0, errors.Join(err, ctx.Err())
	}
	return vote, err
}

func (m *mortal) Commit(ctx context.Context, b participant.Branch) error {
	return m.do("commit", func() error { return m.Memory.Commit(ctx, b) })
}

func (m *mortal) Rollback(ctx context.Context, b participant.Branch) error {
	return m.do("rollback", func() error { return m.Memory.Rollback(ctx, b) })
}

func (m *mortal) CommitOnePhase(ctx context.Context, b participant.Branch) error {
	return m.do("one-phase", func() error { return m.Memory.CommitOnePhase(ctx, b) })
}

func (m *mortal) Forget(ctx context.Context, branches []participant.Branch) error {
	return m.do("forget", func() error { return m.Memory.Forget(ctx, branches) })
}

func (m *mortal) List(ctx context.Context, domain string) (participant.Listing, error) {
	m.life.mu.Lock()
	defer m.life.mu.Unlock()
	if m.life.dead {
		return participant.Listing{}, waltest.ErrCrashed
	}
	return m.Memory.List(ctx, domain)
}

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
	// reversible: its outcome may be lost, since it changed nothing (DESIGN.md,
	// forced writes).
	reversible bool
}

const work = "work"

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
func TestCrashAtEveryStep(t *testing.T) {
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
func TestCrashAtEveryStepOfRecovery(t *testing.T) {
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

// R3: votes are hints; without a decision nothing commits.
func TestUndecidedIsRolledBackThoughAllVoted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		l.mu.Lock()
		l.death.step = len(l.steps) + 4 // preparing, two votes, and the decision
		l.mu.Unlock()
		p := l.play(t.Context(), script{data: map[string]string{"bank_a": work, "bank_b": work}})
		require.ErrorIs(t, p.told, coordinator.ErrOutcomeUnknown)
		for i, name := range []string{"bank_a", "bank_b"} {
			require.Equal(t, participanttest.StatePrepared, s.state(name, p.id, i))
		}
		l.kill()
		l = s.start(t, death{}, everyBank...)
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		for i, name := range []string{"bank_a", "bank_b"} {
			require.Equal(t, participanttest.StateRolledBack, s.state(name, p.id, i))
		}
		var why *coordinator.RolledBackError
		require.ErrorAs(t, l.dtm.Commit(t.Context(), p.id), &why)
		require.Equal(t, record.CausePresumed, why.Cause)
	})
}

func (s *site) state(name string, tx participant.TxID, number int) participanttest.State {
	return s.banks.Participant(name).State(participant.Branch{Domain: "test", Tx: tx, Number: number})
}

// leave leaves a transaction with a branch at each of names: undecided, with every
// branch prepared, or decided commit, which was told to nobody. From then on the
// participants are deaf to this life.
func (l *life) leave(t *testing.T, decision record.Decision, names ...string) participant.TxID {
	t.Helper()
	l.mu.Lock()
	l.mute, l.deaf = decision != record.DecisionCommit, true
	l.mu.Unlock()
	id, err := l.dtm.Begin(t.Context())
	require.NoError(t, err)
	for _, name := range names {
		require.NoError(t, l.dtm.Enlist(t.Context(), id, l.participant(name), coordinator.WithData([]byte(work))))
	}
	go func() { _ = l.dtm.Commit(context.Background(), id) }()
	synctest.Wait()
	for i, name := range names {
		require.Equal(t, participanttest.StatePrepared, l.site.state(name, id, i))
	}
	info, err := l.dtm.Get(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, decision, info.Decision)
	return id
}

// leave is one life that leaves one such transaction and dies.
func (s *site) leave(t *testing.T, decision record.Decision, names ...string) participant.TxID {
	t.Helper()
	l := s.start(t, death{}, everyBank...)
	id := l.leave(t, decision, names...)
	l.kill()
	return id
}

const undecided = record.Decision(0)

// R9: each coordinator that drives a transaction has a higher epoch than the one
// before.
func TestEpochRisesWithEveryRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		id := s.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		last := uint64(0)
		for range 5 {
			var epochs []uint64
			l := s.start(t, death{}) // nobody is registered: it stays in doubt
			observe := &hooked{Memory: s.banks.Participant("bank_a"), commit: func(b participant.Branch) error {
				epochs = append(epochs, b.Epoch)
				return errUnreachable
			}}
			require.NoError(t, l.dtm.Register(observe))
			synctest.Wait()
			require.NotEmpty(t, epochs)
			require.Greater(t, epochs[0], last)
			last = epochs[0]
			l.kill()
		}
		l := s.start(t, death{}, "bank_a", "bank_b")
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		require.Equal(t, participanttest.StateCommitted, s.state("bank_a", id, 0))
	})
}

var errUnreachable = errors.New("the bank can't be reached")

// hooked is a participant with hooks; those that are nil are not called.
type hooked struct {
	*participanttest.Memory
	prepare  func(participant.Branch) error
	commit   func(participant.Branch) error
	rollback func(participant.Branch) error
	list     func(ctx context.Context, n int) error
	listed   func() // it was read and is not returned yet
	mu       sync.Mutex
	lists    int
}

func (o *hooked) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	if o.prepare != nil {
		if err := o.prepare(b); err != nil {
			return 0, err
		}
	}
	return o.Memory.Prepare(ctx, b)
}

func (o *hooked) Commit(ctx context.Context, b participant.Branch) error {
	if o.commit != nil {
		if err := o.commit(b); err != nil {
			return err
		}
	}
	return o.Memory.Commit(ctx, b)
}

func (o *hooked) Rollback(ctx context.Context, b participant.Branch) error {
	if o.rollback != nil {
		if err := o.rollback(b); err != nil {
			return err
		}
	}
	return o.Memory.Rollback(ctx, b)
}

// List calls the hook with the number of the call, and then reads.
func (o *hooked) List(ctx context.Context, domain string) (participant.Listing, error) {
	o.mu.Lock()
	o.lists++
	n := o.lists
	o.mu.Unlock()
	if o.list != nil {
		if err := o.list(ctx, n); err != nil {
			return participant.Listing{}, err
		}
	}
	if o.listed != nil {
		defer o.listed()
	}
	return o.Memory.List(ctx, domain)
}

func listNever(ctx context.Context, _ int) error {
	<-ctx.Done()
	return ctx.Err()
}

// open opens a coordinator with other participants than the site's own. The test
// closes it.
func (s *site) open(t *testing.T, config coordinator.Config) *coordinator.DTM {
	t.Helper()
	store := s.log.Open()
	config.Domain, config.Store = "test", store
	dtm, err := coordinator.Open(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, dtm.Close(context.Background()))
		require.NoError(t, store.Close())
	})
	return dtm
}

// R9: once another coordinator has taken the term over, the first one sends
// nothing more and says of what it was doing that the outcome is unknown.
func TestTakenOverCoordinatorIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		first := s.start(t, death{}, everyBank...)
		id, err := first.dtm.Begin(t.Context())
		require.NoError(t, err)
		for _, name := range everyBank {
			require.NoError(t, first.dtm.Enlist(t.Context(), id, first.participant(name), coordinator.WithData([]byte(work))))
		}
		time.Sleep(time.Second) // fake time: begun and enlisted are durable
		first.store.Expire()
		second := s.start(t, death{}, everyBank...)
		require.NoError(t, second.dtm.WaitRecovered(t.Context()))
		before := len(first.told())
		err = first.dtm.Commit(t.Context(), id)
		require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
		require.ErrorIs(t, err, wal.ErrFenced)
		<-first.dtm.Failed()
		require.ErrorIs(t, first.dtm.Err(), coordinator.ErrNotOwner)
		_, err = first.dtm.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrNotOwner)
		time.Sleep(time.Hour) // fake time
		require.Len(t, first.told(), before)
		require.ErrorIs(t, second.dtm.Commit(t.Context(), id), coordinator.ErrRolledBack)
		second.nothingPrepared(t)
	})
}

// R9: the former coordinator still repeats a decision that the new one has
// delivered long ago. Its epoch gives it away.
func TestFormerCoordinatorIsRefusedByItsEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		first := s.start(t, death{}, "bank_a", "bank_b")
		var up atomic.Bool
		var refused atomic.Int32
		bank := &hooked{Memory: s.banks.Participant("bank_c")}
		bank.commit = func(b participant.Branch) error {
			if !up.Load() {
				return errUnreachable
			}
			err := bank.Memory.Commit(t.Context(), b)
			if errors.Is(err, participant.ErrStaleEpoch) {
				refused.Add(1)
			}
			return err
		}
		id, err := first.dtm.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, first.dtm.Enlist(t.Context(), id, first.participant("bank_a")))
		require.NoError(t, first.dtm.Enlist(t.Context(), id, bank))
		require.ErrorIs(t, first.dtm.Commit(t.Context(), id), coordinator.ErrCommitPending)
		first.store.Expire()
		second := s.start(t, death{}, "bank_a", "bank_b", "bank_c")
		require.NoError(t, second.dtm.WaitRecovered(t.Context()))
		require.Equal(t, participanttest.StateCommitted, s.state("bank_c", id, 1))
		up.Store(true)
		time.Sleep(time.Hour) // fake time
		require.Positive(t, refused.Load())
	})
}

// R10: a rollback by absence goes to a participant only after its list was read in
// this run, a logged decision at once; and one participant's list that hangs or
// fails holds up nobody else's branches.
func TestAbsenceWaitsForTheList(t *testing.T) {
	lists := map[string]func(context.Context, int) error{
		"hangs": listNever,
		"fails": func(context.Context, int) error { return errUnreachable },
		"panics": func(context.Context, int) error {
			panic("no list")
		},
	}
	for name, list := range lists {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite()
				before := s.start(t, death{}, everyBank...)
				absent := before.leave(t, undecided, "bank_a", "bank_b")
				decided := before.leave(t, record.DecisionCommit, "bank_b", "bank_c")
				before.kill()
				open := make(chan struct{})
				bank := &hooked{Memory: s.banks.Participant("bank_b"), list: func(ctx context.Context, n int) error {
					select {
					case <-open:
						return nil
					default:
						return list(ctx, n)
					}
				}}
				dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{s.banks.Participant("bank_a"), bank, s.banks.Participant("bank_c")}})
				time.Sleep(time.Minute) // fake time
				require.Equal(t, participanttest.StateRolledBack, s.state("bank_a", absent, 0))
				require.Equal(t, participanttest.StatePrepared, s.state("bank_b", absent, 1), "rolled back before its list was read")
				for i, name := range []string{"bank_b", "bank_c"} {
					require.Equal(t, 1, s.banks.Participant(name).Effects(participant.Branch{Domain: "test", Tx: decided, Number: i}))
				}
				close(open)
				require.NoError(t, dtm.WaitRecovered(t.Context()))
				require.NotEqual(t, participanttest.StatePrepared, s.state("bank_b", absent, 1))
			})
		})
	}
}

// R10: a rollback by absence that an earlier run decided, and perhaps told to some,
// rests on absence still.
func TestPresumedDecisionOfEarlierRunWaitsForTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		id := s.leave(t, undecided, "bank_a", "bank_b")
		l := s.start(t, death{step: 6}, everyBank...) // take over, open, append, delete, decide, tell one
		synctest.Wait()
		require.Contains(t, l.steps[5], "rollback")
		l.kill()
		open := make(chan struct{})
		banks := []participant.Participant{s.banks.Participant("bank_b")}
		banks = append(banks, &hooked{Memory: s.banks.Participant("bank_a"), list: func(ctx context.Context, _ int) error {
			select {
			case <-open:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}})
		dtm := s.open(t, coordinator.Config{Participants: banks})
		info, err := dtm.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, record.DecisionRollback, info.Decision)
		time.Sleep(time.Minute) // fake time
		require.Equal(t, participanttest.StatePrepared, s.state("bank_a", id, 0), "rolled back before its list was read")
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_b", id, 1))
		close(open)
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		require.NotEqual(t, participanttest.StatePrepared, s.state("bank_a", id, 0))
	})
}

// R10: a log restored from a backup is found out by what its participants know,
// and does no harm: decisions that it holds are delivered, nothing is begun, and
// nothing is rolled back by absence.
func TestOldLogIsSafeMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		decided := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		absent := l.leave(t, undecided, "bank_a", "bank_b")
		bare, err := l.dtm.Begin(t.Context())
		require.NoError(t, err)
		time.Sleep(time.Second) // fake time: begun is durable
		backup := s.log.Clone()
		newer := l.leave(t, undecided, "bank_a", "bank_b", "bank_c")
		l.kill()
		forged := participant.Branch{Domain: "test", Tx: preceding(decided), Epoch: s.epoch("bank_a")}
		_, err = s.banks.Participant("bank_a").Prepare(t.Context(), forged)
		require.NoError(t, err)

		s.log = backup
		var proofs atomic.Int32
		dtm := s.open(t, coordinator.Config{
			Participants: []participant.Participant{s.banks.Participant("bank_a"), s.banks.Participant("bank_b"), s.banks.Participant("bank_c")},
			Trace:        &coordinator.Trace{SafeMode: func(string) { proofs.Add(1) }},
		})
		require.ErrorIs(t, dtm.WaitRecovered(t.Context()), coordinator.ErrSafeMode)
		time.Sleep(time.Hour) // fake time: many sweeps
		require.Equal(t, int32(1), proofs.Load())
		require.Equal(t, participanttest.StateUnknown, s.state("bank_a", decided, 0), "committed and forgotten")
		require.NoError(t, dtm.Commit(t.Context(), decided))
		for _, id := range []participant.TxID{absent, newer} {
			for i, name := range []string{"bank_a", "bank_b"} {
				require.Equal(t, participanttest.StatePrepared, s.state(name, id, i))
			}
		}
		require.Equal(t, participanttest.StatePrepared, s.banks.Participant("bank_a").State(forged))

		_, err = dtm.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrSafeMode)
		require.ErrorIs(t, dtm.Run(t.Context(), nil), coordinator.ErrSafeMode)
		for _, id := range []participant.TxID{bare, absent, newer, forged.Tx} {
			require.ErrorIs(t, dtm.Enlist(t.Context(), id, s.banks.Participant("bank_d")), coordinator.ErrSafeMode)
			require.ErrorIs(t, dtm.Commit(t.Context(), id), coordinator.ErrSafeMode)
			require.ErrorIs(t, dtm.Rollback(t.Context(), id), coordinator.ErrSafeMode)
		}
		for _, id := range []participant.TxID{newer, forged.Tx} {
			_, err = dtm.Get(t.Context(), id)
			require.ErrorIs(t, err, coordinator.ErrSafeMode)
		}
		for _, id := range []participant.TxID{absent, bare} {
			info, err := dtm.Get(t.Context(), id)
			require.NoError(t, err)
			require.Zero(t, info.Decision)
		}
		orphans, err := dtm.Orphans(t.Context())
		require.NoError(t, err)
		require.Len(t, orphans, 4, "newer at three banks, and forged")
		for _, o := range orphans {
			require.Equal(t, recovery.LogTooOld, o.Verdict)
			require.NotEmpty(t, o.Reason)
		}
	})
}

// epoch returns the highest that the bank was told with a branch it still has.
func (s *site) epoch(name string) (highest uint64) {
	for _, e := range s.banks.Participant(name).Entries() {
		highest = max(highest, e.Branch.Epoch)
	}
	return highest
}

// preceding returns the id just below, of a transaction that nobody began.
func preceding(id participant.TxID) participant.TxID {
	for i := len(id.UUID) - 1; ; i-- {
		id.UUID[i]--
		if id.UUID[i] != 0xff {
			return id
		}
	}
}

// R10: one proof anywhere, whenever it is found, ends all rollbacks by absence:
// also those that are being repeated, and those of transactions without branches.
func TestSafeModeStopsRollbacksUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		absent := l.leave(t, undecided, "bank_a", "bank_c")
		backup := s.log.Clone()
		l.leave(t, undecided, "bank_b", "bank_c")
		l.kill()
		s.log = backup
		var rollbacks atomic.Int32
		proven := make(chan struct{})
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{
			&hooked{Memory: s.banks.Participant("bank_a"), rollback: func(participant.Branch) error {
				rollbacks.Add(1)
				return errUnreachable
			}},
			&hooked{Memory: s.banks.Participant("bank_b"), list: func(context.Context, int) error {
				<-proven
				return nil
			}},
		}})
		time.Sleep(time.Minute) // fake time
		before := rollbacks.Load()
		require.Positive(t, before)
		close(proven)
		require.ErrorIs(t, dtm.WaitRecovered(t.Context()), coordinator.ErrSafeMode)
		time.Sleep(time.Hour) // fake time
		require.LessOrEqual(t, rollbacks.Load(), before+1, "one may have been under way")
		require.Equal(t, participanttest.StatePrepared, s.state("bank_a", absent, 0))
	})
}

// A participant that recovery misses leaves its branches in doubt, and listed;
// registering it delivers them.
func TestMissingParticipant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		decided := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		absent := l.leave(t, undecided, "bank_b", "bank_c")
		l.kill()
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{s.banks.Participant("bank_a")}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		err := dtm.WaitRecovered(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "2 transactions")
		require.ErrorContains(t, err, "bank_b, bank_c")
		infos, err := dtm.List(t.Context(), coordinator.Filter{InDoubt: true})
		require.NoError(t, err)
		require.Len(t, infos, 2)
		require.Equal(t, decided, infos[0].ID)
		require.False(t, infos[0].Branches[0].Missing)
		require.True(t, infos[0].Branches[1].Missing)
		require.Equal(t, absent, infos[1].ID)
		require.True(t, infos[1].Branches[0].Missing)
		require.ErrorIs(t, dtm.Commit(t.Context(), decided), coordinator.ErrCommitPending)
		require.ErrorIs(t, dtm.Commit(t.Context(), absent), coordinator.ErrOutcomeUnknown)

		require.NoError(t, dtm.Register(s.banks.Participant("bank_b")))
		synctest.Wait()
		require.NoError(t, dtm.Commit(t.Context(), decided))
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_b", absent, 0))
		require.ErrorIs(t, dtm.Commit(t.Context(), absent), coordinator.ErrRolledBack)
		require.NoError(t, dtm.Register(s.banks.Participant("bank_c")))
		require.NoError(t, dtm.WaitRecovered(t.Context()))
		require.Equal(t, participanttest.StateRolledBack, s.state("bank_c", absent, 1))
	})
}

// R10, R3: a one-phase branch that nobody has registered keeps the decision to
// itself; once registered it says which way it went.
func TestDelegatedBothWays(t *testing.T) {
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprint(committed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newSite()
				l := s.start(t, death{}, "bank_a")
				l.mu.Lock()
				l.death = death{len(l.steps) + 2, committed} // delegated, one-phase
				l.mu.Unlock()
				p := l.play(t.Context(), script{data: map[string]string{"bank_a": work}})
				require.ErrorIs(t, p.told, coordinator.ErrOutcomeUnknown)
				l.kill()
				dtm := s.open(t, coordinator.Config{})
				time.Sleep(time.Hour) // fake time: nothing decides in the branch's place
				require.ErrorIs(t, dtm.Rollback(t.Context(), p.id), coordinator.ErrOutcomeUnknown)
				require.NoError(t, dtm.Register(s.banks.Participant("bank_a")))
				require.NoError(t, dtm.WaitRecovered(t.Context()))
				if committed {
					require.NoError(t, dtm.Commit(t.Context(), p.id))
					require.ErrorIs(t, dtm.Rollback(t.Context(), p.id), coordinator.ErrCommitted)
				} else {
					require.ErrorIs(t, dtm.Commit(t.Context(), p.id), coordinator.ErrRolledBack)
					require.NoError(t, dtm.Rollback(t.Context(), p.id))
				}
			})
		})
	}
}

// R2, R13: what was told once is told again after any number of restarts, with its
// reasons; and a request id finds its transaction.
func TestOutcomesOutliveRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		pay1, pay2 := scripts[0], scripts[1]
		pay1.request, pay2.request = "pay 1", "pay 2"
		committed, refused := l.play(t.Context(), pay1), l.play(t.Context(), pay2)
		require.NoError(t, committed.told)
		var why *coordinator.RolledBackError
		require.ErrorAs(t, refused.told, &why)
		require.Equal(t, "bank_b", why.Participant)
		require.Equal(t, record.CauseRefused, why.Cause)
		require.NotEmpty(t, why.Reason)
		// bank_a decides alone while its decision can't be told.
		alone := l.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		require.NoError(t, s.banks.Participant("bank_a").Rollback(t.Context(), participant.Branch{Domain: "test", Tx: alone, Epoch: s.epoch("bank_a")}))
		l.kill()
		var heuristic *coordinator.HeuristicError
		for restart := range 4 {
			l := s.start(t, death{}, everyBank...)
			dtm := l.dtm
			require.NoError(t, dtm.WaitRecovered(t.Context()))
			require.NoError(t, dtm.Commit(t.Context(), committed.id))
			require.ErrorIs(t, dtm.Rollback(t.Context(), committed.id), coordinator.ErrCommitted)
			var again *coordinator.RolledBackError
			require.ErrorAs(t, dtm.Commit(t.Context(), refused.id), &again)
			require.Equal(t, why, again)
			var now *coordinator.HeuristicError
			require.ErrorAs(t, dtm.Commit(t.Context(), alone), &now)
			require.Equal(t, participant.OutcomeHeuristicMixed, now.Outcome)
			if restart > 0 {
				require.Equal(t, heuristic, now)
			}
			heuristic = now
			for request, p := range map[string]played{"pay 1": committed, "pay 2": refused} {
				id, err := dtm.Begin(t.Context(), coordinator.WithRequestID(request))
				require.NoError(t, err)
				require.Equal(t, p.id, id)
			}
			time.Sleep(time.Minute) // fake time: completed and forgotten
			l.kill()
		}
	})
}

// A log that fails while recovery writes is not a recovered one (R5).
func TestWaitRecoveredSaysWhyItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		s.leave(t, undecided, "bank_a", "bank_b")
		l := s.start(t, death{step: 5}, everyBank...) // take over, open, append, delete, decide
		require.ErrorIs(t, l.dtm.WaitRecovered(t.Context()), coordinator.ErrOutcomeUnknown)
		l.kill()
		dtm := s.open(t, coordinator.Config{})
		waited := make(chan error, 1)
		go func() { waited <- dtm.WaitRecovered(context.Background()) }()
		synctest.Wait()
		require.NoError(t, dtm.Close(t.Context()))
		require.ErrorIs(t, <-waited, coordinator.ErrClosed)
	})
}

func TestOpenRefusesForeignDomain(t *testing.T) {
	s := newSite()
	l := s.start(t, death{}, everyBank...)
	l.kill()
	store := s.log.Open()
	_, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "other", Store: store})
	require.ErrorIs(t, err, wal.ErrForeign)
	require.NoError(t, store.Close())
	s.start(t, death{}, everyBank...)
}

// R12: what recovery finds is finished together, with group commits.
func TestRecoveryOfManyIsConcurrent(t *testing.T) {
	const each = 5_000
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		l := s.start(t, death{}, everyBank...)
		l.deaf = true
		var ids [2 * each]participant.TxID
		for i := range ids {
			id, err := l.dtm.Begin(t.Context())
			require.NoError(t, err)
			require.NoError(t, l.dtm.Enlist(t.Context(), id, l.participant("bank_a")))
			require.NoError(t, l.dtm.Enlist(t.Context(), id, l.participant("bank_b")))
			if ids[i] = id; i < each {
				go func() { _ = l.dtm.Commit(context.Background(), id) }()
			}
		}
		time.Sleep(2 * time.Second) // fake time: all are decided, or flushed
		l.kill()
		l = s.start(t, death{}, everyBank...)
		require.NoError(t, l.dtm.WaitRecovered(t.Context()))
		for i, id := range ids {
			info, err := l.dtm.Get(t.Context(), id)
			require.NoError(t, err)
			require.Equal(t, i < each, info.Outcome == participant.OutcomeCommitted, "%d: %s", i, info.Outcome)
		}
		appends := 0
		for _, step := range l.steps {
			if step == "append" {
				appends++
			}
		}
		t.Log(appends, "appends")
		require.Less(t, appends, 2*each/20)
	})
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
func TestRandomRestarts(t *testing.T) {
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

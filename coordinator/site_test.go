package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
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

const work = "work"

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

// epoch returns the highest that the bank was told with a branch it still has.
func (s *site) epoch(name string) (highest uint64) {
	for _, e := range s.banks.Participant(name).Entries() {
		highest = max(highest, e.Branch.Epoch)
	}
	return highest
}

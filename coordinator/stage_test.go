package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	logobserver "go.uber.org/zap/zaptest/observer"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// story is what happened at the log and the participants, in order.
type story struct {
	mu     sync.Mutex
	events []string
}

func (s *story) add(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, fmt.Sprintf(format, args...))
}

// all returns the events so far.
func (s *story) all() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// of returns those of one participant, or of the log, without the prefix.
func (s *story) of(name string) (events []string) {
	for _, e := range s.all() {
		if rest, ok := strings.CutPrefix(e, name+": "); ok {
			events = append(events, rest)
		}
	}
	return events
}

// count returns how often the event happened.
func (s *story) count(event string) (n int) {
	for _, e := range s.all() {
		if e == event {
			n++
		}
	}
	return n
}

// actor is a participant that does what a test says, and tells the story. What is
// nil is a yes.
type actor struct {
	name     string
	story    *story
	mu       sync.Mutex // of the rest, once the actor is on stage
	prepare  func(ctx context.Context, b participant.Branch) (participant.Vote, error)
	commit   func(ctx context.Context, b participant.Branch) error
	rollback func(ctx context.Context, b participant.Branch) error
}

// recast changes what an actor does while it is on stage.
func (a *actor) recast(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

func (a *actor) Name() string { return a.name }

func (a *actor) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	a.story.add("%s: prepare", a.name)
	defer a.story.add("%s: prepare returned", a.name)
	a.mu.Lock()
	fn := a.prepare
	a.mu.Unlock()
	if fn == nil {
		return participant.VotePrepared, nil
	}
	return fn(ctx, b)
}

func (a *actor) Commit(ctx context.Context, b participant.Branch) error {
	return a.tell(ctx, "commit", &a.commit, b)
}

func (a *actor) Rollback(ctx context.Context, b participant.Branch) error {
	return a.tell(ctx, "rollback", &a.rollback, b)
}

func (a *actor) tell(ctx context.Context, verb string, does *func(context.Context, participant.Branch) error, b participant.Branch) error {
	a.story.add("%s: %s", a.name, verb)
	a.mu.Lock()
	fn := *does
	a.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(ctx, b)
}

// soloist is an actor that can commit in one phase.
type soloist struct {
	actor
	onePhase func(ctx context.Context, b participant.Branch) error
}

func (s *soloist) CommitOnePhase(ctx context.Context, b participant.Branch) error {
	return s.tell(ctx, "commit one-phase", &s.onePhase, b)
}

// forgetter is an actor that wants to hear what it may forget.
type forgetter struct {
	actor
	forget func(ctx context.Context, branches []participant.Branch) error
}

func (f *forgetter) Forget(ctx context.Context, branches []participant.Branch) error {
	f.story.add("%s: forget", f.name)
	if f.forget == nil {
		return nil
	}
	return f.forget(ctx, branches)
}

// Votes and answers that tests give.
func says(vote participant.Vote, err error) func(context.Context, participant.Branch) (participant.Vote, error) {
	return func(context.Context, participant.Branch) (participant.Vote, error) { return vote, err }
}

func answers(err error) func(context.Context, participant.Branch) error {
	return func(context.Context, participant.Branch) error { return err }
}

var errDown = errors.New("connection refused")

// stage is a coordinator with a store that tells the story.
type stage struct {
	*coordinator.DTM
	t      *testing.T
	story  *story
	logs   *logobserver.ObservedLogs
	memory *waltest.Memory
	store  *waltest.MemoryStore
}

// play runs fn in a bubble of its own: time is fake there. The coordinator is
// closed at the end; that it can be is part of every test.
func play(t *testing.T, fn func(*testing.T, *stage)) { playWith(t, coordinator.Config{}, nil, fn) }

// playWith says how the coordinator and its store are.
func playWith(t *testing.T, config coordinator.Config, plan waltest.Plan, fn func(*testing.T, *stage)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, config, plan)
		fn(t, s)
		require.NoError(t, s.Close(t.Context()))
		require.NoError(t, s.store.Close())
	})
}

func newStage(t *testing.T, config coordinator.Config, plan waltest.Plan) *stage {
	t.Helper()
	s := &stage{t: t, story: &story{}, memory: waltest.NewMemory()}
	s.store = s.memory.Open()
	if plan == nil {
		plan = func(waltest.Call) waltest.Fault { return waltest.Fault{} }
	}
	core, logs := logobserver.New(zapcore.DebugLevel)
	s.logs = logs
	config.Domain, config.Store = "test", waltest.Faulty(&toldStore{s.store, s.story}, plan)
	if config.Logger == nil {
		config.Logger = zap.New(core)
	}
	dtm, err := coordinator.Open(t.Context(), config)
	require.NoError(t, err)
	s.DTM = dtm
	t.Cleanup(func() { // of a test that failed
		_ = dtm.Close(context.Background())
		_ = s.store.Close()
	})
	s.story.events = nil // what Open wrote
	return s
}

// closesPoisoned is for tests whose log failed.
func (s *stage) closesPoisoned() {
	require.Error(s.t, s.Close(s.t.Context()))
	require.NoError(s.t, s.store.Close())
}

func (s *stage) actor(name string) *actor { return &actor{name: name, story: s.story} }

func (s *stage) soloist(name string) *soloist { return &soloist{actor: *s.actor(name)} }

func (s *stage) forgetter(name string) *forgetter {
	return &forgetter{actor: actor{name: name, story: s.story}}
}

// begin begins a transaction with these participants.
func (s *stage) begin(participants ...participant.Participant) participant.TxID {
	s.t.Helper()
	return s.beginWith(nil, participants...)
}

func (s *stage) beginWith(options []coordinator.BeginOption, participants ...participant.Participant) participant.TxID {
	s.t.Helper()
	id, err := s.Begin(s.t.Context(), options...)
	require.NoError(s.t, err)
	for _, p := range participants {
		require.NoError(s.t, s.Enlist(s.t.Context(), id, p))
	}
	return id
}

// commits begins a transaction with these participants and returns what Commit
// says.
func (s *stage) commits(participants ...participant.Participant) (participant.TxID, error) {
	s.t.Helper()
	id := s.begin(participants...)
	return id, s.Commit(s.t.Context(), id)
}

func (s *stage) info(id participant.TxID) coordinator.Info {
	s.t.Helper()
	info, err := s.Get(s.t.Context(), id)
	require.NoError(s.t, err)
	return info
}

// toldStore tells the story of what became durable.
type toldStore struct {
	wal.Store
	story *story
}

func (s *toldStore) Open(ctx context.Context, owner string) (wal.Stream, error) {
	stream, err := s.Store.Open(ctx, owner)
	return &toldStream{stream, s.story}, err
}

type toldStream struct {
	wal.Stream
	story *story
}

func (s *toldStream) Append(ctx context.Context, seq uint64, segment []byte, drop []uint64) error {
	if err := s.Stream.Append(ctx, seq, segment, drop); err != nil {
		return err
	}
	var kinds []string
	for rest := segment; len(rest) > 0; {
		var r record.Record
		var err error
		if r, rest, err = record.Next(rest); err != nil {
			return err
		}
		if r.Kind() != record.KindHeader {
			kinds = append(kinds, r.Kind().String())
		}
	}
	s.story.add("log: %s", strings.Join(kinds, " "))
	return nil
}

// never is a time that no test waits for.
const never = 24 * time.Hour

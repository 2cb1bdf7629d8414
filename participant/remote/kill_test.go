package remote

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
)

// once is a participant that can be asked only once about each branch: it has nothing
// to prepare, and does not know the branch a second time.
type once struct {
	name string

	mu    sync.Mutex
	asked map[participant.XID]int
}

var errAskedTwice = errors.New("asked before")

func newOnce(name string) *once { return &once{name: name, asked: map[participant.XID]int{}} }

func (o *once) Name() string { return o.name }

func (o *once) Prepare(_ context.Context, b participant.Branch) (participant.Vote, error) {
	if err := o.ask(b); err != nil {
		return participant.VoteRefused, err
	}
	return participant.VoteReadOnly, nil
}

func (o *once) Commit(_ context.Context, b participant.Branch) error { return o.ask(b) }

func (o *once) Rollback(_ context.Context, b participant.Branch) error { return o.ask(b) }

func (o *once) ask(b participant.Branch) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.asked[b.XID()]++; o.asked[b.XID()] > 1 {
		return errAskedTwice
	}
	return nil
}

// A stream may be killed at any point: in place of any message of either side, or after
// it was sent. Whatever was asked is answered, and each call once.
func TestAStreamKilledAtAnyPoint(t *testing.T) {
	const killsAt = 14
	for _, after := range []bool{false, true} {
		for at := range int64(killsAt) {
			t.Run(fmt.Sprintf("message %d, after %t", at, after), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newHubSite(t)
					var messages atomic.Int64
					s.connect = func(p *pipe) error {
						p.tap = func(bool, proto.Message) bool { return !after && messages.Add(1)-1 == at }
						p.sent = func() bool { return after && messages.Add(1)-1 == at }
						return nil
					}
					s.askMany(t, newOnce("bank"), 4, 8)
					require.Greater(t, messages.Load(), at, "the kill came before the end")
				})
			})
		}
	}
}

// askMany serves p, and makes calls, each about a branch of its own, some at a time.
func (s *hubSite) askMany(t *testing.T, p *once, atATime, rounds int) {
	t.Helper()
	asked := s.participant(t, p.name)
	s.serve(t, p, "one")
	for range rounds {
		var all sync.WaitGroup
		for n := range atATime {
			all.Go(func() {
				b := newBranch(p.name)
				if n%2 == 0 {
					if err := asked.Commit(t.Context(), b); err != nil {
						t.Errorf("commit: %v", err)
					}
					return
				}
				if vote, err := asked.Prepare(t.Context(), b); vote != participant.VoteReadOnly || err != nil {
					t.Errorf("prepare: %s, %v", vote, err)
				}
			})
		}
		all.Wait()
		synctest.Wait() // what is behind is sent, too
	}
}

// Streams of several instances are killed again and again. Every call returns what its
// branch's participant said, none is lost, and none is made twice.
func TestStreamsKilledAtRandom(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		killOneIn := rapid.IntRange(3, 40).Draw(r, "one message in so many kills")
		seed := rapid.Uint64().Draw(r, "seed")
		instances := rapid.IntRange(1, 4).Draw(r, "instances")
		calls := rapid.IntRange(1, 100).Draw(r, "calls")
		synctest.Test(t, func(t *testing.T) {
			s := newHubSite(t, func(cfg *HubConfig) { cfg.Grace = time.Hour })
			kills := rand.New(rand.NewPCG(seed, 0))
			var mu sync.Mutex
			s.connect = func(p *pipe) error {
				p.tap = func(bool, proto.Message) bool {
					mu.Lock()
					defer mu.Unlock()
					return kills.IntN(killOneIn) == 0
				}
				return nil
			}
			asked := s.participant(t, "bank")
			processes := make([]*once, instances)
			for n := range processes {
				processes[n] = newOnce("bank")
				s.serveLater(t, processes[n], fmt.Sprintf("process-%d", n))
			}
			var all sync.WaitGroup
			for n := range calls {
				all.Go(func() {
					time.Sleep(time.Duration(n%10) * 10 * time.Millisecond)
					b := newBranch("bank")
					b.Data, _ = WithInstance(asked, fmt.Sprintf("process-%d", n%instances), nil)
					if vote, err := asked.Prepare(t.Context(), b); vote != participant.VoteReadOnly || err != nil {
						t.Errorf("prepare: %s, %v", vote, err)
					}
				})
			}
			all.Wait()
			made := 0
			for _, p := range processes {
				p.mu.Lock()
				made += len(p.asked)
				p.mu.Unlock()
			}
			require.Equal(t, calls, made)
		})
	})
}

func TestAServerThatIsStartedAgainIsAnotherOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		next := newHubSite(t)
		called, goOn := make(chan struct{}, 10), make(chan struct{})
		bank := &recorder{name: "bank", prepare: func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
			called <- struct{}{}
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case <-goOn:
				return participant.VotePrepared, nil
			}
		}}
		before, after := s.participant(t, "bank"), next.participant(t, "bank")
		s.forward = next
		s.serve(t, bank, "one")
		ctx, cancel := context.WithCancel(t.Context())
		lost := make(chan error)
		go func() {
			_, err := before.Prepare(ctx, newBranch("bank"))
			lost <- err
		}()
		<-called

		s.forwarding.Store(true)
		s.killAll()
		answered := make(chan error)
		go func() { answered <- after.Commit(t.Context(), newBranch("bank")) }()
		require.NoError(t, <-answered, "its first call has the same id as the other's, and gets an answer of its own")
		close(goOn)
		cancel()
		require.ErrorIs(t, <-lost, context.Canceled)
	})
}

// An instance may be at one server, at another, and at the first again: ids of calls are
// each server's own.
func TestAnInstanceThatComesBackToAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		first, second := newHubSite(t), newHubSite(t)
		first.forward = second
		called := make(chan struct{}, 10)
		var held atomic.Bool
		held.Store(true)
		hold := func(ctx context.Context) error {
			called <- struct{}{}
			if held.Load() {
				<-ctx.Done()
			}
			return ctx.Err()
		}
		bank := &recorder{name: "bank"}
		bank.prepare = func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
			return participant.VotePrepared, hold(ctx)
		}
		bank.commit = func(ctx context.Context, _ participant.Branch) error { return hold(ctx) }
		atFirst, atSecond := first.participant(t, "bank"), second.participant(t, "bank")
		first.serve(t, bank, "one")
		voted, committed := make(chan error), make(chan error)
		go func() {
			_, err := atFirst.Prepare(t.Context(), newBranch("bank"))
			voted <- err
		}()
		<-called
		first.forwarding.Store(true)
		first.killAll()
		go func() { committed <- atSecond.Commit(t.Context(), newBranch("bank")) }()
		<-called
		held.Store(false)
		first.forwarding.Store(false)
		second.killAll()
		require.NoError(t, <-voted)
		first.forwarding.Store(true)
		first.killAll()
		require.NoError(t, <-committed)
	})
}

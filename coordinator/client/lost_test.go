package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/client"
	"github.com/assent-tm/assent/participant"
)

// eachWay runs a test with both kinds of client.
func eachWay(t *testing.T, test func(t *testing.T, s *site, change func(*client.Config))) {
	t.Helper()
	t.Run("unary", func(t *testing.T) { test(t, newSite(t), func(*client.Config) {}) })
	t.Run("session", func(t *testing.T) { test(t, newSite(t), withSession) })
}

const (
	long = time.Minute
	tick = time.Millisecond
)

// awaitCalls waits until the bank has had so many calls.
func (b *bank) awaitCalls(t *testing.T, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return len(b.calls()) >= n }, long, tick)
}

func TestACommitWhoseAnswerIsLostIsAskedAgain(t *testing.T) {
	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		c := s.client(change)
		for _, want := range []error{nil, coordinator.ErrRolledBack} {
			s.a.does(nil, nil)
			s.b.does(nil, nil)
			if want != nil {
				s.b.does(refuses, nil)
			}
			id := begun(t, s, c)
			s.line.loseAnswers()
			answered := make(chan error)
			go func() { answered <- c.Commit(t.Context(), id) }()
			s.a.awaitCalls(t, 2)
			select {
			case err := <-answered:
				t.Fatal(err)
			default:
			}
			s.line.cut()
			require.ErrorIs(t, <-answered, want)
			require.Len(t, s.a.calls(), 2, "it was told once")
		}
	})
}

func TestACommitThatIsNotAnsweredIsUnknownAndNotRolledBack(t *testing.T) {
	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		c := s.client(change)
		id := begun(t, s, c)
		s.line.loseAnswers()
		ctx, cancel := context.WithCancel(t.Context())
		answered := make(chan error)
		go func() { answered <- c.Commit(ctx, id) }()
		s.a.awaitCalls(t, 2)
		s.line.to("")
		cancel()
		err := <-answered
		require.ErrorIs(t, err, coordinator.ErrOutcomeUnknown)
		require.ErrorIs(t, err, context.Canceled)
		require.NotErrorIs(t, err, coordinator.ErrRolledBack)

		err = c.Commit(ctx, id)
		require.ErrorContains(t, err, "nothing was asked")
		require.NotErrorIs(t, err, coordinator.ErrOutcomeUnknown)
	})
}

func TestWhatIsLostBeginsOnce(t *testing.T) {
	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		c := s.client(change)
		begun := func() []coordinator.Info {
			all, err := s.dtm.List(t.Context(), coordinator.Filter{Done: true})
			require.NoError(t, err)
			return all
		}
		type result struct {
			id  participant.TxID
			err error
		}
		results := make(chan result)
		for n, call := range []func() (participant.TxID, error){
			func() (participant.TxID, error) { return c.Begin(t.Context()) },
			func() (participant.TxID, error) {
				return c.Submit(t.Context(), []coordinator.Enlistment{{Participant: client.Participant("bank_a")}})
			},
		} {
			require.NoError(t, c.Rollback(t.Context(), begin(t, c))) // the connection is there
			before := len(begun())
			s.line.loseAnswers()
			go func() {
				id, err := call()
				results <- result{id, err}
			}()
			require.Eventually(t, func() bool { return len(begun()) == before+1 }, long, tick)
			s.line.cut()
			got := <-results
			require.NoError(t, got.err, "%d", n)
			require.Len(t, begun(), before+1)
			require.True(t, slices.ContainsFunc(begun(), func(i coordinator.Info) bool { return i.ID == got.id }))
		}
	})
}

func TestAServerThatIsRestarted(t *testing.T) {
	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		c := s.client(change)
		committed := begun(t, s, c)
		require.NoError(t, c.Commit(t.Context(), committed))
		lost := begun(t, s, c)
		s.stop()
		answers := make(chan error, 2)
		go func() { answers <- c.Commit(t.Context(), committed) }()
		go func() { answers <- c.Commit(t.Context(), lost) }()
		s.start()
		got := []error{<-answers, <-answers}
		require.Contains(t, got, nil)
		rolledBack := slices.IndexFunc(got, func(err error) bool { return errors.Is(err, coordinator.ErrRolledBack) })
		require.GreaterOrEqual(t, rolledBack, 0, "%v", got)
		require.NoError(t, c.Commit(t.Context(), begun(t, s, c)), "and it goes on")
	})
}

func TestAServerThatCantBeReached(t *testing.T) {
	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		c := s.client(change, func(config *client.Config) { config.Patience = 20 * time.Millisecond })
		id := begin(t, c)
		s.line.to("")
		_, err := c.Begin(t.Context())
		require.ErrorIs(t, err, client.ErrUnreachable)
		require.ErrorIs(t, c.Enlist(t.Context(), id, s.a), client.ErrUnreachable)
		require.ErrorIs(t, c.Rollback(t.Context(), id), client.ErrUnreachable)
		_, err = c.Get(t.Context(), id)
		require.ErrorIs(t, err, client.ErrUnreachable)
		_, err = c.List(t.Context(), coordinator.Filter{})
		require.ErrorIs(t, err, client.ErrUnreachable)
		_, err = c.Outcome(t.Context(), id)
		require.ErrorIs(t, err, client.ErrUnreachable)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, c.Commit(ctx, id), coordinator.ErrOutcomeUnknown)
	})
}

// Whatever is cut, and whenever: what a client is told is what happened.
func TestConnectionsThatAreCutAtRandom(t *testing.T) {
	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		c := s.client(change, func(config *client.Config) { config.Patience, config.Timeout = time.Hour, time.Hour })
		done := make(chan struct{})
		var cutter sync.WaitGroup
		cutter.Go(func() {
			for n := range 200 { // then it stays as it is
				select {
				case <-done:
					return
				case <-time.After(rand.N(5 * time.Millisecond)):
				}
				if n%2 == 0 {
					s.line.loseAnswers()
				} else {
					s.line.cut()
				}
			}
		})
		s.b.does(func(_ context.Context, b participant.Branch) (participant.Vote, error) {
			if string(b.Data) == "no" {
				return participant.VoteRefused, errors.New("no")
			}
			return participant.VotePrepared, nil
		}, nil)
		var clients sync.WaitGroup
		for n := range 8 {
			clients.Go(func() {
				for range 10 {
					if err := transfer(t.Context(), s, c, n%2 == 0, n%4 == 1); err != nil {
						t.Error(err)
					}
				}
			})
		}
		clients.Wait()
		close(done)
		cutter.Wait()
	})
}

// transfer makes a transaction and compares what it is told with what the coordinator
// knows.
func transfer(ctx context.Context, s *site, c *client.Client, refused, submit bool) error {
	data := []byte("yes")
	if refused {
		data = []byte("no")
	}
	var id participant.TxID
	var err error
	if submit {
		id, err = c.Submit(ctx, []coordinator.Enlistment{{Participant: s.a}, {Participant: s.b, Data: data}})
	} else {
		err = c.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) error {
			id = tx.ID()
			_, errA := tx.Enlist(ctx, s.a, nil)
			_, errB := tx.Enlist(ctx, s.b, data)
			return errors.Join(errA, errB)
		})
	}
	info, getErr := s.dtm.Get(ctx, id)
	switch {
	case getErr != nil:
		return getErr
	case refused && errors.Is(err, coordinator.ErrRolledBack) && info.Outcome == participant.OutcomeRolledBack:
		return nil
	case !refused && err == nil && info.Outcome == participant.OutcomeCommitted:
		return nil
	default:
		return fmt.Errorf("refused %t: told %w, and it is %s", refused, err, info.Outcome)
	}
}

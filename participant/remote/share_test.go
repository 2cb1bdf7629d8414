package remote

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"connectrpc.com/connect/v2"

	"github.com/assent-tm/assent/participant"
)

func TestInstancesShareTheWork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		one, two := &recorder{name: "bank"}, &recorder{name: "bank"}
		s.serve(t, one, "one")
		s.serve(t, two, "two")
		for range 100 {
			require.NoError(t, p.Commit(t.Context(), newBranch("bank")))
		}
		require.Len(t, one.seen(), 50)
		require.Len(t, two.seen(), 50)
	})
}

func TestAnInstanceThatHangsGetsLessThanItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		hangs := &recorder{name: "bank", commit: func(ctx context.Context, _ participant.Branch) error {
			<-ctx.Done()
			return ctx.Err()
		}}
		works := &recorder{name: "bank"}
		s.serve(t, hangs, "one")
		s.serve(t, works, "two")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var all sync.WaitGroup
		for range 100 {
			all.Go(func() { _ = p.Commit(ctx, newBranch("bank")) })
			synctest.Wait()
		}
		all.Wait()
		require.Greater(t, len(works.seen()), 90)
	})
}

// affine returns a branch of an instance.
func affine(t *testing.T, p participant.Participant, instance string) participant.Branch {
	t.Helper()
	b := newBranch(p.Name())
	var err error
	b.Data, err = WithInstance(p, instance, b.Data)
	require.NoError(t, err)
	return b
}

func TestABranchGoesToItsInstanceWhileThatIsAttached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		one, two := &recorder{name: "bank"}, &recorder{name: "bank"}
		leave := s.serve(t, one, "one")
		s.serve(t, two, "two")
		for range 10 {
			require.NoError(t, p.Commit(t.Context(), affine(t, p, "one")))
		}
		require.Len(t, one.seen(), 10)
		require.Equal(t, "commit data", one.seen()[0], "the participant gets its data as it was")
		require.Empty(t, two.seen())

		leave()
		start := time.Now()
		require.NoError(t, p.Commit(t.Context(), affine(t, p, "one")))
		require.Zero(t, time.Since(start), "who has left is not waited for")
		require.Len(t, two.seen(), 1)
	})
}

func TestABranchWaitsForItsInstanceToComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		one, two := &recorder{name: "bank"}, &recorder{name: "bank"}
		s.serve(t, one, "one")
		s.serve(t, two, "two")
		s.killAll()
		synctest.Wait()
		require.Empty(t, s.hub.Instances("bank"))
		require.NoError(t, p.Commit(t.Context(), affine(t, p, "one")))
		require.NoError(t, p.Commit(t.Context(), affine(t, p, "two")))
		require.Len(t, one.seen(), 1)
		require.Len(t, two.seen(), 1)
	})
}

func TestACallStaysWithItsInstanceWhenTheStreamBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		called, goOn := make(chan struct{}), make(chan struct{})
		one, two := &recorder{name: "bank"}, &recorder{name: "bank"}
		one.commit = func(context.Context, participant.Branch) error {
			close(called)
			<-goOn
			return nil
		}
		s.serve(t, one, "one")
		s.serve(t, two, "two")
		answered := make(chan error)
		go func() { answered <- p.Commit(t.Context(), affine(t, p, "one")) }()
		<-called
		s.kill("one")
		synctest.Wait()
		close(goOn)
		require.NoError(t, <-answered)
		require.Len(t, one.seen(), 1)
		require.Empty(t, two.seen())
	})
}

func TestABranchDoesNotWaitForEverForItsInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t, func(cfg *HubConfig) { cfg.Grace = 3 * time.Second })
		p := s.participant(t, "bank")
		called := make(chan struct{})
		one, two := &recorder{name: "bank"}, &recorder{name: "bank"}
		one.commit = func(ctx context.Context, _ participant.Branch) error {
			close(called)
			<-ctx.Done()
			return ctx.Err()
		}
		s.serve(t, one, "one")
		s.serve(t, two, "two")
		answered := make(chan error)
		go func() { answered <- p.Commit(t.Context(), affine(t, p, "one")) }()
		<-called
		start := time.Now()
		s.refuseAndKill("one")
		free := p.Commit(t.Context(), newBranch("bank"))
		require.NoError(t, free)
		require.Zero(t, time.Since(start), "other branches go on")
		require.NoError(t, <-answered)
		require.Equal(t, 3*time.Second, time.Since(start))
		require.Len(t, two.seen(), 2)
	})
}

func TestAnInstanceThatAttachesTwiceHasOneStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		first, err := s.open(t.Context())
		require.NoError(t, err)
		require.NoError(t, first.Send(hello("bank", "one")))
		_, err = first.Receive()
		require.NoError(t, err)
		s.serve(t, &recorder{name: "bank"}, "one")
		_, err = first.Receive()
		require.Equal(t, connect.CodeAborted, connect.CodeOf(err), "%v", err)
		require.Equal(t, []string{"one"}, s.hub.Instances("bank"))
		require.NoError(t, p.Commit(t.Context(), newBranch("bank")))
	})
}

// A withdrawn Prepare has its context ended, and the Rollback that follows waits until
// it has returned (R4).
func TestRollbackWaitsUntilTheWithdrawnPrepareHasReturned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		called, ended, goOn := make(chan struct{}), make(chan struct{}), make(chan struct{})
		bank := &recorder{name: "bank", prepare: func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
			close(called)
			<-ctx.Done()
			close(ended)
			<-goOn
			return 0, ctx.Err()
		}}
		bank.rollback = func(context.Context, participant.Branch) error {
			select {
			case <-goOn:
			default:
				t.Error("Prepare has not returned")
			}
			return nil
		}
		s.serve(t, bank, "one")
		b := newBranch("bank")
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-called
			cancel()
		}()
		_, err := p.Prepare(ctx, b)
		require.ErrorIs(t, err, context.Canceled)
		rolledBack := make(chan error)
		go func() { rolledBack <- p.Rollback(t.Context(), b) }()
		<-ended
		synctest.Wait()
		close(goOn)
		require.NoError(t, <-rolledBack)
		require.Equal(t, []string{"prepare data", "rollback data"}, bank.seen())
	})
}

// A call that gives up waiting for the one before does not open the way for the next.
func TestACallThatGivesUpWaitingDoesNotLetTheNextOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		goOn := make(chan struct{})
		running := 0
		bank := &recorder{name: "bank", rollback: func(context.Context, participant.Branch) error {
			running++
			require.Equal(t, 1, running)
			<-goOn // whatever its context says
			running--
			return nil
		}}
		s.serve(t, bank, "one")
		b := newBranch("bank")
		for range 2 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.ErrorContains(t, p.Rollback(ctx, b), "deadline exceeded")
			cancel()
			synctest.Wait()
		}
		rolledBack := make(chan error)
		go func() { rolledBack <- p.Rollback(t.Context(), b) }()
		synctest.Wait()
		require.Len(t, bank.seen(), 1)
		close(goOn)
		require.NoError(t, <-rolledBack)
		require.Len(t, bank.seen(), 2)
	})
}

func TestTheHubTellsItsInstancesWhenItCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		called, goOn := make(chan struct{}), make(chan struct{})
		bank := &recorder{name: "bank", commit: func(context.Context, participant.Branch) error {
			close(called)
			<-goOn
			return nil
		}}
		s.serve(t, bank, "one")
		answered := make(chan error)
		go func() { answered <- p.Commit(t.Context(), newBranch("bank")) }()
		<-called
		closed := make(chan error)
		go func() { closed <- s.hub.Close(t.Context()) }()
		synctest.Wait()
		close(goOn)
		require.NoError(t, <-answered, "what was asked is answered")
		require.NoError(t, <-closed)
		require.ErrorIs(t, p.Commit(t.Context(), newBranch("bank")), ErrHubClosed)
	})
}

func TestCloseEndsStreamsThatDoNotLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		silent, err := s.open(t.Context())
		require.NoError(t, err)
		require.NoError(t, silent.Send(hello("bank", "one")))
		_, err = silent.Receive()
		require.NoError(t, err)
		answered := make(chan error)
		go func() { answered <- p.Commit(t.Context(), newBranch("bank")) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, s.hub.Close(ctx), context.DeadlineExceeded)
		require.ErrorIs(t, <-answered, ErrHubClosed)
		for err == nil {
			_, err = silent.Receive()
		}
		require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
		require.NoError(t, s.hub.Close(t.Context()))
	})
}

func TestAnInstanceThatIsToLeaveFinishesWhatItDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		called, goOn := make(chan struct{}), make(chan struct{})
		bank := &recorder{name: "bank", commit: func(ctx context.Context, _ participant.Branch) error {
			close(called)
			<-goOn
			return ctx.Err()
		}}
		leave := s.serve(t, bank, "one")
		answered := make(chan error)
		go func() { answered <- p.Commit(t.Context(), newBranch("bank")) }()
		<-called
		go leave()
		synctest.Wait()
		waits := make(chan error)
		go func() { waits <- p.Rollback(t.Context(), newBranch("bank")) }()
		synctest.Wait()
		close(goOn)
		require.NoError(t, <-answered)
		two := &recorder{name: "bank"}
		s.serve(t, two, "two")
		require.NoError(t, <-waits)
		require.Len(t, two.seen(), 1, "what comes while it leaves is for another")
	})
}

// What ignores its context holds a leaving instance up for LeaveTime, no longer.
func TestAnInstanceLeavesAfterLeaveTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		called := make(chan struct{})
		bank := &recorder{name: "bank", commit: func(ctx context.Context, _ participant.Branch) error {
			close(called)
			<-ctx.Done()
			return fmt.Errorf("ended: %w", ctx.Err())
		}}
		leave := s.serve(t, bank, "one")
		go func() { _ = p.Commit(t.Context(), newBranch("bank")) }()
		<-called
		start := time.Now()
		leave()
		require.Equal(t, DefaultLeaveTime, time.Since(start))
		s.serve(t, &recorder{name: "bank"}, "two") // for the call
	})
}

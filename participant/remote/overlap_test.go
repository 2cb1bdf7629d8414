package remote

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// R4: while a withdrawn Prepare is at work in one instance, no other gets the Rollback.
func TestR4RollbackGoesWhereTheWithdrawnPrepareIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		goOn := make(chan struct{})
		atWork := map[participant.TxID]bool{} // guarded by mu
		var mu sync.Mutex
		instance := func() *recorder {
			return &recorder{
				name: "bank",
				prepare: func(_ context.Context, b participant.Branch) (participant.Vote, error) {
					mu.Lock()
					atWork[b.Tx] = true
					mu.Unlock()
					<-goOn // whatever its context says
					mu.Lock()
					defer mu.Unlock()
					atWork[b.Tx] = false
					return participant.VotePrepared, nil
				},
				rollback: func(_ context.Context, b participant.Branch) error {
					mu.Lock()
					defer mu.Unlock()
					if atWork[b.Tx] {
						t.Error("Prepare has not returned")
					}
					return nil
				},
			}
		}
		s.serve(t, instance(), "one")
		s.serve(t, instance(), "two")
		rolledBack := make(chan error)
		for range 4 {
			b := newBranch("bank")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err := p.Prepare(ctx, b)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			cancel()
			go func() { rolledBack <- p.Rollback(t.Context(), b) }()
			synctest.Wait()
		}
		close(goOn)
		for range 4 {
			require.NoError(t, <-rolledBack)
		}
		synctest.Wait()
		require.Empty(t, s.hub.participant("bank").lingering, "R12")
	})
}

// R4: an instance that was lost may prepare the branch at any later time; had another
// one prepared it, it could be committed and forgotten by then.
func TestR4APrepareIsNotSentToASecondInstance(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		called := make(chan struct{})
		one := &recorder{name: "bank", prepare: func(ctx context.Context, _ participant.Branch) (participant.Vote, error) {
			close(called)
			<-ctx.Done()
			return 0, ctx.Err()
		}}
		s.serve(t, one, "one")
		answered := make(chan error)
		b := newBranch("bank")
		go func() {
			_, err := p.Prepare(t.Context(), b)
			answered <- err
		}()
		<-called
		two := &recorder{name: "bank"}
		s.serve(t, two, "two")
		start := time.Now()
		s.refuseAndKill("one")
		require.ErrorContains(t, <-answered, `instance "one" was lost before it answered`)
		require.Equal(t, DefaultGrace, time.Since(start), "it might have come back")
		require.Empty(t, two.seen())
		require.NoError(t, p.Rollback(t.Context(), b))
		require.Equal(t, []string{"rollback data"}, two.seen())
	})
}

// A Prepare that its instance has not begun when it leaves is another's.
func TestAPrepareOfAnInstanceThatLeavesIsAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		called, goOn := make(chan struct{}), make(chan struct{})
		one := &recorder{name: "bank", commit: func(context.Context, participant.Branch) error {
			close(called)
			<-goOn
			return nil
		}}
		leave := s.serve(t, one, "one")
		committed, prepared := make(chan error), make(chan error)
		go func() { committed <- p.Commit(t.Context(), newBranch("bank")) }()
		<-called
		go leave()
		synctest.Wait()
		go func() {
			_, err := p.Prepare(t.Context(), newBranch("bank"))
			prepared <- err
		}()
		synctest.Wait()
		two := &recorder{name: "bank"}
		s.serve(t, two, "two")
		close(goOn)
		require.NoError(t, <-committed)
		require.NoError(t, <-prepared)
		require.Equal(t, []string{"prepare data"}, two.seen())
	})
}

// R4: what still runs when LeaveTime is over is not taken for what was never begun.
func TestR4APrepareThatOutlastsLeaveTimeIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		called, goOn := make(chan struct{}), make(chan struct{})
		one := &recorder{name: "bank", prepare: func(context.Context, participant.Branch) (participant.Vote, error) {
			close(called)
			<-goOn // whatever its context says
			return participant.VotePrepared, nil
		}}
		leave := s.serve(t, one, "one")
		two := &recorder{name: "bank"}
		answered := make(chan error)
		go func() {
			_, err := p.Prepare(t.Context(), newBranch("bank"))
			answered <- err
		}()
		<-called
		s.serve(t, two, "two")
		go leave()
		require.ErrorContains(t, <-answered, `instance "one" was lost before it answered`)
		require.Empty(t, two.seen())
		close(goOn)
	})
}

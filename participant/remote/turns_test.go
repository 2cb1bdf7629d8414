package remote

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// R4: a Prepare whose caller has left is at work until it returns; the Rollback that
// follows waits for that, or until its own caller leaves.
func TestR4AHandlersRollbackWaitsForThePrepareThatWasGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		bank := &recorder{name: "bank", prepare: func(context.Context, participant.Branch) (participant.Vote, error) {
			<-goOn // whatever its context says
			return participant.VotePrepared, nil
		}}
		registered, _, err := new(participant.Registry).Register(bank)
		require.NoError(t, err)
		s := &service{participant: registered}
		b := newBranch("bank")
		ref := newBranchRef(b)
		prepareCtx, leave := context.WithCancel(t.Context())
		prepared, rolledBack := make(chan error, 1), make(chan error, 1)
		go func() {
			_, err := s.Prepare(prepareCtx, &assentv1.PrepareRequest{Branch: ref})
			prepared <- err
		}()
		synctest.Wait()
		leave()
		rollback := func(ctx context.Context) {
			_, err := s.Rollback(ctx, &assentv1.ParticipantServiceRollbackRequest{Branch: ref})
			rolledBack <- err
		}
		ctx, cancel := context.WithCancel(t.Context())
		go rollback(ctx)
		synctest.Wait()
		require.Equal(t, []string{"prepare data"}, bank.seen())
		cancel()
		err = <-rolledBack
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, string(b.XID()))

		_, err = s.Commit(t.Context(), &assentv1.ParticipantServiceCommitRequest{Branch: newBranchRef(newBranch("bank"))})
		require.NoError(t, err, "other branches don't wait")
		go rollback(t.Context())
		synctest.Wait()
		close(goOn)
		require.NoError(t, <-prepared)
		require.NoError(t, <-rolledBack)
		require.Equal(t, []string{"prepare data", "commit data", "rollback data"}, bank.seen())
		require.Empty(t, s.turns.turns, "R12")
	})
}

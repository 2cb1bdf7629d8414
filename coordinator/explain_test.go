package coordinator_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
)

// explaining is an actor whose service shows what it holds prepared.
type explaining struct {
	*actor
	shows func(ctx context.Context) ([]participant.Explanation, error)
}

func (e *explaining) Explain(ctx context.Context) ([]participant.Explanation, error) {
	return e.shows(ctx)
}

// An operator is told how to finish each branch by hand, also while another
// participant hangs, and ignores its context, too.
func TestExplain(t *testing.T) {
	playWith(t, coordinator.Config{}, nil, func(t *testing.T, s *stage) {
		var held participant.Branch
		others := participant.Explanation{Name: "another's", Commit: "never", Rollback: "never"}
		a := &explaining{actor: s.actor("a")}
		a.shows = func(context.Context) ([]participant.Explanation, error) {
			return []participant.Explanation{others, {Name: "held", Branch: held, Commit: "commit it", Rollback: "roll it back"}}, nil
		}
		a.commit = answers(errDown)
		release := make(chan struct{})
		b := &explaining{actor: s.actor("b"), shows: func(context.Context) ([]participant.Explanation, error) {
			<-release
			return nil, nil
		}}
		b.commit = answers(errDown)
		c := s.actor("c")

		id := s.beginWith(nil, a, b, c)
		held = participant.Branch{Domain: "test", Tx: id}
		require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrCommitPending)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		found, err := s.Explain(ctx, id)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, `"b"`)
		require.Len(t, found, 1)
		require.Equal(t, "commit it", found[0].Commit)
		close(release)
		synctest.Wait()

		a.shows = func(context.Context) ([]participant.Explanation, error) { return nil, errors.New("no such table") }
		found, err = s.Explain(t.Context(), id)
		require.ErrorContains(t, err, `participant "a" for what is prepared: no such table`)
		require.Empty(t, found)
		_, err = s.Explain(t.Context(), participant.TxID{Term: id.Term})
		require.Error(t, err)
	})
}

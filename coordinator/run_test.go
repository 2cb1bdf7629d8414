package coordinator_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

func TestRunCommitsOrRollsBack(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.actor("a")
		var id participant.TxID
		enlist := func(ctx context.Context, tx *coordinator.Tx) error {
			id = tx.ID()
			_, err := tx.Enlist(ctx, a, []byte("data"))
			return err
		}
		require.NoError(t, s.Run(t.Context(), enlist, coordinator.WithName("n")))
		require.Equal(t, "n", s.info(id).Name)
		require.Equal(t, 1, s.story.count("a: commit"))

		a.prepare = says(participant.VoteRefused, nil)
		require.ErrorIs(t, s.Run(t.Context(), enlist), coordinator.ErrRolledBack)
		require.Equal(t, 2, s.story.count("a: prepare"), "it does not retry")

		broken := errors.New("broken")
		err := s.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
			return errors.Join(enlist(ctx, tx), broken)
		})
		require.ErrorIs(t, err, broken)
		info := s.info(id)
		require.Equal(t, record.DecisionRollback, info.Decision)
		require.Equal(t, record.CauseRequested, info.Cause)
		require.Equal(t, "broken", info.Reason)

		// Too late: the function had it committed.
		a.prepare = nil
		err = s.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
			return errors.Join(enlist(ctx, tx), s.Commit(ctx, tx.ID()), broken)
		})
		require.ErrorIs(t, err, broken)
		require.ErrorIs(t, err, coordinator.ErrCommitted)
	})
}

func TestRunRollsBackWhatPanics(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.actor("a")
		for _, die := range []func(){func() { panic("out of paper") }, runtime.Goexit} {
			var id participant.TxID
			panicked, returned := make(chan any, 1), false
			go func() {
				defer func() { panicked <- recover() }()
				_ = s.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
					id = tx.ID()
					_, err := tx.Enlist(ctx, a, nil)
					die()
					return err
				})
				returned = true
			}()
			if p := <-panicked; p != nil {
				require.Equal(t, "out of paper", p, "it goes on")
			}
			require.False(t, returned)
			synctest.Wait()
			require.Equal(t, record.DecisionRollback, s.info(id).Decision)
		}
		require.Equal(t, []string{"rollback", "rollback"}, s.story.of("a"))
	})
}

// The function's context ends with the transaction's time, and with the caller's;
// what rolls back does not need it.
func TestRunRollsBackWhatTakesTooLong(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		wait := func(ctx context.Context, _ *coordinator.Tx) error {
			<-ctx.Done()
			return context.Cause(ctx)
		}
		start := time.Now()
		err := s.Run(t.Context(), wait, coordinator.WithTimeout(5*time.Second))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "timed out")
		require.Equal(t, 5*time.Second, time.Since(start))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var id participant.TxID
		err = s.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) error {
			id = tx.ID()
			return wait(ctx, tx)
		})
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, record.DecisionRollback, s.info(id).Decision)

		// It ignores its context: Commit comes too late.
		err = s.Run(t.Context(), func(context.Context, *coordinator.Tx) error {
			time.Sleep(time.Minute)
			return nil
		})
		require.ErrorIs(t, err, coordinator.ErrRolledBack)
	})
}

// A handle of another transaction manager enlists where it was told to.
func TestTxEnlistsWhereItWasToldTo(t *testing.T) {
	id := participant.TxID{Term: 7}
	p := participant.Func("p", nil, nil, nil)
	var _ participant.Enlister = coordinator.NewTx(id, nil)
	tx := coordinator.NewTx(id, func(_ context.Context, got participant.Participant, data []byte) (participant.Branch, error) {
		require.Same(t, p, got)
		return participant.Branch{Tx: id, Number: 3, Data: data}, nil
	})
	require.Equal(t, id, tx.ID())
	b, err := tx.Enlist(t.Context(), p, []byte("d"))
	require.NoError(t, err)
	require.Equal(t, participant.Branch{Tx: id, Number: 3, Data: []byte("d")}, b)
}

// Options can be read by those who send them elsewhere.
func TestOptionsCanBeRead(t *testing.T) {
	var o coordinator.BeginOptions
	for _, option := range []coordinator.BeginOption{
		coordinator.WithName("n"), coordinator.WithOwner("o"), coordinator.WithRequestID("r"), coordinator.WithTimeout(time.Minute),
	} {
		option(&o)
	}
	require.Equal(t, coordinator.BeginOptions{Name: "n", Owner: "o", RequestID: "r", Timeout: time.Minute}, o)
	var e coordinator.EnlistOptions
	coordinator.WithData([]byte("d"))(&e)
	require.Equal(t, coordinator.EnlistOptions{Data: []byte("d")}, e)
}

package postgres_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/postgres"
)

func TestASecondJoinReturnsTheSameSession(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begun()
	again, err := f.Join(t.Context(), tx)
	require.NoError(t, err)
	require.Same(t, session, again)
	require.EqualValues(t, 1, f.pool.Stat().AcquiredConns())

	_, err = f.JoinSQL(t.Context(), tx)
	require.ErrorContains(t, err, "joined already")

	// Another process would be another transaction of the database under the same XID.
	_, err = f.start().Join(t.Context(), tx)
	require.ErrorIs(t, err, errConflict)
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	f.poolIsClean()
}

func TestJoinsThatMeetGetTheSameSession(t *testing.T) {
	f := newFixture(t)
	tx := newTransaction()
	sessions := make(chan *postgres.Session)
	for range 8 {
		go func() {
			session, err := f.Join(t.Context(), tx)
			if err != nil {
				t.Error(err)
			}
			sessions <- session
		}()
	}
	first := <-sessions
	for range 7 {
		require.Same(t, first, <-sessions)
	}
	require.EqualValues(t, 1, f.pool.Stat().AcquiredConns())
}

func TestJoinFailsAsThePoolDoes(t *testing.T) {
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	tx, _ := f.begun()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	other := newTransaction()
	_, err := f.Join(ctx, other)
	require.ErrorIs(t, err, context.Canceled)
	require.Nil(t, other.Data)
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	_, err = f.Join(t.Context(), other)
	require.NoError(t, err)
}

// refusing is a transaction that takes no branches.
type refusing struct{ *transaction }

func (refusing) Enlist(context.Context, participant.Participant, []byte) (participant.Branch, error) {
	return participant.Branch{}, errConflict
}

func TestJoinGivesBackWhatEnlistRefuses(t *testing.T) {
	f := newFixture(t)
	_, err := f.Join(t.Context(), refusing{newTransaction()})
	require.ErrorIs(t, err, errConflict)
	_, err = f.JoinSQL(t.Context(), refusing{newTransaction()})
	require.ErrorIs(t, err, errConflict)
	f.poolIsClean()
}

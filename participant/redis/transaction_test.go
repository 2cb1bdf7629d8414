package redis_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/wal/bolt"
)

// shop is a coordinator with its log in a file, the Redis server, and a bank.
type shop struct {
	*service
	bank  *participanttest.Memory
	path  string
	store *bolt.Store
	dtm   *coordinator.DTM
}

func newShop(t *testing.T) *shop {
	s := &shop{service: newService(t), bank: participanttest.NewStore().Participant("bank"), path: filepath.Join(t.TempDir(), "assent.db")}
	s.open()
	t.Cleanup(s.close)
	return s
}

func (s *shop) open() {
	s.t.Helper()
	var err error
	s.store, err = bolt.Open(s.path, nil)
	require.NoError(s.t, err)
	s.Participant = s.fresh()
	s.dtm, err = coordinator.Open(s.t.Context(), coordinator.Config{
		Domain: "shop", Store: s.store, Participants: []participant.Participant{s.Participant, s.bank}, RetryMax: 100 * time.Millisecond,
	})
	require.NoError(s.t, err)
}

func (s *shop) close() {
	s.t.Helper()
	require.NoError(s.t, errors.Join(s.dtm.Close(context.Background()), s.store.Close()))
}

func (s *shop) reopen() {
	s.t.Helper()
	s.close()
	s.open()
	require.NoError(s.t, s.dtm.WaitRecovered(s.t.Context()))
}

// order runs a transaction of the bank and Redis. It leaves "paid:n" and an event.
func (s *shop) order(n int) error {
	return s.dtm.Run(s.t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		if _, err := tx.Enlist(ctx, s.bank, nil); err != nil {
			return err
		}
		session, err := s.Join(ctx, tx)
		if err != nil {
			return err
		}
		return errors.Join(session.IncrBy(fmt.Sprint("paid:", n), 1), session.IncrBy("paid", 1), session.XAdd("events", "order", fmt.Sprint(n)))
	})
}

func TestTransactionOfACoordinator(t *testing.T) {
	s := newShop(t)
	require.NoError(t, s.order(1))
	require.Equal(t, "1 1", s.get("paid:1")+" "+s.get("paid"))

	s.do("SET", "paid:2", "abc")
	err := s.order(2)
	require.ErrorIs(t, err, coordinator.ErrRolledBack)
	require.ErrorContains(t, err, "not an integer")
	require.Equal(t, "1", s.get("paid"))

	// Alone it commits in one phase.
	require.NoError(t, s.dtm.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		session, err := s.Join(ctx, tx)
		if err != nil {
			return err
		}
		return session.Set("alone", "1")
	}))
	require.Equal(t, "1", s.get("alone"))

	// A branch without operations changes nothing, and is no trouble.
	require.NoError(t, s.dtm.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		if _, err := tx.Enlist(ctx, s.bank, nil); err != nil {
			return err
		}
		_, err := s.Join(ctx, tx)
		return err
	}))
}

// R10: a branch that was prepared and never decided is found, and rolled back.
func TestR10OrphanIsRolledBack(t *testing.T) {
	s := newShop(t)
	id, err := s.dtm.Begin(t.Context())
	require.NoError(t, err)
	session, err := s.Join(t.Context(), s.dtm.Tx(id))
	require.NoError(t, err)
	require.NoError(t, session.Set("a", "1"))
	vote, err := s.Prepare(t.Context(), session.Branch())
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	s.reopen()
	require.Eventually(t, func() bool {
		listing, err := s.List(t.Context(), "shop")
		return err == nil && len(listing.Prepared) == 0
	}, 30*time.Second, time.Millisecond)
	endedAs(t, participant.OutcomeRolledBack, s.Commit(t.Context(), session.Branch()))
	require.Empty(t, s.get("a"))
}

// The server is killed again and again while sixteen clients are at work, and the
// coordinator is restarted at the end: everything committed is there, once, and
// nothing else.
func TestServerIsKilledUnderLoad(t *testing.T) {
	const clients, orders, kills = 16, 12, 6
	s := newShop(t)
	outcomes := make([]error, clients*orders)
	started := make(chan struct{}, len(outcomes))
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for i := range orders {
				n := client*orders + i
				started <- struct{}{}
				outcomes[n] = s.order(n)
			}
		})
	}
	for range kills {
		for range len(outcomes) / (kills + 1) {
			<-started
		}
		require.NoError(t, server(t).Restart(t.Context()))
	}
	wg.Wait()
	s.reopen()

	committed := 0
	for n, err := range outcomes {
		want := ""
		if err == nil || errors.Is(err, coordinator.ErrCommitPending) {
			want = "1"
			committed++
		} else {
			require.False(t, errors.Is(err, coordinator.ErrOutcomeUnknown), "%v", err)
		}
		require.Equal(t, want, s.get(fmt.Sprint("paid:", n)), "order %d: %v", n, err)
	}
	t.Log(committed, "of", len(outcomes), "committed")
	require.NotZero(t, committed)
	require.Equal(t, fmt.Sprint(committed), s.get("paid"))
	require.EqualValues(t, committed, s.client.XLen(t.Context(), "events").Val())
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Empty(t, listing.Prepared)
	require.Empty(t, s.client.Keys(t.Context(), prefix+"staged:*").Val())
}

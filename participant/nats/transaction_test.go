package nats_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// shop is a coordinator with its log in a file, the stream, and a bank.
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

// order runs a transaction of the bank and the stream. It leaves three messages.
func (s *shop) order(subject string) error {
	return s.dtm.Run(s.t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		if _, err := tx.Enlist(ctx, s.bank, nil); err != nil {
			return err
		}
		session, err := s.Join(ctx, tx)
		if err != nil {
			return err
		}
		return errors.Join(session.Publish(subject, nil, []byte("1")), session.Publish(subject, nil, []byte("2")), session.Publish("orders.all", nil, []byte(subject)))
	})
}

func TestTransactionOfACoordinator(t *testing.T) {
	s := newShop(t)
	require.NoError(t, s.order("orders.1"))
	require.Equal(t, []string{"orders.1", "orders.1", "orders.all"}, s.published(stream, "orders.>"))

	failed := errors.New("no such order")
	require.ErrorIs(t, s.dtm.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		session, err := s.Join(ctx, tx)
		if err != nil {
			return err
		}
		return errors.Join(session.Publish("orders.2", nil, nil), failed)
	}), failed)

	// Alone it commits in one phase, and stages nothing.
	require.NoError(t, s.dtm.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		session, err := s.Join(ctx, tx)
		if err != nil {
			return err
		}
		return session.Publish("orders.3", nil, nil)
	}))
	require.Empty(t, s.published(stream, "orders.2"))
	require.Len(t, s.published(stream, "orders.3"), 1)
	require.Empty(t, s.published(staging, staged+">"))

	// A branch without messages changes nothing, and is no trouble.
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
	require.NoError(t, session.Publish("orders.1", nil, nil))
	vote, err := s.Prepare(t.Context(), session.Branch())
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	s.reopen()
	require.Eventually(t, func() bool {
		listing, err := s.List(t.Context(), "shop")
		return err == nil && len(listing.Prepared) == 0
	}, 30*time.Second, time.Millisecond)
	endedAs(t, participant.OutcomeRolledBack, s.Commit(t.Context(), session.Branch()))
	require.Empty(t, s.published(stream, "orders.>"))
}

// The server is killed again and again while sixteen clients are at work, and the
// coordinator is restarted at the end: of everything committed all messages are there,
// once, and of nothing else any.
func TestServerIsKilledUnderLoad(t *testing.T) {
	const clients, orders, kills = 16, 6, 5
	s := newShop(t)
	outcomes := make([]error, clients*orders)
	started := make(chan struct{}, len(outcomes))
	var wg sync.WaitGroup
	for client := range clients {
		wg.Go(func() {
			for i := range orders {
				n := client*orders + i
				if err := connected(t.Context(), s.js.Conn()); err != nil {
					t.Error(err)
				}
				started <- struct{}{}
				outcomes[n] = s.order(fmt.Sprint("orders.n", n))
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
	require.NoError(t, connected(t.Context(), s.js.Conn()))
	s.reopen()

	committed := 0
	for n, err := range outcomes {
		want := 0
		if err == nil || errors.Is(err, coordinator.ErrCommitPending) {
			want = 2
			committed++
		} else {
			require.False(t, errors.Is(err, coordinator.ErrOutcomeUnknown), "%v", err)
		}
		require.Len(t, s.published(stream, fmt.Sprint("orders.n", n)), want, "order %d: %v", n, err)
	}
	t.Log(committed, "of", len(outcomes), "committed")
	require.NotZero(t, committed)
	require.Len(t, s.published(stream, "orders.all"), committed)
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Empty(t, listing.Prepared)
	require.Empty(t, s.published(staging, staged+">"))
}

// A server that is killed while it stores a batch, message by message, has all of it
// or nothing afterwards: that is what the marker rests on.
func TestServerIsKilledInTheMiddleOfABatch(t *testing.T) {
	const messages, rounds = 900, 10
	s := newService(t)
	fill := func(subject string) participant.Branch {
		session := s.join()
		for range messages {
			require.NoError(t, session.Publish(subject, nil, make([]byte, 200)))
		}
		b := session.Branch()
		vote, err := s.Prepare(t.Context(), b)
		require.NoError(t, err)
		require.Equal(t, participant.VotePrepared, vote)
		return b
	}
	b := fill("orders.usual")
	begun := time.Now()
	require.NoError(t, s.Commit(t.Context(), b))
	usual := time.Since(begun)
	var none, all int
	for i := range rounds {
		subject := fmt.Sprint("orders.n", i)
		b := fill(subject)
		answer := make(chan error, 1)
		go func() { answer <- s.Commit(t.Context(), b) }()
		moment := time.NewTimer(rand.N(usual))
		<-moment.C
		require.NoError(t, server(t).Restart(t.Context()))
		err := <-answer
		require.NoError(t, connected(t.Context(), s.js.Conn()))
		switch n := len(s.published(stream, subject)); n {
		case 0:
			require.Error(t, err)
			none++
		case messages:
			all++
		default:
			require.Fail(t, "a part of a batch", "%d of %d messages", n, messages)
		}
		require.NoError(t, s.fresh().Commit(t.Context(), b))
		require.Len(t, s.published(stream, subject), messages)
	}
	t.Log(none, "commits were lost by the kill,", all, "were not")
}

package nats_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/nats"
)

// R10: a list has its domain's branches and no other's.
func TestR10ListIsExact(t *testing.T) {
	s := newService(t)
	var want []participant.XID
	for i, domain := range []string{"shop", "shop-", "sho", "shop0", "shop"} {
		tx := s.begin()
		tx.branch.Domain, tx.branch.Number = domain, i
		session, err := s.Join(t.Context(), tx)
		require.NoError(t, err)
		require.NoError(t, session.Publish("orders.1", nil, nil))
		_, err = s.Prepare(t.Context(), session.Branch())
		require.NoError(t, err)
		if domain == "shop" {
			want = append(want, session.Branch().XID())
		}
	}
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	var got []participant.XID
	for _, b := range listing.Prepared {
		got = append(got, b.XID())
	}
	require.ElementsMatch(t, want, got)
	require.Len(t, listing.Highest, 1)
}

// R10: all of them, though the server gives no more than 100,000 subjects at once.
func TestR10LongListIsWhole(t *testing.T) {
	const subjects = 100_050
	s := newService(t)
	s.create(jetstream.StreamConfig{Name: staging, Subjects: []string{"assent.outbox.staged.>", "assent.outbox.term.>"}, Storage: jetstream.MemoryStorage})
	for i := range subjects {
		if subject := fmt.Sprint(staged, i); i%1000 == 999 {
			s.put(subject, "") // acknowledged: what came before is stored, too
		} else {
			require.NoError(t, s.js.Conn().Publish(subject, nil))
		}
	}
	s.put(fmt.Sprint(staged, 0), "")
	got, err := s.Subjects(t.Context(), staged+">")
	require.NoError(t, err)
	require.Len(t, got, subjects)
	require.True(t, slices.IsSorted(got))
}

func TestHighestIsPerTerm(t *testing.T) {
	s := newService(t)
	first, second := s.begin().branch, s.begin().branch
	other := s.begin().branch
	other.Tx.Term = participant.NewTerm(7, 7)
	elsewhere := s.begin().branch
	elsewhere.Domain = "shop-2"
	s.join() // makes the staging stream
	for _, b := range []participant.Branch{second, first, other, elsewhere} {
		require.NoError(t, s.fresh().Rollback(t.Context(), b))
	}
	// A fresh process that is told of the lower one lowers nothing.
	before, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.ElementsMatch(t, []participant.TxID{second.Tx, other.Tx}, before.Highest)
	unknown := s.begin().branch
	require.ErrorIs(t, s.Commit(t.Context(), unknown), participant.ErrUnknownBranch)
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Empty(t, listing.Prepared)
	require.ElementsMatch(t, []participant.TxID{unknown.Tx, other.Tx}, listing.Highest)

	decided := s.staged("orders.1")
	require.NoError(t, s.CommitOnePhase(t.Context(), decided))
	listing, err = s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Contains(t, listing.Highest, decided.Tx)
}

// One write serves all who wait, and nobody goes on before it is there.
func TestHighestOfManyAtOnce(t *testing.T) {
	s := newService(t)
	var wg sync.WaitGroup
	s.join()
	for range 40 {
		b := s.begin().branch
		wg.Go(func() {
			if err := s.Rollback(t.Context(), b); err != nil {
				t.Error(err)
				return
			}
			listing, err := s.List(t.Context(), "shop")
			if err != nil || len(listing.Highest) != 1 || listing.Highest[0].Compare(b.Tx) < 0 {
				t.Error(listing.Highest, err)
			}
		})
	}
	wg.Wait()
}

func TestListTellsWhatItCantRead(t *testing.T) {
	s := newService(t)
	_, err := s.List(t.Context(), "shop")
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, `ask stream "ASSENT_outbox"`)
	s.join()
	const name = "assent.outbox.term.shop."
	s.put(name+"x", "what is this")
	_, err = s.List(t.Context(), "shop")
	require.ErrorContains(t, err, "is not a term")
	s.put("assent.outbox.term.shop-2."+s.term.String(), "what is this")
	_, err = s.List(t.Context(), "shop-2")
	require.ErrorContains(t, err, `highest transaction "what is this"`)
	s.put(staged+"shop-3.x", "what is this")
	_, err = s.List(t.Context(), "shop-3")
	require.ErrorContains(t, err, "did not write")
}

// A finished branch's marker goes after Retention once it is forgotten, and one in
// doubt has none.
func TestForget(t *testing.T) {
	s := newService(t, func(c *nats.Config) { c.Retention = 90 * time.Minute })
	committed, rolledBack, prepared, unknown := s.prepared("orders.1"), s.begin().branch, s.prepared("orders.2"), s.begin().branch
	require.NoError(t, s.Commit(t.Context(), committed))
	require.NoError(t, s.Rollback(t.Context(), rolledBack))
	for _, m := range s.messages(stream, markers+">") {
		require.Empty(t, m.Header.Get("Nats-TTL"))
	}
	branches := []participant.Branch{unknown, committed, committed, rolledBack, prepared}
	branches = append(branches, slices.Repeat([]participant.Branch{unknown}, 600)...)
	var sequences []uint64
	for range 2 {
		require.NoError(t, s.Forget(t.Context(), branches))
		found := s.messages(stream, markers+">")
		require.Len(t, found, 2)
		for i, want := range []string{"committed", "rolled back"} {
			require.Equal(t, want, string(found[i].Data))
			require.Equal(t, "5400", found[i].Header.Get("Nats-TTL"))
			sequences = append(sequences, found[i].Sequence)
		}
	}
	require.Equal(t, sequences[:2], sequences[2:]) // forgotten once
	require.NoError(t, s.Commit(t.Context(), committed))
	endedAs(t, participant.OutcomeRolledBack, s.Commit(t.Context(), rolledBack))
	s.refuses(rolledBack, participant.ErrRefused, "rolled back already")
	require.NoError(t, s.Commit(t.Context(), prepared))
	require.Equal(t, []string{"orders.1", "orders.2"}, s.published(stream, "orders.>"))
}

func TestForgetOfOne(t *testing.T) {
	s := newService(t)
	b := s.prepared("orders.1")
	require.NoError(t, s.Commit(t.Context(), b))
	require.NoError(t, s.Forget(t.Context(), []participant.Branch{b}))
	require.Equal(t, "3600", s.messages(stream, markers+">")[0].Header.Get("Nats-TTL"))
}

// What no Forget came for goes with its term, unless something of it is in doubt.
func TestUnusedTermsAreForgotten(t *testing.T) {
	s := newService(t)
	unused, inDoubt := participant.NewTerm(1, 1), participant.NewTerm(2, 2)
	for _, s.term = range []participant.Term{unused, inDoubt} {
		require.NoError(t, s.Commit(t.Context(), s.prepared("orders.1")))
	}
	doubtful := s.prepared("orders.2")
	terms := func() (terms []participant.Term) {
		listing, err := s.List(t.Context(), "shop")
		require.NoError(t, err)
		for _, id := range listing.Highest {
			terms = append(terms, id.Term)
		}
		return terms
	}
	require.ElementsMatch(t, []participant.Term{unused, inDoubt}, terms())
	s.SetMaxRetention(0)
	require.Equal(t, []participant.Term{inDoubt}, terms())
	require.Len(t, s.published(stream, markers+">"), 1)
	require.Len(t, s.published(stream, "orders.>"), 2)
	require.NoError(t, s.Commit(t.Context(), doubtful))
	require.Empty(t, terms())
	require.Empty(t, s.published(stream, markers+">"))
	require.Empty(t, s.published(staging, ">"))
}

// A marker stays for MaxRetention also in a term of which nothing newer came: it is what
// answers a repeated Commit and refuses a late Prepare.
func TestYoungMarkerOfAnOldTermIsKept(t *testing.T) {
	s := newService(t)
	s.join()
	for {
		s.SetMaxRetention(time.Hour)
		s.term = participant.NewTerm(1, rand.Uint32())
		late := s.begin().branch
		require.NoError(t, s.Rollback(t.Context(), s.begin().branch))
		term := s.messages(staging, "assent.outbox.term.shop."+s.term.String())[0]
		for range 20 { // so that a list takes less time than lies between the two
			_, err := s.List(t.Context(), "shop")
			require.NoError(t, err)
		}
		require.NoError(t, s.Rollback(t.Context(), late))
		marker := s.messages(stream, markers+tokens(late))[0]
		retention := marker.Time.Sub(term.Time)
		s.SetMaxRetention(retention)
		_, err := s.List(t.Context(), "shop")
		require.NoError(t, err)
		if time.Since(marker.Time) < retention { // else the list came too late to tell
			require.Len(t, s.messages(stream, markers+tokens(late)), 1)
			return
		}
	}
}

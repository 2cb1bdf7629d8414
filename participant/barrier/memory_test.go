package barrier_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

// pass makes the rows older, and so time pass.
func (s *service) pass(d time.Duration) {
	s.exec(`UPDATE assent_branch SET since = since - ?, expires = CASE WHEN expires = 0 THEN 0 ELSE expires - ? END`, int(d/time.Second), int(d/time.Second))
	s.exec(`UPDATE assent_branch_term SET used = used - ?`, int(d/time.Second))
}

func (s *service) rows(b participant.Branch) int {
	return s.number(`SELECT count(*) FROM assent_branch WHERE id = ?`, string(b.XID()))
}

// prune makes enough calls that the rows which have expired are deleted.
func (s *service) prune() {
	for range 64 {
		require.ErrorIs(s.t, s.Commit(s.t.Context(), branch(0)), participant.ErrUnknownBranch)
	}
}

// R10: the domain is matched whole, never as a pattern.
func TestR10ListsExactlyItsDomain(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newService(t)
		in := func(domain string, counter uint32, n int) participant.Branch {
			return participant.Branch{Domain: domain, Tx: tx(counter, n), Epoch: 1, Number: 63}
		}
		for _, domain := range []string{"order", "orders-", "order0", "a", "z", "orders0", "ordersx", "-orders"} {
			s.prepare(in(domain, 1, 900))
		}
		s.prepare(in("orders", 1, 1))
		s.prepare(in("orders", 1, 2))
		s.prepare(in("orders", 40, 3))
		s.prepare(in("orders", 1, 4))
		require.NoError(t, s.Commit(t.Context(), in("orders", 1, 4)))
		require.NoError(t, s.Rollback(t.Context(), in("orders", 1, 5)))

		listing, err := s.List(t.Context(), "orders")
		require.NoError(t, err)
		listed := func(counter uint32, n int) participant.Branch {
			return participant.Branch{Domain: "orders", Tx: tx(counter, n), Number: 63}
		}
		require.ElementsMatch(t, []participant.Branch{listed(1, 1), listed(1, 2), listed(40, 3)}, listing.Prepared)
		require.ElementsMatch(t, []participant.TxID{tx(1, 5), tx(40, 3)}, listing.Highest)

		for _, none := range []string{"nobody", "order_", "%", "", "ORDERS", "ord"} {
			listing, err = s.List(t.Context(), none)
			require.NoError(t, err)
			require.Empty(t, listing)
		}
	})
}

func TestParticipantsMayShareTheTables(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		a := on.newService(t)
		b := a.another(func(c *barrier.Config) { c.Name = "other" })
		a.prepare(branch(1))
		b.prepare(with(branch(1), func(b *participant.Branch) { b.Number = 1 }))
		for number, s := range []*service{a, b} {
			listing, err := s.List(t.Context(), "orders")
			require.NoError(t, err)
			require.Len(t, listing.Prepared, 1)
			require.Equal(t, number, listing.Prepared[0].Number)
		}
	})
}

func TestHighestCountsEveryCallItWasTold(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		for name, call := range map[string]func(*service, participant.Branch){
			"prepare": func(s *service, b participant.Branch) { s.prepare(b) },
			"refused prepare": func(s *service, b participant.Branch) {
				b.Data = []byte(refuseData)
				s.refuses(b, participant.ErrRefused, "")
			},
			"commit of unknown": func(s *service, b participant.Branch) { require.Error(s.t, s.Commit(s.t.Context(), b)) },
			"rollback":          func(s *service, b participant.Branch) { require.NoError(s.t, s.Rollback(s.t.Context(), b)) },
			"one phase":         func(s *service, b participant.Branch) { require.NoError(s.t, s.CommitOnePhase(s.t.Context(), b)) },
		} {
			t.Run(name, func(t *testing.T) {
				s := on.newService(t)
				s.prepare(branch(5))
				call(s, branch(9))
				s.prepare(branch(7))
				listing, err := s.List(t.Context(), "orders")
				require.NoError(t, err)
				require.Equal(t, []participant.TxID{tx(1, 9)}, listing.Highest)
			})
		}
	})
}

func TestForgottenBranchStaysForTheRetention(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		require.NoError(t, s.Rollback(t.Context(), b))
		require.NoError(t, s.Forget(t.Context(), []participant.Branch{b}))
		s.pass(59 * time.Minute)
		s.prune()
		// A Prepare sent before the rollback may come only now.
		s.refuses(b, participant.ErrRefused, "rolled back already")
		s.pass(2 * time.Minute)
		s.prune()
		require.Zero(t, s.rows(b))
	})
}

func TestUnforgottenBranchStaysForTheMaxRetention(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		s.prepare(b)
		require.NoError(t, s.Commit(t.Context(), b))
		s.pass(barrier.DefaultMaxRetention - time.Minute)
		s.prune()
		require.NoError(t, s.Commit(t.Context(), b))
		s.pass(2 * time.Minute)
		s.prune()
		require.Zero(t, s.rows(b))
	})
}

func TestForgetLeavesBranchesInDoubt(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, inDoubt := on.newService(t), branch(1)
		s.prepare(inDoubt)
		require.NoError(t, s.Forget(t.Context(), []participant.Branch{inDoubt, branch(2)}))
		s.pass(10 * barrier.DefaultMaxRetention)
		s.prune()
		require.NoError(t, s.Commit(t.Context(), inDoubt))
		require.Equal(t, confirmed, s.effects(inDoubt))
	})
}

func TestForgetOfManyBranchesAndRepeated(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newFast(t)
		var many []participant.Branch
		for n := 1; n <= 600; n++ {
			b := branch(n)
			require.NoError(t, s.Rollback(t.Context(), b))
			many = append(many, b)
		}
		require.NoError(t, s.Forget(t.Context(), many))
		s.pass(30 * time.Minute)
		// A second Forget does not put the expiry off.
		require.NoError(t, s.Forget(t.Context(), many))
		s.pass(31 * time.Minute)
		for range 3 {
			s.prune()
		}
		require.Zero(t, s.number(`SELECT count(*) FROM assent_branch`))
	})
}

// R10: the proof that a log is old must outlive the rows; R9: so must the epoch.
func TestR9R10TermOutlivesItsRows(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newService(t)
		for n := 1; n <= 3; n++ {
			b := with(branch(n), func(b *participant.Branch) { b.Epoch = 4 })
			require.NoError(t, s.Rollback(t.Context(), b))
			require.NoError(t, s.Forget(t.Context(), []participant.Branch{b}))
		}
		s.pass(2 * time.Hour)
		require.NoError(t, s.Forget(t.Context(), []participant.Branch{branch(0)}))
		require.Zero(t, s.number(`SELECT count(*) FROM assent_branch`))

		listing, err := s.List(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, participant.Listing{Highest: []participant.TxID{tx(1, 3)}}, listing)
		s.refuses(branch(4), participant.ErrStaleEpoch, "epoch 1, seen 4")
	})
}

// R9: a term that is about to be deleted as unused is not while it is used again.
func TestR9TermIsUsedAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newService(t)
		s.prepare(with(branch(1), func(b *participant.Branch) { b.Epoch = 4 }))
		used := func() int { return s.number(`SELECT used FROM assent_branch_term`) }
		before := used()
		s.pass(barrier.DefaultMaxRetention)
		require.Less(t, used(), before)
		s.prepare(with(branch(2), func(b *participant.Branch) { b.Epoch = 4 }))
		require.GreaterOrEqual(t, used(), before)
		s.refuses(branch(3), participant.ErrStaleEpoch, "epoch 1, seen 4")
	})
}

func TestManyPruneAtOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		const finished, processes, calls = 600, 4, 4
		s := on.newFast(t)
		for n := range finished {
			require.NoError(t, s.Rollback(t.Context(), branch(n+1)))
		}
		s.pass(2 * barrier.DefaultMaxRetention)
		s.prepare(branch(finished + 1))
		var wg sync.WaitGroup
		for range processes {
			another := s.another()
			wg.Go(func() {
				for range calls {
					if err := another.Forget(t.Context(), []participant.Branch{branch(0)}); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, s.number(`SELECT count(*) FROM assent_branch`))
		listing, err := s.List(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, []participant.TxID{tx(1, finished+1)}, listing.Highest)
	})
}

// A row that another process is about to delete is left to it: the same key may be
// another branch's row a moment later.
func TestPruneLeavesWhatIsLocked(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		if on.server == nil {
			return // one writer at a time
		}
		s := on.newService(t)
		for n := range 3 {
			require.NoError(t, s.Rollback(t.Context(), branch(n+1)))
		}
		s.pass(2 * barrier.DefaultMaxRetention)
		other, err := s.db.Begin()
		require.NoError(t, err)
		defer func() { require.NoError(t, other.Rollback()) }()
		_, err = other.Exec(on.sql(`DELETE FROM assent_branch WHERE id = ?`), string(branch(2).XID()))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		require.NoError(t, s.Forget(ctx, []participant.Branch{branch(0)}))
		require.Equal(t, []int{0, 1, 0}, []int{s.rows(branch(1)), s.rows(branch(2)), s.rows(branch(3))})
	})
}

// R12: a term for every start of every coordinator would grow without bound.
func TestR12UnusedTermsAreForgotten(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newService(t)
		in := func(counter uint32) participant.Branch {
			return participant.Branch{Domain: "orders", Tx: tx(counter, 1), Epoch: 1}
		}
		require.NoError(t, s.Rollback(t.Context(), in(2)))
		s.prepare(in(3))
		s.pass(barrier.DefaultMaxRetention + time.Minute)
		forget := func() { require.NoError(t, s.Forget(t.Context(), []participant.Branch{in(9)})) }
		forget()
		listing, err := s.List(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, []participant.TxID{tx(2, 1), tx(3, 1)}, listing.Highest)

		// The term whose last row went is kept once more as long; the one with a
		// branch in doubt for ever.
		s.pass(barrier.DefaultMaxRetention + time.Minute)
		forget()
		listing, err = s.List(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, []participant.TxID{tx(3, 1)}, listing.Highest)
	})
}

package barrier_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

func TestCommitRunsReserveThenConfirm(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		s.prepare(b)
		require.Equal(t, reserved, s.effects(b))
		require.NoError(t, s.Commit(t.Context(), b))
		require.Equal(t, confirmed, s.effects(b))
	})
}

func TestRollbackRunsReserveThenCancel(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		s.prepare(b)
		require.NoError(t, s.Rollback(t.Context(), b))
		require.Equal(t, cancelled, s.effects(b))
	})
}

func TestRepeatedCallsRunEachFunctionOnce(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, kept, undone := on.newService(t), branch(1), branch(2)
		for range 3 {
			s.prepare(kept)
			s.prepare(undone)
		}
		for range 3 {
			require.NoError(t, s.Commit(t.Context(), kept))
			require.NoError(t, s.Rollback(t.Context(), undone))
		}
		require.Equal(t, confirmed, s.effects(kept))
		require.Equal(t, cancelled, s.effects(undone))
	})
}

func TestRollbackBeforePrepareLeavesATombstone(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		require.NoError(t, s.Rollback(t.Context(), b))
		s.refuses(b, participant.ErrRefused, "rolled back already")
		require.NoError(t, s.Rollback(t.Context(), b))
		require.Equal(t, nothing, s.effects(b))
	})
}

// R7: a branch that the database does not know is never taken for committed.
func TestR7CommitOfAnUnknownBranch(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		require.ErrorIs(t, s.Commit(t.Context(), b), participant.ErrUnknownBranch)
		require.Equal(t, nothing, s.effects(b))

		// It leaves no row that would keep the branch from being prepared.
		s.prepare(b)
		require.NoError(t, s.Commit(t.Context(), b))
		require.Equal(t, confirmed, s.effects(b))
	})
}

func TestFinishedBranchToldOtherwise(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, kept, undone := on.newService(t), branch(1), branch(2)
		s.prepare(kept)
		s.prepare(undone)
		require.NoError(t, s.Commit(t.Context(), kept))
		require.NoError(t, s.Rollback(t.Context(), undone))

		endedAs(t, participant.OutcomeCommitted, s.Rollback(t.Context(), kept))
		endedAs(t, participant.OutcomeRolledBack, s.Commit(t.Context(), undone))
		s.refuses(kept, participant.ErrRefused, "committed already")
		s.refuses(undone, participant.ErrRefused, "rolled back already")
		require.Equal(t, confirmed, s.effects(kept))
		require.Equal(t, cancelled, s.effects(undone))
	})
}

func TestRefusalUndoesReserveAndStays(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newService(t)
		b := with(branch(1), func(b *participant.Branch) { b.Data = []byte(refuseData) })
		s.refuses(b, participant.ErrRefused, "insufficient funds")
		require.Equal(t, nothing, s.effects(b))

		// A duplicate may arrive when Reserve would accept.
		s.refuses(with(b, func(b *participant.Branch) { b.Data = nil }), participant.ErrRefused, "rolled back already")
		require.NoError(t, s.Rollback(t.Context(), b))
		require.Equal(t, nothing, s.effects(b))
	})
}

func TestFailedReserveIsAnUnknownVoteAndLeavesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newService(t)
		b := with(branch(1), func(b *participant.Branch) { b.Data = []byte(failData) })
		vote, err := s.Prepare(t.Context(), b)
		require.False(t, vote.Valid())
		require.ErrorIs(t, err, errNotToday)
		require.NotErrorIs(t, err, participant.ErrRefused)
		require.Equal(t, nothing, s.effects(b))
		require.ErrorIs(t, s.Commit(t.Context(), b), participant.ErrUnknownBranch)
	})
}

func TestFailedConfirmAndCancelAreCalledAgain(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		fail := true
		failing := func(f barrier.Func) barrier.Func {
			return func(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
				if err := f(ctx, tx, b); err != nil || !fail {
					return err
				}
				return errNotToday
			}
		}
		s := on.newService(t, func(c *barrier.Config) { c.Confirm, c.Cancel = failing(c.Confirm), failing(c.Cancel) })
		kept, undone := branch(1), branch(2)
		s.prepare(kept)
		s.prepare(undone)
		require.ErrorIs(t, s.Commit(t.Context(), kept), errNotToday)
		require.ErrorIs(t, s.Rollback(t.Context(), undone), errNotToday)
		require.Equal(t, reserved, s.effects(kept))
		require.Equal(t, reserved, s.effects(undone))

		fail = false
		require.NoError(t, s.Commit(t.Context(), kept))
		require.NoError(t, s.Rollback(t.Context(), undone))
		require.Equal(t, confirmed, s.effects(kept))
		require.Equal(t, cancelled, s.effects(undone))
	})
}

// The local transaction is undone, so no error may tell that the branch ended.
func TestErrorsOfFunctionsEndNoBranch(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		for _, failure := range []error{
			participant.ErrRefused, participant.ErrUnknownBranch, participant.ErrStaleEpoch, participant.ErrConfig, errNotToday,
			&participant.HeuristicError{Outcome: participant.OutcomeHeuristicCommit},
		} {
			t.Run(failure.Error(), func(t *testing.T) {
				fail := func(context.Context, *sql.Tx, participant.Branch) error { return fmt.Errorf("failed: %w", failure) }
				s, b := on.newService(t, func(c *barrier.Config) { c.Confirm, c.Cancel = fail, fail }), branch(1)
				onePhase := s.CommitOnePhase(t.Context(), b)
				s.prepare(b)
				for _, err := range []error{onePhase, s.Commit(t.Context(), b), s.Rollback(t.Context(), b)} {
					require.ErrorContains(t, err, failure.Error())
					require.NotErrorIs(t, err, participant.ErrRefused)
					require.NotErrorIs(t, err, participant.ErrUnknownBranch)
					require.NotErrorIs(t, err, participant.ErrStaleEpoch)
					require.False(t, isHeuristic(err))
					// Any other is of use: a retryable one, a misconfiguration.
					if errors.Is(failure, participant.ErrConfig) || errors.Is(failure, errNotToday) {
						require.ErrorIs(t, err, failure)
					}
				}
				require.Equal(t, reserved, s.effects(b))
			})
		}
	})
}

func TestPanicOfAFunctionReleasesTheDatabase(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		s.db.SetMaxOpenConns(1)
		panicking, err := barrier.New(t.Context(), on.config(s.db, func(c *barrier.Config) {
			c.Reserve = func(context.Context, *sql.Tx, participant.Branch) error { panic(errNotToday) }
		}))
		require.NoError(t, err)
		require.PanicsWithError(t, errNotToday.Error(), func() { _, _ = panicking.Prepare(t.Context(), b) })
		s.prepare(b)
	})
}

// The sweep knows of an orphan only what List says.
func TestFunctionsGetTheDataOfPrepare(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		got := map[string]participant.Branch{}
		seen := func(name string, f barrier.Func) barrier.Func {
			return func(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
				got[name] = b
				return f(ctx, tx, b)
			}
		}
		s := on.newService(t, func(c *barrier.Config) {
			c.Confirm, c.Cancel = seen("confirm", c.Confirm), seen("cancel", c.Cancel)
		})
		s.prepare(branch(1))
		s.prepare(branch(2))
		listing, err := s.List(t.Context(), "orders")
		require.NoError(t, err)
		require.Len(t, listing.Prepared, 2)
		for i := range listing.Prepared {
			listing.Prepared[i].Epoch = 1
		}
		require.NoError(t, s.Commit(t.Context(), listing.Prepared[0]))
		require.NoError(t, s.Rollback(t.Context(), listing.Prepared[1]))
		require.Equal(t, branch(1), got["confirm"])
		require.Equal(t, branch(2), got["cancel"])
	})
}

func TestOnePhaseCommit(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		require.NoError(t, s.CommitOnePhase(t.Context(), b))
		require.NoError(t, s.CommitOnePhase(t.Context(), b))
		require.Equal(t, confirmed, s.effects(b))

		// R3: after a crash the rollback asks which way it went.
		endedAs(t, participant.OutcomeCommitted, s.Rollback(t.Context(), b))
		require.Equal(t, confirmed, s.effects(b))
	})
}

func TestOnePhaseRefusalStays(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newService(t)
		b := with(branch(1), func(b *participant.Branch) { b.Data = []byte(refuseData) })
		require.ErrorIs(t, s.CommitOnePhase(t.Context(), b), participant.ErrRefused)
		b.Data = nil
		require.ErrorIs(t, s.CommitOnePhase(t.Context(), b), participant.ErrRefused)
		require.NoError(t, s.Rollback(t.Context(), b))
		require.Equal(t, nothing, s.effects(b))
	})
}

func TestOnePhaseAfterRollbackIsRefused(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		require.NoError(t, s.Rollback(t.Context(), b))
		require.ErrorIs(t, s.CommitOnePhase(t.Context(), b), participant.ErrRefused)
		require.Equal(t, nothing, s.effects(b))
	})
}

func TestOnePhaseFailureLeavesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		fail := true
		s, b := on.newService(t, func(c *barrier.Config) {
			confirm := c.Confirm
			c.Confirm = func(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
				if fail {
					return errNotToday
				}
				return confirm(ctx, tx, b)
			}
		}), branch(1)
		err := s.CommitOnePhase(t.Context(), b)
		require.ErrorIs(t, err, errNotToday)
		require.NotErrorIs(t, err, participant.ErrRefused)
		require.Equal(t, nothing, s.effects(b))
		fail = false
		require.NoError(t, s.CommitOnePhase(t.Context(), b))
		require.Equal(t, confirmed, s.effects(b))
	})
}

func TestR9LowerEpochIsRefused(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newService(t)
		at := func(n int, epoch uint64) participant.Branch {
			return with(branch(n), func(b *participant.Branch) { b.Epoch = epoch })
		}
		s.prepare(at(1, 1))
		s.prepare(at(2, 3))

		s.refuses(at(3, 2), participant.ErrStaleEpoch, "epoch 2, seen 3")
		require.ErrorIs(t, s.Commit(t.Context(), at(1, 2)), participant.ErrStaleEpoch)
		require.ErrorIs(t, s.Rollback(t.Context(), at(1, 2)), participant.ErrStaleEpoch)
		require.ErrorIs(t, s.CommitOnePhase(t.Context(), at(4, 2)), participant.ErrStaleEpoch)
		require.Equal(t, reserved, s.effects(at(1, 2)))
		require.Equal(t, nothing, s.effects(at(3, 2)))
		require.Equal(t, nothing, s.effects(at(4, 2)))

		// Another term, and another domain with the same term, have epochs of their own.
		s.prepare(with(at(5, 1), func(b *participant.Branch) { b.Tx = tx(2, 5) }))
		s.prepare(with(at(6, 1), func(b *participant.Branch) { b.Domain = "order" }))
		require.NoError(t, s.Commit(t.Context(), at(1, 3)))

		// A fresh process knows it, too.
		again := s.another()
		again.refuses(at(7, 2), participant.ErrStaleEpoch, "epoch 2, seen 3")
	})
}

func TestFreshProcessFinishes(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, kept, undone := on.newService(t), branch(1), branch(2)
		s.prepare(kept)
		s.prepare(undone)
		require.NoError(t, s.db.Close())
		s = s.another()
		require.NoError(t, s.Commit(t.Context(), kept))
		require.NoError(t, s.Rollback(t.Context(), undone))
		require.Equal(t, confirmed, s.effects(kept))
		require.Equal(t, cancelled, s.effects(undone))
	})
}

func TestContextEndedBeforeTheCall(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, b := on.newService(t), branch(1)
		ctx, end := context.WithCancel(t.Context())
		end()
		vote, err := s.Prepare(ctx, b)
		require.False(t, vote.Valid())
		require.ErrorIs(t, err, context.Canceled)
		s.prepare(b)
		require.ErrorIs(t, s.Commit(ctx, b), context.Canceled)
		require.NoError(t, s.Commit(t.Context(), b))
		require.Equal(t, confirmed, s.effects(b))
	})
}

// A key that no list can read back is no branch's.
func TestBranchThatIsNone(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newService(t)
		for name, change := range map[string]func(*participant.Branch){
			"domain too long": func(b *participant.Branch) { b.Domain = strings.Repeat("o", 80) },
			"pattern":         func(b *participant.Branch) { b.Domain = "%" },
			"number":          func(b *participant.Branch) { b.Number = participant.MaxBranches },
			"no transaction":  func(b *participant.Branch) { b.Tx = participant.TxID{} },
		} {
			b := with(branch(1), change)
			vote, err := s.Prepare(t.Context(), b)
			require.Zero(t, vote, name)
			require.ErrorContains(t, err, "xid", name)
			require.Error(t, s.Commit(t.Context(), b), name)
			require.Error(t, s.Rollback(t.Context(), b), name)
			require.Error(t, s.CommitOnePhase(t.Context(), b), name)
		}
		require.Zero(t, s.number(`SELECT count(*) FROM assent_branch`))
	})
}

// A function that hides an error of its tx, or ends it, may be past the end of the local
// transaction: what it did counts for nothing, and nothing is acknowledged.
func TestFunctionThatHidesAnError(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		for _, ending := range on.endings {
			t.Run(ending, func(t *testing.T) { testHiddenEnd(t, on, ending) })
		}
	})
}

func testHiddenEnd(t *testing.T, on *kind, statement string) {
	hide := false
	ending := func(f barrier.Func) barrier.Func {
		return func(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
			if err := f(ctx, tx, b); err != nil || !hide {
				return err
			}
			_, _ = tx.ExecContext(ctx, statement)
			return nil
		}
	}
	s := on.newService(t, func(c *barrier.Config) {
		c.Reserve, c.Confirm, c.Cancel = ending(c.Reserve), ending(c.Confirm), ending(c.Cancel)
	})
	kept, undone, never := branch(1), branch(2), branch(3)
	s.prepare(kept)
	s.prepare(undone)
	hide = true
	vote, err := s.Prepare(t.Context(), never)
	require.Error(t, err)
	require.Zero(t, vote)
	require.Error(t, s.CommitOnePhase(t.Context(), never))
	require.Error(t, s.Commit(t.Context(), kept))
	require.Error(t, s.Rollback(t.Context(), undone))
	require.Equal(t, reserved, s.effects(kept))
	require.Equal(t, reserved, s.effects(undone))
	require.Equal(t, nothing, s.effects(never))
	hide = false
	require.NoError(t, s.Commit(t.Context(), kept))
	require.NoError(t, s.Rollback(t.Context(), undone))
	require.Equal(t, confirmed, s.effects(kept))
	require.Equal(t, cancelled, s.effects(undone))
}

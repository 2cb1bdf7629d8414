package coordinator_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

func TestEnlistAddsABranchOnce(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.actor("a")
		id := s.begin()
		require.NoError(t, s.Enlist(t.Context(), id, a, coordinator.WithData([]byte("1"))))
		require.NoError(t, s.Enlist(t.Context(), id, a, coordinator.WithData([]byte("1"))), "the same branch")
		require.ErrorIs(t, s.Enlist(t.Context(), id, a, coordinator.WithData([]byte("2"))), coordinator.ErrConflict)
		require.ErrorIs(t, s.Enlist(t.Context(), id, a), coordinator.ErrConflict)
		require.Len(t, s.info(id).Branches, 1)

		other := s.actor("a")
		err := s.Enlist(t.Context(), id, other)
		require.ErrorIs(t, err, coordinator.ErrNameTaken)
		require.ErrorContains(t, err, `"a"`)
		require.ErrorIs(t, s.Register(other), coordinator.ErrNameTaken)
		require.NoError(t, s.Register(a))

		for _, bad := range []participant.Participant{nil, (*actor)(nil), s.actor("no spaces"), s.actor("")} {
			require.ErrorIs(t, s.Enlist(t.Context(), id, bad), participant.ErrInvalidParticipant)
			require.ErrorIs(t, s.Register(bad), participant.ErrInvalidParticipant)
		}

		require.NoError(t, s.Commit(t.Context(), id))
		for _, p := range []participant.Participant{a, s.actor("b")} {
			require.ErrorIs(t, s.Enlist(t.Context(), id, p, coordinator.WithData([]byte("1"))), coordinator.ErrSealed)
		}
		time.Sleep(time.Minute) // only what is retained is left
		require.ErrorIs(t, s.Enlist(t.Context(), id, a, coordinator.WithData([]byte("1"))), coordinator.ErrSealed)
		require.Len(t, s.info(id).Branches, 1)

		id = s.begin(a)
		require.NoError(t, s.Rollback(t.Context(), id))
		require.ErrorIs(t, s.Enlist(t.Context(), id, a), coordinator.ErrRolledBack)
	})
}

// What the branch carries is what was given, whatever becomes of the caller's
// slice.
func TestEnlistCopiesData(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a := s.actor("a")
		var got []byte
		a.commit = func(_ context.Context, b participant.Branch) error {
			got = b.Data
			return nil
		}
		id, data := s.begin(), []byte("mine")
		require.NoError(t, s.Enlist(t.Context(), id, a, coordinator.WithData(data)))
		copy(data, "gone")
		require.NoError(t, s.Commit(t.Context(), id))
		require.Equal(t, "mine", string(got))
	})
}

// A list is sealed once Commit was called, not when it returns.
func TestEnlistIsRefusedOncePreparing(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, let := s.actor("a"), make(chan struct{})
		a.prepare = hangs(let)
		id := s.begin(a)
		done := make(chan error)
		go func() { done <- s.Commit(t.Context(), id) }()
		synctest.Wait()
		require.ErrorIs(t, s.Enlist(t.Context(), id, a), coordinator.ErrSealed)
		require.ErrorIs(t, s.Enlist(t.Context(), id, s.actor("b")), coordinator.ErrSealed)
		close(let)
		require.NoError(t, <-done)
	})
}

func TestConcurrentEnlistsAreOneBranch(t *testing.T) {
	enlisted := make(chan participant.Branch, 100)
	playWith(t, coordinator.Config{Trace: &coordinator.Trace{Enlisted: func(b participant.Branch) { enlisted <- b }}}, nil, func(t *testing.T, s *stage) {
		for i := range 20 {
			a, id := s.actor("a"), s.begin()
			a.name = fmt.Sprintf("a%d", i)
			var wg sync.WaitGroup
			errs := make([]error, 8)
			for i := range errs {
				wg.Go(func() {
					errs[i] = s.Enlist(t.Context(), id, a, coordinator.WithData([]byte{byte(i / 4)}))
				})
			}
			wg.Wait()
			winner := s.info(id)
			require.Len(t, winner.Branches, 1)
			b := <-enlisted
			for i, err := range errs {
				if b.Data[0] == byte(i/4) {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, coordinator.ErrConflict)
				}
			}
			require.Empty(t, enlisted, "one branch, traced once")
		}
	})
}

// R12: each bound says what it is.
func TestLimitSaysWhichItIs(t *testing.T) {
	playWith(t, coordinator.Config{MaxOpen: 3}, nil, func(t *testing.T, s *stage) {
		a := s.actor("a")
		var ids []participant.TxID
		for range 3 {
			ids = append(ids, s.begin(a))
		}
		_, err := s.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrLimit)
		require.ErrorContains(t, err, "Config.MaxOpen")
		a.commit = answers(errDown)
		require.ErrorIs(t, s.Commit(t.Context(), ids[0]), coordinator.ErrCommitPending)
		ids[0] = s.begin(a) // decided ones leave the limit
		require.NoError(t, s.Rollback(t.Context(), ids[1]))
		ids[1] = s.begin(a)
		_, err = s.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrLimit)
		time.Sleep(coordinator.DefaultTimeout)
		synctest.Wait()
		for range 3 {
			s.begin(a)
		}
		a.recast(func() { a.commit = nil })
	})
	play(t, func(t *testing.T, s *stage) {
		id := s.begin()
		for i := range participant.MaxBranches {
			require.NoError(t, s.Enlist(t.Context(), id, s.actor(fmt.Sprint("a", i))))
		}
		err := s.Enlist(t.Context(), id, s.actor("one-more"))
		require.ErrorIs(t, err, coordinator.ErrLimit)
		require.ErrorContains(t, err, "64 branches")
		require.NoError(t, s.Commit(t.Context(), id))

		id = s.begin()
		a := s.actor("a")
		require.ErrorIs(t, s.Enlist(t.Context(), id, a, coordinator.WithData(make([]byte, participant.MaxData+1))), coordinator.ErrLimit)
		require.NoError(t, s.Enlist(t.Context(), id, a, coordinator.WithData(bytes.Repeat([]byte{0xff}, participant.MaxData))))
		require.NoError(t, s.Commit(t.Context(), id))

		long := strings.Repeat("x", record.MaxAttributes-len(record.AttributeName))
		s.beginWith([]coordinator.BeginOption{coordinator.WithName(long)})
		_, err = s.Begin(t.Context(), coordinator.WithName(long+"x"))
		require.ErrorIs(t, err, coordinator.ErrLimit)
		_, err = s.Begin(t.Context(), coordinator.WithTimeout(-time.Second))
		require.ErrorContains(t, err, "timeout -1s")
		require.NotErrorIs(t, err, coordinator.ErrLimit)
	})
}

// R12: a participant with too many undelivered branches takes no more; others do.
func TestParticipantWithTooManyUndeliveredIsRefused(t *testing.T) {
	playWith(t, coordinator.Config{MaxUndelivered: 2}, nil, func(t *testing.T, s *stage) {
		a := s.actor("a")
		a.commit, a.rollback = answers(errDown), answers(errDown)
		_, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		require.NoError(t, s.Rollback(t.Context(), s.begin(a)))
		id := s.begin(s.actor("b"))
		err = s.Enlist(t.Context(), id, a)
		require.ErrorIs(t, err, coordinator.ErrLimit)
		require.ErrorContains(t, err, `participant "a" has 2 branches`)
		require.NoError(t, s.Commit(t.Context(), id))
		a.recast(func() { a.commit, a.rollback = nil, nil })
		time.Sleep(time.Minute)
		_, err = s.commits(a)
		require.NoError(t, err)
	})
}

// R12: the calls of one participant beyond MaxInFlight wait for each other.
func TestCallsBeyondMaxInFlightWait(t *testing.T) {
	playWith(t, coordinator.Config{MaxInFlight: 3, CommitWait: time.Hour}, nil, func(t *testing.T, s *stage) {
		a, o := s.actor("a"), &outage{takes: time.Second}
		a.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			return participant.VotePrepared, o.answer(ctx, b)
		}
		var wg sync.WaitGroup
		start := time.Now()
		for range 9 {
			id := s.begin(a)
			wg.Go(func() { require.NoError(t, s.Commit(t.Context(), id)) })
		}
		wg.Wait()
		require.Equal(t, 3, o.peak())
		require.Equal(t, 3*time.Second, time.Since(start))
	})
}

func TestBeginKeepsItsOptions(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		id := s.beginWith([]coordinator.BeginOption{
			coordinator.WithName("transfer"), coordinator.WithOwner("teller"), coordinator.WithRequestID("r1"), coordinator.WithTimeout(time.Minute),
		})
		info := s.info(id)
		require.Equal(t, "transfer", info.Name)
		require.Equal(t, "teller", info.Owner)
		require.Equal(t, "r1", info.RequestID)
		require.Equal(t, info.Begun.Add(time.Minute), info.Deadline)
		require.Equal(t, id.Term, s.begin().Term)

		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := s.Begin(ended)
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorIs(t, s.Enlist(ended, id, s.actor("a")), context.Canceled)
	})
}

// The same request id and owner is the same transaction, as long as it is known.
func TestRequestIDMakesBeginIdempotent(t *testing.T) {
	request := func(owner, id string) []coordinator.BeginOption {
		return []coordinator.BeginOption{coordinator.WithOwner(owner), coordinator.WithRequestID(id)}
	}
	play(t, func(t *testing.T, s *stage) {
		id := s.beginWith(request("o", "1"))
		require.Equal(t, id, s.beginWith(request("o", "1")))
		require.NotEqual(t, id, s.beginWith(request("o", "2")))
		require.NotEqual(t, id, s.beginWith(request("p", "1")))
		require.NotEqual(t, s.beginWith(request("a\x00b", "c")), s.beginWith(request("a", "b\x00c")))
		require.NotEqual(t, s.beginWith(request("o", "")), s.beginWith(request("o", "")))
		require.NoError(t, s.Commit(t.Context(), id))
		require.Equal(t, id, s.beginWith(request("o", "1")), "decided")
		time.Sleep(time.Minute)
		require.Equal(t, id, s.beginWith(request("o", "1")), "retained")
	})
	t.Run("concurrently", func(t *testing.T) {
		// With a slow log: the second one must wait for the first.
		slow := func(c waltest.Call) waltest.Fault {
			if c.Op == waltest.OpAppend {
				time.Sleep(time.Second)
			}
			return waltest.Fault{}
		}
		playWith(t, coordinator.Config{ForceEveryTransition: true}, slow, func(t *testing.T, s *stage) {
			ids := make([]participant.TxID, 10)
			var wg sync.WaitGroup
			for i := range ids {
				wg.Go(func() { ids[i] = s.beginWith(request("o", "1")) })
			}
			synctest.Wait()
			start := time.Now()
			ended, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			_, err := s.Begin(ended, request("o", "1")...)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			require.Equal(t, time.Millisecond, time.Since(start))
			wg.Wait()
			for _, id := range ids {
				require.Equal(t, ids[0], id)
			}
			list, err := s.List(t.Context(), coordinator.Filter{})
			require.NoError(t, err)
			require.Len(t, list, 1)
		})
	})
	t.Run("after a failure", func(t *testing.T) {
		playWith(t, coordinator.Config{MaxOpen: 1}, nil, func(t *testing.T, s *stage) {
			other := s.begin()
			_, err := s.Begin(t.Context(), request("o", "1")...)
			require.ErrorIs(t, err, coordinator.ErrLimit)
			require.NoError(t, s.Rollback(t.Context(), other))
			id := s.beginWith(request("o", "1"))
			require.Equal(t, id, s.beginWith(request("o", "1")))
		})
	})
}

// R13: an outcome that is not kept any more is neither of the two.
func TestForgottenOutcomeIsNeitherOfTheTwo(t *testing.T) {
	for name, config := range map[string]coordinator.Config{
		"retention over": {Retention: time.Hour},
		"not retained":   {Retention: -1},
		"bytes exceeded": {RetainBytes: 1, Retention: never * 365},
	} {
		t.Run(name, func(t *testing.T) {
			playWith(t, config, nil, func(t *testing.T, s *stage) {
				a := s.actor("a")
				option := []coordinator.BeginOption{coordinator.WithRequestID("1")}
				committed := s.beginWith(option, a)
				require.NoError(t, s.Commit(t.Context(), committed))
				rolledBack := s.begin(a)
				require.NoError(t, s.Rollback(t.Context(), rolledBack))
				time.Sleep(time.Second)
				require.NoError(t, s.Commit(t.Context(), committed), "kept for 10 call timeouts at least, or until something is written")
				for _, pause := range []time.Duration{2 * time.Hour, 0} {
					for range 200 { // outcomes go in groups, with later appends
						_, err := s.commits(a)
						require.NoError(t, err)
						time.Sleep(time.Second)
					}
					time.Sleep(pause)
				}
				for _, id := range []participant.TxID{committed, rolledBack} {
					require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrForgotten)
					require.ErrorIs(t, s.Rollback(t.Context(), id), coordinator.ErrForgotten)
					require.ErrorIs(t, s.Enlist(t.Context(), id, a), coordinator.ErrForgotten)
					_, err := s.Get(t.Context(), id)
					require.ErrorIs(t, err, coordinator.ErrForgotten)
					require.NotErrorIs(t, err, coordinator.ErrRolledBack)
				}
				require.NotEqual(t, committed, s.beginWith(option), "so is the request id")
			})
		})
	}
	// What is not done is never forgotten, and what is above the mark stays known.
	playWith(t, coordinator.Config{Retention: -1}, nil, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.actor("b")
		a.commit = answers(errDown)
		pending, err := s.commits(a)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		for range 500 {
			_, err := s.commits(b)
			require.NoError(t, err)
		}
		require.ErrorIs(t, s.Commit(t.Context(), pending), coordinator.ErrCommitPending)
		open := s.begin(b)
		require.NoError(t, s.Commit(t.Context(), open))
		a.recast(func() { a.commit = nil })
		time.Sleep(time.Minute)
		require.NoError(t, errorUnless(s.Commit(t.Context(), pending), coordinator.ErrForgotten))
	})
}

// A request id that is forgotten while it is used again must not hold up the log's
// writer.
func TestForgettingRequestIDsBlocksNobody(t *testing.T) {
	playWith(t, coordinator.Config{Retention: -1, ForceEveryTransition: true}, nil, func(t *testing.T, s *stage) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for n := range 200 {
					id, err := s.Begin(t.Context(), coordinator.WithRequestID(fmt.Sprint(i, n%3)))
					require.NoError(t, err)
					require.NoError(t, errorUnless(s.Commit(t.Context(), id), coordinator.ErrForgotten))
				}
			})
		}
		wg.Wait()
	})
}

func TestOpenRefusesInvalidConfig(t *testing.T) {
	store := waltest.NewMemory().Open()
	defer func() { require.NoError(t, store.Close()) }()
	for field, config := range map[string]coordinator.Config{
		"Domain":      {Domain: "Not Valid", Store: store},
		"Store":       {Domain: "test"},
		"Timeout":     {Domain: "test", Store: store, Timeout: -1},
		"CallTimeout": {Domain: "test", Store: store, CallTimeout: -1},
		"CallTimeout: 2562047h47m16.854775807s is above": {Domain: "test", Store: store, CallTimeout: math.MaxInt64},
		"RetryMax":  {Domain: "test", Store: store, RetryMin: 2, RetryMax: 1},
		"Retention": {Domain: "test", Store: store, Retention: time.Second},
		"MaxOpen":   {Domain: "test", Store: store, MaxOpen: -1},
	} {
		_, err := coordinator.Open(t.Context(), config)
		require.ErrorContains(t, err, field)
		require.ErrorContains(t, err, "Config")
	}
	a, s := &actor{name: "a"}, &story{}
	_, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store, Participants: []participant.Participant{a, &actor{name: "a"}}})
	require.ErrorIs(t, err, coordinator.ErrNameTaken)
	_, err = coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store, Participants: []participant.Participant{
		&checked{&actor{name: "c", story: s}, fmt.Errorf("set max_prepared_transactions: %w", participant.ErrConfig)},
	}})
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, `"c"`)
	dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store, Participants: []participant.Participant{
		&checked{&actor{name: "c", story: s}, errors.New("not now")},
	}})
	require.NoError(t, err, "it may come up later")
	require.NoError(t, dtm.Close(t.Context()))
}

// checked is an actor that can tell whether it is able to take part.
type checked struct {
	*actor
	err error
}

func (c *checked) Check(context.Context) error { return c.err }

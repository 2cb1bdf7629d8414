package redis_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/redis"
)

const prefix = "assent:{orders}:orders:"

// R10: a list has all of its domain's branches and no other's, however many pages.
func TestR10ListIsWholeAndExact(t *testing.T) {
	s := newService(t)
	var members []goredis.Z
	var want []participant.XID
	for i := range 2500 {
		b := s.begin().branch
		b.Domain = []string{"shop", "shop-", "sho", "shop0"}[max(0, i%50-46)]
		members = append(members, goredis.Z{Member: string(b.XID())})
		if b.Domain == "shop" {
			want = append(want, b.XID())
		}
	}
	require.NoError(t, s.client.ZAdd(t.Context(), prefix+"prepared", members...).Err())
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	var got []participant.XID
	for _, b := range listing.Prepared {
		got = append(got, b.XID())
	}
	slices.Sort(want)
	require.Equal(t, want, got)
}

func TestHighestIsPerTermAndOutlivesItsBranches(t *testing.T) {
	s := newService(t)
	first, second := s.begin().branch, s.begin().branch
	other := s.begin().branch
	other.Tx.Term = participant.NewTerm(7, 7)
	elsewhere := s.begin().branch
	elsewhere.Domain = "shop-2"
	for _, b := range []participant.Branch{second, first, other, elsewhere} {
		require.NoError(t, s.Rollback(t.Context(), b))
	}
	unknown := s.begin().branch
	require.ErrorIs(t, s.Commit(t.Context(), unknown), participant.ErrUnknownBranch)
	for _, key := range s.client.Keys(t.Context(), prefix+"branch:*").Val() {
		s.do("DEL", key)
	}
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Empty(t, listing.Prepared)
	require.ElementsMatch(t, []participant.TxID{unknown.Tx, other.Tx}, listing.Highest)
}

func TestListTellsWhatItCantRead(t *testing.T) {
	s := newService(t)
	s.do("HSET", prefix+"terms", "shop:nonsense", "1 2")
	_, err := s.List(t.Context(), "shop")
	require.ErrorContains(t, err, prefix+"terms")
	s.do("ZADD", prefix+"prepared", 0, "shop:nonsense")
	_, err = s.List(t.Context(), "shop")
	require.ErrorContains(t, err, prefix+"prepared")
}

// What is finished goes after MaxRetention, after Forget already after Retention, and
// what is in doubt never.
func TestRetention(t *testing.T) {
	s := newService(t, func(c *redis.Config) { c.Retention, c.MaxRetention = time.Hour, 48*time.Hour })
	committed, rolledBack, prepared := s.prepared(set("a", "1")), s.begin().branch, s.prepared(set("b", "1"))
	require.NoError(t, s.Commit(t.Context(), committed))
	require.NoError(t, s.Rollback(t.Context(), rolledBack))
	ttl := func(b participant.Branch) time.Duration {
		return s.client.TTL(t.Context(), prefix+"branch:"+string(b.XID())).Val()
	}
	finished := []participant.Branch{committed, rolledBack}
	for _, b := range finished {
		require.InDelta(t, 48*time.Hour, ttl(b), float64(time.Minute))
	}
	many := slices.Repeat([]participant.Branch{s.begin().branch}, 600)
	require.NoError(t, s.Forget(t.Context(), slices.Concat(many, finished, []participant.Branch{prepared})))
	for _, b := range finished {
		require.InDelta(t, time.Hour, ttl(b), float64(time.Minute))
	}
	require.Negative(t, ttl(prepared)) // no expiry
	require.Negative(t, s.client.TTL(t.Context(), prefix+"staged:"+string(prepared.XID())).Val())

	s.do("EXPIRE", prefix+"branch:"+string(committed.XID()), 60)
	require.NoError(t, s.Forget(t.Context(), finished))
	require.LessOrEqual(t, ttl(committed), time.Minute) // not lengthened
}

func TestUnusedTermsAreForgotten(t *testing.T) {
	s := newService(t)
	unused, inDoubt, used := participant.NewTerm(1, 1), participant.NewTerm(2, 2), participant.NewTerm(3, 3)
	for _, s.term = range []participant.Term{unused, inDoubt, used} {
		b := s.prepared(set("a", "1"))
		if s.term != inDoubt {
			require.NoError(t, s.Commit(t.Context(), b))
		}
	}
	old := time.Now().Add(-redis.DefaultMaxRetention - 61*time.Minute).Unix()
	for _, term := range []participant.Term{unused, inDoubt} {
		require.EqualValues(t, 0, s.client.ZAdd(t.Context(), prefix+"used", goredis.Z{Member: "shop:" + term.String(), Score: float64(old)}).Val())
	}
	require.NoError(t, s.Forget(t.Context(), []participant.Branch{s.begin().branch}))
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	var terms []participant.Term
	for _, id := range listing.Highest {
		terms = append(terms, id.Term)
	}
	require.ElementsMatch(t, []participant.Term{inDoubt, used}, terms)

	// A call uses its term again.
	listing.Prepared[0].Epoch = 1
	require.NoError(t, s.Rollback(t.Context(), listing.Prepared[0]))
	require.NoError(t, s.Forget(t.Context(), []participant.Branch{s.begin().branch}))
	listing, err = s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Len(t, listing.Highest, 2)
}

// When a term was last used is noted once an hour, which must not make it look unused.
func TestTermInUseIsNotForgotten(t *testing.T) {
	s := newService(t, func(c *redis.Config) { c.Retention, c.MaxRetention = time.Minute, 10*time.Minute })
	require.NoError(t, s.Rollback(t.Context(), s.begin().branch))
	noted := goredis.Z{Member: "shop:" + s.term.String(), Score: float64(time.Now().Add(-50 * time.Minute).Unix())}
	require.EqualValues(t, 0, s.client.ZAdd(t.Context(), prefix+"used", noted).Val())
	last := s.begin().branch
	require.NoError(t, s.Rollback(t.Context(), last))
	require.NoError(t, s.Forget(t.Context(), []participant.Branch{last}))
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Equal(t, []participant.TxID{last.Tx}, listing.Highest)
}

// What a finished branch costs is in the package's documentation.
func TestFinishedBranchIsSmall(t *testing.T) {
	s := newService(t)
	b := s.prepared(set("a", "1"))
	require.NoError(t, s.Commit(t.Context(), b))
	require.Equal(t, map[string]string{"state": "committed"}, s.client.HGetAll(t.Context(), prefix+"branch:"+string(b.XID())).Val())
	size := s.client.MemoryUsage(t.Context(), prefix+"branch:"+string(b.XID())).Val()
	require.LessOrEqual(t, size, int64(300), fmt.Sprint(size))
}

package redis_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/redis"
)

func TestEmptyBranchIsReadOnly(t *testing.T) {
	s := newService(t)
	session := s.join()
	vote, err := s.Prepare(t.Context(), session.Branch())
	require.NoError(t, err)
	require.Equal(t, participant.VoteReadOnly, vote)

	rolledBack := s.join()
	require.NoError(t, s.fresh().Rollback(t.Context(), rolledBack.Branch()))
	s.refuses(rolledBack.Branch(), participant.ErrRefused, "rolled back already")

	onePhase := s.join()
	require.NoError(t, s.CommitOnePhase(t.Context(), onePhase.Branch()))
	require.NoError(t, s.fresh().CommitOnePhase(t.Context(), onePhase.Branch()))
	endedAs(t, participant.OutcomeCommitted, s.Rollback(t.Context(), onePhase.Branch()))
}

func TestBranchOfAnotherProcessIsRefusedForGood(t *testing.T) {
	s := newService(t)
	b := s.staged(set("a", "1"))
	vote, err := s.fresh().Prepare(t.Context(), b)
	require.Equal(t, participant.VoteRefused, vote)
	require.ErrorContains(t, err, "what it staged is not in this process")
	s.refuses(b, participant.ErrRefused, "rolled back already")

	b = s.staged(set("a", "1"))
	require.ErrorIs(t, s.fresh().CommitOnePhase(t.Context(), b), participant.ErrRefused)
	require.ErrorIs(t, s.CommitOnePhase(t.Context(), b), participant.ErrRefused)
	require.Empty(t, s.get("a"))
}

// What can't be applied is refused, and nothing of it is left: an error in the middle
// of a script would not undo what came before.
func TestPrepareRefusesWhatCantBeApplied(t *testing.T) {
	s := newService(t)
	s.do("SET", "text", "abc")
	s.do("SET", "max", fmt.Sprint(math.MaxInt64))
	s.do("SET", "min", fmt.Sprint(math.MinInt64))
	s.do("SET", "padded", " 1")
	s.do("SET", "float", "1.5")
	s.do("HSET", "hash", "f", "v")
	s.do("RPUSH", "list", "v")
	s.do("XADD", "stream", "1-1", "f", "v")
	s.do("XADD", "used-up", "18446744073709551615-7", "f", "v")
	for name, test := range map[string]struct {
		fill func(*redis.Session) error
		says string
	}{
		"SET a hash":          {set("hash", "1"), `"hash": it holds a hash, and SET needs a string`},
		"SET a stream":        {set("stream", "1"), `"stream": it holds a stream, and SET needs a string`},
		"INCRBY a list":       {incrBy("list", 1), `"list": it holds a list, and INCRBY needs a string`},
		"INCRBY a text":       {incrBy("text", 1), "not an integer"},
		"INCRBY a float":      {incrBy("float", 1), "not an integer"},
		"INCRBY with a blank": {incrBy("padded", 1), "not an integer"},
		"overflow":            {incrBy("max", 1), "overflow"},
		"underflow":           {incrBy("min", -1), "overflow"},
		"overflow of a sum":   {all(incrBy("n", math.MaxInt64), incrBy("n", 1)), "overflow"},
		"overflow in between": {all(incrBy("max", 1), incrBy("max", -1)), "overflow"},
		"INCRBY a SET text":   {all(set("n", "abc"), incrBy("n", 1)), "not an integer"},
		"HSET a string":       {func(s *redis.Session) error { return s.HSet("text", "f", "v") }, `"text": it holds a string, and HSET needs a hash`},
		"HSET what was SET":   {all(set("n", "1"), func(s *redis.Session) error { return s.HSet("n", "f", "v") }), `"n": it holds a string, and HSET needs a hash`},
		"XADD to a hash":      {func(s *redis.Session) error { return s.XAdd("hash", "f", "v") }, `"hash": it holds a hash, and XADD needs a stream`},
		"XADD without an id":  {func(s *redis.Session) error { return s.XAdd("used-up", "f", "v") }, `"used-up": the stream has used up its ids`},
	} {
		t.Run(name, func(t *testing.T) {
			before := s.client.DBSize(t.Context()).Val()
			b := s.staged(all(set("first", "1"), test.fill))
			s.refuses(b, redis.ErrKey, test.says)
			s.refuses(b, participant.ErrRefused, "rolled back already")
			require.ErrorIs(t, s.CommitOnePhase(t.Context(), s.staged(all(set("first", "1"), test.fill))), participant.ErrRefused)
			require.Empty(t, s.get("first"))
			require.Empty(t, s.get("n"))
			require.LessOrEqual(t, s.client.DBSize(t.Context()).Val(), before+5) // the marks of both, terms, database
			require.NotContains(t, s.own(), "assent:{orders}:orders:scratch")
		})
	}
}

func TestNumbersUpToTheLimit(t *testing.T) {
	s := newService(t)
	s.do("SET", "n", fmt.Sprint(math.MaxInt64-3))
	b := s.prepared(all(incrBy("n", 2), incrBy("n", 1), incrBy("m", math.MinInt64)))
	require.NoError(t, s.Commit(t.Context(), b))
	require.Equal(t, fmt.Sprint(math.MaxInt64), s.get("n"))
	require.Equal(t, fmt.Sprint(math.MinInt64), s.get("m"))
}

// A script keeps everybody else from the server: what it does must not grow faster than
// the branch. The client would not wait for one that does.
func TestBranchOfManyCounters(t *testing.T) {
	const counters = 20_000
	s := newService(t, func(c *redis.Config) { c.MaxOperations, c.MaxBytes = counters, 16<<20 })
	b := s.prepared(func(session *redis.Session) error {
		for i := range counters {
			if err := session.IncrBy(fmt.Sprint("n:", i), 1); err != nil {
				return err
			}
		}
		return nil
	})
	require.NoError(t, s.Commit(t.Context(), b))
	require.Equal(t, "1 1", s.get("n:0")+" "+s.get(fmt.Sprint("n:", counters-1)))
}

// R6: after the decision nothing gives up. A key that somebody made unfit after
// Prepare holds the commit up, whole, until it is put right.
func TestR6CommitWaitsForAKeyThatBecameUnfit(t *testing.T) {
	s := newService(t)
	for name, test := range map[string]struct {
		spoil []any
		says  string
	}{
		"other kind":  {[]any{"RPUSH", "n", "v"}, `"n": it holds a list, and INCRBY needs a string`},
		"no number":   {[]any{"SET", "n", "abc"}, "not an integer"},
		"overflow":    {[]any{"SET", "n", fmt.Sprint(math.MaxInt64)}, "overflow"},
		"ids used up": {[]any{"XADD", "stream", "18446744073709551615-7", "f", "v"}, `"stream": the stream has used up its ids`},
	} {
		t.Run(name, func(t *testing.T) {
			s.do("FLUSHDB")
			s := s // the database has a new name
			s.Participant = s.fresh()
			b := s.prepared(all(set("first", "1"), incrBy("n", 1), func(s *redis.Session) error { return s.XAdd("stream", "f", "v") }))
			s.do(test.spoil...)
			for range 2 {
				err := s.Commit(t.Context(), b)
				require.ErrorIs(t, err, redis.ErrKey)
				require.ErrorIs(t, err, participant.ErrConfig)
				require.NotErrorIs(t, err, participant.ErrRefused)
				require.ErrorContains(t, err, test.says)
				require.ErrorContains(t, err, "RENAME")
				require.Empty(t, s.get("first"))
			}
			listing, err := s.List(t.Context(), "shop")
			require.NoError(t, err)
			require.Len(t, listing.Prepared, 1)

			s.do("RENAME", test.spoil[1], "put aside")
			require.NoError(t, s.fresh().Commit(t.Context(), b))
			require.NoError(t, s.Commit(t.Context(), b))
			require.Equal(t, "1", s.get("first"))
			require.Equal(t, "1", s.get("n"))
			require.EqualValues(t, 1, s.client.XLen(t.Context(), "stream").Val())
		})
	}
}

// Should a script fail half way after all, a repeated commit goes on there: no
// operation is applied twice.
func TestCommitGoesOnWhereItFailed(t *testing.T) {
	s := newService(t)
	b := s.prepared(all(incrBy("a", 1), incrBy("b", 1), incrBy("c", 1)))
	staged := "assent:{orders}:orders:staged:" + string(b.XID())
	s.do("LSET", staged, 5, "HSET") // of "3 INCRBY a 1 3 INCRBY b 1 ...": it lacks a value
	require.Equal(t, []string{"3", "HSET", "b", "1"}, s.client.LRange(t.Context(), staged, 4, 7).Val())
	for range 2 {
		require.ErrorIs(t, s.Commit(t.Context(), b), redis.ErrKey)
		require.Equal(t, "1", s.get("a"))
		require.Empty(t, s.get("c"))
	}
	s.do("LSET", staged, 5, "INCRBY")
	require.NoError(t, s.Commit(t.Context(), b))
	require.NoError(t, s.Commit(t.Context(), b))
	require.Equal(t, "1 1 1", s.get("a")+" "+s.get("b")+" "+s.get("c"))
}

// A server whose memory is used up takes nothing new, and finishes what it has.
func TestMemoryUsedUp(t *testing.T) {
	s := newService(t)
	value := strings.Repeat("x", 100_000)
	committed, rolledBack := s.prepared(all(set("big", value), incrBy("n", 1))), s.prepared(set("other", value))
	refused, onePhase, begun := s.staged(set("c", "1")), s.staged(set("d", "1")), s.join().Branch()
	configure(t, "maxmemory", "1")

	s.refuses(refused, participant.ErrRefused, "the server's memory is used up (maxmemory)")
	require.NoError(t, s.Commit(t.Context(), committed))
	require.NoError(t, s.Rollback(t.Context(), rolledBack))
	require.NoError(t, s.Rollback(t.Context(), begun))
	require.NoError(t, s.Rollback(t.Context(), refused))
	require.Equal(t, value, s.get("big"))
	require.Equal(t, "1", s.get("n"))
	require.NoError(t, s.Forget(t.Context(), []participant.Branch{committed, rolledBack}))

	err := s.CommitOnePhase(t.Context(), onePhase)
	require.ErrorContains(t, err, "OOM")
	require.NotErrorIs(t, err, participant.ErrRefused)
	require.NoError(t, s.client.ConfigSet(t.Context(), "maxmemory", "0").Err())
	require.NoError(t, s.CommitOnePhase(t.Context(), onePhase))
	require.Equal(t, "1", s.get("d"))
	s.refuses(refused, participant.ErrRefused, "rolled back already")
}

// R7: a branch that the database does not know is never taken for committed.
func TestR7CommitOfAnUnknownBranch(t *testing.T) {
	s := newService(t)
	b := s.staged(set("a", "1"))
	require.ErrorIs(t, s.Commit(t.Context(), b), participant.ErrUnknownBranch)
	vote, err := s.Prepare(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	require.NoError(t, s.Commit(t.Context(), b))
}

// R7: another database behind the same address knows nothing of the branch, and that
// says nothing.
func TestR7AnotherDatabaseIsNoAnswer(t *testing.T) {
	s := newService(t)
	committing, rollingBack, begun, onePhase := s.prepared(set("a", "1")), s.prepared(set("a", "1")), s.staged(set("a", "1")), s.staged(set("a", "1"))
	restore := s.client.Dump(t.Context(), "assent:{orders}:orders:database").Val()
	s.do("RENAME", "assent:{orders}:orders:database", "aside")
	for range 2 {
		vote, err := s.Prepare(t.Context(), begun)
		require.False(t, vote.Valid())
		for _, err := range []error{err, s.Commit(t.Context(), committing), s.Rollback(t.Context(), rollingBack), s.CommitOnePhase(t.Context(), onePhase)} {
			require.ErrorIs(t, err, participant.ErrConfig)
			require.NotErrorIs(t, err, participant.ErrUnknownBranch)
			require.NotErrorIs(t, err, participant.ErrRefused)
			require.ErrorContains(t, err, "another database")
		}
		require.NotEqual(t, begun.Data, s.join().Branch().Data) // it has a name of its own by now
	}
	s.do("RESTORE", "assent:{orders}:orders:database", 0, restore, "REPLACE")
	require.NoError(t, s.Commit(t.Context(), committing))
	require.NoError(t, s.Rollback(t.Context(), rollingBack))
	require.NoError(t, s.CommitOnePhase(t.Context(), onePhase))
}

// An orphan's branch has no Data: the sweep knows only its XID.
func TestBranchWithoutDataIsFinished(t *testing.T) {
	s := newService(t)
	s.prepared(set("a", "1"))
	s.prepared(set("b", "1"))
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Len(t, listing.Prepared, 2)
	for i := range listing.Prepared {
		listing.Prepared[i].Epoch = 1
	}
	require.NoError(t, s.Commit(t.Context(), listing.Prepared[0]))
	require.NoError(t, s.Rollback(t.Context(), listing.Prepared[1]))
	require.NotEqual(t, s.get("a"), s.get("b"))
}

func TestDamagedOperationsAreAHazard(t *testing.T) {
	s := newService(t)
	for what, damage := range map[string][]any{
		"gone":  {"DEL"},
		"cut":   {"LTRIM", 0, 3},
		"count": {"LSET", 0, "7"},
		"more":  {"RPUSH", "3"},
	} {
		t.Run(what, func(t *testing.T) {
			b := s.prepared(all(set("a", "1"), set("b", "1")))
			s.do(append([]any{damage[0], "assent:{orders}:orders:staged:" + string(b.XID())}, damage[1:]...)...)
			err := s.Commit(t.Context(), b)
			require.ErrorIs(t, err, participant.ErrUnknownBranch)
			require.ErrorContains(t, err, "damaged")
			require.Empty(t, s.get("a"))
			require.NoError(t, s.Rollback(t.Context(), b))
		})
	}
}

func TestScriptsAreSentAgainToAServerThatForgotThem(t *testing.T) {
	s := newService(t)
	b := s.staged(set("a", "1"))
	for _, call := range []func() error{
		func() error { _, err := s.Prepare(t.Context(), b); return err },
		func() error { return s.Commit(t.Context(), b) },
		func() error { return s.Forget(t.Context(), []participant.Branch{b}) },
	} {
		s.do("SCRIPT", "FLUSH")
		require.NoError(t, call())
	}
	require.Equal(t, "1", s.get("a"))
}

func TestOnePhaseOfAPreparedBranch(t *testing.T) {
	s := newService(t)
	b := s.prepared(incrBy("n", 1))
	require.NoError(t, s.fresh().CommitOnePhase(t.Context(), b))
	require.NoError(t, s.CommitOnePhase(t.Context(), b))
	require.Equal(t, "1", s.get("n"))
}

// R9: epochs are compared as numbers of 64 bits.
func TestR9LargeEpochs(t *testing.T) {
	s := newService(t)
	at := func(epoch uint64) participant.Branch {
		tx := s.begin()
		tx.branch.Epoch = epoch
		session, err := s.Join(t.Context(), tx)
		require.NoError(t, err)
		require.NoError(t, session.Set("a", "1"))
		return session.Branch()
	}
	for _, epoch := range []uint64{9, 10, 1 << 53, 1<<53 + 1, math.MaxUint64} {
		b := at(epoch)
		_, err := s.Prepare(t.Context(), b)
		require.NoError(t, err)
		older := b
		older.Epoch--
		require.ErrorIs(t, s.Commit(t.Context(), older), participant.ErrStaleEpoch)
		require.ErrorIs(t, s.Rollback(t.Context(), older), participant.ErrStaleEpoch)
		require.ErrorIs(t, s.CommitOnePhase(t.Context(), older), participant.ErrStaleEpoch)
		s.refuses(at(epoch-1), participant.ErrStaleEpoch, "")
	}
}

func TestClientsOptionsReachTheServer(t *testing.T) {
	s := newService(t)
	other := connect(t, func(o *goredis.Options) { o.DB = 1 })
	require.NoError(t, other.FlushDB(t.Context()).Err())
	p, err := redis.New(redis.Config{Name: "orders", Client: other})
	require.NoError(t, err)
	b := s.prepared(set("a", "1"))
	require.ErrorContains(t, p.Commit(t.Context(), b), "another database")
}

package redis_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/redis"
)

// A branch that prepares leaves what the same commands leave when they are sent one
// by one, and one that is refused holds a command that fails.
func TestBranchDoesWhatItsCommandsDo(t *testing.T) {
	s := newService(t)
	var prepared, refused int
	rapid.Check(t, func(rt *rapid.T) {
		s.do("FLUSHDB")
		s.Participant = s.fresh()
		for _, side := range []string{"branch:", "direct:"} {
			for key, value := range map[string]string{"text": "abc", "n": "5", "max": fmt.Sprint(math.MaxInt64 - 2)} {
				s.do("SET", side+key, value)
			}
			s.do("HSET", side+"hash", "f", "v")
			s.do("XADD", side+"stream", "1-1", "f", "v")
		}
		commands := rapid.SliceOfN(command(), 1, 12).Draw(rt, "commands")
		failed := false
		for _, c := range commands {
			failed = failed || direct(s, c) != nil
		}
		b := s.staged(func(session *redis.Session) error {
			for _, c := range commands {
				if err := c.stage(session, "branch:"); err != nil {
					return err
				}
			}
			return nil
		})
		before := contents(s, "branch:")
		vote, err := s.Prepare(t.Context(), b)
		require.Equal(rt, before, contents(s, "branch:"))
		if failed {
			refused++
			require.Equal(rt, participant.VoteRefused, vote)
			require.ErrorIs(rt, err, redis.ErrKey)
			return
		}
		prepared++
		require.NoError(rt, err)
		require.NoError(rt, s.Commit(t.Context(), b))
		require.Equal(rt, contents(s, "direct:"), contents(s, "branch:"))
	})
	require.NotZero(t, prepared)
	require.NotZero(t, refused)
}

type call struct {
	command, key, value string
	n                   int64
}

func command() *rapid.Generator[call] {
	return rapid.Custom(func(t *rapid.T) call {
		return call{
			command: rapid.SampledFrom([]string{"SET", "INCRBY", "INCRBY", "HSET", "XADD"}).Draw(t, "command"),
			key:     rapid.SampledFrom([]string{"text", "n", "n", "max", "hash", "stream", "new"}).Draw(t, "key"),
			value:   rapid.SampledFrom([]string{"1", "-7", "x", ""}).Draw(t, "value"),
			n:       rapid.SampledFrom([]int64{1, 2, -1, math.MaxInt64, math.MinInt64}).Draw(t, "n"),
		}
	})
}

func (c call) stage(s *redis.Session, side string) error {
	switch key := side + c.key; c.command {
	case "SET":
		return s.Set(key, c.value)
	case "INCRBY":
		return s.IncrBy(key, c.n)
	case "HSET":
		return s.HSet(key, c.value, c.value)
	default:
		return s.XAdd(key, "f", c.value)
	}
}

// direct sends the command as it is, but for a SET of another kind of value: that a
// branch refuses.
func direct(s *service, c call) error {
	ctx, key := s.t.Context(), "direct:"+c.key
	switch c.command {
	case "SET":
		if kind := s.client.Type(ctx, key).Val(); kind != "none" && kind != "string" {
			return errors.New(kind)
		}
		return s.client.Set(ctx, key, c.value, 0).Err()
	case "INCRBY":
		return s.client.IncrBy(ctx, key, c.n).Err()
	case "HSET":
		return s.client.HSet(ctx, key, c.value, c.value).Err()
	default:
		return s.client.XAdd(ctx, &goredis.XAddArgs{Stream: key, Values: []any{"f", c.value}}).Err()
	}
}

// contents returns what the keys of a side hold.
func contents(s *service, side string) (list []string) {
	ctx := s.t.Context()
	for _, key := range []string{"text", "n", "max", "hash", "stream", "new"} {
		switch kind := s.client.Type(ctx, side+key).Val(); kind {
		case "string":
			list = append(list, key+"="+s.get(side+key))
		case "hash":
			list = append(list, fmt.Sprint(key, s.client.HGetAll(ctx, side+key).Val()))
		case "stream":
			for _, entry := range s.client.XRange(ctx, side+key, "-", "+").Val() {
				list = append(list, fmt.Sprint(key, entry.Values))
			}
		}
	}
	slices.Sort(list)
	return list
}

package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// next returns the next events, and fails if they don't come.
func next(t *testing.T, s *coordinator.Subscription, n int) (events []coordinator.Event) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for range n {
		e, err := s.Next(ctx)
		require.NoError(t, err)
		events = append(events, e)
	}
	return events
}

func nothingNext(t *testing.T, s *coordinator.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	e, err := s.Next(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded, "%v", e)
}

func subscribe(t *testing.T, f *coordinator.Feed, after uint64) *coordinator.Subscription {
	t.Helper()
	s, err := f.Subscribe(after)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func begun(i int) participant.TxID { return participant.TxID{Term: participant.Term(i)} }

func TestFeedTellsOfATransaction(t *testing.T) {
	feed := coordinator.NewFeed(0)
	playWith(t, coordinator.Config{Trace: feed.Trace()}, nil, func(t *testing.T, s *stage) {
		all := subscribe(t, feed, 0)
		a, b := s.actor("a"), s.actor("b")
		b.prepare = says(participant.VoteRefused, errors.New("no money"))
		id, err := s.commits(a, b)
		require.ErrorIs(t, err, coordinator.ErrRolledBack)
		synctest.Wait()
		events := next(t, all, 9)
		kinds := map[coordinator.EventKind]int{}
		for i, e := range events {
			require.Equal(t, id, e.Tx)
			require.False(t, e.At.IsZero())
			if i > 0 {
				require.Equal(t, events[i-1].Number+1, e.Number)
			}
			kinds[e.Kind]++
			switch e.Kind {
			case coordinator.EventEnlisted:
				require.Equal(t, []string{"a", "b"}[e.Branch], e.Participant)
			case coordinator.EventVoted:
				if e.Participant == "b" {
					require.Equal(t, participant.VoteRefused, e.Vote)
					require.Equal(t, "no money", e.Text)
				}
			case coordinator.EventDecided:
				require.Equal(t, record.DecisionRollback, e.Decision)
				require.Equal(t, record.CauseRefused, e.Cause)
			case coordinator.EventTold:
				require.Equal(t, record.DecisionRollback, e.Decision)
				require.Equal(t, 1, e.Attempt)
				require.Empty(t, e.Text)
			case coordinator.EventFinished:
				require.Equal(t, participant.OutcomeRolledBack, e.Outcome)
			default:
			}
		}
		require.Equal(t, map[coordinator.EventKind]int{
			coordinator.EventBegun: 1, coordinator.EventEnlisted: 2, coordinator.EventVoted: 2, coordinator.EventDecided: 1,
			coordinator.EventTold: 2, coordinator.EventFinished: 1,
		}, kinds)
		require.Equal(t, coordinator.EventBegun, events[0].Kind)
		require.Equal(t, coordinator.EventFinished, events[8].Kind)
		nothingNext(t, all)
	})
}

// Who comes back in time misses nothing; else the gap is an event of its own.
func TestFeedRemembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := coordinator.NewFeed(4)
		trace := feed.Trace()
		trace.Begun(begun(1)) // nobody hears of it
		first := subscribe(t, feed, 0)
		nothingNext(t, first)
		for i := 2; i <= 4; i++ {
			trace.Begun(begun(i))
		}
		seen := next(t, first, 3)
		first.Close()
		trace.Begun(begun(5))

		again := subscribe(t, feed, seen[1].Number)
		rest := next(t, again, 2)
		require.Equal(t, []participant.TxID{begun(4), begun(5)}, []participant.TxID{rest[0].Tx, rest[1].Tx})
		nothingNext(t, again)
		for i := 6; i <= 10; i++ { // one more than it remembers
			trace.Begun(begun(i))
		}
		rest = next(t, again, 5)
		require.Equal(t, coordinator.EventGap, rest[0].Kind)
		require.Equal(t, rest[1].Number-1, rest[0].Number)
		require.Equal(t, begun(7), rest[1].Tx)
		require.Equal(t, begun(10), rest[4].Tx)
		fromGap := next(t, subscribe(t, feed, rest[0].Number), 1)
		require.Equal(t, begun(7), fromGap[0].Tx, "it can be resumed from")

		// Also of a feed that came before, or of one whose clock was ahead.
		for _, after := range []uint64{1, seen[0].Number, rest[4].Number + 1e12} {
			events := next(t, subscribe(t, feed, after), 2)
			require.Equal(t, coordinator.EventGap, events[0].Kind)
			require.Equal(t, begun(7), events[1].Tx)
		}
		nothingNext(t, subscribe(t, feed, rest[4].Number))
	})
}

// A feed that nobody listens to remembers nothing, after a minute; what is missing is
// told.
func TestFeedRestsWhenNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := coordinator.NewFeed(4)
		trace := feed.Trace()
		s := subscribe(t, feed, 0)
		trace.Begun(begun(1))
		last := next(t, s, 1)[0]
		s.Close()
		s.Close()
		time.Sleep(time.Minute)
		trace.Begun(begun(2))
		s = subscribe(t, feed, last.Number)
		require.Equal(t, begun(2), next(t, s, 1)[0].Tx)
		s.Close()
		for _, during := range []func(){func() {}, func() { trace.Begun(begun(3)) }} {
			time.Sleep(time.Minute + time.Nanosecond)
			during()
			s = subscribe(t, feed, last.Number+1)
			gap := next(t, s, 1)[0]
			require.Equal(t, coordinator.EventGap, gap.Kind)
			nothingNext(t, s)
			trace.Begun(begun(4))
			require.Equal(t, begun(4), next(t, s, 1)[0].Tx)
			s.Close()
		}
	})
}

func TestFeedNumbersRiseOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last uint64
		for range 3 {
			feed := coordinator.NewFeed(4)
			s := subscribe(t, feed, last)
			if last != 0 {
				require.Equal(t, coordinator.EventGap, next(t, s, 1)[0].Kind)
			}
			for i := range 3 {
				feed.Trace().Begun(begun(i))
				e := next(t, s, 1)[0]
				require.Greater(t, e.Number, last)
				last = e.Number
			}
			time.Sleep(time.Microsecond)
		}
	})
}

// R12: so many subscribers and no more; each ends by itself.
func TestR12SubscribersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		feed := coordinator.NewFeed(4)
		var all []*coordinator.Subscription
		for range 1000 {
			all = append(all, subscribe(t, feed, 0))
		}
		_, err := feed.Subscribe(0)
		require.ErrorIs(t, err, coordinator.ErrLimit)
		ended := make(chan error)
		go func() {
			_, err := all[0].Next(context.Background())
			ended <- err
		}()
		synctest.Wait()
		all[0].Close()
		require.ErrorIs(t, <-ended, coordinator.ErrClosed)
		subscribe(t, feed, 0)
	})
}

// Every subscriber gets every event in order, or a gap, whatever else goes on.
func TestFeedIsSafeForConcurrentUse(t *testing.T) {
	feed := coordinator.NewFeed(64)
	const publishers, each = 4, 2000
	var readers, writers sync.WaitGroup
	subscriptions := []*coordinator.Subscription{subscribe(t, feed, 0), subscribe(t, feed, 0), subscribe(t, feed, 0)}
	feed.Trace().SafeMode("the first one")
	for _, s := range subscriptions {
		last := next(t, s, 1)[0].Number
		readers.Go(func() {
			got, missed, newest := 0, 0, map[participant.Term]int{}
			for got+missed < publishers*each {
				e, err := s.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				switch {
				case e.Number <= last:
					t.Errorf("%d after %d", e.Number, last)
				case e.Kind == coordinator.EventGap:
					missed += int(e.Number - last)
				case e.Number != last+1:
					t.Errorf("%d after %d without a gap", e.Number, last)
				default:
					got++
					if e.Attempt <= newest[e.Tx.Term] {
						t.Errorf("out of order")
					}
					newest[e.Tx.Term] = e.Attempt
				}
				last = e.Number
			}
		})
	}
	for p := range publishers {
		writers.Go(func() {
			for i := range each {
				feed.Trace().Told(participant.Branch{Tx: begun(p + 1)}, record.DecisionCommit, i+1, nil, 0)
				if i%100 == 0 {
					subscribe(t, feed, 0).Close()
				}
			}
		})
	}
	writers.Wait()
	readers.Wait()
}

func TestFeedBoundsItsTexts(t *testing.T) {
	feed := coordinator.NewFeed(4)
	s := subscribe(t, feed, 0)
	feed.Trace().Voted(participant.Branch{}, 0, errors.New(strings.Repeat("x", 1e6)), 0)
	feed.Trace().SafeMode(strings.Repeat("y", 1e6))
	for _, e := range next(t, s, 2) {
		require.Len(t, e.Text, record.MaxReason, e.Kind.String())
	}
}

func TestFeedCostsNothingWithoutSubscribers(t *testing.T) {
	feed := coordinator.NewFeed(0)
	trace := feed.Trace()
	require.Zero(t, testing.AllocsPerRun(100, func() { trace.Told(participant.Branch{}, record.DecisionCommit, 1, nil, 0) }))
}

// JoinTraces forgets no function of any trace, and makes none of nothing.
func TestJoinedTracesAllHear(t *testing.T) {
	kind := reflect.TypeFor[coordinator.Trace]()
	for i := range kind.NumField() {
		field := kind.Field(i)
		var heard []string
		trace := func(name string) *coordinator.Trace {
			t := &coordinator.Trace{}
			hear := reflect.MakeFunc(field.Type, func(args []reflect.Value) []reflect.Value {
				heard = append(heard, fmt.Sprint(name, len(args)))
				return nil
			})
			reflect.ValueOf(t).Elem().Field(i).Set(hear)
			return t
		}
		joined := reflect.ValueOf(coordinator.JoinTraces(&coordinator.Trace{}, trace("a"), nil, trace("b"), &coordinator.Trace{})).Elem()
		for j := range kind.NumField() {
			require.Equal(t, i != j, joined.Field(j).IsNil(), "%s of a trace with %s", kind.Field(j).Name, field.Name)
		}
		args := make([]reflect.Value, field.Type.NumIn())
		for j := range args {
			args[j] = reflect.Zero(field.Type.In(j))
		}
		joined.Field(i).Call(args)
		require.Equal(t, []string{fmt.Sprint("a", len(args)), fmt.Sprint("b", len(args))}, heard, field.Name)
	}
}

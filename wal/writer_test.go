package wal_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// gated is a store that counts appends and, once the gate is there, holds each of
// them until it is let through.
type gated struct {
	hooked
	mu      sync.Mutex
	appends [][]byte
	gate    chan error
}

func newGated(memory *waltest.Memory) *gated {
	g := &gated{}
	g.hooked = hooked{Store: memory.Open(), hook: func(c call, do func() error) error {
		if c.name != "append" {
			return do()
		}
		g.mu.Lock()
		g.appends = append(g.appends, slices.Clone(c.segment))
		gate := g.gate
		g.mu.Unlock()
		if gate != nil {
			if err := <-gate; err != nil {
				return err
			}
		}
		return do()
	}}
	return g
}

func (g *gated) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gate = make(chan error)
}

func (g *gated) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.appends)
}

func TestForcedAppendsShareOneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newGated(waltest.NewMemory())
		log, _ := openStore(t, store, config)
		store.close()
		first := log.NewPlace(id(log.Term(), 1))
		appended(t, log, first, true, begun(first))
		synctest.Wait()
		require.Equal(t, 2, store.count(), "that of Open and the first")

		const callers = 100
		batches := make([]*wal.Batch, callers)
		var all sync.WaitGroup
		for i := range callers {
			all.Go(func() {
				tx := log.NewPlace(id(log.Term(), uint64(i+2)))
				batches[i] = appended(t, log, tx, true, begun(tx), decided(tx))
				<-batches[i].Done()
			})
		}
		synctest.Wait()
		require.Equal(t, 2, store.count(), "the second waits for the first")
		store.gate <- nil
		store.gate <- nil
		all.Wait()
		require.Equal(t, 3, store.count())
		for _, b := range batches {
			require.Same(t, batches[0], b)
			require.NoError(t, b.Err())
		}
		_, written := records(t, store.appends[2])
		require.Len(t, written, 2*callers)
		require.Equal(t, int64(2*callers+1), log.Stats().Records)
	})
}

// Callers that the last write woke all get into the next one.
func TestTheWriterLetsABatchSettle(t *testing.T) {
	// On one processor it is the scheduler's queue, not luck, that decides who runs
	// before the writer.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	const callers, rounds = 64, 50
	store := newGated(waltest.NewMemory())
	log, _ := openStore(t, store, config)
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for n := range rounds {
				tx := log.NewPlace(id(log.Term(), uint64(n*callers+i+1)))
				force(t, log, tx, begun(tx))
			}
		})
	}
	all.Wait()
	require.Less(t, store.count(), 2*rounds)
}

func TestLazyRecordsRideWithForcedOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newGated(waltest.NewMemory())
		log, _ := openStore(t, store, config)
		a, b := log.NewPlace(id(log.Term(), 1)), log.NewPlace(id(log.Term(), 2))
		lazy := appended(t, log, a, false, begun(a))
		forced := appended(t, log, b, true, begun(b))
		require.Same(t, lazy, forced)
		<-lazy.Done()
		require.NoError(t, lazy.Err())
		require.Zero(t, time.Since(epoch()), "no waiting for the flush")
		time.Sleep(time.Hour)
		require.Equal(t, 2, store.count(), "nothing is left to flush")
	})
}

// epoch is when the clock of a synctest bubble begins.
func epoch() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

func TestLazyRecordsAreFlushedAfterTheInterval(t *testing.T) {
	for configured, want := range map[time.Duration]time.Duration{0: 20 * time.Millisecond, time.Second: time.Second} {
		synctest.Test(t, func(t *testing.T) {
			config := config
			config.FlushInterval = configured
			store := newGated(waltest.NewMemory())
			log, _ := openStore(t, store, config)
			for range 3 { // the timer works again and again
				time.Sleep(time.Minute)
				start := time.Now()
				a := log.NewPlace(id(log.Term(), uint64(start.UnixMilli())))
				first := appended(t, log, a, false, begun(a))
				time.Sleep(want / 2)
				second := appended(t, log, a, false, completed(a))
				<-first.Done()
				require.Equal(t, want, time.Since(start))
				require.Same(t, first, second, "counted from the first")
			}
			require.Equal(t, 4, store.count())
		})
	}
}

func TestAnIdleLogWritesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newGated(waltest.NewMemory())
		config := config
		config.Retention = time.Minute
		log, _ := openStore(t, store, config)
		for n := range uint64(500) {
			tx := log.NewPlace(id(log.Term(), n+1))
			force(t, log, tx, begun(tx), decided(tx), completed(tx))
		}
		before := store.count()
		time.Sleep(24 * time.Hour)
		require.Equal(t, before, store.count())
	})
}

func TestALargeBatchBecomesSeveralSegmentsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newGated(waltest.NewMemory())
		log, _ := openStore(t, store, config)
		var batches []*wal.Batch
		for n := range uint64(10) {
			tx := log.NewPlace(id(log.Term(), n+1))
			batches = append(batches, appended(t, log, tx, n == 9, large(tx, 50)...))
		}
		<-batches[9].Done()
		require.Equal(t, 1+5, store.count(), "200 KiB each, two to a segment")
		next := uint64(1)
		for _, segment := range store.appends[1:] {
			require.Less(t, len(segment), 1<<20)
			header, written := records(t, segment)
			for _, r := range written {
				if r.Kind() == record.KindBegun {
					require.Equal(t, id(log.Term(), next), r.TxID())
					next++
				}
				require.GreaterOrEqual(t, header.Highest.String(), r.TxID().UUID.String(), "R10: highest covers")
			}
		}
		require.Equal(t, uint64(11), next)
		for _, b := range batches {
			<-b.Done()
			require.NoError(t, b.Err())
		}
	})
}

// large are the first records of a transaction with this many branches of 4 KiB.
func large(tx *wal.Place, branches int) []record.Record {
	recs := []record.Record{begun(tx)}
	for i := range branches {
		recs = append(recs, record.Enlisted{Tx: tx.ID(), Number: i, Participant: "bank", Data: make([]byte, participant.MaxData)})
	}
	return recs
}

func TestWhatCannotBeAppendedIsRefused(t *testing.T) {
	log, _ := open(t, waltest.NewMemory(), config)
	a, b := log.NewPlace(id(log.Term(), 1)), log.NewPlace(id(log.Term(), 2))
	foreign := log.NewPlace(id(participant.NewTerm(77, 7), 1))
	twice := append(large(a, 64), large(a, 64)...)
	for name, c := range map[string]struct {
		tx      *wal.Place
		records []record.Record
	}{
		"nothing":                 {a, nil},
		"no begin":                {a, []record.Record{decided(a)}},
		"another's record":        {a, []record.Record{begun(a), begun(b)}},
		"a header":                {a, []record.Record{begun(a), record.Header{}}},
		"the log's own":           {a, []record.Record{record.Carried{State: *record.NewState(a.ID())}}},
		"over a limit":            {a, []record.Record{record.Begun{Tx: a.ID()}}},
		"larger than a batch":     {a, append(twice, decided(a))},
		"a term of nobody's here": {foreign, []record.Record{begun(foreign)}},
	} {
		_, err := log.Append(c.tx, true, c.records...)
		require.Error(t, err, name)
	}
	require.Equal(t, int64(1), log.Stats().Appends)
}

// R12: the queue is bounded, at the door: what has begun may end.
func TestR12NothingBeginsOrGrowsWhileTheQueueIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newGated(waltest.NewMemory())
		log, _ := openStore(t, store, config)
		store.close()
		var batches []*wal.Batch
		var first *wal.Place
		for n := uint64(1); ; n++ {
			tx := log.NewPlace(id(log.Term(), n))
			b, err := log.Append(tx, false, large(tx, 64)...)
			if err != nil {
				require.ErrorIs(t, err, wal.ErrFull)
				break
			}
			require.LessOrEqual(t, n, uint64(300), "300 times 256 KiB")
			if first == nil {
				first = tx
			}
			batches = append(batches, b)
		}
		require.Greater(t, len(batches), 200)
		_, err := log.Append(first, false, large(first, 64)[1:]...)
		require.ErrorIs(t, err, wal.ErrFull, "nor does it grow")
		ended := appended(t, log, first, true, decided(first))
		close(store.gate)
		<-ended.Done()
		require.NoError(t, ended.Err())
		tx := log.NewPlace(id(log.Term(), 1000))
		force(t, log, tx, begun(tx))
	})
}

func TestCloseWritesWhatIsQueuedAndReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := waltest.NewMemory()
		log, _ := open(t, memory, config)
		tx := log.NewPlace(id(log.Term(), 1))
		lazy := appended(t, log, tx, false, begun(tx))
		var both sync.WaitGroup
		for range 2 {
			both.Go(func() { require.NoError(t, log.Close(t.Context())) })
		}
		both.Wait()
		<-lazy.Done()
		require.NoError(t, lazy.Err())
		_, err := log.Append(tx, true, decided(tx))
		require.ErrorIs(t, err, wal.ErrClosed)
		require.Zero(t, time.Since(epoch()), "no waiting for the flush")

		_, inheritance := open(t, memory, config)
		require.Len(t, inheritance, 1)
	})
}

func TestCloseGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		repeating := false
		store := &hooked{Store: waltest.NewMemory().Open(), hook: func(c call, do func() error) error {
			if repeating && c.name == "append" {
				return wal.ErrRepeat
			}
			return do()
		}}
		log, _ := openStore(t, store, config)
		repeating = true
		tx := log.NewPlace(id(log.Term(), 1))
		b := appended(t, log, tx, true, begun(tx))
		ctx, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		require.ErrorIs(t, log.Close(ctx), context.DeadlineExceeded)
		<-b.Done()
		require.ErrorIs(t, b.Err(), wal.ErrUnknown, "R5")
		require.ErrorIs(t, log.Close(t.Context()), wal.ErrUnknown)
	})
}

// R5: after a failed write nothing more is written, and every waiter learns
// whether its records may be there.
func TestR5WhatAFailedWriteTells(t *testing.T) {
	broken := errors.New("disk is broken")
	fenced := fmt.Errorf("append: %w", wal.ErrFenced)
	repeat := fmt.Errorf("append: %w", wal.ErrRepeat)
	for name, c := range map[string]struct {
		answers []error // of Append, one attempt after the other; nil panics
		batch   error   // of those whose write failed
		later   error   // of all others
	}{
		"broken":                     {[]error{broken}, wal.ErrUnknown, wal.ErrPoisoned},
		"panic":                      {[]error{nil}, wal.ErrUnknown, wal.ErrPoisoned},
		"fenced":                     {[]error{fenced}, wal.ErrFenced, wal.ErrFenced},
		"fenced after unknown":       {[]error{repeat, repeat, fenced}, wal.ErrUnknown, wal.ErrPoisoned},
		"broken after unknown":       {[]error{repeat, broken}, wal.ErrUnknown, wal.ErrPoisoned},
		"context ended in the store": {[]error{context.Canceled}, wal.ErrUnknown, wal.ErrPoisoned},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				answers := make(chan error)
				failing, calls := false, 0
				store := &hooked{Store: waltest.NewMemory().Open(), hook: func(c call, do func() error) error {
					if !failing || c.name == "release" {
						return do()
					}
					calls++
					err := <-answers
					if err == nil {
						panic("driver")
					}
					return err
				}}
				log, _ := openStore(t, store, config)
				failing = true
				a, b := log.NewPlace(id(log.Term(), 1)), log.NewPlace(id(log.Term(), 2))
				batch := appended(t, log, a, true, begun(a))
				synctest.Wait()
				queued := appended(t, log, b, true, begun(b))
				require.NoError(t, log.Err())
				for _, err := range c.answers {
					answers <- err
				}
				<-log.Failed()
				<-batch.Done()
				<-queued.Done()
				refused := appended(t, log, b, true, begun(b))
				<-refused.Done()
				requireOnly(t, c.batch, batch.Err())
				requireOnly(t, c.later, queued.Err())
				requireOnly(t, c.later, refused.Err())
				requireOnly(t, c.batch, log.Err())
				require.ErrorIs(t, log.Close(t.Context()), c.batch)
				require.Equal(t, len(c.answers), calls, "nothing is written after the failure")
				_, inheritance := openStore(t, store.Store, config)
				require.Empty(t, inheritance)
			})
		})
	}
}

// requireOnly checks that err Is want and none of the other answers.
func requireOnly(t *testing.T, want, err error) {
	t.Helper()
	for _, answer := range []error{wal.ErrUnknown, wal.ErrFenced, wal.ErrPoisoned} {
		require.Equal(t, errors.Is(want, answer), errors.Is(err, answer), "%v: %v", answer, err)
	}
}

func TestR5ARepeatedWriteIsTheSameCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []call
		var at []time.Duration
		failing := 0
		store := &hooked{Store: waltest.NewMemory().Open(), hook: func(c call, do func() error) error {
			if failing == 0 {
				return do()
			}
			failing--
			c.segment, c.drop = slices.Clone(c.segment), slices.Clone(c.drop)
			calls, at = append(calls, c), append(at, time.Since(epoch()))
			if failing%2 == 0 {
				_ = do() // applied, but the answer is lost
			}
			if failing == 0 {
				return do()
			}
			return wal.ErrRepeat
		}}
		log, _ := openStore(t, store, config)
		failing = 12
		tx := log.NewPlace(id(log.Term(), 1))
		force(t, log, tx, begun(tx))
		require.Len(t, calls, 12)
		for i, c := range calls {
			require.Equal(t, calls[0], c)
			if i > 0 {
				require.LessOrEqual(t, at[i]-at[i-1], time.Second, "the backoff is capped")
			}
		}
		require.NoError(t, log.Err())
	})
}

// R9: a coordinator whose term was taken over writes nothing any more.
func TestR9ADeposedCoordinatorIsFenced(t *testing.T) {
	memory := waltest.NewMemory()
	store := memory.Open()
	old, _ := openStore(t, store, config)
	a := old.NewPlace(id(old.Term(), 1))
	force(t, old, a, begun(a))
	store.Expire()

	_, inheritance := open(t, memory, config)
	require.Len(t, inheritance, 1)
	require.Greater(t, inheritance[0].Epoch, old.Epoch())

	late := appended(t, old, a, true, decided(a))
	<-late.Done()
	requireOnly(t, wal.ErrFenced, late.Err())
	<-old.Failed()
	require.ErrorIs(t, old.Err(), wal.ErrFenced)
}

func TestR9ALostTermIsNotWrittenAnyMore(t *testing.T) {
	appends := 0
	store := &hooked{Store: waltest.NewMemory().Open(), lost: make(chan struct{}), hook: func(c call, do func() error) error {
		if c.name == "append" {
			appends++
		}
		return do()
	}}
	config := config
	config.FlushInterval = time.Hour
	log, _ := openStore(t, store, config)
	tx := log.NewPlace(id(log.Term(), 1))
	lazy := appended(t, log, tx, false, begun(tx))
	before := appends
	close(store.lost)
	<-lazy.Done()
	requireOnly(t, wal.ErrFenced, lazy.Err())
	require.Error(t, log.Close(t.Context()))
	require.Equal(t, before, appends)
}

package wal_test

import (
	"errors"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

// A client who is alone writes its own records; what comes meanwhile is the writer's.
func TestALoneClientWritesItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var by []string
		var held chan struct{} // holds up the append at work
		store := &hooked{Store: waltest.NewMemory().Open()}
		store.hook = func(c call, do func() error) error {
			if c.name == "append" {
				writer := "client"
				if strings.Contains(string(debug.Stack()), "wal.(*Log).run(") {
					writer = "writer"
				}
				by = append(by, writer)
				if held != nil {
					<-held
				}
			}
			return do()
		}
		log, _ := openStore(t, store, config)
		synctest.Wait() // the writer is at rest
		wait := func(n uint64) {
			tx := log.NewPlace(id(log.Term(), n))
			b, err := log.Append(tx, true, begun(tx), decided(tx))
			require.NoError(t, err)
			require.NoError(t, b.Wait())
		}
		by = nil
		wait(1)
		wait(2)
		require.Equal(t, []string{"client", "client"}, by)

		held = make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { wait(3) })
		synctest.Wait()
		all.Go(func() { wait(4) })
		synctest.Wait()
		close(held)
		all.Wait()
		require.Equal(t, []string{"client", "client", "client", "writer"}, by)
		require.Zero(t, time.Since(epoch()), "nobody waited for the flush")

		held, by = nil, nil
		tx := log.NewPlace(id(log.Term(), 6))
		unwaited, err := log.Append(tx, true, begun(tx))
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.NoError(t, unwaited.Wait())
		require.Equal(t, []string{"writer"}, by, "forced, and nobody waited")
	})
}

// However clients come and go, alone or not, each is woken by the write of its batch:
// time in the bubble passes only if one waits for the flush.
func TestNobodyWaitsForTheFlush(t *testing.T) {
	for _, waits := range []func(*wal.Batch) error{
		(*wal.Batch).Wait,
		func(b *wal.Batch) error { <-b.Done(); return b.Err() },
	} {
		synctest.Test(t, func(t *testing.T) {
			store := &hooked{Store: waltest.NewMemory().Open()}
			store.hook = func(_ call, do func() error) error {
				runtime.Gosched() // let others come meanwhile
				return do()
			}
			log, _ := openStore(t, store, config)
			for clients := range uint64(5) {
				var all sync.WaitGroup
				for i := range clients {
					all.Go(func() {
						for n := range uint64(300) {
							tx := log.NewPlace(id(log.Term(), clients<<32|n<<8|i+1))
							b, err := log.Append(tx, true, begun(tx), decided(tx))
							require.NoError(t, err)
							require.NoError(t, waits(b))
							appended(t, log, tx, false, completed(tx))
						}
					})
				}
				all.Wait()
			}
			require.Zero(t, time.Since(epoch()))
		})
	}
}

// R9: the driver may say that the term is lost at the moment in which an append is
// refused, whoever makes that. The log fails once.
func TestR9LostWhileAnAppendIsFenced(t *testing.T) {
	for _, clients := range []uint64{1, 2} { // two: the writer makes the second one's
		for range 20 { // what the writer hears first is random
			synctest.Test(t, func(t *testing.T) {
				store := &hooked{Store: waltest.NewMemory().Open(), lost: make(chan struct{})}
				store.hook = func(_ call, do func() error) error { return do() }
				log, _ := openStore(t, store, config)
				appends := uint64(0)
				store.hook = func(c call, do func() error) error {
					if c.name != "append" {
						return do()
					}
					time.Sleep(time.Millisecond) // let others come
					if appends++; appends < clients {
						return do()
					}
					close(store.lost)
					time.Sleep(time.Millisecond)
					return wal.ErrFenced
				}
				var all sync.WaitGroup
				for n := range clients {
					all.Go(func() {
						time.Sleep(time.Duration(n)) // one after the other
						tx := log.NewPlace(id(log.Term(), n+1))
						b, err := log.Append(tx, true, begun(tx), decided(tx))
						require.NoError(t, err)
						if err = b.Wait(); n+1 < clients {
							require.NoError(t, err)
						} else {
							require.ErrorIs(t, err, wal.ErrFenced)
						}
					})
				}
				all.Wait()
				<-log.Failed()
				synctest.Wait()
				require.ErrorIs(t, log.Err(), wal.ErrFenced)
			})
		}
	}
}

// Who comes alone while the writer asks the store for room is not forgotten by it.
func TestALoneClientComesWhileRoomIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &hooked{Store: waltest.NewMemory().Open()}
		store.hook = func(_ call, do func() error) error { return do() }
		log, _ := openStore(t, store, config)
		place := func(n uint64) *wal.Place { return log.NewPlace(id(log.Term(), n)) }
		old := place(1)
		var answer chan struct{}
		store.reserve = func(int64) (int64, error) {
			if answer != nil {
				<-answer
			}
			return 0, errors.New("full")
		}
		force(t, log, old, begun(old)) // then the store is asked
		synctest.Wait()

		answer = make(chan struct{})
		_, err := log.Append(place(2), false, begun(place(2)))
		require.ErrorIs(t, err, wal.ErrFull)
		synctest.Wait() // the writer asks
		before := time.Now()
		var client sync.WaitGroup
		client.Go(func() {
			b, err := log.Append(old, true, decided(old))
			require.NoError(t, err)
			require.NoError(t, b.Wait())
		})
		synctest.Wait()
		close(answer)
		client.Wait()
		require.Zero(t, time.Since(before), "it waited for the flush")
	})
}

package wal_test

import (
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

// R5, R12: a store that has little space left refuses what begins or grows. What
// has begun ends, and what it left is taken over, in the space there is.
func TestR5R12NothingBeginsWithoutRoomToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := waltest.NewMemory()
		store := memory.Open()
		log, _ := openStore(t, store, config)
		memory.SetCapacity(memory.Bytes() + 20<<20)
		first := log.NewPlace(id(log.Term(), 1))
		force(t, log, first, begun(first))
		synctest.Wait() // until the store was asked

		places := []*wal.Place{first}
		for {
			tx := log.NewPlace(id(log.Term(), uint64(len(places)+1)))
			_, err := log.Append(tx, false, large(tx, 8)...)
			if err != nil {
				require.ErrorIs(t, err, wal.ErrFull)
				if strings.Contains(err.Error(), "raise its capacity") {
					break // the store says what helps
				}
				synctest.Wait() // full of what waited to be written
				continue
			}
			places = append(places, tx)
		}
		require.Greater(t, len(places), 50)
		_, err := log.Append(first, false, large(first, 1)[1:]...)
		require.ErrorIs(t, err, wal.ErrFull, "nor does it grow")

		for _, tx := range places[:len(places)/2] {
			force(t, log, tx, decided(tx))
			force(t, log, tx, completed(tx))
		}
		store.Crash()
		after := memory.Open()
		again, inherited := openStore(t, after, config)
		require.Len(t, inherited, len(places))
		for _, in := range inherited {
			if in.State.Completed.IsZero() {
				force(t, again, in.Place, decided(in.Place))
				force(t, again, in.Place, completed(in.Place))
			}
		}
	})
}

// An idle log learns that there is space again by being asked.
func TestThereIsRoomAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := waltest.NewMemory()
		store := memory.Open()
		log, _ := openStore(t, store, config)
		memory.SetCapacity(memory.Bytes() + 1<<20)
		first := log.NewPlace(id(log.Term(), 1))
		force(t, log, first, begun(first))
		synctest.Wait()
		tx := log.NewPlace(id(log.Term(), 2))
		for range 2 {
			_, err := log.Append(tx, false, begun(tx))
			require.ErrorIs(t, err, wal.ErrFull)
			synctest.Wait()
		}
		memory.SetCapacity(0)
		_, err := log.Append(tx, false, begun(tx))
		require.ErrorIs(t, err, wal.ErrFull, "nobody has asked the store yet")
		synctest.Wait()
		appended(t, log, tx, true, begun(tx))
	})
}

// R12: a log that is opened on a full store begins nothing, from the start.
func TestR12AFullStoreIsKnownAtOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := waltest.NewMemory()
		memory.SetCapacity(1 << 20)
		log, _ := open(t, memory, config)
		tx := log.NewPlace(id(log.Term(), 1))
		_, err := log.Append(tx, true, begun(tx))
		require.ErrorIs(t, err, wal.ErrFull)
	})
}

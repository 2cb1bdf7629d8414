package waltest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/waltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func memorySubject(t *testing.T) waltest.Log {
	mem := waltest.NewMemory()
	return waltest.Log{
		Open:   func(*testing.T) wal.Store { return mem.Open() },
		Crash:  func(_ *testing.T, s wal.Store) { s.(*waltest.MemoryStore).Crash() },
		Expire: func(_ *testing.T, s wal.Store) { s.(*waltest.MemoryStore).Expire() },
		Fill: func(*testing.T) func() {
			mem.SetCapacity(mem.Bytes() + 2<<20)
			return func() { mem.SetCapacity(0) }
		},
	}
}

func TestMemoryConforms(t *testing.T) {
	waltest.Test(t, waltest.Subject{New: memorySubject, Repeats: true})
}

// A wrapper that plans nothing changes nothing.
func TestFaultyWithoutFaultsConforms(t *testing.T) {
	waltest.Test(t, waltest.Subject{Repeats: true, New: func(t *testing.T) waltest.Log {
		l := memorySubject(t)
		beneath := map[wal.Store]wal.Store{}
		return waltest.Log{
			Open: func(t *testing.T) wal.Store {
				s := l.Open(t)
				f := waltest.Faulty(s, func(waltest.Call) waltest.Fault { return waltest.Fault{} })
				beneath[f] = s
				return f
			},
			Crash:  func(t *testing.T, s wal.Store) { l.Crash(t, beneath[s]) },
			Expire: func(t *testing.T, s wal.Store) { l.Expire(t, beneath[s]) },
			Fill:   l.Fill,
		}
	}})
}

func TestFaultyRepeat(t *testing.T) {
	for _, applied := range []bool{false, true} {
		mem := waltest.NewMemory()
		store := mem.Open()
		stream, err := waltest.Faulty(store, waltest.At(waltest.OpAppend, 2, waltest.Fault{Err: wal.ErrRepeat, Applied: applied})).Open(t.Context(), "owner")
		require.NoError(t, err)
		require.NoError(t, stream.Append(t.Context(), 1, waltest.Segment(1), nil))
		before := mem.Bytes()
		require.ErrorIs(t, stream.Append(t.Context(), 2, waltest.Segment(2), []uint64{1}), wal.ErrRepeat)
		require.Equal(t, applied, mem.Clone().Open().Scan(t.Context(), stream.Term(), first(2)) == nil)
		require.NoError(t, stream.Append(t.Context(), 2, waltest.Segment(2), []uint64{1}))
		require.NoError(t, stream.Append(t.Context(), 3, waltest.Segment(3), []uint64{2}))
		require.Equal(t, before, mem.Bytes())
		require.NoError(t, store.Close())
	}
}

// first fails unless it is called with segment seq, and then with no other one.
func first(seq uint64) func(uint64, []byte) error {
	return func(got uint64, _ []byte) error {
		if got != seq {
			return errors.New("another segment")
		}
		return nil
	}
}

func TestFaultyPanic(t *testing.T) {
	store := waltest.NewMemory().Open()
	stream, err := waltest.Faulty(store, waltest.At(waltest.OpAppend, 1, waltest.Fault{Panic: "driver"})).Open(t.Context(), "owner")
	require.NoError(t, err)
	require.PanicsWithValue(t, "driver", func() { _ = stream.Append(context.Background(), 1, waltest.Segment(1), nil) })
	require.NoError(t, stream.Append(t.Context(), 1, waltest.Segment(1), nil))
	require.NoError(t, store.Close())
}

// A clone is what a restart would find: all orphans, and independent from then on.
func TestMemoryClone(t *testing.T) {
	mem := waltest.NewMemory()
	store := mem.Open()
	stream, err := store.Open(t.Context(), "owner")
	require.NoError(t, err)
	require.NoError(t, stream.Append(t.Context(), 1, waltest.Segment(1), nil))

	restarted := mem.Clone().Open()
	now, _, err := restarted.Orphans(t.Context())
	require.NoError(t, err)
	require.Len(t, now, 1)
	require.NoError(t, stream.Append(t.Context(), 2, waltest.Segment(2), []uint64{1}))
	require.NoError(t, restarted.Scan(t.Context(), stream.Term(), first(1)))
	require.NoError(t, store.Close())
	require.NoError(t, restarted.Close())
}

// The contract allows less than a driver has to refuse.
func TestMemoryRefusesWhatNobodyMayAppend(t *testing.T) {
	store := waltest.NewMemory().Open()
	stream, err := store.Open(t.Context(), "owner")
	require.NoError(t, err)
	whole := waltest.Segment(1, 100, 3000)
	for _, broken := range [][]byte{nil, whole[:len(whole)-1], whole[1:]} {
		require.Error(t, stream.Append(t.Context(), 1, broken, nil))
	}
	require.NoError(t, stream.Append(t.Context(), 1, whole, nil))
	require.NoError(t, store.Close())
}

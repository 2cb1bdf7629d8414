package wal_test

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hooked is a store whose writing calls pass through a hook.
type hooked struct {
	wal.Store
	// hook is given what is done and how to do it.
	hook func(call call, do func() error) error
	lost chan struct{}
	// reserve, if not nil, answers in place of the store.
	reserve func(bytes int64) (int64, error)
}

// call is one writing call of a store or stream.
type call struct {
	name    string
	seq     uint64
	segment []byte
	drop    []uint64
}

func (h *hooked) Open(ctx context.Context, owner string) (s wal.Stream, err error) {
	err = h.hook(call{name: "open"}, func() error { s, err = h.Store.Open(ctx, owner); return err })
	return &hookedStream{Stream: s, store: h}, err
}

func (h *hooked) TakeOver(ctx context.Context, term participant.Term, owner string) (s wal.Stream, err error) {
	err = h.hook(call{name: "take over"}, func() error { s, err = h.Store.TakeOver(ctx, term, owner); return err })
	return &hookedStream{Stream: s, store: h}, err
}

type hookedStream struct {
	wal.Stream
	store *hooked
}

func (s *hookedStream) Append(ctx context.Context, seq uint64, segment []byte, drop []uint64) error {
	return s.store.hook(call{"append", seq, segment, drop}, func() error { return s.Stream.Append(ctx, seq, segment, drop) })
}

func (s *hookedStream) Delete(ctx context.Context) error {
	return s.store.hook(call{name: "delete"}, func() error { return s.Stream.Delete(ctx) })
}

func (s *hookedStream) Release(ctx context.Context) error {
	return s.store.hook(call{name: "release"}, func() error { return s.Stream.Release(ctx) })
}

func (s *hookedStream) Lost() <-chan struct{} {
	if s.store.lost != nil {
		return s.store.lost
	}
	return s.Stream.Lost()
}

func (s *hookedStream) Reserve(bytes int64) (int64, error) {
	if s.store.reserve != nil {
		return s.store.reserve(bytes)
	}
	return s.Stream.Reserve(bytes)
}

var config = wal.Config{Domain: "orders", Owner: "host:1"}

// open opens a log in a fresh process; the test closes it at the end if it has
// not done so itself.
func open(t testing.TB, memory *waltest.Memory, config wal.Config) (*wal.Log, []wal.Inherited) {
	t.Helper()
	return openStore(t, memory.Open(), config)
}

func openStore(t testing.TB, store wal.Store, config wal.Config) (*wal.Log, []wal.Inherited) {
	t.Helper()
	log, inheritance, err := wal.Open(t.Context(), store, config)
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = log.Close(context.Background())
		require.NoError(t, store.Close())
	})
	return log, inheritance
}

// id returns the n-th transaction of a term.
func id(term participant.Term, n uint64) participant.TxID {
	return participant.TxID{Term: term, UUID: nth(n)}
}

func nth(n uint64) (u uuid.UUID) {
	binary.BigEndian.PutUint64(u[:], n)
	return u
}

func begun(tx *wal.Place) record.Record {
	return record.Begun{Tx: tx.ID(), At: time.Now(), Timeout: time.Minute}
}

func decided(tx *wal.Place) record.Record {
	return record.Decided{Tx: tx.ID(), Decision: record.DecisionCommit, By: -1}
}

func completed(tx *wal.Place) record.Record { return record.Completed{Tx: tx.ID(), At: time.Now()} }

// appended appends and fails the test if that is refused. Somebody waits for what is
// forced.
func appended(t testing.TB, log *wal.Log, tx *wal.Place, forced bool, records ...record.Record) *wal.Batch {
	t.Helper()
	b, err := log.Append(tx, forced, records...)
	require.NoError(t, err)
	if forced {
		b.Done()
	}
	return b
}

// force appends and waits until that is durable.
func force(t testing.TB, log *wal.Log, tx *wal.Place, records ...record.Record) {
	t.Helper()
	b := appended(t, log, tx, true, records...)
	<-b.Done()
	require.NoError(t, b.Err())
}

// records are the records of a segment after its header.
func records(t testing.TB, segment []byte) (header record.Header, records []record.Record) {
	t.Helper()
	for first := true; len(segment) > 0; first = false {
		r, rest, err := record.Next(segment)
		require.NoError(t, err)
		if first {
			header = r.(record.Header)
		} else {
			records = append(records, r)
		}
		segment = rest
	}
	return header, records
}

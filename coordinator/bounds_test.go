package coordinator

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// What these tests look at can't be seen from outside but by running out of memory.

// inside runs fn with a coordinator in a bubble.
func inside(t *testing.T, fn func(t *testing.T, d *DTM)) {
	synctest.Test(t, func(t *testing.T) {
		store := waltest.NewMemory().Open()
		d, err := Open(t.Context(), Config{Domain: "test", Store: store})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, d.Close(context.Background()))
			require.NoError(t, store.Close())
		})
		fn(t, d)
	})
}

func yes(name string) participant.Participant {
	ok := func(context.Context, participant.TxID) error { return nil }
	return participant.Func(name, func(context.Context, participant.TxID) (bool, error) { return true, nil }, ok, ok)
}

// R12: a request id is kept as long as its transaction, and not at all for a Begin
// that failed.
func TestRequestIDsAreLetGo(t *testing.T) {
	var r requests
	table := newTable()
	attributes := record.Attributes{record.AttributeRequestID: "1"}
	_, err := r.begin(t.Context(), keyOf(attributes), table, func() (*transaction, error) { return nil, errors.New("no") })
	require.Error(t, err)
	require.Empty(t, r.byKey)

	id := participant.TxID{Term: 1}
	_, err = r.begin(t.Context(), keyOf(attributes), table, func() (*transaction, error) {
		tx := &transaction{id: id}
		table.put(tx)
		return tx, nil
	})
	require.NoError(t, err)
	r.remove(participant.TxID{Term: 2}, attributes)
	require.Len(t, r.byKey, 1, "that was another transaction's")
	r.remove(id, attributes)
	require.Empty(t, r.byKey)
	(&DTM{table: table}).forgotten([]participant.TxID{id})
	require.Nil(t, table.get(id))
}

// A Submit whose branches the log does not take ends rolled back, and leaves its request id
// free for the next.
func TestSubmitRollsBackWhatTheLogDoesNotTake(t *testing.T) {
	inside(t, func(t *testing.T, d *DTM) {
		p, err := d.register(yes("a"))
		require.NoError(t, err)
		s := &submission{branches: []submitted{{p, "a", nil}, {p, "b", make([]byte, participant.MaxData+1)}}}
		_, err = d.beginWith(t.Context(), BeginOptions{RequestID: "1"}, s)
		require.ErrorContains(t, err, `participant "b"`)
		synctest.Wait()
		infos, err := d.List(t.Context(), Filter{Done: true})
		require.NoError(t, err)
		require.Len(t, infos, 1)
		require.Equal(t, record.DecisionRollback, infos[0].Decision)
		require.Len(t, infos[0].Branches, 1)
		require.Zero(t, d.open.Load())
		require.Empty(t, d.requests.byKey)
	})
}

// R12: what is forgotten is gone from the request ids as well.
func TestForgottenReachesRequestIDs(t *testing.T) {
	inside(t, func(t *testing.T, d *DTM) {
		id, err := d.Begin(t.Context(), WithRequestID("1"))
		require.NoError(t, err)
		require.NoError(t, d.Commit(t.Context(), id))
		time.Sleep(time.Second)
		synctest.Wait()
		d.forgotten([]participant.TxID{id})
		require.Empty(t, d.requests.byKey)
		require.Nil(t, d.table.get(id))
	})
}

// A decided transaction holds no timer, and one that has ended holds nothing but
// its answer.
func TestDecidedTransactionsAreLetGo(t *testing.T) {
	inside(t, func(t *testing.T, d *DTM) {
		id, err := d.Begin(t.Context())
		require.NoError(t, err)
		tx := d.table.get(id)
		require.NoError(t, d.Enlist(t.Context(), id, yes("a"), WithData([]byte("data"))))
		require.NoError(t, d.Commit(t.Context(), id))
		require.Zero(t, tx.due, "nothing wakes it")
		require.Zero(t, d.open.Load())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Empty(t, d.table.shard(id).live)
		require.NotSame(t, tx, d.table.get(id))
		e := d.endpoint("a")
		require.Nil(t, d.underway.zero())
		require.Zero(t, int(e.undelivered.Load())+e.inFlight+e.telling+len(e.ready)+len(e.prepares)+len(e.held)+len(e.retries))
	})
}

// R4, R12: once the votes don't matter no Prepare is queued any more.
func TestPrepareThatComesTooLateIsNotQueued(t *testing.T) {
	inside(t, func(t *testing.T, d *DTM) {
		id, err := d.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, d.Enlist(t.Context(), id, yes("a")))
		tx, e := d.table.get(id), d.endpoint("a")
		require.NoError(t, d.Rollback(t.Context(), id))
		tx.mu.Lock()
		ctx := d.prepareContext(tx, &callContext{})
		tx.mu.Unlock()
		require.ErrorIs(t, ctx.Err(), context.Canceled)
		e.mu.Lock()
		e.inFlight = d.config.MaxInFlight // no place
		e.mu.Unlock()
		e.prepare(&call{t: tx, endpoint: e, verb: protocol.EffectPrepare, ctx: ctx})
		e.mu.Lock()
		defer e.mu.Unlock()
		require.Empty(t, e.prepares)
		e.inFlight = 0
	})
}

// A branch that the log did not accept is not enlisted: a crash would lose it.
func TestBranchThatTheLogRefusesIsNotEnlisted(t *testing.T) {
	inside(t, func(t *testing.T, d *DTM) {
		id, err := d.Begin(t.Context())
		require.NoError(t, err)
		require.NoError(t, d.Enlist(t.Context(), id, yes("a")))
		require.NoError(t, d.log.Close(t.Context()))
		require.ErrorIs(t, d.Enlist(t.Context(), id, yes("b")), ErrClosed)
		info, err := d.Get(t.Context(), id)
		require.NoError(t, err)
		require.Len(t, info.Branches, 1)
		require.Equal(t, protocol.Active, info.Phase)
		require.ErrorIs(t, d.Commit(t.Context(), id), ErrOutcomeUnknown)
	})
}

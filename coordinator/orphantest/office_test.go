package orphantest

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/bolt"
)

const domain = "orders"

// office is a coordinator over a log on disk, with a database and a participant that
// keeps it waiting.
type office struct {
	dtm   *coordinator.DTM
	store *bolt.Store
	db    *watched
	slow  participant.Participant
	// asked is sent to when slow is asked for its vote, which is given when vote is
	// closed.
	asked, vote chan struct{}
	// voted is sent to when the database has voted.
	voted chan participant.Vote
	work  func(context.Context, participant.Enlister) error
}

// watched counts how often the database was listed.
type watched struct {
	adapter
	lists atomic.Int64
}

func (w *watched) List(ctx context.Context, domain string) (participant.Listing, error) {
	listing, err := w.adapter.List(ctx, domain)
	w.lists.Add(1)
	return listing, err
}

// through enlists what stands before the adapter.
type through struct {
	participant.Enlister
	p participant.Participant
}

func (e through) Enlist(ctx context.Context, _ participant.Participant, data []byte) (participant.Branch, error) {
	return e.Enlister.Enlist(ctx, e.p, data)
}

func openOffice(t *testing.T, db database, log string, cfg coordinator.Config) *office {
	t.Helper()
	store, err := bolt.Open(log, nil)
	require.NoError(t, err)
	o := &office{store: store, db: &watched{adapter: db.open(t)}, asked: make(chan struct{}), vote: make(chan struct{}), voted: make(chan participant.Vote, 1)}
	o.slow = participant.Func("slow", func(ctx context.Context, _ participant.TxID) (bool, error) {
		close(o.asked)
		select {
		case <-o.vote:
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}, nothing, nothing)
	o.work = func(ctx context.Context, tx participant.Enlister) error {
		return db.work(ctx, o.db.adapter, through{tx, o.db})
	}
	cfg.Domain, cfg.Store, cfg.Participants = domain, store, []participant.Participant{o.db, o.slow}
	cfg.Timeout, cfg.CallTimeout, cfg.CommitWait = waitTime, waitTime, waitTime
	cfg.Trace = &coordinator.Trace{Voted: func(b participant.Branch, vote participant.Vote, _ error, _ time.Duration) {
		if b.Participant == o.db.Name() {
			o.voted <- vote
		}
	}}
	o.dtm, err = coordinator.Open(t.Context(), cfg)
	require.NoError(t, err)
	require.NoError(t, o.dtm.WaitRecovered(t.Context()))
	return o
}

func nothing(context.Context, participant.TxID) error { return nil }

// transact commits a transaction with one effect.
func (o *office) transact(t *testing.T) (id participant.TxID) {
	t.Helper()
	require.NoError(t, o.dtm.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		id = tx.ID()
		return o.work(ctx, tx)
	}))
	return id
}

// prepareLive returns a transaction that the database has prepared and that can't be
// decided before commit is called, which returns what Commit does.
func (o *office) prepareLive(t *testing.T) (id participant.TxID, commit func() error) {
	t.Helper()
	id, err := o.dtm.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, o.dtm.Enlist(t.Context(), id, o.slow))
	require.NoError(t, o.work(t.Context(), o.dtm.Tx(id)))
	committed := make(chan error, 1)
	go func() { committed <- o.dtm.Commit(t.Context(), id) }()
	<-o.asked
	require.Equal(t, participant.VotePrepared, <-o.voted)
	return id, func() error {
		close(o.vote)
		return <-committed
	}
}

// awaitLists waits until the database was listed n times more.
func (o *office) awaitLists(t *testing.T, n int64) {
	t.Helper()
	end := o.db.lists.Load() + n
	require.Eventually(t, func() bool { return o.db.lists.Load() >= end }, waitTime, waitTick)
}

// waitTime bounds what is sure to come.
const (
	waitTime = time.Minute
	waitTick = time.Millisecond
)

func (o *office) orphans(t *testing.T) []recovery.Orphan {
	t.Helper()
	orphans, err := o.dtm.Orphans(t.Context())
	require.NoError(t, err)
	for _, orphan := range orphans {
		require.Equal(t, o.db.Name(), orphan.Branch.Participant)
		require.NotEmpty(t, orphan.Reason)
		require.NotEmpty(t, orphan.Explanation.Name)
		t.Logf("%s: %s: %s\nto commit it by hand:\n%s\nto roll it back by hand:\n%s", orphan.Explanation.Name,
			orphan.Verdict, orphan.Reason, orphan.Explanation.Commit, orphan.Explanation.Rollback)
	}
	return orphans
}

func (o *office) close(t *testing.T) {
	t.Helper()
	require.NoError(t, o.dtm.Close(t.Context()))
	require.NoError(t, o.store.Close())
	require.NoError(t, o.db.Close())
}

package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/postgres"
)

// wiretap sees what a process sends, and can keep it from connecting anew.
type wiretap struct {
	mu     sync.Mutex
	closed bool
	after  []byte        // bytes to look for
	seen   chan struct{} // closed when they were sent
}

var errWireClosed = errors.New("this test lets no connection through")

// configure gives a pool's connections to the wiretap.
func (w *wiretap) configure(c *pgxpool.Config) {
	dial := c.ConnConfig.DialFunc
	c.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.closed {
			return nil, errWireClosed
		}
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &tapped{conn, w}, nil
	}
}

// expect closes seen when bytes that hold these are sent. From then on there is no
// further connection, and so no request to cancel what was sent.
func (w *wiretap) expect(bytes string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.after, w.seen = []byte(bytes), make(chan struct{})
	return w.seen
}

type tapped struct {
	net.Conn
	w *wiretap
}

func (c *tapped) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	if c.w.after != nil && bytes.Contains(b, c.w.after) {
		close(c.w.seen)
		c.w.after, c.w.closed = nil, true
	}
	return n, err
}

// stop keeps a backend from running until the returned function is called.
func stop(t *testing.T, backend uint32) (resume func()) {
	t.Helper()
	require.NoError(t, syscall.Kill(int(backend), syscall.SIGSTOP))
	resume = sync.OnceFunc(func() { _ = syscall.Kill(int(backend), syscall.SIGCONT) })
	t.Cleanup(resume)
	return resume
}

// What is in the server's socket is executed when its client is long gone: without
// the row a PREPARE TRANSACTION lands after the rollback that it should have met.
func TestALatePrepareLandsWithoutARow(t *testing.T) {
	f := newFixture(t)
	conn := connect(t, f.url)
	tx := newTransaction()
	_, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO effect VALUES ('late')")
	require.NoError(t, err)
	backend := conn.PgConn().PID()
	resume := stop(t, backend)
	sendAndLeave(t, conn, "PREPARE TRANSACTION '"+string(tx.XID())+"'")
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	resume()
	f.waitUntil(func() bool { return f.backends(backend) == 0 })
	require.Equal(t, 1, f.inDoubt(), "the tombstone would have been enough without the row")

	// The sweep finds it, and the same rollback ends it.
	listing, err := f.List(t.Context(), tx.Domain)
	require.NoError(t, err)
	require.Len(t, listing.Prepared, 1)
	require.NoError(t, f.Rollback(t.Context(), listing.Prepared[0]))
	require.Zero(t, f.inDoubt())
}

// sendAndLeave sends statements in one message, as Prepare does, and is gone.
func sendAndLeave(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	batch := &pgconn.Batch{}
	for _, statement := range statements {
		batch.ExecParams(statement, nil, nil, nil, nil)
	}
	wire := conn.PgConn().Conn()
	conn.PgConn().ExecBatch(t.Context(), batch)
	require.NoError(t, wire.Close())
}

// After a rollback nothing of the branch can be prepared any more, also if its Prepare
// is on the way to the server (R4).
func TestR4ALatePrepareMeetsTheTombstone(t *testing.T) {
	tap := &wiretap{}
	f := newFixture(t, tap.configure)
	other := f.start()
	tx, session := f.begun()
	backend := pid(t, session)
	resume := stop(t, backend)

	ctx, cancel := context.WithCancel(t.Context())
	sent := tap.expect("PREPARE TRANSACTION")
	go func() {
		<-sent
		cancel()
	}()
	vote, err := f.Prepare(ctx, tx.Branch)
	require.False(t, vote.Valid(), "%v", err)
	require.ErrorIs(t, err, context.Canceled)

	require.NoError(t, other.Rollback(t.Context(), tx.Branch))
	resume()
	f.waitUntil(func() bool { return f.backends(backend) == 0 })
	require.Zero(t, f.inDoubt())
	require.Zero(t, f.effects(tx))
	heuristic(t, participant.OutcomeRolledBack, other.Commit(t.Context(), tx.Branch))
	vote, err = other.Prepare(t.Context(), tx.Branch)
	require.Equal(t, participant.VoteRefused, vote, "%v", err)
}

// A Prepare that is late and comes before the rollback is found by it.
func TestR4ALatePrepareIsRolledBack(t *testing.T) {
	f := newFixture(t)
	tx, _ := f.begun()
	f.votes(tx, participant.VotePrepared)
	require.NoError(t, f.start().Rollback(t.Context(), tx.Branch))
	require.Zero(t, f.inDoubt())
	require.Equal(t, 1, f.rows(tx, "rolled back"))
}

// In this order a tombstone makes both fail: the row by its key, and the rest of the
// message by the protocol.
func TestATombstoneFailsRowAndPrepare(t *testing.T) {
	f := newFixture(t)
	tx := newTransaction()
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))

	conn := connect(t, f.url)
	_, err := conn.Exec(t.Context(), postgres.Begin+"; INSERT INTO effect VALUES ('x')")
	require.NoError(t, err)
	batch := &pgconn.Batch{}
	batch.ExecParams(f.Witness(), [][]byte{[]byte(tx.XID()), []byte("60"), {}}, nil, nil, nil)
	batch.ExecParams("PREPARE TRANSACTION '"+string(tx.XID())+"'", nil, nil, nil, nil)
	results, err := conn.PgConn().ExecBatch(t.Context(), batch).ReadAll()
	require.Equal(t, "23505", sqlState(err))
	require.Empty(t, results)
	require.EqualValues(t, 'E', conn.PgConn().TxStatus())
	require.Zero(t, f.inDoubt())

	// And what is asked for then is a rollback, which is no error.
	tag, err := conn.Exec(t.Context(), "PREPARE TRANSACTION '"+string(tx.XID())+"'")
	require.NoError(t, err)
	require.Equal(t, "ROLLBACK", tag.String())
	require.NoError(t, conn.Close(t.Context()))
}

// A transaction that has its row and is not prepared holds the rollback up: its client
// is gone, and the server has not noticed. Its session is ended, and nobody else's.
func TestRollbackEndsWhoHoldsTheRow(t *testing.T) {
	f := newFixture(t)
	tx := newTransaction()
	holder := connect(t, f.url)
	_, err := holder.Exec(t.Context(), postgres.Begin)
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), f.Witness(), string(tx.XID()), 60.0, "")
	require.NoError(t, err)
	other, otherSession := f.begun()

	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	require.Zero(t, f.backends(holder.PgConn().PID()))
	require.Equal(t, 1, f.rows(tx, "rolled back"))
	_, err = holder.Exec(t.Context(), "SELECT 1")
	require.Error(t, err)

	_, err = otherSession.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err)
	f.votes(other, participant.VotePrepared)
	require.NoError(t, f.Commit(t.Context(), other.Branch))
}

// The participant's own connections keep their settings, also in a pool that resets those
// that come back: a rollback looks who holds the row, and does not wait for him.
func TestOwnConnectionsAreNotReset(t *testing.T) {
	f := newFixture(t, func(c *pgxpool.Config) {
		c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
		c.AfterRelease = func(conn *pgx.Conn) bool {
			_, err := conn.Exec(context.Background(), "DISCARD ALL")
			return err == nil
		}
	})
	tx := newTransaction()
	holder := connect(t, f.url)
	_, err := holder.Exec(t.Context(), postgres.Begin)
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), f.Witness(), string(tx.XID()), 60.0, "")
	require.NoError(t, err)
	for range 2 { // once with each connection
		require.NoError(t, f.Rollback(t.Context(), newTransaction().Branch))
	}
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	require.Zero(t, f.backends(holder.PgConn().PID()))
	require.NoError(t, holder.Close(t.Context()))
}

// The server ends a session on which a statement runs, also if the client's own
// request to cancel it does not get through.
func TestRollbackEndsASessionThatNobodyCancels(t *testing.T) {
	tap := &wiretap{}
	f := newFixture(t, tap.configure)
	require.NoError(t, f.Check(t.Context())) // which connects the own pool
	tx, session := f.begun()
	backend := pid(t, session)
	sent := tap.expect("pg_sleep")
	answer := make(chan error)
	go func() {
		_, err := session.Exec(t.Context(), "SELECT pg_sleep(3600)")
		answer <- err
	}()
	<-sent
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	require.Zero(t, f.backends(backend))
	require.ErrorIs(t, <-answer, postgres.ErrRolledBack)
}

// The call that runs returns at once, also while the server can't be told.
func TestRollbackBreaksOffAStatementAtASilentServer(t *testing.T) {
	tap := &wiretap{}
	f := newFixture(t, tap.configure)
	require.NoError(t, f.Check(t.Context())) // which connects the own pool
	tx, session := f.begun()
	resume := stop(t, pid(t, session))
	sent := tap.expect("SELECT 'silence'")
	answer, rolledBack := make(chan error), make(chan error, 1)
	go func() {
		_, err := session.Exec(t.Context(), "SELECT 'silence'")
		answer <- err
	}()
	<-sent
	go func() { rolledBack <- f.Rollback(t.Context(), tx.Branch) }()
	require.ErrorIs(t, <-answer, postgres.ErrRolledBack)
	resume()
	if err := <-rolledBack; err != nil { // the backend did not end in time
		require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	}
	require.Equal(t, 1, f.rows(tx, "rolled back"))
}

// A rollback that can't get past the row comes back when its context ends, and gets
// past it later.
func TestRollbackReturnsWhenItsContextEnds(t *testing.T) {
	f := newFixture(t)
	tx := newTransaction()
	// By hand, without the lock that would tell whose it is.
	holder := connect(t, f.url)
	_, err := holder.Exec(t.Context(), "BEGIN")
	require.NoError(t, err)
	_, err = holder.Exec(t.Context(), "INSERT INTO assent_witness VALUES ($1, 'committed', now())", string(tx.XID()))
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	answer := make(chan error)
	go func() { answer <- f.Rollback(ctx, tx.Branch) }()
	f.waitUntil(func() bool {
		return f.number("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") > 0
	})
	cancel()
	require.ErrorIs(t, <-answer, context.Canceled)
	_, err = holder.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	require.NoError(t, holder.Close(t.Context()))
}

func sqlState(err error) string {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		return server.Code
	}
	return ""
}

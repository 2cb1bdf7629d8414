package postgres_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/postgres"
)

// Sessions that wait for a branch in doubt fill the pool; they don't keep it from being
// ended (R6).
func TestR6WaitingTrafficDoesNotStarvePhaseTwo(t *testing.T) {
	const conns = 4
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = conns })
	const update = "UPDATE account SET cents = cents + 1 WHERE name = $1"
	first, session := f.join()
	_, err := session.Exec(t.Context(), update, "ann")
	require.NoError(t, err)
	f.votes(first, participant.VotePrepared)

	type waiting struct {
		tx  *transaction
		err error
	}
	answers := make(chan waiting)
	for range 3 * conns { // some wait for a lock, and the rest for a connection
		go func() {
			tx := newTransaction()
			session, err := f.Join(t.Context(), tx)
			if err == nil {
				_, err = session.Exec(t.Context(), update, "ann")
			}
			answers <- waiting{tx, err}
		}()
	}
	f.waitUntil(func() bool {
		return f.number("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()") == conns
	})
	require.NoError(t, f.Commit(t.Context(), first.Branch))
	listing, err := f.List(t.Context(), "orders")
	require.NoError(t, err)
	require.Empty(t, listing.Prepared)
	for range 3 * conns {
		w := <-answers
		require.NoError(t, w.err)
		f.votes(w.tx, participant.VotePrepared)
		require.NoError(t, f.Commit(t.Context(), w.tx.Branch))
	}
	require.Equal(t, 101+3*conns, f.number("SELECT cents FROM account WHERE name = 'ann'"))
}

// trips counts the round trips of a pool's connections: writes that wait for an answer.
type trips struct{ n atomic.Int64 }

func (c *trips) configure(config *pgxpool.Config) {
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &counted{Conn: conn, trips: c}, err
	}
	config.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false }
}

type counted struct {
	net.Conn
	trips *trips
	wrote atomic.Bool
}

func (c *counted) Write(b []byte) (int, error) {
	c.wrote.Store(true)
	return c.Conn.Write(b)
}

func (c *counted) Read(b []byte) (int, error) {
	if c.wrote.Swap(false) {
		c.trips.n.Add(1)
	}
	return c.Conn.Read(b)
}

// The round trips of a branch are those of the package's documentation.
func TestRoundTrips(t *testing.T) {
	var c trips
	f := newFixture(t, c.configure, func(c *pgxpool.Config) { c.MaxConns = 1 })
	const update = "UPDATE account SET cents = cents + 1 WHERE name = $1"
	var tx *transaction
	var session *postgres.Session
	took := func(f func() error) int64 {
		before := c.n.Load()
		require.NoError(t, f())
		return c.n.Load() - before
	}
	join := func() (err error) {
		tx = newTransaction()
		session, err = f.Join(t.Context(), tx)
		return err
	}
	exec := func() error { _, err := session.Exec(t.Context(), update, "ann"); return err }
	read := func() error {
		return session.QueryRow(t.Context(), "SELECT cents FROM account WHERE name = $1", "ann").Scan(new(int))
	}
	prepare := func() error { _, err := f.Prepare(t.Context(), tx.Branch); return err }
	for warm := range 2 { // connections are made and identified, statements prepared
		for _, call := range []func() error{join, exec, read, prepare, func() error { return f.Commit(t.Context(), tx.Branch) }} {
			require.NoError(t, call(), "%d", warm)
		}
		for _, call := range []func() error{join, read, prepare, func() error { return f.Rollback(t.Context(), tx.Branch) }} {
			require.NoError(t, call(), "%d", warm)
		}
	}

	require.EqualValues(t, 0, took(join))
	require.EqualValues(t, 1, took(exec))
	require.EqualValues(t, 1, took(read))
	require.EqualValues(t, 1, took(prepare))
	require.EqualValues(t, 1, took(func() error { return f.Commit(t.Context(), tx.Branch) }))

	require.EqualValues(t, 0, took(join))
	require.EqualValues(t, 1, took(read))
	require.EqualValues(t, 2, took(prepare), "reads only")

	require.NoError(t, errors.Join(join(), exec()))
	require.EqualValues(t, 1, took(func() error { return f.CommitOnePhase(t.Context(), tx.Branch) }))

	require.NoError(t, errors.Join(join(), exec(), prepare()))
	require.EqualValues(t, 2, took(func() error { return f.Rollback(t.Context(), tx.Branch) }))
}

// Every method returns when its context ends, and what it has begun on the
// participant's own connections goes on: they are still there.
func TestCutOffCallsKeepTheOwnConnections(t *testing.T) {
	f := newFixture(t, func(c *pgxpool.Config) {
		c.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return false } // it would be what is cut off
	})
	const others = ` FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'`
	tx := f.prepared()
	f.pool.Reset()
	f.waitUntil(func() bool { return f.number("SELECT count(*)"+others) == 1 })
	own := f.number("SELECT pid" + others)
	resume := stop(t, uint32(own))
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.ErrorIs(t, f.Commit(ctx, tx.Branch), context.DeadlineExceeded)
	resume()
	f.waitUntil(func() bool { return f.effects(tx) == 1 })
	require.NoError(t, f.Commit(t.Context(), tx.Branch))
	require.Equal(t, 1, f.backends(uint32(own)))
}

// A prepared branch is told on the connection that prepared it, if that comes soon and
// finds it alive, and on the participant's own else.
func TestPreparedBranchKeepsItsConnection(t *testing.T) {
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = 1 })
	for name, before := range map[string]func(backend uint32){
		"at once": func(uint32) {},
		"later":   func(uint32) { f.waitUntil(func() bool { return f.pool.Stat().AcquiredConns() == 0 }) },
		"dead": func(backend uint32) {
			require.Equal(t, 1, f.number("SELECT pg_terminate_backend($1, 5000)::int", int64(backend)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, end := range []func(context.Context, participant.Branch) error{f.Commit, f.Rollback} {
				tx, session := f.begun()
				backend := pid(t, session)
				f.votes(tx, participant.VotePrepared)
				require.EqualValues(t, 1, f.pool.Stat().AcquiredConns())
				before(backend)
				require.NoError(t, end(t.Context(), tx.Branch))
				require.Zero(t, f.inDoubt())
				f.poolIsClean()
			}
		})
	}
}

// A branch in doubt, however long, keeps no other from a connection.
func TestBranchesInDoubtMakeRoomInThePool(t *testing.T) {
	const conns = 2
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = conns })
	f.KeepFor(time.Hour)
	var inDoubt []*transaction
	for range 3 * conns {
		inDoubt = append(inDoubt, f.prepared())
	}
	require.Equal(t, 3*conns, f.inDoubt())
	for _, tx := range inDoubt {
		require.NoError(t, f.Commit(t.Context(), tx.Branch))
		require.Equal(t, 1, f.effects(tx))
	}
	f.poolIsClean()
}

// What runs on the participant's own connections leaves no trace that could fail a
// SERIALIZABLE branch, whatever the database has as its default.
func TestOwnStatementsConflictWithNobody(t *testing.T) {
	f := newFixture(t)
	execute(t, f.url, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$")
	p := f.start()
	// Traces are kept as long as others overlap.
	other := connect(t, f.url)
	_, err := other.Exec(t.Context(), "BEGIN; SELECT FROM account")
	require.NoError(t, err)
	tx := newTransaction()
	_, err = p.List(t.Context(), tx.Domain)
	require.NoError(t, err)
	require.ErrorIs(t, p.Commit(t.Context(), tx.Branch), participant.ErrUnknownBranch)
	require.NoError(t, p.Rollback(t.Context(), tx.Branch))
	require.NoError(t, p.Forget(t.Context(), []participant.Branch{tx.Branch}))
	const traces = "SELECT count(*) FROM pg_locks WHERE mode = 'SIReadLock' AND relation::regclass::text LIKE $1"
	require.Zero(t, f.number(traces, "assent_witness%"))
	require.NotZero(t, f.number(traces, "account%"))
	require.NoError(t, other.Close(t.Context()))
}

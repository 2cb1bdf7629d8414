package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest/servers"
	"github.com/assent-tm/assent/participant/postgres"
)

// transaction is one with a single branch, as the coordinator has it.
type transaction struct{ participant.Branch }

func newTransaction() *transaction {
	return &transaction{participant.Branch{
		Domain: "orders", Epoch: 1, Participant: "pg",
		Tx: participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.Must(uuid.NewV7())},
	}}
}

func (tx *transaction) ID() participant.TxID { return tx.Tx }

var errConflict = errors.New("it is enlisted already, with other data")

func (tx *transaction) Enlist(_ context.Context, _ participant.Participant, data []byte) (participant.Branch, error) {
	if tx.Data != nil && !bytes.Equal(tx.Data, data) {
		return participant.Branch{}, errConflict
	}
	tx.Data = bytes.Clone(data)
	return tx.Branch, nil
}

// fixture is a database, a process that takes part with it, and a pool to look at it.
type fixture struct {
	*process
	t    testing.TB
	url  string
	look *pgxpool.Pool
}

func newFixture(t testing.TB, configure ...func(*pgxpool.Config)) *fixture {
	t.Helper()
	return fixtureOf(t, newDatabase(t), configure...)
}

// fixtureAt is newFixture at a server of the test's own.
func fixtureAt(t testing.TB, s *servers.Postgres, database string) *fixture {
	t.Helper()
	execute(t, s.URL(database), tables)
	return fixtureOf(t, s.URL(database))
}

func fixtureOf(t testing.TB, url string, configure ...func(*pgxpool.Config)) *fixture {
	t.Helper()
	look, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(look.Close)
	f := &fixture{t: t, url: url, look: look}
	f.process = f.start(configure...)
	require.NoError(t, f.CreateTable(t.Context()))
	return f
}

// start returns one more process.
func (f *fixture) start(configure ...func(*pgxpool.Config)) *process {
	f.t.Helper()
	config, err := pgxpool.ParseConfig(f.url)
	require.NoError(f.t, err)
	for _, change := range configure {
		change(config)
	}
	pool, err := pgxpool.NewWithConfig(f.t.Context(), config)
	require.NoError(f.t, err)
	p, err := postgres.New(f.t.Context(), postgres.Config{Name: "pg", Pool: pool})
	require.NoError(f.t, err)
	started := &process{p, pool}
	f.t.Cleanup(func() { require.NoError(f.t, started.Close()) })
	return started
}

// join joins a new transaction.
func (f *fixture) join() (*transaction, *postgres.Session) {
	f.t.Helper()
	tx := newTransaction()
	session, err := f.Join(f.t.Context(), tx)
	require.NoError(f.t, err)
	return tx, session
}

// begun returns a transaction whose branch has had an effect.
func (f *fixture) begun() (*transaction, *postgres.Session) {
	f.t.Helper()
	tx, session := f.join()
	_, err := session.Exec(f.t.Context(), "INSERT INTO effect VALUES ($1)", tx.Tx.String())
	require.NoError(f.t, err)
	return tx, session
}

// prepared returns one whose branch is in doubt.
func (f *fixture) prepared() *transaction {
	f.t.Helper()
	tx, _ := f.begun()
	f.votes(tx, participant.VotePrepared)
	return tx
}

// votes prepares the branch and checks the vote.
func (f *fixture) votes(tx *transaction, want participant.Vote) {
	f.t.Helper()
	_ = f.reason(tx, want)
}

// reason is votes, and returns the error.
func (f *fixture) reason(tx *transaction, want participant.Vote) error {
	f.t.Helper()
	vote, err := f.Prepare(f.t.Context(), tx.Branch)
	require.Equal(f.t, want, vote, "%v", err)
	return err
}

// number runs a query that returns one.
func (f *fixture) number(query string, args ...any) (n int) {
	f.t.Helper()
	require.NoError(f.t, f.look.QueryRow(f.t.Context(), query, args...).Scan(&n))
	return n
}

// effects counts what is visible of the transaction.
func (f *fixture) effects(tx *transaction) int {
	f.t.Helper()
	return f.number("SELECT count(*) FROM effect WHERE tx = $1", tx.Tx.String())
}

// inDoubt counts the prepared branches of the database.
func (f *fixture) inDoubt() int {
	f.t.Helper()
	return f.number("SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()")
}

// rows counts the branch's rows that say so.
func (f *fixture) rows(tx *transaction, state string) int {
	f.t.Helper()
	return f.number("SELECT count(*) FROM assent_witness WHERE id = $1 AND state = $2", string(tx.XID()), state)
}

// sessions counts the backends with this process id.
func (f *fixture) backends(pid uint32) int {
	f.t.Helper()
	return f.number("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", int64(pid))
}

// waitUntil asks until it is so, or the test's time is over.
func (f *fixture) waitUntil(so func() bool) {
	f.t.Helper()
	for !so() {
		require.NoError(f.t, f.t.Context().Err())
		runtime.Gosched()
	}
}

// writableAtOnce fails unless nobody holds a lock on the account.
func (f *fixture) writableAtOnce(account string) {
	f.t.Helper()
	conn := connect(f.t, f.url)
	defer func() { require.NoError(f.t, conn.Close(context.Background())) }()
	_, err := conn.Exec(f.t.Context(), "BEGIN; SELECT * FROM account WHERE name = '"+account+"' FOR UPDATE NOWAIT; ROLLBACK")
	require.NoError(f.t, err)
}

// poolIsClean fails if a connection of the pool is anything but ready for others.
func (f *fixture) poolIsClean() {
	f.t.Helper()
	f.waitUntil(func() bool { return f.pool.Stat().AcquiredConns() == 0 }) // they are closed in the background
	for _, conn := range f.pool.AcquireAllIdle(f.t.Context()) {
		require.EqualValues(f.t, 'I', conn.Conn().PgConn().TxStatus())
		require.NoError(f.t, conn.Ping(f.t.Context()))
		conn.Release()
	}
}

func pid(t testing.TB, session *postgres.Session) (pid uint32) {
	t.Helper()
	require.NoError(t, session.QueryRow(t.Context(), "SELECT pg_backend_pid()").Scan(&pid))
	return pid
}

func heuristic(t testing.TB, want participant.Outcome, err error) {
	t.Helper()
	var h *participant.HeuristicError
	require.ErrorAs(t, err, &h)
	require.Equal(t, want, h.Outcome)
}

func deadline(d time.Duration) *transaction {
	tx := newTransaction()
	tx.Deadline = time.Now().Add(d)
	return tx
}

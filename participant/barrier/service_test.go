package barrier_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a service under the barrier. Its functions count their effects per
// branch, so that a test sees what ran, how often, and what was left.
type service struct {
	t    testing.TB
	path string
	db   *sql.DB
	*barrier.Participant
}

// effects are what the functions of one branch left in the database.
type effects struct{ reserved, confirmed, cancelled int }

var (
	nothing     = effects{}
	reserved    = effects{reserved: 1}
	confirmed   = effects{reserved: 1, confirmed: 1}
	cancelled   = effects{reserved: 1, cancelled: 1}
	errNotToday = errors.New("not today")
)

const (
	refuseData = "refuse"
	failData   = "fail"
)

func openDB(t testing.TB, dsn string) *sql.DB {
	db, err := sql.Open("sqlite", dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func newService(t testing.TB, change ...func(*barrier.Config)) *service {
	return openService(t, filepath.Join(t.TempDir(), "service.db"), change...)
}

func openService(t testing.TB, path string, change ...func(*barrier.Config)) *service {
	db, err := barrier.OpenSQLite(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return serve(t, path, db, change...)
}

// openFast opens a service for a test that loses no process: it spares the
// fsyncs.
func openFast(t testing.TB, path string) *service {
	db := openDB(t, barrier.SQLiteDSN(path)+"&_sync=OFF")
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	return serve(t, path, db)
}

func serve(t testing.TB, path string, db *sql.DB, change ...func(*barrier.Config)) *service {
	_, err := db.Exec(`CREATE TABLE IF NOT EXISTS effect (id TEXT PRIMARY KEY, reserved INT DEFAULT 0, confirmed INT DEFAULT 0, cancelled INT DEFAULT 0)`)
	require.NoError(t, err)
	cfg := config(db)
	for _, c := range change {
		c(&cfg)
	}
	p, err := barrier.New(t.Context(), cfg)
	require.NoError(t, err)
	return &service{t: t, path: path, db: db, Participant: p}
}

func config(db *sql.DB) barrier.Config {
	return barrier.Config{
		Name: "service", DB: db, Dialect: barrier.SQLite,
		Reserve: reserve, Confirm: count("confirmed"), Cancel: count("cancelled"),
	}
}

// count is a function that can run any number of times, so that a second run
// shows.
func count(column string) barrier.Func {
	return func(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
		_, err := tx.ExecContext(ctx, fmt.Sprintf(`INSERT INTO effect (id, %[1]s) VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET %[1]s = %[1]s + 1`, column), string(b.XID()))
		return err
	}
}

func reserve(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
	if err := count("reserved")(ctx, tx, b); err != nil {
		return err
	}
	switch string(b.Data) {
	case refuseData:
		return barrier.Refuse("insufficient funds")
	case failData:
		return errNotToday
	}
	return nil
}

func (s *service) effects(b participant.Branch) (e effects) {
	s.t.Helper()
	err := s.db.QueryRow(`SELECT reserved, confirmed, cancelled FROM effect WHERE id = ?`, string(b.XID())).Scan(&e.reserved, &e.confirmed, &e.cancelled)
	if !errors.Is(err, sql.ErrNoRows) {
		require.NoError(s.t, err)
	}
	return e
}

func (s *service) exec(statement string, args ...any) {
	s.t.Helper()
	_, err := s.db.Exec(statement, args...)
	require.NoError(s.t, err)
}

func (s *service) number(query string, args ...any) (n int) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow(query, args...).Scan(&n))
	return n
}

// tx returns the n-th transaction of a term.
func tx(counter uint32, n int) participant.TxID {
	id := participant.TxID{Term: participant.NewTerm(counter, 7)}
	binary.BigEndian.PutUint64(id.UUID[8:], uint64(n))
	return id
}

// branch returns a branch of domain "orders" in term 1.
func branch(n int) participant.Branch {
	return participant.Branch{Domain: "orders", Tx: tx(1, n), Epoch: 1, Participant: "service", Data: []byte("data")}
}

func freshBranch() participant.Branch {
	b := branch(0)
	b.Tx.UUID = uuid.Must(uuid.NewV7())
	return b
}

func with(b participant.Branch, change func(*participant.Branch)) participant.Branch {
	change(&b)
	return b
}

func (s *service) prepare(b participant.Branch) {
	s.t.Helper()
	vote, err := s.Prepare(s.t.Context(), b)
	require.NoError(s.t, err)
	require.Equal(s.t, participant.VotePrepared, vote)
}

func (s *service) refuses(b participant.Branch, want error, says string) {
	s.t.Helper()
	vote, err := s.Prepare(s.t.Context(), b)
	require.Equal(s.t, participant.VoteRefused, vote)
	require.ErrorIs(s.t, err, want)
	require.ErrorContains(s.t, err, says)
}

// endedAs asserts that err tells a branch ended otherwise than it is told to.
func endedAs(t testing.TB, want participant.Outcome, err error) {
	t.Helper()
	var heuristic *participant.HeuristicError
	require.ErrorAs(t, err, &heuristic)
	require.Equal(t, want, heuristic.Outcome)
}

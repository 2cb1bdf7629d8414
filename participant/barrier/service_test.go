package barrier_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

// service is a service under the barrier. Its functions count their effects per
// branch, so that a test sees what ran, how often, and what was left.
type service struct {
	t   testing.TB
	on  *kind
	dsn string
	db  *sql.DB
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

// newService opens a service on a fresh database.
func (k *kind) newService(t testing.TB, change ...func(*barrier.Config)) *service {
	return k.serve(t, k.fresh(t), change...)
}

// newFast opens a service for a test that loses no process: it spares fsyncs.
func (k *kind) newFast(t testing.TB) *service { return k.serve(t, k.fresh(t)+k.fast) }

// another opens the same service once more, as another process has it.
func (s *service) another(change ...func(*barrier.Config)) *service {
	return s.on.serve(s.t, s.dsn, change...)
}

func (k *kind) serve(t testing.TB, dsn string, change ...func(*barrier.Config)) *service {
	db := k.connect(t, dsn)
	_, err := db.Exec(`CREATE TABLE IF NOT EXISTS effect (
		id varchar(64) PRIMARY KEY, reserved int NOT NULL DEFAULT 0, confirmed int NOT NULL DEFAULT 0, cancelled int NOT NULL DEFAULT 0)`)
	require.NoError(t, err)
	p, err := barrier.New(t.Context(), k.config(db, change...))
	require.NoError(t, err)
	return &service{t: t, on: k, dsn: dsn, db: db, Participant: p}
}

func (k *kind) config(db *sql.DB, change ...func(*barrier.Config)) barrier.Config {
	cfg := barrier.Config{
		Name: "service", DB: db, Dialect: k.dialect,
		Reserve: k.reserve, Confirm: k.count("confirmed"), Cancel: k.count("cancelled"),
	}
	for _, c := range change {
		c(&cfg)
	}
	return cfg
}

// count is a function that can run any number of times, so that a second run
// shows.
func (k *kind) count(column string) barrier.Func {
	statement := k.sql(fmt.Sprintf(k.upsert, column))
	return func(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
		_, err := tx.ExecContext(ctx, statement, string(b.XID()))
		return err
	}
}

func (k *kind) reserve(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
	if err := k.count("reserved")(ctx, tx, b); err != nil {
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

func (s *service) effects(b participant.Branch) effects {
	s.t.Helper()
	e, err := s.on.effects(s.t.Context(), s.db, b)
	require.NoError(s.t, err)
	return e
}

func (k *kind) effects(ctx context.Context, db *sql.DB, b participant.Branch) (e effects, err error) {
	query := k.sql(`SELECT reserved, confirmed, cancelled FROM effect WHERE id = ?`)
	err = db.QueryRowContext(ctx, query, string(b.XID())).Scan(&e.reserved, &e.confirmed, &e.cancelled)
	if errors.Is(err, sql.ErrNoRows) {
		return nothing, nil
	}
	return e, err
}

func (s *service) exec(statement string, args ...any) {
	s.t.Helper()
	_, err := s.db.Exec(s.on.sql(statement), args...)
	require.NoError(s.t, err)
}

func (s *service) number(query string, args ...any) (n int) {
	s.t.Helper()
	require.NoError(s.t, s.db.QueryRow(s.on.sql(query), args...).Scan(&n))
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

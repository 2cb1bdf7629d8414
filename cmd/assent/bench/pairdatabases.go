package bench

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
	"github.com/assent-tm/assent/participant/participanttest/servers"
	"github.com/assent-tm/assent/participant/postgres"
)

// pair is a PostgreSQL and a MariaDB server, each with a table of accounts, and what
// is compared on them. All sides have the same tables and as many connections; each
// client has an account that nobody else locks.
type pair struct {
	postgres struct {
		server      *servers.Postgres
		pool        *pgxpool.Pool
		participant *postgres.Participant
	}
	mariadb struct {
		server      *servers.MariaDB
		db          *sql.DB
		participant *mysql.Participant
	}
	assent *assent
	plain  *plain

	free   chan int     // accounts
	byHand atomic.Int64 // transactions so far, for their names
	done   int          // transactions of all sides so far
}

// open starts the servers and makes tables and connections; dir is for the log.
func (p *pair) open(ctx context.Context, dir string) (err error) {
	p.free = make(chan int, maxPairClients)
	for account := range maxPairClients {
		p.free <- account
	}
	if err := both(func() error { return p.openPostgres(ctx) }, func() error { return p.openMariaDB(ctx) }); err != nil {
		return err
	}
	p.assent, err = openAssent(ctx, dir, func(c *coordinator.Config) {
		c.Participants = []participant.Participant{p.postgres.participant, p.mariadb.participant}
	})
	if err != nil {
		return err
	}
	p.plain, err = openPlain(dir)
	return err
}

// The accounts of each database are a column wide and in one page.
const createAccounts = "CREATE TABLE account (id INT PRIMARY KEY, n BIGINT NOT NULL)"

func (p *pair) openPostgres(ctx context.Context) (err error) {
	s := &p.postgres
	if s.server, err = servers.StartPostgres(ctx); err != nil {
		return err
	}
	config, err := pgxpool.ParseConfig(s.server.URL("postgres"))
	if err != nil {
		return err
	}
	config.MaxConns = maxPairClients
	if s.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return err
	}
	if s.participant, err = postgres.New(ctx, postgres.Config{Name: "postgres", Pool: s.pool}); err != nil {
		return err
	}
	if err := s.participant.CreateTable(ctx); err != nil {
		return err
	}
	if _, err := s.pool.Exec(ctx, createAccounts); err != nil {
		return err
	}
	for account := range maxPairClients {
		if _, err := s.pool.Exec(ctx, "INSERT INTO account VALUES ($1, 0)", account); err != nil {
			return err
		}
	}
	return nil
}

func (p *pair) openMariaDB(ctx context.Context) (err error) {
	s := &p.mariadb
	if s.server, err = servers.StartMariaDB(ctx); err != nil {
		return err
	}
	admin, err := sql.Open("mysql", s.server.DSN(""))
	if err != nil {
		return err
	}
	_, err = admin.ExecContext(ctx, "CREATE DATABASE bench")
	if err = errors.Join(err, admin.Close()); err != nil {
		return err
	}
	// Without it, each statement with a parameter takes two round trips more.
	dsn := s.server.DSN("bench") + "?interpolateParams=true"
	if s.db, err = sql.Open("mysql", dsn); err != nil {
		return err
	}
	s.db.SetMaxOpenConns(maxPairClients)
	s.db.SetMaxIdleConns(maxPairClients)
	s.participant, err = mysql.New(mysql.Config{Name: "mariadb", DSN: dsn, MaxSessions: maxPairClients, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if err := s.participant.CreateTable(ctx); err != nil {
		return err
	}
	if _, err := s.db.ExecContext(ctx, createAccounts); err != nil {
		return err
	}
	for account := range maxPairClients {
		if _, err := s.db.ExecContext(ctx, "INSERT INTO account VALUES (?, 0)", account); err != nil {
			return err
		}
	}
	return nil
}

// close ends what open began, as far as it came.
func (p *pair) close(ctx context.Context) error {
	var errs []error
	if p.assent != nil {
		errs = append(errs, p.assent.close(ctx))
	}
	if p.plain != nil {
		errs = append(errs, p.plain.close())
	}
	if p.postgres.participant != nil {
		errs = append(errs, p.postgres.participant.Close()) //nolint:contextcheck // it bounds its own time
	}
	if p.mariadb.participant != nil {
		errs = append(errs, p.mariadb.participant.Close()) //nolint:contextcheck // it bounds its own time
	}
	if p.postgres.pool != nil {
		p.postgres.pool.Close()
	}
	if p.mariadb.db != nil {
		errs = append(errs, p.mariadb.db.Close())
	}
	if p.postgres.server != nil {
		errs = append(errs, p.postgres.server.Close()) //nolint:contextcheck // it bounds its own time
	}
	if p.mariadb.server != nil {
		errs = append(errs, p.mariadb.server.Close()) //nolint:contextcheck // it bounds its own time
	}
	return errors.Join(errs...)
}

// load is load with transactions that get an account of their own.
func (p *pair) load(ctx context.Context, clients int, slice time.Duration, transaction func(ctx context.Context, account int) error) (round, error) {
	r, err := load(ctx, clients, slice, func(ctx context.Context) error {
		account := <-p.free
		defer func() { p.free <- account }()
		return transaction(ctx, account)
	})
	p.done += r.transactions
	return r, err
}

// requireDone returns an error unless each database has what all transactions did.
func (p *pair) requireDone(ctx context.Context) error {
	const total = "SELECT sum(n) FROM account"
	var postgres, mariadb int
	err := errors.Join(
		p.postgres.pool.QueryRow(ctx, total).Scan(&postgres),
		p.mariadb.db.QueryRowContext(ctx, total).Scan(&mariadb),
	)
	if err == nil && (postgres != p.done || mariadb != p.done) {
		err = fmt.Errorf("after %d transactions, PostgreSQL has %d and MariaDB %d of their updates", p.done, postgres, mariadb)
	}
	return err
}

// both runs two functions at once and returns when both have ended.
func both(one, other func() error) error {
	ended := make(chan error, 1)
	go func() { ended <- other() }()
	return errors.Join(one(), <-ended)
}

// sameDisk reports whether both directories are on the same one.
func sameDisk(one, other string) (bool, error) {
	var stats [2]syscall.Stat_t
	for i, dir := range []string{one, other} {
		if err := syscall.Stat(dir, &stats[i]); err != nil {
			return false, &os.PathError{Op: "stat", Path: dir, Err: err}
		}
	}
	return stats[0].Dev == stats[1].Dev, nil
}

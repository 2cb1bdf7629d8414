package main

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/client"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
	"github.com/assent-tm/assent/participant/postgres"
)

// Participants that do not get to commit while they are stuck.
type (
	stuckPostgres struct {
		*postgres.Participant
		stuck *atomic.Bool
	}
	stuckMariaDB struct {
		*mysql.Participant
		stuck *atomic.Bool
	}
)

var errStuck = errors.New("the service is stuck")

func (s stuckPostgres) Commit(ctx context.Context, b participant.Branch) error {
	if s.stuck.Load() {
		return errStuck
	}
	return s.Participant.Commit(ctx, b)
}

func (s stuckMariaDB) Commit(ctx context.Context, b participant.Branch) error {
	if s.stuck.Load() {
		return errStuck
	}
	return s.Participant.Commit(ctx, b)
}

// serveStreams starts `assent serve` for participants that attach to it, and returns
// the URLs of its listeners and how to end it.
func serveStreams(t *testing.T, names ...string) (api, admin string, end func()) {
	t.Helper()
	dir := t.TempDir()
	file := "domain: byhand\nlog: {path: '" + filepath.Join(dir, "byhand.db") + "'}\napi: {listen: '127.0.0.1:0'}\nadmin: {listen: '127.0.0.1:0'}\n" +
		"timeouts: {commit_wait: 1ms, retry_min: 20ms, retry_max: 100ms}\nlogging: {level: error}\nparticipants:\n"
	for _, name := range names {
		file += "  " + name + ": {kind: stream, lists: true, forgets: true}\n"
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "assent.yaml"), []byte(file), 0o600))
	c := program(t, dir, "serve", "--config", filepath.Join(dir, "assent.yaml"))
	output, err := c.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	lines := bufio.NewScanner(output)
	for admin == "" {
		require.True(t, lines.Scan())
		switch fields := strings.Fields(lines.Text()); fields[0] {
		case "api":
			api = fields[1]
		case "admin":
			admin = fields[1]
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines.Scan() {
			t.Log("serve: " + lines.Text())
		}
	}()
	return api, admin, func() {
		require.NoError(t, c.Process.Signal(os.Interrupt))
		<-ended
		require.NoError(t, c.Wait())
	}
}

// shop is a PostgreSQL and a MariaDB participant in this process, attached to a server.
type shop struct {
	client *client.Client
	stock  *postgres.Participant
	bank   *mysql.Participant
	stuck  atomic.Bool
	pg, my *sql.DB
}

func openShop(t *testing.T, api string) *shop {
	t.Helper()
	at := existing(t)
	pool, err := pgxpool.New(t.Context(), at.postgres.URL(database))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	s := &shop{pg: at.atPostgres(database), my: at.atMariaDB(database)}
	s.stock, err = postgres.New(t.Context(), postgres.Config{Name: "stock", Pool: pool, Table: "byhand_branch"})
	require.NoError(t, err)
	s.bank, err = mysql.New(mysql.Config{Name: "bank", DSN: at.mariadb.DSN(database), Table: "byhand_branch"})
	require.NoError(t, err)
	require.NoError(t, errors.Join(s.stock.CreateTable(t.Context()), s.bank.CreateTable(t.Context())))
	for _, db := range []*sql.DB{s.pg, s.my} {
		_, err := db.Exec("CREATE TABLE byhand (id VARCHAR(64) PRIMARY KEY)")
		require.NoError(t, err)
	}
	attached := make(chan string, 2)
	s.client, err = client.New(client.Config{URL: api, OnAttached: func(name string) { attached <- name }})
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 2)
	go func() { served <- s.client.ServeParticipant(ctx, stuckPostgres{s.stock, &s.stuck}) }()
	go func() { served <- s.client.ServeParticipant(ctx, stuckMariaDB{s.bank, &s.stuck}) }()
	<-attached
	<-attached
	t.Cleanup(func() {
		stop()
		require.NoError(t, errors.Join(<-served, <-served))
		require.NoError(t, errors.Join(s.client.Close(), s.stock.Close(), s.bank.Close()))
		for _, db := range []*sql.DB{s.pg, s.my} {
			for _, table := range []string{"byhand", "byhand_branch"} {
				_, err := db.Exec("DROP TABLE " + table)
				require.NoError(t, err)
			}
			require.NoError(t, db.Close())
		}
	})
	return s
}

// order puts a row into each database, in one transaction, which gets stuck.
func (s *shop) order(t *testing.T) (id participant.TxID) {
	t.Helper()
	err := s.client.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		id = tx.ID()
		stock, err := s.stock.Join(ctx, tx)
		if err != nil {
			return err
		}
		bank, err := s.bank.Join(ctx, tx)
		if err != nil {
			return err
		}
		_, err = stock.Exec(ctx, "INSERT INTO byhand VALUES ($1)", id.String())
		_, bankErr := bank.ExecContext(ctx, "INSERT INTO byhand VALUES (?)", id.String())
		return errors.Join(err, bankErr)
	})
	require.ErrorIs(t, err, coordinator.ErrCommitPending)
	return id
}

func (s *shop) rows(t *testing.T, id participant.TxID) (n int) {
	t.Helper()
	for _, db := range []*sql.DB{s.pg, s.my} {
		var here int
		require.NoError(t, db.QueryRow("SELECT COUNT(*) FROM byhand WHERE id = '"+id.String()+"'").Scan(&here))
		n += here
	}
	return n
}

// paste gives the statements of each participant to its database, line by line, as an
// operator does.
func (s *shop) paste(t *testing.T, printed string) (seen []string) {
	t.Helper()
	db := map[string]*sql.DB{"stock": s.pg, "bank": s.my}
	var conn *sql.Conn
	for line := range strings.Lines(printed) {
		if branch := regexp.MustCompile(`^-- branch \d at (\w+), in its own client`).FindStringSubmatch(line); branch != nil {
			var err error
			conn, err = db[branch[1]].Conn(t.Context())
			require.NoError(t, err)
			defer func(c *sql.Conn) { require.NoError(t, c.Close()) }(conn)
		}
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, "--") {
			seen = append(seen, line)
			_, err := conn.ExecContext(t.Context(), line)
			require.NoError(t, err, line)
		}
	}
	return seen
}

// An operator finishes by hand what participants do not: `assent tx get --sql` prints
// the lines, whose participants are elsewhere, and the coordinator then finds everything
// as it was decided.
func TestOperatorFinishesBranchesByHand(t *testing.T) {
	api, admin, end := serveStreams(t, "stock", "bank")
	s := openShop(t, api)
	defer end()
	s.stuck.Store(true)
	id := s.order(t)
	require.Zero(t, s.rows(t, id))

	stdout, stderr, code := assent(t, t.TempDir(), "tx", "get", id.String(), "--sql", "--server", api, "--admin", admin)
	require.Equal(t, exitOK, code, stderr)
	pasted := s.paste(t, stdout)
	require.Contains(t, pasted, "COMMIT PREPARED '"+strings.Replace("byhand:"+id.String(), "-", ":", 1)+":0';", stdout)
	require.Regexp(t, `(?m)^XA COMMIT '`, strings.Join(pasted, "\n"))
	require.Equal(t, 2, s.rows(t, id))

	s.stuck.Store(false)
	_, stderr, code = assent(t, t.TempDir(), "tx", "watch", id.String(), "--server", api)
	require.Equal(t, exitOK, code, stderr)
	info, err := s.client.Get(t.Context(), id)
	require.NoError(t, err)
	require.Equal(t, participant.OutcomeCommitted, info.Outcome, "%+v", info)
}

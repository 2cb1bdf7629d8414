package barrier_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	_ "modernc.org/sqlite"

	"github.com/assent-tm/assent/participant/barrier"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

// A server is started by the first test that needs it, and closed after the last.
var (
	postgresServer = sync.OnceValues(func() (*servers.Postgres, error) {
		s, err := servers.StartPostgres(context.Background())
		if err != nil {
			return nil, err
		}
		db, err := sql.Open("pgx", s.URL("postgres"))
		if err == nil {
			// In this collation ':' comes after ';', unlike in bytes.
			_, err = db.Exec("CREATE DATABASE service TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
			err = errors.Join(err, db.Close())
		}
		if err != nil {
			return nil, errors.Join(err, s.Close())
		}
		return s, nil
	})
	// With a binary log, so that a commit has two logs to agree.
	mariadbServer = sync.OnceValues(func() (*servers.MariaDB, error) {
		return servers.StartMariaDB(context.Background(), "log_bin=ON", "sync_binlog=1")
	})
	started struct {
		sync.Mutex
		close []func() error
	}
)

func TestMain(m *testing.M) {
	participanttest.Main(subject)
	goleak.VerifyTestMain(withServers{m})
}

// withServers closes the servers before goroutines are counted.
type withServers struct{ m *testing.M }

func (w withServers) Run() int {
	code := w.m.Run()
	for _, closeServer := range started.close {
		if err := closeServer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	return code
}

// start returns the server, started once, and has it closed in the end.
func start[S interface{ Close() error }](t testing.TB, once func() (S, error)) S {
	t.Helper()
	s, err := once()
	require.NoError(t, err)
	started.Lock()
	defer started.Unlock()
	started.close = append(started.close, s.Close) // closing it again does nothing
	return s
}

// kind is a kind of database, and how a test reaches one.
type kind struct {
	name    string
	needs   []capability.Capability
	dialect barrier.Dialect
	// empty makes an empty database and returns its data source name.
	empty  func(testing.TB, *kind) string
	driver string
	// server is the one behind; nil if there is none.
	server func(testing.TB) *servers.Server
	// conns is the size of a pool.
	conns int
	// fast is a setting that spares fsyncs, for a test that loses no process.
	fast string
	// endings are statements that end a transaction, as some errors do.
	endings []string
	// upsert counts a run of a function in a column of table effect.
	upsert string
}

var (
	onSQLite = &kind{
		name: "sqlite", dialect: barrier.SQLite, driver: "sqlite", conns: 4,
		empty:   func(t testing.TB, _ *kind) string { return barrier.SQLiteDSN(filepath.Join(t.TempDir(), "service.db")) },
		fast:    "&_sync=OFF",
		endings: []string{"ROLLBACK", "ROLLBACK; BEGIN"},
		upsert:  `INSERT INTO effect (id, %[1]s) VALUES (?, 1) ON CONFLICT (id) DO UPDATE SET %[1]s = effect.%[1]s + 1`,
	}
	onPostgres = &kind{
		name: "postgres", dialect: barrier.Postgres, driver: "pgx", conns: 8, needs: []capability.Capability{capability.Postgres},
		server:  func(t testing.TB) *servers.Server { return start(t, postgresServer).Server },
		empty:   emptyPostgres,
		fast:    "&synchronous_commit=off",
		endings: []string{"SELECT 1 / 0", "ROLLBACK", "ROLLBACK; BEGIN", "ROLLBACK AND CHAIN"},
		upsert:  onSQLite.upsert,
	}
	onMariaDB = &kind{
		name: "mariadb", dialect: barrier.MariaDB, driver: "mysql", conns: 8, needs: []capability.Capability{capability.MariaDB},
		server:  func(t testing.TB) *servers.Server { return start(t, mariadbServer).Server },
		empty:   emptyMariaDB,
		fast:    "&sql_log_bin=0",
		endings: []string{"ROLLBACK", "ROLLBACK AND CHAIN"},
		upsert:  `INSERT INTO effect (id, %[1]s) VALUES (?, 1) ON DUPLICATE KEY UPDATE %[1]s = %[1]s + 1`,
	}
	kinds = []*kind{onSQLite, onPostgres, onMariaDB}
)

// fresh returns the data source name of an empty database.
func (k *kind) fresh(t testing.TB) string { return k.empty(t, k) }

// open opens a pool of connections.
func (k *kind) open(dsn string) (*sql.DB, error) {
	db, err := sql.Open(k.driver, dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(k.conns)
	db.SetMaxIdleConns(k.conns)
	return db, nil
}

// connect opens a pool for the time of the test.
func (k *kind) connect(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := k.open(dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

var databases atomic.Int64

func emptyPostgres(t testing.TB, on *kind) string {
	s := start(t, postgresServer)
	name := "test" + strconv.FormatInt(databases.Add(1), 10)
	_, err := on.connect(t, s.URL("service")).Exec("CREATE SCHEMA " + name)
	require.NoError(t, err)
	return s.URL("service") + "&search_path=" + name
}

func emptyMariaDB(t testing.TB, on *kind) string {
	s := start(t, mariadbServer)
	name := "test" + strconv.FormatInt(databases.Add(1), 10)
	_, err := on.connect(t, s.DSN("")).Exec("CREATE DATABASE " + name)
	require.NoError(t, err)
	return s.DSN(name) + "?timeout=10s"
}

// everywhere runs a test with every kind of database, at the same time: they have
// nothing in common.
func everywhere(t *testing.T, test func(t *testing.T, on *kind)) {
	for _, on := range kinds {
		t.Run(on.name, func(t *testing.T) {
			t.Parallel()
			capability.Need(t, on.needs...)
			test(t, on)
		})
	}
}

// sql writes the statement's parameters as the database wants them.
func (k *kind) sql(statement string) string {
	if k.dialect != barrier.Postgres {
		return statement
	}
	var b strings.Builder
	for n, part := range strings.Split(statement, "?") {
		if n > 0 {
			fmt.Fprintf(&b, "$%d", n)
		}
		b.WriteString(part)
	}
	return b.String()
}

package postgres_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

func TestMain(m *testing.M) {
	participanttest.Main(subject)
	goleak.VerifyTestMain(closing{m})
}

// closing closes the server before goroutines are counted.
type closing struct{ m *testing.M }

func (c closing) Run() int {
	code := c.m.Run()
	if shared.server == nil {
		return code
	}
	if err := shared.server.Close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// shared is the one server of the package's tests, which run one after the other:
// some of them kill it.
var shared struct {
	once      sync.Once
	server    *servers.Postgres
	err       error
	databases atomic.Int64
}

// theServer returns the server, which the first test that needs it starts.
func theServer(t testing.TB) *servers.Postgres {
	t.Helper()
	capability.Need(t, capability.Postgres)
	shared.once.Do(func() { shared.server, shared.err = servers.StartPostgres(context.Background()) })
	require.NoError(t, shared.err)
	return shared.server
}

// newDatabase makes a database with the tables of the tests and returns its URL.
func newDatabase(t testing.TB) string {
	t.Helper()
	s := theServer(t)
	name := fmt.Sprintf("test_%d", shared.databases.Add(1))
	execute(t, s.URL("postgres"), "CREATE DATABASE "+name)
	execute(t, s.URL(name), tables)
	return s.URL(name)
}

const tables = `CREATE TABLE effect (tx text NOT NULL);
	CREATE TABLE parent (id int PRIMARY KEY);
	CREATE TABLE child (id int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE account (name text PRIMARY KEY, cents bigint NOT NULL);
	INSERT INTO account VALUES ('ann', 100), ('bob', 100)`

// execute runs statements on a connection of its own.
func execute(t testing.TB, url, statements string) {
	t.Helper()
	conn := connect(t, url)
	_, err := conn.Exec(t.Context(), statements)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	return conn
}

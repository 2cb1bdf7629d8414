package mysql_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

func TestMain(m *testing.M) {
	// The driver reports every connection that a killed server takes along.
	_ = driver.SetLogger(&driver.NopLogger{})
	participanttest.Main(subjectAt)
	if os.Getenv(logEnv) != "" {
		transferUntilKilled()
	}
	goleak.VerifyTestMain(tests{m})
}

// tests closes the server before goroutines are counted.
type tests struct{ *testing.M }

func (m tests) Run() int {
	code := m.M.Run()
	if shared.MariaDB != nil {
		if err := shared.Close(); err != nil {
			fmt.Println(err)
			code = 1
		}
	}
	return code
}

// shared is the server of all tests, started by the first that needs it. Tests that
// restart it run alone.
var shared struct {
	sync.Once
	*servers.MariaDB
	err error
}

func server(t *testing.T) *servers.MariaDB {
	t.Helper()
	capability.Need(t, capability.MariaDB)
	shared.Do(func() { shared.MariaDB, shared.err = servers.StartMariaDB(context.Background()) })
	require.NoError(t, shared.err)
	return shared.MariaDB
}

// database is a database of one test, with a witness table and a table for work.
type database struct {
	*servers.MariaDB
	name string
	// admin sees it as somebody else does.
	admin *sql.DB
}

var databases atomic.Int32

func newDatabase(t *testing.T) *database {
	t.Helper()
	return newDatabaseAt(t, server(t))
}

func newDatabaseAt(t *testing.T, m *servers.MariaDB) *database {
	t.Helper()
	d := &database{MariaDB: m, name: fmt.Sprintf("test%d", databases.Add(1))}
	root, err := sql.Open("mysql", m.DSN(""))
	require.NoError(t, err)
	_, err = root.ExecContext(t.Context(), "CREATE DATABASE "+d.name)
	require.NoError(t, err)
	require.NoError(t, root.Close())

	d.admin, err = sql.Open("mysql", m.DSN(d.name)+"?innodb_lock_wait_timeout=1")
	require.NoError(t, err)
	t.Cleanup(func() {
		require.Empty(t, d.prepared(t), "left in doubt by the test")
		require.NoError(t, d.admin.Close())
	})
	// Without a key, an effect that comes twice is seen twice.
	d.exec(t, "CREATE TABLE effect (tx VARCHAR(64) NOT NULL, KEY (tx)) ENGINE = InnoDB")
	d.exec(t, "CREATE TABLE account (name VARCHAR(16) PRIMARY KEY, balance BIGINT NOT NULL) ENGINE = InnoDB")
	d.exec(t, "INSERT INTO account VALUES ('ann', 100), ('bob', 0), ('eve', 0), ('kim', 0)")
	require.NoError(t, d.open(t).CreateTable(t.Context()))
	return d
}

func (d *database) exec(t *testing.T, statement string, args ...any) {
	t.Helper()
	_, err := d.admin.ExecContext(t.Context(), statement, args...)
	require.NoError(t, err, statement)
}

func (d *database) text(t *testing.T, query string, args ...any) string {
	t.Helper()
	var s string
	require.NoError(t, d.admin.QueryRowContext(t.Context(), query, args...).Scan(&s), query)
	return s
}

// open returns an instance, as a process has it that just started.
func (d *database) open(t *testing.T, change ...func(*mysql.Config)) *mysql.Participant {
	t.Helper()
	cfg := mysql.Config{Name: "bank", DSN: d.DSN(d.name)}
	for _, c := range change {
		c(&cfg)
	}
	p, err := mysql.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

// effects counts how often the transaction's work was done and is visible.
func (d *database) effects(ctx context.Context, tx participant.TxID) (n int, err error) {
	err = d.admin.QueryRowContext(ctx, "SELECT COUNT(*) FROM effect WHERE tx = ?", tx.String()).Scan(&n)
	return n, err
}

func (d *database) requireEffects(t *testing.T, b participant.Branch, want int) {
	t.Helper()
	n, err := d.effects(t.Context(), b.Tx)
	require.NoError(t, err)
	require.Equal(t, want, n, "effects of %s", b.XID())
}

// listed is what the server has prepared: an XID and its literal.
type listed struct{ xid, literal string }

// list returns what the server has prepared in this database.
func (d *database) list(t *testing.T) (branches []listed) {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	var identity string
	require.NoError(t, d.admin.QueryRowContext(ctx, "SELECT origin FROM assent_witness WHERE id = ''").Scan(&identity))
	rows, err := d.admin.QueryContext(ctx, "XA RECOVER")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var format, gtrid, bqual int
		var data string
		require.NoError(t, rows.Scan(&format, &gtrid, &bqual, &data))
		if strings.HasPrefix(data[gtrid:], identity) {
			branches = append(branches, listed{data[:gtrid], fmt.Sprintf("x'%x',x'%x',%d", data[:gtrid], data[gtrid:], format)})
		}
	}
	require.NoError(t, rows.Err())
	return branches
}

func (d *database) prepared(t *testing.T) (xids []string) {
	t.Helper()
	for _, b := range d.list(t) {
		xids = append(xids, b.xid)
	}
	return xids
}

// literal returns how the only prepared branch is named in statements by hand.
func (d *database) literal(t *testing.T) string {
	t.Helper()
	branches := d.list(t)
	require.Len(t, branches, 1)
	return branches[0].literal
}

// transaction is one that a test runs by hand.
type transaction struct{ b participant.Branch }

var term = participant.NewTerm(1, 4711)

func newTransaction() *transaction {
	return &transaction{participant.Branch{
		Domain: "test", Tx: participant.TxID{Term: term, UUID: uuid.Must(uuid.NewV7())}, Epoch: 1, Deadline: time.Now().Add(time.Hour),
	}}
}

func (tx *transaction) ID() participant.TxID { return tx.b.Tx }

func (tx *transaction) Enlist(_ context.Context, p participant.Participant, data []byte) (participant.Branch, error) {
	tx.b.Participant, tx.b.Data = p.Name(), data
	return tx.b, nil
}

// work is a branch's work whose effect can be counted.
func work(ctx context.Context, p *mysql.Participant, tx participant.Enlister) (*mysql.Session, error) {
	s, err := p.Join(ctx, tx)
	if err == nil {
		_, err = s.ExecContext(ctx, "INSERT INTO effect VALUES (?)", tx.ID().String())
	}
	return s, err
}

// begun returns a branch whose work is done at p, and its session.
func begun(t *testing.T, p *mysql.Participant) (participant.Branch, *mysql.Session) {
	t.Helper()
	tx := newTransaction()
	s, err := work(t.Context(), p, tx)
	require.NoError(t, err)
	return tx.b, s
}

func prepared(t *testing.T, p *mysql.Participant) participant.Branch {
	t.Helper()
	b, _ := begun(t, p)
	vote, err := p.Prepare(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	return b
}

// user creates a user with these rights and returns its data source name.
func (d *database) user(t *testing.T, name string, grants ...string) (dsn string) {
	t.Helper()
	account := name + "@'127.0.0.1'"
	d.exec(t, "CREATE OR REPLACE USER "+account+" IDENTIFIED BY 'secret'")
	for _, grant := range grants {
		d.exec(t, "GRANT "+grant+" TO "+account)
	}
	cfg, err := driver.ParseDSN(d.DSN(d.name))
	require.NoError(t, err)
	cfg.User, cfg.Passwd = name, "secret"
	return cfg.FormatDSN()
}

// connectionOf reads the number of the connection out of a branch's Data.
func connectionOf(t *testing.T, b participant.Branch) (connection int) {
	t.Helper()
	parts := strings.Split(string(b.Data), ":")
	require.Len(t, parts, 5)
	connection, err := strconv.Atoi(parts[3])
	require.NoError(t, err)
	return connection
}

// gone waits for the end of a connection, and until the server has given free what it
// held.
func (d *database) gone(t *testing.T, connection int) {
	t.Helper()
	require.Eventually(t, func() bool {
		return d.text(t, "SELECT COUNT(*) FROM information_schema.processlist WHERE id = ?", connection) == "0"
	}, time.Minute, 5*time.Millisecond)
	// The server refreshes this table only if nobody has read it for 0.1 s.
	require.Eventually(t, func() bool {
		return d.text(t, "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = ?", connection) == "0"
	}, time.Minute, 150*time.Millisecond)
}

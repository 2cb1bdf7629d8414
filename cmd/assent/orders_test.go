package main

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

// enterable returns a directory for temporary files that every user may enter: servers
// run as their own users.
func enterable(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "assent-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o711))
	return dir
}

// R1, R3, R6, R7 from the outside, with real servers: whoever is killed, no order is
// split, and its message is published if it was carried out, and only then.
func TestOrders(t *testing.T) {
	capability.Need(t, capability.Postgres, capability.MariaDB)
	t.Parallel()
	tmp := enterable(t)
	stdout, stderr, code := assent(t, tmp, "demo", "--start-servers", "--orders", "50", "--seed", "3")
	require.Equal(t, exitOK, code, "%s%s", stdout, stderr)
	require.Empty(t, stderr)
	requireProven(t, stdout, 50)
	require.Equal(t, 11, strings.Count(stdout, "[ok]"), stdout)
	require.Regexp(t, `kills +10, some of two at once: the coordinator 6, postgres 4, mariadb 2, nats 2; \d+ left a transaction in doubt`, stdout)
	requireEmpty(t, tmp)
}

func requireProven(t *testing.T, stdout string, orders int) {
	t.Helper()
	require.NotContains(t, stdout, "FAILED")
	require.Len(t, regexp.MustCompile(`(?m)^   ok  `).FindAllString(stdout, -1), 9, stdout)
	for _, claim := range []string{
		"1 transaction in doubt, with its decision",
		"asked again by its id: committed",
		fmt.Sprintf("%d more orders, 8 at a time, and kill -9 again and again", orders),
		"pieces are conserved: 1,600 before, 1,600 after",
		fmt.Sprintf("at least half of %d orders committed: %d", orders, orders*9/10),
	} {
		require.Contains(t, stdout, claim)
	}
}

// pair are two servers that are there already, each with a user that has a password
// and no more rights than it needs.
type pair struct {
	postgres *servers.Postgres
	mariadb  *servers.MariaDB
	err      error
}

const (
	user, password = "shopkeeper", "open-sesame"
	database       = "shop"
)

// started is the pair of all tests, which the first that needs it starts.
var (
	started pair
	startIt sync.Once
)

func (p *pair) start(ctx context.Context) (err error) {
	if p.postgres, err = servers.StartPostgres(ctx); err != nil {
		return err
	}
	if p.mariadb, err = servers.StartMariaDB(ctx); err != nil {
		return err
	}
	return errors.Join(
		// Nobody else needs a password: the first line that fits counts.
		os.WriteFile(filepath.Join(p.postgres.Dir(), "data", "pg_hba.conf"),
			[]byte("host all "+user+" 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"), 0o644),
		execute(p.atPostgres("postgres"), "CREATE ROLE "+user+" LOGIN PASSWORD '"+password+"'", "CREATE DATABASE "+database+" OWNER "+user, "SELECT pg_reload_conf()"),
		execute(p.atMariaDB(""), "CREATE DATABASE "+database, "CREATE USER "+user+" IDENTIFIED BY '"+password+"'", "GRANT ALL ON "+database+".* TO "+user),
	)
}

func existing(t *testing.T) pair {
	t.Helper()
	capability.Need(t, capability.Postgres, capability.MariaDB)
	startIt.Do(func() { started.err = started.start(context.Background()) })
	require.NoError(t, started.err)
	return started
}

func (p pair) close() (err error) {
	if p.postgres != nil {
		err = p.postgres.Close()
	}
	if p.mariadb != nil {
		err = errors.Join(err, p.mariadb.Close())
	}
	return err
}

func (p pair) atPostgres(database string) *sql.DB {
	config, err := pgx.ParseConfig(p.postgres.URL(database))
	if err != nil {
		panic(err) // it is ours
	}
	return stdlib.OpenDB(*config)
}

func (p pair) atMariaDB(database string) *sql.DB {
	connector, err := driver.MySQLDriver{}.OpenConnector(p.mariadb.DSN(database))
	if err != nil {
		panic(err) // it is ours
	}
	return sql.OpenDB(connector)
}

func execute(db *sql.DB, statements ...string) (err error) {
	for _, s := range statements {
		if err == nil {
			_, err = db.Exec(s)
		}
	}
	return errors.Join(err, db.Close())
}

// postgresURL and mysqlDSN are what the user gives to the demo.
func (p pair) postgresURL(password string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Host: p.postgres.Addr(), Path: database, RawQuery: "sslmode=disable"}
	return u.String()
}

func (p pair) mysqlDSN(password string) string {
	return user + ":" + password + "@tcp(" + p.mariadb.Addr() + ")/" + database
}

// requireClean fails if the demo has left anything at the servers.
func (p pair) requireClean(t *testing.T) {
	t.Helper()
	for _, c := range []struct {
		db    *sql.DB
		query string
	}{
		{p.atPostgres(database), "SELECT relname FROM pg_class WHERE relname LIKE 'assent%'"},
		{p.atPostgres(database), "SELECT gid FROM pg_prepared_xacts"},
		{p.atMariaDB(database), "SHOW TABLES"},
		{p.atMariaDB(database), "XA RECOVER"},
	} {
		rows, err := c.db.QueryContext(t.Context(), c.query)
		require.NoError(t, err)
		require.False(t, rows.Next(), "%s finds something", c.query)
		require.NoError(t, rows.Err())
		require.NoError(t, errors.Join(rows.Close(), c.db.Close()))
	}
}

// Servers that are not the demo's own are not killed, and nothing is left there.
func TestOrdersAtServersThatAreThere(t *testing.T) {
	p := existing(t)
	tmp := enterable(t)
	stdout, stderr, code := assent(t, tmp, "demo", "--postgres", p.postgresURL(password), "--mysql", p.mysqlDSN(password), "--orders", "60")
	require.Equal(t, exitOK, code, "%s%s", stdout, stderr)
	require.Empty(t, stderr)
	requireProven(t, stdout, 60)
	require.Contains(t, stdout, "only the coordinator is killed")
	require.Regexp(t, `kills +10, of the coordinator alone; \d+ left a transaction in doubt`, stdout)
	require.NotContains(t, stdout, password)
	p.requireClean(t)
	requireEmpty(t, tmp)
}

// What is kept is said where it is: log, tables, and how to serve them again.
func TestOrdersKept(t *testing.T) {
	capability.Need(t, capability.Postgres, capability.MariaDB)
	t.Parallel()
	tmp := enterable(t)
	keep := filepath.Join(tmp, "keep")
	stdout, stderr, code := assent(t, tmp, "demo", "--start-servers", "--orders", "50", "--keep", keep)
	require.Equal(t, exitOK, code, "%s%s", stdout, stderr)
	require.Contains(t, stdout, "assent log dump "+filepath.Join(keep, "assent.db"))
	require.FileExists(t, filepath.Join(keep, "assent.db"))
	require.FileExists(t, filepath.Join(keep, "coordinator.log"))
	again := regexp.MustCompile(`to serve it again: (.*)`).FindAllStringSubmatch(stdout, -1)
	require.Len(t, again, 3, stdout)
	dirs := regexp.MustCompile(`to remove it: rm -r (.*)`).FindAllStringSubmatch(stdout, -1)
	require.Len(t, dirs, 3, stdout)
	for _, dir := range dirs {
		require.DirExists(t, dir[1])
	}

	// Whoever follows the first of these lines finds the tables.
	address := regexp.MustCompile(`(?m)^   postgres +(postgres:\S+)$`).FindStringSubmatch(stdout)
	table := regexp.MustCompile(`assent_demo_\w+_line`).FindString(stdout)
	require.NotNil(t, address)
	server := exec.CommandContext(t.Context(), "/bin/sh", "-c", "trap : TERM; "+again[0][1])
	server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	require.NoError(t, server.Start())
	defer func() {
		require.NoError(t, syscall.Kill(-server.Process.Pid, syscall.SIGTERM))
		_ = server.Wait()
	}()
	config, err := pgx.ParseConfig(address[1])
	require.NoError(t, err)
	db := stdlib.OpenDB(*config)
	defer func() { require.NoError(t, db.Close()) }()
	var lines int
	require.Eventually(t, func() bool { return db.QueryRow("SELECT count(*) FROM "+table).Scan(&lines) == nil }, time.Minute, 50*time.Millisecond)
	require.GreaterOrEqual(t, lines, 45)
}

// Ctrl-C while orders are under way leaves nothing at servers that are there, and none of
// those that were started.
func TestOrdersInterrupted(t *testing.T) {
	p := existing(t)
	for _, args := range [][]string{
		{"--postgres", p.postgresURL(password), "--mysql", p.mysqlDSN(password)},
		{"--start-servers"},
	} {
		tmp := enterable(t)
		c := program(t, tmp, append([]string{"demo", "--orders", "100000"}, args...)...)
		var stderr bytes.Buffer
		c.Stderr = &stderr
		stdout, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			if strings.Contains(lines.Text(), "more orders") {
				require.NoError(t, c.Process.Signal(os.Interrupt))
			}
		}
		require.Error(t, c.Wait())
		require.Equal(t, exitInterrupted, c.ProcessState.ExitCode(), stderr.String())
		require.Equal(t, "assent: interrupted\n", stderr.String())
		requireEmpty(t, tmp)
	}
	p.requireClean(t)
}

func TestOrdersRefuseBadInput(t *testing.T) {
	tmp := t.TempDir()
	const postgres, mysql = "postgres://me:secret@127.0.0.1/shop", "me:secret@tcp(127.0.0.1)/shop"
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"postgres alone":       {[]string{"--postgres", postgres}, "--postgres needs --mysql"},
		"mysql alone":          {[]string{"--mysql", mysql}, "--mysql needs --postgres"},
		"nats alone":           {[]string{"--nats", "nats://127.0.0.1"}, "give --start-servers, or --postgres and --mysql"},
		"orders alone":         {[]string{"--orders", "100"}, "give --start-servers, or --postgres and --mysql"},
		"both kinds":           {[]string{"--start-servers", "--postgres", postgres}, "--start-servers starts all servers"},
		"too few orders":       {[]string{"--start-servers", "--orders", "49"}, "--orders 49 is not 50 to"},
		"too many orders":      {[]string{"--start-servers", "--orders", "100001"}, "--orders 100001 is not 50 to"},
		"transfers":            {[]string{"--start-servers", "--transfers", "100"}, "--transfers is of the demo without servers"},
		"input":                {[]string{"--start-servers", "--input", "in.csv"}, "--input is of the demo without servers"},
		"malformed URL":        {[]string{"--postgres", "postgres://me:secret@host:port/shop", "--mysql", mysql}, "--postgres: "},
		"malformed name":       {[]string{"--postgres", postgres, "--mysql", "me:secret@tcp(127.0.0.1)"}, "--mysql: "},
		"no database":          {[]string{"--postgres", postgres, "--mysql", "me:secret@tcp(127.0.0.1)/"}, "--mysql: it names no database"},
		"malformed NATS URL":   {[]string{"--postgres", postgres, "--mysql", mysql, "--nats", "me:secret@host"}, "--nats: "},
		"folder that is taken": {[]string{"--start-servers", "--keep", "/"}, "--keep /: the folder is not empty"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := assent(t, tmp, append([]string{"demo"}, c.args...)...)
			require.Equal(t, exitUsage, code, stderr)
			require.Contains(t, stderr, c.says)
			require.Contains(t, stderr, "--help")
			require.NotContains(t, stderr, "secret")
			require.Empty(t, stdout)
			requireEmpty(t, tmp)
		})
	}
}

// Servers that can't be reached, refuse the user, or can't take part: the error names
// participant, address and fix, without the password, and nothing is left behind.
func TestOrdersAtServersThatCannotTakePart(t *testing.T) {
	p := existing(t)
	unprepared, err := servers.StartPostgres(t.Context(), "max_prepared_transactions=0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unprepared.Close()) })
	const nobody = "127.0.0.1:1"
	for name, c := range map[string]struct {
		postgres, mysql, nats string
		says                  []string
	}{
		"postgres that is not there": {
			"postgres://" + user + ":" + password + "@" + nobody + "/shop", p.mysqlDSN(password), "",
			[]string{`participant "postgres"`, "postgres://" + user + ":xxxxx@" + nobody, "connection refused"},
		},
		"mariadb that is not there": {
			p.postgresURL(password), user + ":" + password + "@tcp(" + nobody + ")/shop", "",
			[]string{`participant "mariadb"`, user + ":xxxxx@tcp(" + nobody + ")/shop", "connection refused"},
		},
		"nats that is not there": {
			p.postgresURL(password), p.mysqlDSN(password), "nats://" + user + ":" + password + "@" + nobody,
			[]string{"nats at nats://" + user + ":xxxxx@" + nobody, "no servers available"},
		},
		"wrong password at postgres": {
			p.postgresURL("open-barley"), p.mysqlDSN(password), "",
			[]string{`participant "postgres"`, "password authentication failed", "correct user and password"},
		},
		"wrong password at mariadb": {
			p.postgresURL(password), p.mysqlDSN("open-barley"), "",
			[]string{`participant "mariadb"`, "Access denied", "correct user and password"},
		},
		"no such database at postgres": {
			strings.Replace(p.postgresURL(password), "/shop?", "/mart?", 1), p.mysqlDSN(password), "",
			[]string{`participant "postgres"`, `database "mart" does not exist`},
		},
		"no such database at mariadb": {
			p.postgresURL(password), strings.Replace(p.mysqlDSN(password), "/shop", "/mart", 1), "",
			[]string{`participant "mariadb"`, "mart"},
		},
		"nothing can be prepared": {
			unprepared.URL("postgres"), p.mysqlDSN(password), "",
			[]string{`participant "postgres"`, "max_prepared_transactions is 0", "restart the server"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tmp := enterable(t)
			args := []string{"demo", "--postgres", c.postgres, "--mysql", c.mysql}
			if c.nats != "" {
				args = append(args, "--nats", c.nats)
			}
			stdout, stderr, code := assent(t, tmp, args...)
			require.Equal(t, exitFailed, code, "%s%s", stdout, stderr)
			for _, says := range c.says {
				require.Contains(t, stderr, says)
			}
			for _, secret := range []string{password, "open-barley"} {
				require.NotContains(t, stdout+stderr, secret)
			}
			requireEmpty(t, tmp)
			p.requireClean(t)
		})
	}
}

// Without the servers' programs the error names the packages that have them.
func TestOrdersWithoutPrograms(t *testing.T) {
	capability.Need(t, capability.Mount)
	tmp := enterable(t)
	c := program(t, tmp, "demo", "--start-servers")
	// In a namespace of its own, where the folders of programs are empty but for this
	// one, which has the programs that have to stay.
	hide := `for dir in /usr/lib/postgresql /usr/local/bin /usr/local/sbin /usr/sbin /sbin; do
		[ -d $dir ] && mount -t tmpfs tmpfs $dir; done; exec "$0" "$@"`
	c.Args = append([]string{"unshare", "--mount", "/bin/sh", "-c", hide}, c.Args...)
	c.Path, _ = exec.LookPath("unshare")
	c.Env = append(c.Env, "PATH=/usr/bin:/bin")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	require.ErrorAs(t, c.Run(), &exit, "%s", &stderr)
	require.Equal(t, exitFailed, exit.ExitCode(), "%s", &stderr)
	require.Contains(t, stderr.String(), "install Debian's package postgresql-15")
	require.Contains(t, stderr.String(), "install Debian's package mariadb-server")
	require.Empty(t, stdout.String())
	requireEmpty(t, tmp)
}

package orphantest

import (
	"context"
	"database/sql"
	"net"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

func TestMariaDB(t *testing.T) { testOrphans(t, openMariaDB(t)) }

// mariadb is MariaDB.
type mariadb struct {
	addr, dsn string
	db        *sql.DB
}

func openMariaDB(t *testing.T) database {
	capability.Need(t, capability.MariaDB)
	server, err := servers.StartMariaDB(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	root, err := sql.Open("mysql", server.DSN(""))
	require.NoError(t, err)
	_, err = root.ExecContext(t.Context(), "CREATE DATABASE bank")
	require.NoError(t, err)
	require.NoError(t, root.Close())
	d := &mariadb{addr: server.Addr(), dsn: server.DSN("bank")}
	d.db, err = sql.Open("mysql", d.dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.db.Close()) })
	_, err = d.db.ExecContext(t.Context(), "CREATE TABLE effect (tx varchar(64) NOT NULL) ENGINE=InnoDB")
	require.NoError(t, err)
	p := d.open(t).(*mysql.Participant)
	require.NoError(t, p.CreateTable(t.Context()))
	require.NoError(t, p.Close())
	return d
}

func (d *mariadb) open(t *testing.T) adapter {
	t.Helper()
	p, err := mysql.New(mysql.Config{Name: "bank", DSN: d.dsn})
	require.NoError(t, err)
	return p
}

func (d *mariadb) work(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
	session, err := p.(*mysql.Participant).Join(ctx, tx)
	if err == nil {
		_, err = session.ExecContext(ctx, "INSERT INTO effect VALUES (?)", tx.ID().String())
	}
	return err
}

func (d *mariadb) effects(t *testing.T, id participant.TxID) (n int) {
	t.Helper()
	require.NoError(t, d.db.QueryRowContext(t.Context(), "SELECT count(*) FROM effect WHERE tx = ?", id.String()).Scan(&n))
	return n
}

// foreign leaves a branch without a qualifier, whose session is gone.
func (d *mariadb) foreign(t *testing.T) {
	t.Helper()
	db, err := sql.Open("mysql", d.dsn+"?multiStatements=true")
	require.NoError(t, err)
	db.SetMaxOpenConns(1)
	var connection int
	require.NoError(t, db.QueryRowContext(t.Context(), "SELECT CONNECTION_ID()").Scan(&connection))
	_, err = db.ExecContext(t.Context(), `XA START 'orders:an\'other application'; INSERT INTO effect VALUES ('foreign');
		XA END 'orders:an\'other application'; XA PREPARE 'orders:an\'other application'`)
	require.NoError(t, err)
	require.NoError(t, db.Close())
	require.Eventually(t, func() bool {
		var n int
		err := d.db.QueryRowContext(t.Context(), `SELECT (SELECT count(*) FROM information_schema.processlist WHERE id = ?)
			+ (SELECT count(*) FROM information_schema.innodb_trx WHERE trx_mysql_thread_id = ?)`, connection, connection).Scan(&n)
		return err == nil && n == 0
	}, waitTime, waitTick)
}

func (d *mariadb) prepared(t *testing.T) map[string]bool {
	t.Helper()
	rows, err := d.db.QueryContext(t.Context(), "XA RECOVER")
	require.NoError(t, err)
	defer rows.Close()
	prepared := make(map[string]bool)
	for rows.Next() {
		var format int64
		var gtrid, bqual int
		var data string
		require.NoError(t, rows.Scan(&format, &gtrid, &bqual, &data))
		prepared[data[:gtrid]] = true
	}
	require.NoError(t, rows.Err())
	return prepared
}

func (d *mariadb) client(t *testing.T, statements string) {
	t.Helper()
	cfg, err := driver.ParseDSN(d.dsn)
	require.NoError(t, err)
	host, port, err := net.SplitHostPort(cfg.Addr)
	require.NoError(t, err)
	run(t, statements, "mariadb", "--no-defaults", "--protocol=tcp", "--host="+host, "--port="+port, "--user="+cfg.User, cfg.DBName)
}

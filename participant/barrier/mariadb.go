package barrier

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"strings"

	"github.com/assent-tm/assent/participant"
)

// MariaDB is the dialect of MariaDB 10.6 and later, tested with 10.11, by a driver
// whose errors have a field Number of type uint16, as those of
// github.com/go-sql-driver/mysql. By their documentation it is that of MySQL 8.0.16
// and later, too; that is not tested.
//
// The server shows a commit before it is durable: a call that finds the branch finished
// already, or prepared, writes its row once more, and so waits for that.
//
// The server ends the local transaction at a deadlock: a function that hides such
// an error goes on outside of it, and the call fails. A function must not use statements that commit implicitly,
// like CREATE TABLE.
var MariaDB Dialect = mariadb{}

// MariaDB's error numbers that say no more than to repeat the local transaction.
const (
	mariadbChanged     = 1020 // ER_CHECKREAD: with innodb_snapshot_isolation
	mariadbLockTimeout = 1205 // ER_LOCK_WAIT_TIMEOUT
	mariadbDeadlock    = 1213 // ER_LOCK_DEADLOCK
)

// mariadbRemedies says for each error number of a misconfiguration what to change.
var mariadbRemedies = map[uint16]string{
	1146: createTables, // ER_NO_SUCH_TABLE
	1054: createTables, // ER_BAD_FIELD_ERROR
	1142: mariadbGrantRemedy,
	1143: mariadbGrantRemedy,
	1044: "grant the user its rights in the database, or correct the database's name in the data source name",
	1045: mariadbLoginRemedy,
	1698: mariadbLoginRemedy, // ER_ACCESS_DENIED_NO_PASSWORD_ERROR
	1046: "name the database in the data source name",
	1049: "create the database, or correct its name in the data source name",
	1290: "connect to the primary server, or set read_only=OFF", // ER_OPTION_PREVENTS_STATEMENT
	1792: "set tx_read_only=OFF",                                // ER_CANT_EXECUTE_IN_READ_ONLY_TRANSACTION
	1665: "set binlog_format=MIXED or ROW",                      // ER_BINLOG_STMT_MODE_AND_ROW_ENGINE
}

const (
	mariadbLoginRemedy = "correct the user and password in the data source name, or the user's rights to log in"
	mariadbGrantRemedy = "grant the user SELECT, INSERT, UPDATE and DELETE on both tables"
)

type mariadb struct{}

// In REPEATABLE READ, the server's default, calls for different branches would meet
// in the gaps between their keys, and the service's functions would read what was
// before the wait for the row.
func (mariadb) txOptions() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

func (mariadb) retryable(err error) bool {
	switch mariadbNumber(err) {
	case mariadbChanged, mariadbLockTimeout, mariadbDeadlock:
		return true
	}
	return false
}

func (mariadb) remedy(err error) string { return mariadbRemedies[mariadbNumber(err)] }

// mariadbNumber returns the number of the server's error in the tree of err, 0 if
// there is none. The driver's error shows it in a field and by no method, so the
// field is looked up: to name its type is to import the driver, and to make it part
// of every program that uses the barrier.
func mariadbNumber(err any) uint16 {
	value := reflect.Indirect(reflect.ValueOf(err))
	if value.Kind() == reflect.Struct {
		if number := value.FieldByName("Number"); number.Kind() == reflect.Uint16 {
			return uint16(number.Uint())
		}
	}
	switch e := err.(type) {
	case *functionError:
		return mariadbNumber(e.err)
	case interface{ Unwrap() error }:
		return mariadbNumber(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, err := range e.Unwrap() {
			if number := mariadbNumber(err); number != 0 {
				return number
			}
		}
	}
	return 0
}

func (mariadb) check(ctx context.Context, tx *sql.Tx, table string) error {
	is, err := mariadbSettings(ctx, tx)
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	flush, sync := is["innodb_flush_log_at_trx_commit"], is["sync_binlog"]
	switch {
	case is["read_only"] != "OFF":
		return fmt.Errorf("%w: the server is read_only: connect to the primary server, or set read_only=OFF", participant.ErrConfig)
	case flush != "1" && flush != "3": // 3 is 1 with a flush more
		return fmt.Errorf("%w: innodb_flush_log_at_trx_commit is %s, a crash loses commits: set innodb_flush_log_at_trx_commit=1", participant.ErrConfig, flush)
	case is["log_bin"] == "ON" && sync != "1":
		// Recovery rolls back what the binary log has lost.
		return fmt.Errorf("%w: log_bin is ON and sync_binlog is %s, a crash loses commits: set sync_binlog=1", participant.ErrConfig, sync)
	}
	return mariadbEngines(ctx, tx, table)
}

func mariadbSettings(ctx context.Context, tx *sql.Tx) (map[string]string, error) {
	rows, err := tx.QueryContext(ctx, `SHOW GLOBAL VARIABLES WHERE variable_name IN ('read_only', 'log_bin', 'innodb_flush_log_at_trx_commit', 'sync_binlog')`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	settings := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		settings[name] = value
	}
	return settings, rows.Err()
}

// mariadbEngines finds tables of an engine without transactions, which a server
// makes of others' statements when sql_mode lacks NO_ENGINE_SUBSTITUTION.
func mariadbEngines(ctx context.Context, tx *sql.Tx, table string) error {
	rows, err := tx.QueryContext(ctx, `SELECT table_name, coalesce(engine, 'none') FROM information_schema.tables
		WHERE table_schema = database() AND table_name IN (?, ?)`, table, table+"_term")
	if err != nil {
		return fmt.Errorf("read the tables' engines: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var name, engine string
		if err := rows.Scan(&name, &engine); err != nil {
			return fmt.Errorf("read the tables' engines: %w", err)
		}
		if !strings.EqualFold(engine, "InnoDB") {
			return fmt.Errorf("%w: the engine of table %s is %s, which knows no transactions: ALTER TABLE %s ENGINE=InnoDB", participant.ErrConfig, name, engine, name)
		}
	}
	return rows.Err()
}

func (mariadb) schema(table string) []string {
	return expand(table,
		`CREATE TABLE IF NOT EXISTS {table} (
	id          varchar(64) NOT NULL PRIMARY KEY,
	participant varchar(64) NOT NULL,
	state       varchar(16) NOT NULL CHECK (state IN ('prepared', 'committed', 'rolled back')),
	data        blob,
	since       bigint NOT NULL,
	expires     bigint NOT NULL,
	CHECK ((expires = 0) = (state = 'prepared')),
	INDEX {table}_expires (expires)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin`,
		`CREATE TABLE IF NOT EXISTS {table}_term (
	domain  varchar(16) NOT NULL,
	term    varchar(11) NOT NULL,
	epoch   bigint NOT NULL,
	highest varchar(32) NOT NULL,
	used    bigint NOT NULL,
	PRIMARY KEY (domain, term)
) ENGINE=InnoDB CHARACTER SET ascii COLLATE ascii_bin`)
}

func (mariadb) statements(table string) statements {
	x := func(statement string) string { return expand(table, statement)[0] }
	return statements{
		// IGNORE would also cut what is too long for its column: nothing is, an XID and
		// a name have as much room as they may take. It counts the same whether or not
		// the connection has clientFoundRows, which ON DUPLICATE KEY UPDATE does not.
		insert: x(`INSERT IGNORE INTO {table} (id, participant, state, data, since, expires) VALUES (?, ?, ?, ?, ?, ?)`),
		finish: x(`UPDATE {table} SET state = ?, since = ?, expires = ? WHERE id = ? AND state = 'prepared'`),
		find:   x(`SELECT state, data FROM {table} WHERE id = ? FOR UPDATE`),
		// InnoDB gives a row free before the log of the commit is written.
		harden: x(`UPDATE {table} SET since = since + 1 WHERE id = ?`),

		epoch: x(`SELECT epoch, used FROM {table}_term WHERE domain = ? AND term = ?`),
		remember: x(`INSERT INTO {table}_term (domain, term, epoch, highest, used) VALUES (?, ?, ?, ?, ?)
			ON DUPLICATE KEY UPDATE
				epoch = greatest(epoch, VALUES(epoch)), highest = greatest(highest, VALUES(highest)), used = greatest(used, VALUES(used))`),

		prepared: x(`SELECT id FROM {table} WHERE expires = 0 AND id >= ? AND id < ? AND participant = ?`),
		highest: x(`SELECT term, highest, (SELECT max(id) FROM {table} WHERE id >= concat(domain, ':', term, ':') AND id < concat(domain, ':', term, ';'))
			FROM {table}_term WHERE domain = ?`),

		forget:  x(`UPDATE {table} SET expires = least(expires, ?), data = NULL WHERE id = ? AND expires > 0`),
		expired: x(`SELECT id FROM {table} WHERE expires > 0 AND expires <= ? ORDER BY expires LIMIT ? FOR UPDATE SKIP LOCKED`),
		remove:  x(`DELETE FROM {table} WHERE id = ?`),
		removeTerms: x(`DELETE FROM {table}_term WHERE used <= ?
			AND NOT EXISTS (SELECT 1 FROM {table} WHERE id >= concat(domain, ':', term, ':') AND id < concat(domain, ':', term, ';'))`),
	}
}

package barrier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/assent-tm/assent/participant"
)

// SQLite is the dialect of SQLite 3.24 and later, by a driver whose errors have
// a method Code() int, as those of modernc.org/sqlite. Open the database with
// OpenSQLite.
var SQLite Dialect = sqlite{}

// sqliteConns is few, since calls that wait in the pool are served in turn while
// those that wait for SQLite's lock poll it: measured with 32 callers, 4
// connections did 1.7 times the work of an unbounded pool.
const sqliteConns = 4

// OpenSQLite opens the database file at path as SQLiteDSN says, with as many
// connections as suit a database that has one writer at a time. The program
// imports modernc.org/sqlite, under whose name "sqlite" the driver is looked up.
func OpenSQLite(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", SQLiteDSN(path))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(sqliteConns)
	db.SetMaxIdleConns(sqliteConns)
	return db, nil
}

// SQLiteDSN returns the data source name with which modernc.org/sqlite opens the
// database file at path for a participant: a write-ahead log that is fsynced at
// every commit, one writer at a time, and 5 s of waiting for it. More settings
// may be appended, each after a '&'.
func SQLiteDSN(path string) string {
	// Escaped, '?', '#' and '%' do not end the path.
	return "file:" + (&url.URL{Path: path}).EscapedPath() +
		"?_journal_mode=WAL&_synchronous=FULL&_busy_timeout=5000&_txlock=immediate"
}

// Primary result codes; the extended ones have more bits above.
const (
	sqliteError    = 1
	sqliteBusy     = 5
	sqliteLocked   = 6
	sqliteReadOnly = 8
	sqliteCantOpen = 14
)

// syncFull is PRAGMA synchronous=FULL; EXTRA is above it.
const syncFull = 2

type sqlite struct{}

func (sqlite) txOptions() *sql.TxOptions { return nil }

func (sqlite) retryable(err error) bool {
	code := sqliteCode(err)
	return code == sqliteBusy || code == sqliteLocked
}

func sqliteCode(err error) int {
	var coded interface{ Code() int }
	if !errors.As(err, &coded) {
		return 0
	}
	return coded.Code() & 0xff
}

func (sqlite) remedy(err error) string {
	switch sqliteCode(err) {
	case sqliteError:
		return createTables
	case sqliteReadOnly, sqliteCantOpen:
		return "let the program read and write the database file and its folder"
	}
	return ""
}

func (sqlite) check(ctx context.Context, tx *sql.Tx, _ string) error {
	var journal string
	if err := tx.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal); err != nil {
		return fmt.Errorf("read journal_mode: %w", err)
	}
	var synchronous int
	if err := tx.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous); err != nil {
		return fmt.Errorf("read synchronous: %w", err)
	}
	switch strings.ToLower(journal) {
	case "memory", "off":
		return fmt.Errorf("%w: PRAGMA journal_mode is %s, a crash loses or damages the database: set journal_mode=WAL on a database file", participant.ErrConfig, journal)
	}
	if synchronous < syncFull {
		return fmt.Errorf("%w: PRAGMA synchronous is %d, a crash loses commits: set synchronous=FULL", participant.ErrConfig, synchronous)
	}
	return nil
}

func (sqlite) schema(table string) []string {
	return expand(table,
		`CREATE TABLE IF NOT EXISTS {table} (
	id          TEXT    NOT NULL PRIMARY KEY,
	participant TEXT    NOT NULL,
	state       TEXT    NOT NULL CHECK (state IN ('prepared', 'committed', 'rolled back')),
	data        BLOB,
	since       INTEGER NOT NULL,
	expires     INTEGER NOT NULL CHECK ((expires = 0) = (state = 'prepared'))
) WITHOUT ROWID`,
		`CREATE INDEX IF NOT EXISTS {table}_expires ON {table} (expires)`,
		`CREATE TABLE IF NOT EXISTS {table}_term (
	domain  TEXT    NOT NULL,
	term    TEXT    NOT NULL,
	epoch   INTEGER NOT NULL,
	highest TEXT    NOT NULL,
	used    INTEGER NOT NULL,
	PRIMARY KEY (domain, term)
) WITHOUT ROWID`)
}

func (sqlite) statements(table string) statements {
	x := func(statement string) string { return expand(table, statement)[0] }
	return statements{
		// A transaction that begins by reading fails with SQLITE_BUSY when it
		// comes to write after another one did. This changes nothing, but makes
		// it a writer from the start, also where _txlock=immediate is missing.
		lock: x(`UPDATE {table}_term SET used = used WHERE 0`),

		insert: x(`INSERT INTO {table} (id, participant, state, data, since, expires) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING`),
		finish: x(`UPDATE {table} SET state = ?, since = ?, expires = ? WHERE id = ? AND state = 'prepared'`),
		find:   x(`SELECT state, data FROM {table} WHERE id = ?`),

		epoch: x(`SELECT epoch, used FROM {table}_term WHERE domain = ? AND term = ?`),
		remember: x(`INSERT INTO {table}_term (domain, term, epoch, highest, used) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (domain, term) DO UPDATE SET
				epoch = max(epoch, excluded.epoch), highest = max(highest, excluded.highest), used = max(used, excluded.used)`),

		prepared: x(`SELECT id FROM {table} WHERE expires = 0 AND id >= ? AND id < ? AND participant = ?`),
		highest: x(`SELECT term, highest, (SELECT max(id) FROM {table} WHERE id >= domain || ':' || term || ':' AND id < domain || ':' || term || ';')
			FROM {table}_term WHERE domain = ?`),

		forget:  x(`UPDATE {table} SET expires = min(expires, ?), data = NULL WHERE id = ? AND expires > 0`),
		expired: x(`SELECT id FROM {table} WHERE expires > 0 AND expires <= ? ORDER BY expires LIMIT ?`),
		remove:  x(`DELETE FROM {table} WHERE id = ?`),
		removeTerms: x(`DELETE FROM {table}_term WHERE used <= ?
			AND NOT EXISTS (SELECT 1 FROM {table} WHERE id >= domain || ':' || term || ':' AND id < domain || ':' || term || ';')`),
	}
}

func expand(table string, statements ...string) []string {
	for i, s := range statements {
		statements[i] = strings.ReplaceAll(s, "{table}", table)
	}
	return statements
}

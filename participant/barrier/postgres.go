package barrier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
)

// Postgres is the dialect of PostgreSQL 9.5 and later, tested with 15. The driver's
// errors have a method SQLState() string, and its Commit returns an error when the
// server rolled back instead, as those of github.com/jackc/pgx/v5/stdlib do.
//
// The barrier needs no prepared transactions: max_prepared_transactions may be 0.
var Postgres Dialect = postgres{}

// PostgreSQL's SQLSTATEs that say no more than to repeat the local transaction.
const (
	pgSerializationFailure = "40001"
	pgDeadlockDetected     = "40P01"
)

// pgRemedies says for each SQLSTATE of a misconfiguration what to change.
var pgRemedies = map[string]string{
	"42P01": createTables + ", in a schema of the role's search_path", // undefined_table
	"42703": createTables,                                             // undefined_column
	"3F000": "create the schema of the role's search_path",            // invalid_schema_name
	"42501": "grant the role SELECT, INSERT, UPDATE and DELETE on both tables",
	"25006": pgReadOnlyRemedy, // read_only_sql_transaction
	"28P01": pgLoginRemedy,    // invalid_password
	"28000": pgLoginRemedy,    // invalid_authorization_specification
	"3D000": "create the database, or correct its name in the data source name",
}

const (
	pgLoginRemedy    = "correct the user and password in the data source name, or the server's pg_hba.conf"
	pgReadOnlyRemedy = "connect to the primary server, and set default_transaction_read_only=off"
)

type postgres struct{}

// The row's key makes calls for one branch wait for one another; only what they
// then read must be the latest.
func (postgres) txOptions() *sql.TxOptions {
	return &sql.TxOptions{Isolation: sql.LevelReadCommitted}
}

func (postgres) retryable(err error) bool {
	code := sqlState(err)
	return code == pgSerializationFailure || code == pgDeadlockDetected
}

func (postgres) remedy(err error) string { return pgRemedies[sqlState(err)] }

func sqlState(err error) string {
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) {
		return ""
	}
	return coded.SQLState()
}

func (postgres) check(ctx context.Context, tx *sql.Tx, _ string) error {
	var standby bool
	var readOnly, fsync, synchronous string
	err := tx.QueryRowContext(ctx, `SELECT pg_is_in_recovery(), current_setting('transaction_read_only'),
		current_setting('fsync'), current_setting('synchronous_commit')`).Scan(&standby, &readOnly, &fsync, &synchronous)
	if err != nil {
		return fmt.Errorf("read the settings: %w", err)
	}
	switch {
	case standby:
		return fmt.Errorf("%w: the server is a standby and takes no writes: connect to the primary server", participant.ErrConfig)
	case readOnly != "off":
		return fmt.Errorf("%w: default_transaction_read_only is %s: set default_transaction_read_only=off for this role and database", participant.ErrConfig, readOnly)
	case fsync != "on":
		return fmt.Errorf("%w: fsync is %s, a crash loses or damages the database: set fsync=on", participant.ErrConfig, fsync)
	case synchronous == "off":
		return fmt.Errorf("%w: synchronous_commit is off, a crash loses commits: set synchronous_commit=on for this role and database", participant.ErrConfig)
	}
	return nil
}

func (postgres) schema(table string) []string {
	return expand(table,
		`CREATE TABLE IF NOT EXISTS {table} (
	id          text COLLATE "C" NOT NULL PRIMARY KEY,
	participant text COLLATE "C" NOT NULL,
	state       text NOT NULL CHECK (state IN ('prepared', 'committed', 'rolled back')),
	data        bytea,
	since       bigint NOT NULL,
	expires     bigint NOT NULL CHECK ((expires = 0) = (state = 'prepared'))
)`,
		`CREATE INDEX IF NOT EXISTS {table}_expires ON {table} (expires)`,
		`CREATE TABLE IF NOT EXISTS {table}_term (
	domain  text COLLATE "C" NOT NULL,
	term    text COLLATE "C" NOT NULL,
	epoch   bigint NOT NULL,
	highest text COLLATE "C" NOT NULL,
	used    bigint NOT NULL,
	PRIMARY KEY (domain, term)
)`)
}

func (postgres) statements(table string) statements {
	x := func(statement string) string { return expand(table, statement)[0] }
	return statements{
		// CREATE ... IF NOT EXISTS fails when another session creates the same at that
		// moment. The number is arbitrary.
		lockSchema: `SELECT pg_advisory_xact_lock(4704364)`,

		insert: x(`INSERT INTO {table} (id, participant, state, data, since, expires) VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING`),
		finish: x(`UPDATE {table} SET state = $1, since = $2, expires = $3 WHERE id = $4 AND state = 'prepared'`),
		find:   x(`SELECT state, data FROM {table} WHERE id = $1 FOR UPDATE`),

		epoch: x(`SELECT epoch, used FROM {table}_term WHERE domain = $1 AND term = $2`),
		remember: x(`INSERT INTO {table}_term AS t (domain, term, epoch, highest, used) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (domain, term) DO UPDATE SET
				epoch = greatest(t.epoch, excluded.epoch), highest = greatest(t.highest, excluded.highest), used = greatest(t.used, excluded.used)`),

		prepared: x(`SELECT id FROM {table} WHERE expires = 0 AND id >= $1 AND id < $2 AND participant = $3`),
		highest: x(`SELECT term, highest, (SELECT max(id) FROM {table} WHERE id >= domain || ':' || term || ':' AND id < domain || ':' || term || ';')
			FROM {table}_term WHERE domain = $1`),

		forget:  x(`UPDATE {table} SET expires = least(expires, $1), data = NULL WHERE id = $2 AND expires > 0`),
		expired: x(`SELECT id FROM {table} WHERE expires > 0 AND expires <= $1 ORDER BY expires LIMIT $2 FOR UPDATE SKIP LOCKED`),
		remove:  x(`DELETE FROM {table} WHERE id = $1`),
		removeTerms: x(`DELETE FROM {table}_term WHERE used <= $1
			AND NOT EXISTS (SELECT 1 FROM {table} WHERE id >= domain || ':' || term || ':' AND id < domain || ':' || term || ';')`),
	}
}

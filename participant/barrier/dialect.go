package barrier

import (
	"context"
	"database/sql"
)

// Dialect is what the barrier needs to know of a kind of database: SQLite,
// Postgres or MariaDB. Each has a file of its own.
type Dialect interface {
	// schema returns the statements that create both tables and their index
	// unless they exist. The key's collation must be that of bytes: lists are
	// ranges of XIDs.
	schema(table string) []string
	// statements returns the SQL of the local transactions.
	statements(table string) statements
	// txOptions returns how to begin a local transaction. It must see what was
	// committed before its latest wait for a lock: READ COMMITTED, or one writer
	// at a time.
	txOptions() *sql.TxOptions
	// retryable reports whether err says no more than that the whole local
	// transaction should be repeated.
	retryable(err error) bool
	// remedy returns what to change if err says that the database, the tables or
	// the way to them are not set up as the barrier needs them, else "".
	remedy(err error) string
	// check returns an error that Is participant.ErrConfig and names the setting if
	// the database takes no writes or would lose a commit at a crash.
	check(ctx context.Context, tx *sql.Tx, table string) error
}

// state is what a branch's row says of it.
type state string

const (
	prepared   state = "prepared"
	committed  state = "committed"
	rolledBack state = "rolled back"
)

// statements are the SQL of the local transactions, with their parameters in the
// order given. A prepared row, and only it, has expires = 0: so one index on
// expires finds the branches in doubt as well as those to delete. Times are
// seconds since 1970.
type statements struct {
	// lockSchema comes before the statements of the schema, if not empty: processes
	// that start at once wait for one another.
	lockSchema string
	// lock is the first statement of a local transaction, if not empty.
	lock string

	// insert adds a row unless the key is taken, for which it waits:
	// id, participant, state, data, since, expires.
	insert string
	// finish changes a row only if it is prepared: state, since, expires, id.
	finish string
	// find returns state and data, with the row locked: id.
	find string
	// harden changes a row that says what it said before, if not empty: a database that
	// shows others a commit before it is durable has them wait for it with a write: id.
	harden string

	// epoch returns the term's epoch and used: domain, term.
	epoch string
	// remember raises epoch, highest and used of a term, or adds it:
	// domain, term, epoch, highest, used.
	remember string

	// prepared returns the ids of the branches in doubt: the first id, the end,
	// participant.
	prepared string
	// highest returns for each term: term, highest, and the highest id of its
	// rows or null: domain.
	highest string

	// forget brings a finished row's expiry forward and drops its data:
	// expires, id.
	forget string
	// expired returns ids, with their rows locked and those left out that another
	// local transaction has locked: now, limit.
	expired string
	// remove deletes a row: id.
	remove string
	// removeTerms deletes the terms unused since then that have no row: used.
	removeTerms string
}

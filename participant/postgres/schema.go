package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// What a branch's row says of it. Inside the branch it says committed from the
// start: nobody sees it before the branch has.
const (
	committed  = "committed"
	rolledBack = "rolled back"
)

// Schema returns the statements that create the witness table unless it exists,
// each ended by a semicolon, for those who create tables themselves. The role of
// the pool needs SELECT, INSERT, UPDATE and DELETE on it. An empty name means
// DefaultTable.
func Schema(table string) string {
	if table == "" {
		table = DefaultTable
	}
	// The collation is that of bytes: a domain and a term are ranges of ids. The
	// room left in pages keeps the update by Forget in its page, where it touches
	// no index.
	return expand(qualified(table), `CREATE TABLE IF NOT EXISTS {table} (
	id      text COLLATE "C" NOT NULL PRIMARY KEY,
	state   text             NOT NULL CHECK (state IN ('committed', 'rolled back')),
	expires timestamptz      NOT NULL
) WITH (fillfactor = 80);
`)
}

// CreateTable creates the witness table unless it exists.
func (p *Participant) CreateTable(ctx context.Context) error {
	_, err := onOwnPool(ctx, p, func(ctx context.Context, conn *pgx.Conn) (struct{}, error) {
		// Two that create a table at once may both find it missing; the lock is
		// released with the implicit transaction of the three statements.
		_, err := conn.Exec(ctx, "SELECT set_config('lock_timeout', '0', true); "+
			"SELECT pg_advisory_xact_lock(hashtextextended('assent: create the witness table', 0)); "+Schema(p.cfg.Table))
		return struct{}{}, err
	})
	if err != nil {
		return fmt.Errorf("create table %s of participant %q: %w", p.table, p.cfg.Name, p.explainState(err))
	}
	return nil
}

// qualified gives a table its schema: a branch may change the search path, and
// the row has to be in the same table for all.
func qualified(table string) string {
	if strings.Contains(table, ".") {
		return table
	}
	return "public." + table
}

func expand(table, statement string) string { return strings.ReplaceAll(statement, "{table}", table) }

// quote makes a literal of an XID, which PREPARE TRANSACTION and its like do not
// take as a parameter.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// statements are the SQL of the adapter, with their parameters in the order given.
type statements struct {
	// witness inserts the branch's row inside the branch: id, seconds to keep, role
	// that will finish it or '' for one that may finish all. It fails if there is a
	// tombstone. It would insert no id if the transaction is not the branch's, and no
	// state if that runs as another role, and fails then, too. The advisory lock, which
	// goes with the transaction, shows a waiting Rollback whom it waits for. The setting
	// makes the commit of one phase durable; PREPARE TRANSACTION always is.
	witness string
	// place inserts a row of its own, unless there is one: id, state, seconds to
	// keep, system identifier, oid of the database; the latter two are zero if
	// nobody knows which they should be.
	place string
	// look returns system identifier, oid and name of the database, whether the
	// branch is prepared, and what its row says or '': id.
	look string
	// columns fails unless the table is as it should be.
	columns string
	// readOnly returns whether the transaction has changed nothing, and whether it is
	// the branch's.
	readOnly string
	// owner returns the role that prepared the branch: id.
	owner string
	// terminate ends the session that holds the branch's advisory lock, if it is
	// not prepared: id, milliseconds to wait.
	terminate string

	// prepared returns the ids that begin so: prefix.
	prepared string
	// highest returns the highest id of each term: the first id, the end.
	highest string

	// forget brings the expiry of rows forward: ids, seconds to keep.
	forget string
	// prune deletes expired rows among those that follow an id, but for the
	// highest of each term: id, limit, seconds to keep the highest. It returns the
	// last id it looked at, and how many.
	prune string
}

const server = `(SELECT system_identifier FROM pg_control_system()) AS system,
	(SELECT oid::bigint FROM pg_database WHERE datname = current_database()) AS database`

// marked is SQL for whether the transaction has the mark of a branch's.
const marked = `(coalesce(current_setting('assent.branch', true), '') = 'begun')`

func newStatements(table string) statements {
	x := func(statement string) string { return expand(table, statement) }
	return statements{
		witness: x(`INSERT INTO {table} (id, state, expires)
			SELECT CASE WHEN ` + marked + ` THEN $1::text END, CASE WHEN $3::text IN ('', current_user::text) THEN 'committed' END,
				statement_timestamp() + make_interval(secs => $2::float8)
			WHERE pg_try_advisory_xact_lock(hashtextextended($1::text, 0)) IS NOT NULL
			AND CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', true) ELSE '' END IS NOT NULL`),
		place: x(`INSERT INTO {table} (id, state, expires)
			SELECT $1::text, $2::text, statement_timestamp() + make_interval(secs => $3::float8)
			FROM (SELECT ` + server + `) AS server
			WHERE $4::bigint = 0 OR system = $4::bigint AND database = $5::bigint
			ON CONFLICT (id) DO NOTHING`),
		look: x(`SELECT ` + server + `, current_database()::text,
			EXISTS (SELECT FROM pg_prepared_xacts WHERE gid = $1::text AND database = current_database()),
			coalesce((SELECT state FROM {table} WHERE id = $1::text), '')`),
		columns:  x(`SELECT id, state, expires FROM {table} LIMIT 0`),
		readOnly: `SELECT pg_current_xact_id_if_assigned() IS NULL, ` + marked,
		owner:    `SELECT owner::text FROM pg_prepared_xacts WHERE gid = $1::text`,
		terminate: `SELECT pg_terminate_backend(pid, $2::bigint) FROM pg_locks, hashtextextended($1::text, 0) AS key
			WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND pid <> pg_backend_pid()
			AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
			AND classid::bigint = (key >> 32) & 4294967295 AND objid::bigint = key & 4294967295`,

		prepared: `SELECT gid FROM pg_prepared_xacts WHERE database = current_database() AND starts_with(gid, $1::text)`,
		// Each step jumps to the first id after the term of the one before.
		highest: x(`WITH RECURSIVE first(id) AS (
				(SELECT id FROM {table} WHERE id >= $1::text AND id < $2::text ORDER BY id LIMIT 1)
				UNION ALL
				SELECT (SELECT id FROM {table} WHERE id >= ` + termEnd("first.id") + ` AND id < $2::text ORDER BY id LIMIT 1)
				FROM first WHERE first.id IS NOT NULL)
			SELECT (SELECT id FROM {table} WHERE id >= first.id AND id < ` + termEnd("first.id") + ` ORDER BY id DESC LIMIT 1)
			FROM first WHERE first.id IS NOT NULL`),

		forget: x(`UPDATE {table} SET expires = statement_timestamp() + make_interval(secs => $2::float8)
			WHERE id = ANY ($1::text[]) AND expires > statement_timestamp() + make_interval(secs => $2::float8)`),
		prune: x(`WITH portion AS (
				SELECT id FROM {table} WHERE id > $1::text ORDER BY id LIMIT $2::int),
			gone AS (
				DELETE FROM {table} AS old USING portion WHERE old.id = portion.id AND old.expires <= statement_timestamp()
				AND (EXISTS (SELECT FROM {table} AS later WHERE later.id > old.id AND later.id < ` + termEnd("old.id") + `)
					OR old.expires <= statement_timestamp() - make_interval(secs => $3::float8)))
			SELECT coalesce(max(id), ''), count(*) FROM portion`),
	}
}

// termEnd is SQL for what comes after all ids of an id's term: ';' is the byte
// after ':'.
func termEnd(id string) string {
	return `split_part(` + id + `, ':', 1) || ':' || split_part(` + id + `, ':', 2) || ';' COLLATE "C"`
}

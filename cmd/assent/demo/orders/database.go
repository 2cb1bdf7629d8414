package orders

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	driver "github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/assent-tm/assent/participant"
)

// database is a warehouse's, as the parent sees it. What the two have in common is
// written so that both servers take it.
type database struct {
	name    string
	run     run
	db      *sql.DB
	dialect dialect
}

// dialect is what the two servers do not have in common.
type dialect struct {
	engine   string // of a table that can roll back
	prepared func(context.Context, *sql.DB) ([]string, error)
}

// openDatabases returns the warehouses' databases. It does not connect. Every query
// gets a connection of its own: the last one's server may have been killed.
func openDatabases(a *Addresses, r run) (map[string]*database, error) {
	parsed, err := pgx.ParseConfig(a.Postgres)
	if err != nil {
		return nil, err
	}
	connector, err := driver.MySQLDriver{}.OpenConnector(a.MySQL)
	if err != nil {
		return nil, err
	}
	all := map[string]*database{
		postgresName: {postgresName, r, stdlib.OpenDB(*parsed), dialect{"", preparedAtPostgres}},
		mariadbName:  {mariadbName, r, sql.OpenDB(connector), dialect{" ENGINE = InnoDB", preparedAtMariaDB}},
	}
	for _, d := range all {
		d.db.SetMaxIdleConns(0)
	}
	return all, nil
}

// create makes the tables. A line is written where an order moves pieces and is the
// witness of it. Nothing in the schema keeps a line from being written twice: that is
// for the protocol to keep, and for the proof to see.
func (d *database) create(ctx context.Context) error {
	var rows []string
	for _, item := range items {
		rows = append(rows, fmt.Sprintf("('%s', %d)", item, openingStock))
	}
	return d.exec(ctx,
		"CREATE TABLE "+d.run.table("stock")+` (
			item   VARCHAR(16) NOT NULL PRIMARY KEY,
			pieces BIGINT      NOT NULL CHECK (pieces >= 0)
		)`+d.dialect.engine,
		"CREATE TABLE "+d.run.table("line")+` (
			id     SERIAL      PRIMARY KEY,
			tx     VARCHAR(64) NOT NULL,
			item   VARCHAR(16) NOT NULL,
			pieces BIGINT      NOT NULL
		)`+d.dialect.engine,
		"INSERT INTO "+d.run.table("stock")+" (item, pieces) VALUES "+strings.Join(rows, ", "),
	)
}

// drop removes the tables, those that are there, and the participant's.
func (d *database) drop(ctx context.Context) error {
	return d.exec(ctx, "DROP TABLE IF EXISTS "+strings.Join(d.run.tables(), ", "))
}

func (d *database) exec(ctx context.Context, statements ...string) error {
	for _, s := range statements {
		if _, err := d.db.ExecContext(ctx, s); err != nil {
			return d.explain(err)
		}
	}
	return nil
}

func (d *database) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("database of participant %q: %w", d.name, err)
}

// books are what a warehouse's database says.
type books struct {
	stock map[string]int64
	lines []line
}

type line struct {
	tx     participant.TxID
	item   string
	pieces int64
}

func (d *database) read(ctx context.Context) (books, error) {
	b := books{stock: map[string]int64{}}
	err := errors.Join(
		query(ctx, d.db, "SELECT item, pieces FROM "+d.run.table("stock"), func(rows *sql.Rows) error {
			var item string
			var pieces int64
			err := rows.Scan(&item, &pieces)
			b.stock[item] = pieces
			return err
		}),
		query(ctx, d.db, "SELECT tx, item, pieces FROM "+d.run.table("line")+" ORDER BY id", func(rows *sql.Rows) error {
			var l line
			var tx string
			err := rows.Scan(&tx, &l.item, &l.pieces)
			if err == nil {
				l.tx, err = participant.ParseTxID(tx)
			}
			b.lines = append(b.lines, l)
			return err
		}),
	)
	return b, d.explain(err)
}

// inDoubt returns the prepared branches of the run.
func (d *database) inDoubt(ctx context.Context) (branches []participant.Branch, err error) {
	names, err := d.dialect.prepared(ctx, d.db)
	for _, name := range names {
		if b, err := participant.ParseXID(name); err == nil && b.Domain == d.run.domain() {
			branches = append(branches, b)
		}
	}
	return branches, d.explain(err)
}

func preparedAtPostgres(ctx context.Context, db *sql.DB) (names []string, err error) {
	err = query(ctx, db, "SELECT gid FROM pg_prepared_xacts WHERE database = current_database()", func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

func preparedAtMariaDB(ctx context.Context, db *sql.DB) (names []string, err error) {
	err = query(ctx, db, "XA RECOVER", func(rows *sql.Rows) error {
		var format int64
		var gtrid, bqual int
		var data string
		if err := rows.Scan(&format, &gtrid, &bqual, &data); err != nil {
			return err
		}
		names = append(names, data[:min(gtrid, len(data))])
		return nil
	})
	return names, err
}

// blocked writes to every row that an order may have touched, and returns what would
// have to wait for a lock. The writes are undone.
func (d *database) blocked(ctx context.Context) (wrong []string) {
	stock, lines := d.run.table("stock"), d.run.table("line")
	for _, item := range items {
		where := " WHERE item = '" + item + "'"
		if err := d.write(ctx, "SELECT 1 FROM "+stock+where+" FOR UPDATE NOWAIT", "UPDATE "+stock+" SET pieces = pieces"+where); err != nil {
			wrong = append(wrong, fmt.Sprintf("the stock of %s at %s: %v", item, d.name, err))
		}
	}
	if err := d.write(ctx, "SELECT 1 FROM "+lines+" FOR UPDATE NOWAIT", "UPDATE "+lines+" SET pieces = pieces"); err != nil {
		wrong = append(wrong, fmt.Sprintf("the lines at %s: %v", d.name, err))
	}
	return wrong
}

// write fails unless the rows are free at once.
func (d *database) write(ctx context.Context, lock, update string) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	// Executed and not queried: NOWAIT tells before there are rows to read.
	if _, err := tx.ExecContext(ctx, lock); err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, update)
	return err
}

func query(ctx context.Context, db *sql.DB, statement string, each func(*sql.Rows) error) error {
	rows, err := db.QueryContext(ctx, statement)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

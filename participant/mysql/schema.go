package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	driver "github.com/go-sql-driver/mysql"
)

const maxTableName = 48

// What a branch's row says of it. Inside the branch it says committed from the
// start: nobody sees it before the branch has.
const (
	committed  = "committed"
	rolledBack = "rolled back"
)

// Schema returns the statements that create the witness table unless it exists,
// each ended by a semicolon, for those who create tables themselves. The user needs
// SELECT, INSERT, UPDATE and DELETE on it. An empty name means DefaultTable.
//
// The row with the empty id identifies the database. A copy of the table, by a dump
// or by replication, carries it along.
func Schema(table string) string {
	if table == "" {
		table = DefaultTable
	}
	return strings.Join(schema(table), ";\n") + ";\n"
}

func schema(table string) []string {
	return []string{
		`CREATE TABLE IF NOT EXISTS ` + table + ` (
	id      VARBINARY(64)  NOT NULL PRIMARY KEY,
	state   VARBINARY(16)  NOT NULL,
	origin  VARBINARY(160) NOT NULL,
	expires BIGINT         NOT NULL
) ENGINE = InnoDB`,
		`INSERT IGNORE INTO ` + table + ` (id, state, origin, expires) VALUES ('', 'database', REPLACE(UUID(), '-', ''), 0)`,
	}
}

// CreateTable creates the witness table unless it exists. The user needs the
// privilege to CREATE.
func (p *Participant) CreateTable(ctx context.Context) error {
	db := p.plain()
	defer func() { _ = db.Close() }()
	for _, statement := range schema(p.table) {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create table %s of participant %q: %w", p.table, p.cfg.Name, p.explainServer(err))
		}
	}
	return nil
}

// plain opens a pool of one connection that needs no table yet.
func (p *Participant) plain() *sql.DB {
	connector, err := driver.NewConnector(p.driver)
	if err != nil {
		panic(fmt.Sprintf("mysql: the connector that New could make can't be made: %v", err))
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(1)
	return db
}

// insert returns the statement that adds the branch's row. In seconds since 1970,
// by the server's clock, it may go when retention has passed. SYSDATE is of that clock,
// also in a session that has SET timestamp.
func (p *Participant) insert(verb string, xid, state, origin string, retention time.Duration) string {
	return fmt.Sprintf("%s INTO %s (id, state, origin, expires) VALUES (%s, '%s', %s, UNIX_TIMESTAMP(SYSDATE()) + %d)",
		verb, p.table, hexText(xid), state, hexText(origin), int64(retention/time.Second))
}

// qualified returns the table's full name, quoted.
func qualified(database, table string) string {
	return "`" + strings.ReplaceAll(database, "`", "``") + "`.`" + table + "`"
}

// validTable guards the one part of the statements that is written into them as it is.
func validTable(name string) bool {
	valid := name != "" && len(name) <= maxTableName && (name[0] < '0' || name[0] > '9')
	for _, c := range []byte(name) {
		valid = valid && (c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z')
	}
	return valid
}

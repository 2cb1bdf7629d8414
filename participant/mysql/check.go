package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/assent-tm/assent/participant"
)

// Check returns an error that Is participant.ErrConfig and names the setting if the
// server would lose what it promised, can't take part, or lacks the table or a right on
// it. A server that can't be reached is another error. What is only to be known goes to
// Config.Logger, as that the server is MySQL: the adapter was made by its manual, and
// tested with MariaDB.
func (p *Participant) Check(ctx context.Context) error {
	// Without the table the connections of the two pools can't even be made.
	db := p.plain()
	defer func() { _ = db.Close() }()
	err := p.check(ctx, db)
	if err != nil {
		return fmt.Errorf("check participant %q: %w", p.cfg.Name, p.explainServer(err))
	}
	return nil
}

func (p *Participant) check(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	s, err := readSettings(ctx, conn)
	if err != nil {
		return err
	}
	if wrong := s.wrong(); wrong != "" {
		return fmt.Errorf("%w: %s", participant.ErrConfig, wrong)
	}
	if err := p.checkTable(ctx, conn); err != nil {
		return err
	}
	if err := p.try(ctx, conn); err != nil {
		return err
	}
	for _, warning := range s.warnings() {
		p.cfg.Logger.WarnContext(ctx, warning, "participant", p.cfg.Name)
	}
	return nil
}

// settings are the server's variables that matter, those that it has.
type settings map[string]string

func readSettings(ctx context.Context, conn *sql.Conn) (settings, error) {
	rows, err := conn.QueryContext(ctx, `SHOW GLOBAL VARIABLES WHERE Variable_name IN ('version', 'version_comment', 'innodb_flush_log_at_trx_commit',
		'log_bin', 'sync_binlog', 'read_only', 'super_read_only', 'innodb_read_only', 'wsrep_on', 'xa_detach_on_prepare')`)
	if err != nil {
		return nil, fmt.Errorf("read the server's settings: %w", err)
	}
	defer rows.Close()
	s := make(settings)
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, fmt.Errorf("read the server's settings: %w", err)
		}
		s[name] = strings.ToUpper(value)
	}
	return s, rows.Err()
}

func (s settings) on(name string) bool { return s[name] == "ON" || s[name] == "1" }

func (s settings) mariaDB() bool { return strings.Contains(s["version"], "MARIADB") }

// The oldest versions that keep a prepared branch when its session ends, and let
// others finish it: MDEV-742 in MariaDB, xa_detach_on_prepare in MySQL.
var (
	oldestMariaDB = []int{10, 5, 2}
	oldestMySQL   = []int{8, 0, 29}
)

// wrong says what has to be changed for the server to take part, "" if nothing.
func (s settings) wrong() string {
	oldest := oldestMySQL
	if s.mariaDB() {
		oldest = oldestMariaDB
	}
	switch {
	case !atLeast(s["version"], oldest):
		return fmt.Sprintf("the server's version is %s: use MariaDB 10.5.2 or later, or MySQL 8.0.29 or later", s["version"])
	case s.on("wsrep_on"):
		return "the server is part of a Galera cluster, which does not replicate prepared branches: use a server with wsrep_on = OFF"
	case s["innodb_flush_log_at_trx_commit"] != "1" && s["innodb_flush_log_at_trx_commit"] != "3": // 3 is 1 with a flush more
		return fmt.Sprintf("innodb_flush_log_at_trx_commit is %s, so a crash loses prepared and committed branches: "+
			"SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in the server's configuration", s["innodb_flush_log_at_trx_commit"])
	case s.on("log_bin") && s["sync_binlog"] != "1":
		return fmt.Sprintf("log_bin is ON and sync_binlog is %s, so a crash makes the binary log and the tables differ: "+
			"SET GLOBAL sync_binlog = 1, and in the server's configuration", s["sync_binlog"])
	case s.on("read_only"), s.on("super_read_only"), s.on("innodb_read_only"):
		return "the server is read-only: SET GLOBAL read_only = OFF, or correct the address in Config.DSN"
	case !s.mariaDB() && !s.on("xa_detach_on_prepare"):
		return "xa_detach_on_prepare is OFF, so only a branch's own session can finish it: SET GLOBAL xa_detach_on_prepare = ON, and in the server's configuration"
	}
	return ""
}

func (s settings) warnings() (list []string) {
	if !s.mariaDB() {
		list = append(list, fmt.Sprintf("the server is MySQL %s: this adapter was made for it by its manual, and tested with MariaDB alone", s["version"]))
	} else if s.on("log_bin") {
		list = append(list, "log_bin is ON: MariaDB does not claim that its binary log and a prepared branch survive a crash as one (MDEV-21469); replicas may lack the branch")
	}
	return list
}

var leadingVersion = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)`)

func atLeast(version string, oldest []int) bool {
	parts := leadingVersion.FindStringSubmatch(version)
	if parts == nil {
		return false
	}
	for i, want := range oldest {
		if n, err := strconv.Atoi(parts[i+1]); err != nil || n != want {
			return err == nil && n > want
		}
	}
	return true
}

// checkTable finds out whether the table is there, as Schema makes it, and one that
// can roll back.
func (p *Participant) checkTable(ctx context.Context, conn *sql.Conn) error {
	var identity string
	query := fmt.Sprintf("SELECT COALESCE((SELECT origin FROM %s WHERE id = '' AND state = 'database' AND expires = 0), '')", p.table)
	if err := conn.QueryRowContext(ctx, query).Scan(&identity); err != nil {
		return fmt.Errorf("look at table %s: %w", p.table, err)
	}
	var engine sql.NullString
	query = "SELECT engine FROM information_schema.tables WHERE table_schema = ? AND table_name = ?"
	err := conn.QueryRowContext(ctx, query, p.driver.DBName, p.cfg.Table).Scan(&engine)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return fmt.Errorf("look at table %s: %w", p.table, err)
	}
	switch {
	case !strings.EqualFold(engine.String, "InnoDB"):
		return fmt.Errorf("%w: table %s has the engine %q, which can't roll back: ALTER TABLE %s ENGINE = InnoDB", participant.ErrConfig, p.table, engine.String, p.table)
	case !isHex(identity):
		return fmt.Errorf("%w: table %s lacks the row that identifies the database: call CreateTable, or execute the statements of Schema", participant.ErrConfig, p.table)
	}
	return nil
}

// try does, in a branch that it does not prepare, what a branch needs the rights for.
func (p *Participant) try(ctx context.Context, conn *sql.Conn) error {
	const xid = "'assent: check'"
	unique := newSessionName()
	branch := fmt.Sprintf("%s, %s, %d", xid, hexText(unique), formatID)
	for _, statement := range []string{
		"XA RECOVER",
		"XA START " + branch,
		p.insert("INSERT", "check "+unique, rolledBack, "", p.cfg.Retention),
		fmt.Sprintf("UPDATE %s SET expires = 0 WHERE id = %s", p.table, hexText("check "+unique)),
		fmt.Sprintf("DELETE FROM %s WHERE id = %s", p.table, hexText("check "+unique)),
		"XA END " + branch,
		"XA ROLLBACK " + branch,
	} {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			// The connection is closed, and its end rolls back.
			verb, _, _ := strings.Cut(statement, " ")
			if errno(err) == errXAFailed { // MySQL's answer to XA RECOVER
				err = fmt.Errorf("%w: %s: %w", participant.ErrConfig, xaPrivilege, err)
			}
			return fmt.Errorf("try to %s: %w", verb, err)
		}
	}
	return nil
}

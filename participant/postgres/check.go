package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tm/assent/participant"
)

// minVersion is the first that can end a session and wait for it.
const minVersion = 140000

// settings are what Check reads.
type settings struct {
	Version           int
	MaxPrepared       int
	Fsync             string
	FullPageWrites    string
	SynchronousCommit string
	ReadOnly          string
	InRecovery        bool
	Role              string
	Blind             bool     // to the sessions of the role that has logged in
	Missing           []string // privileges on the witness table; nil without a table
}

const readSettings = `SELECT current_setting('server_version_num')::int, current_setting('max_prepared_transactions')::int,
	current_setting('fsync'), current_setting('full_page_writes'),
	(SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),
	(SELECT reset_val FROM pg_settings WHERE name = 'default_transaction_read_only'),
	pg_is_in_recovery(), current_user::text,
	NOT (pg_has_role(session_user, 'USAGE') OR pg_has_role('pg_read_all_stats', 'USAGE') AND pg_has_role('pg_signal_backend', 'USAGE')),
	(SELECT array_agg(privilege) FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
		WHERE NOT has_table_privilege(to_regclass($1::text), privilege))`

// Check returns an error that Is participant.ErrConfig and names what to change if
// the server can't prepare transactions, would lose what it promised at a crash, is a
// standby or too old, or lacks the witness table or the right to write it, and if it
// refuses to log in. Settings are those of the pool's role and database.
func (p *Participant) Check(ctx context.Context) error {
	err := p.check(ctx)
	if err != nil {
		return fmt.Errorf("check participant %q: %w", p.cfg.Name, err)
	}
	return nil
}

func (p *Participant) check(ctx context.Context) error {
	s, err := onOwnPool(ctx, p, func(ctx context.Context, conn *pgx.Conn) (settings, error) {
		rows, err := conn.Query(ctx, readSettings, p.table)
		if err != nil {
			return settings{}, err
		}
		return pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[settings])
	})
	if err != nil {
		return p.explainState(err)
	}
	if wrong := s.wrong(p.table); wrong != "" {
		return fmt.Errorf("%w: %s", participant.ErrConfig, wrong)
	}
	_, err = onOwnPool(ctx, p, func(ctx context.Context, conn *pgx.Conn) (struct{}, error) {
		_, err := conn.Exec(ctx, p.sql.columns)
		return struct{}{}, err
	})
	return p.explainState(err)
}

// wrong says what to change; "" if nothing.
func (s settings) wrong(table string) string {
	const inConf = " in postgresql.conf"
	switch {
	case s.Version < minVersion:
		return fmt.Sprintf("the server's version is %d: PostgreSQL 14 or later is needed", s.Version)
	case s.InRecovery:
		return "the server is a standby in recovery (pg_is_in_recovery): point the pool at the primary"
	case s.MaxPrepared == 0:
		return "max_prepared_transactions is 0, nothing can be prepared: set max_prepared_transactions" + inConf +
			" to at least the number of branches in doubt at a time, max_connections as a rule, and restart the server"
	case s.Fsync == "off":
		return "fsync is off, a crash damages the database: set fsync = on" + inConf
	case s.FullPageWrites == "off":
		return "full_page_writes is off, a crash may damage the database: set full_page_writes = on" + inConf
	case s.SynchronousCommit == "off":
		return "synchronous_commit is off, a crash loses commits: set synchronous_commit = on" + inConf + ", or for the role or database"
	case s.ReadOnly == "on":
		return "default_transaction_read_only is on: set it off" + inConf + ", or for the role or database"
	case s.Blind:
		return blindRemedy(s.Role)
	case len(s.Missing) > 0:
		return fmt.Sprintf("the pool's role lacks privileges on the witness table: GRANT %s ON %s TO %s",
			strings.Join(s.Missing, ", "), table, pgx.Identifier{s.Role}.Sanitize())
	}
	return ""
}

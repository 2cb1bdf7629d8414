package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/assent-tm/assent/participant"
)

// own is one of the participant's own connections, for one short task.
type own struct {
	p    *Participant
	conn *sql.Conn
	here origin
}

// onOwn runs f on one of the participant's own connections. If it leads to another
// database than the one wanted the error Is participant.ErrConfig: R7's "unknown
// branch" would be said of a database that never had it.
func (p *Participant) onOwn(ctx context.Context, database string, f func(*own) error) error {
	conn, err := p.own.Conn(ctx)
	if err != nil {
		return p.explainServer(err)
	}
	defer func() { _ = conn.Close() }()
	o := &own{p: p, conn: conn}
	err = conn.Raw(func(raw any) error {
		c, err := wireOf(raw)
		if err == nil {
			o.here = c.origin
		}
		return err
	})
	if err != nil {
		return err
	}
	if database != "" && database != o.here.database {
		return fmt.Errorf("%w: the branch is in the database with the identity %s, but Config.DSN leads to %s: point it back, or, "+
			"if the witness table was created anew, settle the branch by hand", participant.ErrConfig, database, o.here.database)
	}
	return p.explainServer(f(o))
}

func (o *own) exec(ctx context.Context, statement string) (int64, error) {
	result, err := o.conn.ExecContext(ctx, statement)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// recovered returns all that is prepared in the server, also by sessions that still
// live.
func (o *own) recovered(ctx context.Context) (list []xaID, err error) {
	rows, err := o.conn.QueryContext(ctx, "XA RECOVER")
	if err != nil {
		return nil, fmt.Errorf("list prepared branches: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var format int64
		var gtrid, bqual int
		var data []byte
		if err := rows.Scan(&format, &gtrid, &bqual, &data); err != nil {
			return nil, fmt.Errorf("list prepared branches: %w", err)
		}
		if id, ok := split(format, gtrid, bqual, data); ok {
			list = append(list, id)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list prepared branches: %w", err)
	}
	return list, nil
}

// listed returns what this participant has prepared.
func (o *own) listed(ctx context.Context) (branches []participant.Branch, err error) {
	list, err := o.recovered(ctx)
	q := bqual(o.here.database, o.p.cfg.Name)
	for _, id := range list {
		if b, ok := id.branch(); ok && id.bqual == q {
			branches = append(branches, b)
		}
	}
	return branches, err
}

// lists reports whether the server lists the branch as prepared.
func (o *own) lists(ctx context.Context, b participant.Branch) (bool, error) {
	branches, err := o.listed(ctx)
	xid := b.XID()
	return slices.ContainsFunc(branches, func(other participant.Branch) bool { return other.XID() == xid }), err
}

// row returns what the branch's row says, "" if there is none. It waits a second
// for one that is being written inside the branch: then the error Is errInBranch.
func (o *own) row(ctx context.Context, b participant.Branch) (state string, err error) {
	// A locking read sees what is there now; another one would not see, nor wait
	// for, the row of a branch in doubt.
	query := fmt.Sprintf("SELECT state FROM %s WHERE id = %s LOCK IN SHARE MODE", o.p.table, hexText(string(b.XID())))
	err = o.conn.QueryRowContext(ctx, query).Scan(&state)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", nil
	case errno(err) == errLockWait:
		return "", fmt.Errorf("%w: %w", errInBranch, err)
	case err != nil:
		return "", fmt.Errorf("read the witness row: %w", err)
	}
	return state, nil
}

// errInBranch says that the branch's row is written and neither committed nor
// rolled back: the branch is in doubt, or about to be.
var errInBranch = errors.New("the branch is neither committed nor rolled back")

// settled is row, and what it returns is durable. The server shows a commit, and lets
// others lock its rows, before it has written its log: the branch may be in doubt again
// after a crash. A write that comes later waits for the log up to there; it is that the
// row stays a second more.
func (o *own) settled(ctx context.Context, b participant.Branch) (state string, err error) {
	if state, err = o.row(ctx, b); err != nil || state == "" {
		return state, err
	}
	write := fmt.Sprintf("UPDATE %s SET expires = expires + 1 WHERE id = %s", o.p.table, hexText(string(b.XID())))
	if _, err := o.exec(ctx, write); err != nil {
		return "", fmt.Errorf("wait until the witness row is durable: %w", err)
	}
	return state, nil
}

// bury leaves the tombstone and returns "", or what the row says that is there
// already. It waits like row, and is durable.
func (o *own) bury(ctx context.Context, b participant.Branch) (state string, err error) {
	statement := o.p.insert("INSERT IGNORE", string(b.XID()), rolledBack, "", o.p.cfg.MaxRetention)
	switch n, err := o.exec(ctx, statement); {
	case errno(err) == errLockWait:
		return "", fmt.Errorf("%w: %w", errInBranch, err)
	case err != nil:
		return "", fmt.Errorf("leave the tombstone: %w", err)
	case n == 1:
		return "", nil
	}
	if state, err = o.settled(ctx, b); err == nil && state == "" {
		err = errors.New("the witness row vanished")
	}
	return state, err
}

// written returns where the branch was begun, by its row: also by one of a branch in
// doubt, which only READ UNCOMMITTED sees. The zero value if there is none.
func (o *own) written(ctx context.Context, b participant.Branch) (at origin, err error) {
	tx, err := o.conn.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadUncommitted, ReadOnly: true})
	if err != nil {
		return origin{}, err
	}
	defer func() { _ = tx.Rollback() }()
	var text string
	err = tx.QueryRowContext(ctx, fmt.Sprintf("SELECT origin FROM %s WHERE id = %s", o.p.table, hexText(string(b.XID())))).Scan(&text)
	if errors.Is(err, sql.ErrNoRows) || err == nil && text == "" {
		return origin{}, nil
	}
	if err != nil {
		return origin{}, fmt.Errorf("read where the branch was begun: %w", err)
	}
	return parseOrigin(text)
}

// life is what is left of a session at the server.
type life struct {
	// holder is the connection that holds the session's lock, 0 if none does.
	holder uint64
	// ending: there is none, but the connection with its number is not gone.
	ending bool
}

func (o *own) life(ctx context.Context, at origin) (l life, err error) {
	query := fmt.Sprintf("SELECT COALESCE(IS_USED_LOCK(%s), 0), EXISTS (SELECT 1 FROM information_schema.processlist WHERE id = %d)",
		hexText(at.lock()), at.connection)
	var there bool
	if err = o.conn.QueryRowContext(ctx, query).Scan(&l.holder, &there); err != nil {
		return life{}, fmt.Errorf("look for the branch's session: %w", err)
	}
	l.ending = there && l.holder == 0
	return l, nil
}

// kill ends a connection. Its number is what the session's lock said a moment ago:
// no other session gets it before the server, and with it this connection, ends.
func (o *own) kill(ctx context.Context, connection uint64) error {
	if _, err := o.exec(ctx, fmt.Sprintf("KILL %d", connection)); err != nil && errno(err) != errNoSuchThread {
		return fmt.Errorf("end the branch's session, connection %d: %w", connection, err)
	}
	return nil
}

// ids returns the ids that a query selects.
func (o *own) ids(ctx context.Context, query ...string) (ids []string, err error) {
	rows, err := o.conn.QueryContext(ctx, strings.Join(query, " "))
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

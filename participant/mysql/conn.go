package mysql

import (
	"context"
	"crypto/rand"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/assent-tm/assent/participant"
)

// driverConn is what the driver's connections implement.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.SessionResetter
	driver.Validator
}

// conn is a connection that others can find, and that can be shut to the user.
type conn struct {
	driverConn
	origin origin
	// compound says that the server takes several statements as one, binlog that it
	// writes a binary log.
	compound, binlog bool
	// poisoned keeps the connection from ever being used again.
	poisoned atomic.Bool
	// gate belongs to the branch that has the connection, or had it last; nil if
	// none had.
	gate atomic.Pointer[gate]
}

// connector opens connections, and notes where each of them leads. So each knows
// the database that it reaches itself: behind a name there may be another one
// than a minute ago.
type connector struct {
	driver.Connector
	table string
}

func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	opened, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	known, ok := opened.(driverConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("the driver's connections are %T, which this version of the adapter does not know", opened), opened.Close())
	}
	fresh := &conn{driverConn: known}
	if err := fresh.locate(ctx, c.table); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return fresh, nil
}

// locate finds out where the connection leads, and takes the lock by which others
// find it.
func (c *conn) locate(ctx context.Context, table string) error {
	c.origin.session = newSessionName()
	uptime, err := c.row(ctx, "SHOW GLOBAL STATUS LIKE 'Uptime'", 2)
	if err != nil {
		return fmt.Errorf("read the server's uptime: %w", err)
	}
	binlog, err := c.row(ctx, "SHOW GLOBAL VARIABLES LIKE 'log_bin'", 2)
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	identity, err := c.row(ctx, fmt.Sprintf(
		"SELECT UNIX_TIMESTAMP(), CONNECTION_ID(), VERSION(), GET_LOCK(%s, 0), (SELECT origin FROM %s WHERE id = '')",
		hexText(c.origin.lock()), table,
	), 5)
	if err != nil {
		return fmt.Errorf("read the identity of the database: %w", err)
	}
	up, errUp := strconv.ParseInt(uptime[1], 10, 64)
	now, errNow := strconv.ParseInt(identity[0], 10, 64)
	number, errNumber := strconv.ParseUint(identity[1], 10, 64)
	if err := errors.Join(errUp, errNow, errNumber); err != nil {
		return fmt.Errorf("read the identity of the database: %w", err)
	}
	c.origin.started, c.origin.connection = now-up, number
	c.compound, c.binlog = strings.Contains(identity[2], "MariaDB"), binlog[1] == "ON"
	if identity[3] != "1" {
		return fmt.Errorf("GET_LOCK returned %q instead of the lock by which the connection is found", identity[3])
	}
	if c.origin.database = identity[4]; !isHex(c.origin.database) {
		return fmt.Errorf("%w: table %s lacks the row that identifies the database: call CreateTable, or execute the statements of Schema", participant.ErrConfig, table)
	}
	return nil
}

func newSessionName() string {
	var random [digits / 2]byte
	_, _ = rand.Read(random[:]) // never fails
	return hex.EncodeToString(random[:])
}

// row returns the only row of a query, null as "".
func (c *conn) row(ctx context.Context, query string, columns int) (texts []string, err error) {
	rows, err := c.driverConn.QueryContext(ctx, query, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]driver.Value, columns)
	if n := len(rows.Columns()); n != columns {
		return nil, fmt.Errorf("%d columns instead of %d", n, columns)
	}
	if err := rows.Next(values); errors.Is(err, io.EOF) {
		return nil, errors.New("no row")
	} else if err != nil {
		return nil, err
	}
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			texts = append(texts, "")
		case []byte:
			texts = append(texts, string(v))
		default:
			texts = append(texts, fmt.Sprint(v))
		}
	}
	return texts, nil
}

// run executes statements one after the other, past the gate, until one fails. A
// server that can takes them in one round trip.
func (c *conn) run(ctx context.Context, statements ...string) error {
	if c.compound && len(statements) > 1 {
		statements = []string{"BEGIN NOT ATOMIC " + strings.Join(statements, "; ") + "; END"}
	}
	for _, s := range statements {
		if _, err := c.driverConn.ExecContext(ctx, s, nil); err != nil {
			return err
		}
	}
	return nil
}

// IsValid keeps a poisoned connection out of the pool.
func (c *conn) IsValid() bool { return !c.poisoned.Load() && c.driverConn.IsValid() }

// pass makes the call through the gate, if there is one.
func (c *conn) pass(call func(*gate) error) error {
	g := c.gate.Load()
	if g == nil {
		return call(nil)
	}
	return g.pass(func() error { return call(g) })
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (result driver.Result, err error) {
	err = c.pass(func(*gate) (err error) {
		result, err = c.driverConn.ExecContext(ctx, query, args)
		return err
	})
	return result, err
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (rows driver.Rows, err error) {
	err = c.pass(func(g *gate) (err error) {
		rows, err = c.driverConn.QueryContext(ctx, query, args)
		if err == nil && g != nil {
			rows, err = newGatedRows(rows, g)
		}
		return err
	})
	return rows, err
}

func (c *conn) PrepareContext(ctx context.Context, query string) (statement driver.Stmt, err error) {
	err = c.pass(func(g *gate) (err error) {
		statement, err = c.driverConn.PrepareContext(ctx, query)
		if err == nil && g != nil {
			statement, err = newGatedStmt(statement, g)
		}
		return err
	})
	return statement, err
}

func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	return c.pass(func(*gate) error { return c.driverConn.CheckNamedValue(v) })
}

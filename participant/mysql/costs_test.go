package mysql_test

import (
	"context"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
)

// counted is a connection to the server that counts what is sent: one Write for each
// command, which waits for its answer.
type counted struct {
	net.Conn
	sent *atomic.Int64
}

func (c *counted) Write(p []byte) (int, error) {
	c.sent.Add(1)
	return c.Conn.Write(p)
}

// What the text of the package says of round trips and fsyncs.
func TestCosts(t *testing.T) {
	d := newDatabase(t)
	var sent atomic.Int64
	driver.RegisterDialContext("counted", func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		return &counted{conn, &sent}, err
	})
	defer driver.DeregisterDialContext("counted")
	p := d.open(t, func(c *mysql.Config) { c.DSN = "root@counted(" + d.Addr() + ")/" + d.name })
	fsyncs := func() int64 {
		var name, value string
		require.NoError(t, d.admin.QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE 'Innodb_data_fsyncs'").Scan(&name, &value))
		n, err := strconv.ParseInt(value, 10, 64)
		require.NoError(t, err)
		return n
	}
	// The server fsyncs on its own account, too: the lowest of some rounds counts.
	const rounds = 8
	type cost struct{ roundTrips, fsyncs int64 }
	lowest := map[string]cost{}
	measure := func(what string, call func() error) {
		t.Helper()
		c := cost{-sent.Load(), -fsyncs()}
		require.NoError(t, call())
		c.roundTrips += sent.Load()
		c.fsyncs += fsyncs()
		if l, ok := lowest[what]; ok {
			c = cost{min(c.roundTrips, l.roundTrips), min(c.fsyncs, l.fsyncs)}
		}
		lowest[what] = c
	}
	ctx := t.Context()
	require.NoError(t, p.Rollback(ctx, newTransaction().b)) // opens a connection for phase two
	for range rounds {
		for _, finish := range []string{"commit", "rollback", "rollback before prepare", "one phase"} {
			tx := newTransaction()
			var s *mysql.Session
			measure("join", func() (err error) { s, err = p.Join(ctx, tx); return err })
			_, err := s.ExecContext(ctx, "INSERT INTO effect VALUES ('x')")
			require.NoError(t, err)
			switch finish {
			case "one phase":
				measure(finish, func() error { return p.CommitOnePhase(ctx, tx.b) })
				continue
			case "rollback before prepare":
				measure(finish, func() error { return p.Rollback(ctx, tx.b) })
				continue
			}
			measure("prepare", func() error {
				vote, err := p.Prepare(ctx, tx.b)
				require.Equal(t, participant.VotePrepared, vote)
				return err
			})
			if finish == "commit" {
				measure(finish, func() error { return p.Commit(ctx, tx.b) })
			} else {
				measure(finish, func() error { return p.Rollback(ctx, tx.b) })
			}
		}
	}
	require.Equal(t, map[string]cost{
		"join": {1, 0}, "prepare": {1, 1}, "commit": {1, 1}, "one phase": {1, 1}, "rollback": {2, 1}, "rollback before prepare": {2, 1},
	}, lowest)
}

package barrier_test

import (
	"context"
	"database/sql"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
	"github.com/assent-tm/assent/participant/participanttest/capability"
)

func TestMariaDBCheckNamesTheSetting(t *testing.T) {
	on := onMariaDB
	capability.Need(t, on.needs...)
	s := on.newService(t)
	set := func(name string, value any) {
		t.Helper()
		s.exec("SET GLOBAL "+name+" = ?", value)
	}
	require.NoError(t, s.Check(t.Context()))
	for name, setting := range map[string]struct {
		bad, good any
		fix       string
	}{
		"innodb_flush_log_at_trx_commit": {2, 1, "set innodb_flush_log_at_trx_commit=1"},
		"sync_binlog":                    {0, 1, "set sync_binlog=1"},
		"read_only":                      {"ON", "OFF", "set read_only=OFF"},
		"tx_read_only":                   {"ON", "OFF", "set tx_read_only=OFF"},
		"binlog_format":                  {"STATEMENT", "MIXED", "set binlog_format=MIXED"},
	} {
		set(name, setting.bad)
		misconfigured(t, on.skippingSchema(t, s.dsn), setting.fix) // of connections made since
		set(name, setting.good)
	}
	set("innodb_flush_log_at_trx_commit", 3)
	require.NoError(t, s.Check(t.Context()))
	set("innodb_flush_log_at_trx_commit", 1)

	s.exec("ALTER TABLE assent_branch_term ENGINE=Aria")
	misconfigured(t, s.Participant, "ALTER TABLE assent_branch_term ENGINE=InnoDB")
	s.exec("ALTER TABLE assent_branch_term ENGINE=InnoDB")
	require.NoError(t, s.Check(t.Context()))
}

func TestMariaDBCheckNamesWhatKeepsItOut(t *testing.T) {
	on := onMariaDB
	capability.Need(t, on.needs...)
	s := on.newService(t)
	_, database, _ := strings.Cut(s.dsn, "/")
	database, _, _ = strings.Cut(database, "?")
	s.exec("CREATE USER app@'%' IDENTIFIED BY 'right'")
	as := func(login string) *barrier.Participant {
		return on.skippingSchema(t, strings.Replace(s.dsn, "root@", login+"@", 1))
	}
	misconfigured(t, as("app:wrong"), "correct the user and password")
	misconfigured(t, as("app:right"), "grant the user its rights in the database")
	s.exec("GRANT SELECT, INSERT, UPDATE ON " + database + ".* TO app@'%'")
	misconfigured(t, as("app:right"), "grant the user SELECT, INSERT, UPDATE and DELETE")
	s.exec("GRANT DELETE ON " + database + ".* TO app@'%'")
	require.NoError(t, as("app:right").Check(t.Context()))
	misconfigured(t, on.skippingSchema(t, strings.Replace(s.dsn, database, "nowhere", 1)), "create the database")
	misconfigured(t, on.skippingSchema(t, strings.Replace(s.dsn, database, "", 1)), "name the database")

	s.exec("SET GLOBAL read_only = ON") // app may not write in spite of it
	defer s.exec("SET GLOBAL read_only = OFF")
	require.ErrorIs(t, as("app:right").Commit(t.Context(), branch(1)), participant.ErrConfig)
}

// A deadlock ends the local transaction, and what the function does after it is
// outside of any.
func TestMariaDBFunctionThatHidesADeadlock(t *testing.T) {
	on := onMariaDB
	capability.Need(t, on.needs...)
	var other *sql.Tx
	s := on.newService(t, func(c *barrier.Config) {
		c.Confirm = func(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
			if other == nil {
				return on.count("confirmed")(ctx, tx, b)
			}
			if _, err := tx.ExecContext(ctx, "UPDATE stock SET n = n + 1 WHERE id = 1"); err != nil {
				return err
			}
			waits := make(chan error)
			go func() {
				_, err := other.ExecContext(ctx, "UPDATE stock SET n = n + 1 WHERE id = 1")
				waits <- err
			}()
			_, deadlock := tx.ExecContext(ctx, "UPDATE stock SET n = n + 1 WHERE id = 2")
			require.ErrorContains(t, deadlock, "Error 1213")
			require.NoError(t, <-waits)
			return nil
		}
	})
	s.exec("CREATE TABLE stock (id int PRIMARY KEY, n int NOT NULL)")
	s.exec("INSERT INTO stock SELECT seq, 0 FROM seq_1_to_100")
	s.prepare(branch(1))

	var err error
	other, err = s.db.Begin()
	require.NoError(t, err)
	// More changes than the function's: it is the one that is ended.
	_, err = other.Exec("UPDATE stock SET n = n + 1 WHERE id > 1")
	require.NoError(t, err)
	require.ErrorContains(t, s.Commit(t.Context(), branch(1)), "must return every error of its tx")
	require.NoError(t, other.Rollback())
	other = nil
	require.NoError(t, s.Commit(t.Context(), branch(1)))
	require.Equal(t, confirmed, s.effects(branch(1)))
}

// The driver's setting makes an UPDATE count rows that it found and left as they
// were.
func TestMariaDBCountsFoundRows(t *testing.T) {
	on := onMariaDB
	capability.Need(t, on.needs...)
	s := on.serve(t, on.fresh(t)+"&clientFoundRows=true")
	for range 2 {
		s.prepare(branch(1))
		require.NoError(t, s.Rollback(t.Context(), branch(2)))
		s.refuses(branch(2), participant.ErrRefused, "rolled back already")
	}
	for range 2 {
		require.NoError(t, s.Commit(t.Context(), branch(1)))
	}
	require.Equal(t, confirmed, s.effects(branch(1)))
	require.Equal(t, nothing, s.effects(branch(2)))
}

// A list is a range of the key's index, whatever the connection's collation is.
func TestMariaDBListsByIndex(t *testing.T) {
	on := onMariaDB
	capability.Need(t, on.needs...)
	s := on.newFast(t)
	for n := range 50 {
		require.NoError(t, s.Rollback(t.Context(), branch(n+1)))
		require.NoError(t, s.Rollback(t.Context(), with(branch(n+1), func(b *participant.Branch) { b.Domain = "other" })))
	}
	var plan string
	require.NoError(t, s.db.QueryRow(`EXPLAIN FORMAT=JSON SELECT id FROM assent_branch FORCE INDEX (PRIMARY)
		WHERE expires = 0 AND id >= ? AND id < ? AND participant = ?`, "orders:", "orders;", "service").Scan(&plan))
	require.Contains(t, plan, `"access_type": "range"`)
}

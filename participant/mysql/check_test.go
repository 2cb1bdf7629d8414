package mysql_test

import (
	"bytes"
	"log/slog"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
)

func (d *database) requireMisconfigured(t *testing.T, p *mysql.Participant, says ...string) {
	t.Helper()
	err := p.Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	for _, s := range append(says, `"bank"`) {
		require.ErrorContains(t, err, s)
	}
}

// Each misconfiguration is named with what to change; put right, the check passes.
func TestCheckNamesTheSetting(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	require.NoError(t, p.Check(t.Context()))
	for _, c := range []struct{ wrong, right, says string }{
		{"SET GLOBAL innodb_flush_log_at_trx_commit = 2", "SET GLOBAL innodb_flush_log_at_trx_commit = 1", "SET GLOBAL innodb_flush_log_at_trx_commit = 1"},
		{"SET GLOBAL read_only = ON", "SET GLOBAL read_only = OFF", "SET GLOBAL read_only = OFF"},
		{"RENAME TABLE assent_witness TO elsewhere", "RENAME TABLE elsewhere TO assent_witness", "CREATE TABLE IF NOT EXISTS assent_witness"},
		{"ALTER TABLE assent_witness ENGINE = Aria", "ALTER TABLE assent_witness ENGINE = InnoDB", "ALTER TABLE `" + d.name + "`.`assent_witness` ENGINE = InnoDB"},
		{"ALTER TABLE assent_witness CHANGE origin place VARBINARY(160)", "ALTER TABLE assent_witness CHANGE place origin VARBINARY(160) NOT NULL", "CREATE TABLE IF NOT EXISTS"},
		{
			"UPDATE assent_witness SET id = 'x' WHERE id = ''", "UPDATE assent_witness SET id = '' WHERE id = 'x'",
			"lacks the row that identifies the database",
		},
	} {
		d.exec(t, c.wrong)
		d.requireMisconfigured(t, p, c.says)
		d.exec(t, c.right)
		require.NoError(t, p.Check(t.Context()), c.right)
	}
	require.Equal(t, "1", d.text(t, "SELECT COUNT(*) FROM assent_witness"), "a check leaves nothing")
	require.Empty(t, d.prepared(t))
}

func TestCheckNamesTheRight(t *testing.T) {
	d := newDatabase(t)
	table := " ON " + d.name + ".assent_witness"
	for says, grants := range map[string][]string{
		"1044":   nil,
		"INSERT": {"SELECT" + table},
		"UPDATE": {"SELECT, INSERT" + table},
		"DELETE": {"SELECT, INSERT, UPDATE" + table},
	} {
		p := d.open(t, func(c *mysql.Config) { c.DSN = d.user(t, "poor", grants...) })
		d.requireMisconfigured(t, p, says)
		_, err := p.Join(t.Context(), newTransaction())
		if says == "1044" {
			require.ErrorIs(t, err, participant.ErrConfig)
		}
	}
	p := d.open(t, func(c *mysql.Config) { c.DSN = d.user(t, "poor", "SELECT, INSERT, UPDATE, DELETE"+table) })
	require.NoError(t, p.Check(t.Context()))
}

func TestCheckOfAServerThatIsNotToBeHad(t *testing.T) {
	d := newDatabase(t)
	wrongPassword := d.open(t, func(c *mysql.Config) {
		c.DSN = strings.Replace(d.user(t, "clerk", "ALL ON *.*"), "secret", "guess", 1)
	})
	d.requireMisconfigured(t, wrongPassword, "1045", "password in Config.DSN")
	noDatabase := d.open(t, func(c *mysql.Config) { c.DSN = d.DSN("nowhere") })
	d.requireMisconfigured(t, noDatabase, "1049", "no such database")
	noTable := d.open(t, func(c *mysql.Config) { c.Table = "missing" })
	d.requireMisconfigured(t, noTable, "1146", "CREATE TABLE IF NOT EXISTS missing")
	for _, p := range []*mysql.Participant{wrongPassword, noDatabase, noTable} {
		_, err := p.Join(t.Context(), newTransaction())
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, `"bank"`)
		b := newTransaction().b
		require.ErrorIs(t, p.Commit(t.Context(), b), participant.ErrConfig)
		require.ErrorIs(t, p.Rollback(t.Context(), b), participant.ErrConfig)
		_, err = p.List(t.Context(), "test")
		require.ErrorIs(t, err, participant.ErrConfig)
	}

	// A server that is away is no misconfiguration: it comes back.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	away := d.open(t, func(c *mysql.Config) { c.DSN = "root@tcp(" + listener.Addr().String() + ")/bank" })
	require.NoError(t, listener.Close())
	err = away.Check(t.Context())
	require.ErrorContains(t, err, listener.Addr().String())
	require.ErrorContains(t, err, `"bank"`)
	require.NotErrorIs(t, err, participant.ErrConfig)
	_, err = away.Join(t.Context(), newTransaction())
	require.ErrorContains(t, err, listener.Addr().String())
	require.NotErrorIs(t, err, participant.ErrConfig)
}

// The witness table that went missing behind a running coordinator refuses, and
// prepares nothing.
func TestTableThatVanishes(t *testing.T) {
	d := newDatabase(t)
	p := d.open(t)
	b, _ := begun(t, p)
	d.exec(t, "RENAME TABLE assent_witness TO elsewhere")
	vote, err := p.Prepare(t.Context(), b)
	require.Equal(t, participant.VoteRefused, vote)
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "CREATE TABLE IF NOT EXISTS")
	err = p.Rollback(t.Context(), b)
	require.ErrorIs(t, err, participant.ErrConfig)
	d.exec(t, "RENAME TABLE elsewhere TO assent_witness")
	require.Empty(t, d.prepared(t))
	require.NoError(t, p.Rollback(t.Context(), b))
	d.requireEffects(t, b, 0)
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	good := mysql.Config{Name: "bank", DSN: "root@tcp(127.0.0.1:1)/bank"}
	for says, change := range map[string]func(*mysql.Config){
		"name":               func(c *mysql.Config) { c.Name = "" },
		"DSN":                func(c *mysql.Config) { c.DSN = "no data source name" },
		"names no database":  func(c *mysql.Config) { c.DSN = "root@tcp(127.0.0.1:1)/" },
		"the first no digit": func(c *mysql.Config) { c.Table = "1; DROP TABLE account" },
		"MaxSessions":        func(c *mysql.Config) { c.MaxSessions = -1 },
		"MaxRetention":       func(c *mysql.Config) { c.Retention, c.MaxRetention = 2e9, 1e9 },
	} {
		cfg := good
		change(&cfg)
		_, err := mysql.New(cfg)
		require.ErrorIs(t, err, participant.ErrInvalidParticipant, says)
		require.ErrorContains(t, err, says)
	}
	p, err := mysql.New(good)
	require.NoError(t, err, "no server is needed")
	require.Equal(t, "bank", p.Name())
	require.NoError(t, p.Close())
}

func TestSchemaIsWhatCreateTableCreates(t *testing.T) {
	d := newDatabase(t)
	for statement := range strings.SplitSeq(mysql.Schema("by_hand"), ";\n") {
		if statement != "" {
			d.exec(t, statement)
		}
	}
	byHand := d.open(t, func(c *mysql.Config) { c.Table = "by_hand" })
	require.NoError(t, byHand.Check(t.Context()))
	identity := "SELECT origin FROM by_hand WHERE id = ''"
	before := d.text(t, identity)
	require.NoError(t, byHand.CreateTable(t.Context()))
	require.Equal(t, before, d.text(t, identity), "what is there stays")
	require.NotEqual(t, before, d.text(t, "SELECT origin FROM assent_witness WHERE id = ''"))
	columns := "SELECT GROUP_CONCAT(column_name, column_type, is_nullable, column_key ORDER BY ordinal_position) FROM information_schema.columns WHERE table_schema = ? AND table_name = ?"
	require.Equal(t, d.text(t, columns, d.name, mysql.DefaultTable), d.text(t, columns, d.name, "by_hand"))
	require.Contains(t, mysql.Schema(""), mysql.DefaultTable)

	poor := d.open(t, func(c *mysql.Config) { c.Table, c.DSN = "other", d.user(t, "poor", "SELECT ON "+d.name+".*") })
	require.ErrorIs(t, poor.CreateTable(t.Context()), participant.ErrConfig)
}

// logTo collects what is logged.
func logTo(buffer *bytes.Buffer) func(*mysql.Config) {
	return func(c *mysql.Config) { c.Logger = slog.New(slog.NewTextHandler(buffer, nil)) }
}

package mysql

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
)

// What a server says of itself that no test can start.
func TestSettings(t *testing.T) {
	mariaDB := settings{"version": "10.11.19-MARIADB-0+DEB12U1", "innodb_flush_log_at_trx_commit": "1", "wsrep_on": "OFF", "log_bin": "OFF"}
	mySQL := settings{"version": "8.0.36", "innodb_flush_log_at_trx_commit": "1", "log_bin": "ON", "sync_binlog": "1", "xa_detach_on_prepare": "ON"}
	with := func(s settings, name, value string) settings {
		changed := settings{name: value}
		for k, v := range s {
			if k != name {
				changed[k] = v
			}
		}
		return changed
	}
	for _, c := range []struct {
		s           settings
		wrong, warn string
	}{
		{mariaDB, "", ""},
		{with(mariaDB, "version", "11.8.2-MARIADB"), "", ""},
		{with(mariaDB, "version", "10.5.2-MARIADB"), "", ""},
		{with(mariaDB, "version", "10.5.1-MARIADB"), "use MariaDB 10.5.2", ""},
		{with(mariaDB, "version", "10.4.34-MARIADB"), "use MariaDB 10.5.2", ""},
		{with(mariaDB, "version", "nonsense"), "use MariaDB 10.5.2", ""},
		{with(mariaDB, "wsrep_on", "ON"), "Galera", ""},
		{with(mariaDB, "innodb_flush_log_at_trx_commit", "0"), "innodb_flush_log_at_trx_commit = 1", ""},
		{with(mariaDB, "innodb_flush_log_at_trx_commit", "3"), "", ""},
		{with(with(mariaDB, "log_bin", "ON"), "sync_binlog", "0"), "sync_binlog = 1", ""},
		{with(with(mariaDB, "log_bin", "ON"), "sync_binlog", "1"), "", "MDEV-21469"},
		{with(mariaDB, "sync_binlog", "0"), "", ""},
		{with(mariaDB, "read_only", "ON"), "read_only = OFF", ""},
		{mySQL, "", "MySQL 8.0.36"},
		{with(mySQL, "version", "8.4.0"), "", "MySQL 8.4.0"},
		{with(mySQL, "version", "8.0.28"), "MySQL 8.0.29", ""},
		{with(mySQL, "version", "5.7.44"), "MySQL 8.0.29", ""},
		{with(mySQL, "xa_detach_on_prepare", "OFF"), "xa_detach_on_prepare = ON", ""},
		{with(mySQL, "super_read_only", "ON"), "read_only = OFF", ""},
	} {
		if c.wrong == "" {
			require.Empty(t, c.s.wrong(), "%v", c.s)
		} else {
			require.Contains(t, c.s.wrong(), c.wrong, "%v", c.s)
			continue
		}
		if c.warn == "" {
			require.Empty(t, c.s.warnings(), "%v", c.s)
		} else {
			require.Len(t, c.s.warnings(), 1)
			require.Contains(t, c.s.warnings()[0], c.warn)
		}
	}
}

func hexDigits() *rapid.Generator[string] { return rapid.StringMatching("[0-9a-f]{32}") }

func TestOriginRoundTrips(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := origin{
			database: hexDigits().Draw(t, "database"), started: rapid.Int64().Draw(t, "started"),
			connection: rapid.Uint64().Draw(t, "connection"), session: hexDigits().Draw(t, "session"),
		}
		back, err := parseOrigin(o.String())
		require.NoError(t, err)
		require.Equal(t, o, back)
		require.LessOrEqual(t, len(o.String()), 160, "it fits its column")
	})
}

func FuzzParseOrigin(f *testing.F) {
	f.Add("1:0123456789abcdef0123456789abcdef:1764357000:42:fedcba9876543210fedcba9876543210")
	f.Add("2:0123456789abcdef0123456789abcdef:+1:042:FEDCBA9876543210fedcba9876543210")
	f.Add("::::")
	f.Fuzz(func(t *testing.T, text string) {
		if o, err := parseOrigin(text); err == nil {
			require.Equal(t, text, o.String())
		}
	})
}

func TestSameRun(t *testing.T) {
	o := origin{started: 1000}
	for started, same := range map[int64]bool{998: true, 1000: true, 1002: true, 997: false, 1003: false} {
		require.Equal(t, same, o.sameRun(origin{started: started}), started)
	}
}

// R10: only what the participant itself can have prepared is taken for its own.
func TestIDsOfTheServer(t *testing.T) {
	const database = "0123456789abcdef0123456789abcdef"
	q := bqual(database, "bank")
	require.LessOrEqual(t, len(bqual(database, "a name as long as a name can possibly be, which is 64 characters")), maxBqual)
	b := participant.Branch{Domain: "orders", Tx: participant.TxID{Term: participant.NewTerm(1, 2), UUID: uuid.Must(uuid.NewV7())}, Number: 3}
	xid := string(b.XID())
	id, ok := split(formatID, len(xid), len(q), []byte(xid+q))
	require.True(t, ok)
	require.Equal(t, newXAID(b, q), id)
	got, ok := id.branch()
	require.True(t, ok)
	require.Equal(t, b, got)
	require.Equal(t, "'"+xid+"','"+q+"',1095978580", id.String())
	id.format++
	_, ok = id.branch()
	require.False(t, ok, "another application's format")

	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 128).Draw(t, "data")
		gtrid, bqual := rapid.IntRange(-1, 130).Draw(t, "gtrid"), rapid.IntRange(-1, 130).Draw(t, "bqual")
		id, ok := split(formatID, gtrid, bqual, data)
		require.Equal(t, gtrid >= 0 && bqual >= 0 && gtrid+bqual == len(data), ok)
		if ok {
			require.Equal(t, string(data), id.gtrid+id.bqual)
			require.NotContains(t, id.String()[1:len(id.String())-1], "\\")
		}
		_, ours := id.branch()
		require.False(t, ours)
	})
	require.Equal(t, "x'6f276b',x'',1", xaID{1, "o'k", ""}.String())
}

func TestExpiredKeepsTheHighestOfATerm(t *testing.T) {
	rows := []row{
		{"a:1:00:0", time.Second},
		{"a:1:01:0", -time.Second},
		{"a:1:02:0", time.Second},
		{"a:2:00:0", time.Hour},
		{"a:3:00:0", time.Second},
		{"a:3:01:0", time.Second}, // the portion ends between them
	}
	require.Equal(t, []string{"a:1:00:0", "a:2:00:0", "a:3:00:0"}, expired(rows, 5, time.Hour))
	require.Equal(t, []string{"a:1:00:0", "a:2:00:0", "a:3:00:0"}, expired(rows, 6, time.Hour))
	require.Empty(t, expired(nil, 5, time.Hour))
}

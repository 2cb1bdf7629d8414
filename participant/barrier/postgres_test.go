package barrier_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
)

func TestPostgresCheckNamesTheSetting(t *testing.T) {
	on := onPostgres
	capability.Need(t, on.needs...)
	s := on.newService(t)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, on.skippingSchema(t, s.dsn+"&synchronous_commit=local").Check(t.Context()))
	misconfigured(t, on.skippingSchema(t, s.dsn+"&synchronous_commit=off"), "set synchronous_commit=on")
	readOnly := on.skippingSchema(t, s.dsn+"&default_transaction_read_only=on")
	misconfigured(t, readOnly, "set default_transaction_read_only=off")
	require.ErrorIs(t, readOnly.Commit(t.Context(), branch(1)), participant.ErrConfig)
	misconfigured(t, on.skippingSchema(t, strings.Replace(s.dsn, "search_path=", "search_path=no", 1)), "barrier.Schema")
	misconfigured(t, on.skippingSchema(t, strings.Replace(s.dsn, "/service?", "/nowhere?", 1)), "create the database")
	misconfigured(t, on.skippingSchema(t, strings.Replace(s.dsn, "postgres@", "nobody@", 1)), "correct the user and password")

	_, schema, _ := strings.Cut(s.dsn, "search_path=")
	s.exec("CREATE ROLE reader LOGIN")
	s.exec("GRANT USAGE ON SCHEMA " + schema + " TO reader")
	s.exec("GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA " + schema + " TO reader")
	reader := strings.Replace(s.dsn, "postgres@", "reader@", 1)
	misconfigured(t, on.skippingSchema(t, reader), "grant the role SELECT, INSERT, UPDATE and DELETE")
	_, err := barrier.New(t.Context(), on.config(onPostgres.connect(t, reader)))
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "SkipSchema")
	s.exec("GRANT DELETE ON ALL TABLES IN SCHEMA " + schema + " TO reader")
	require.NoError(t, on.skippingSchema(t, reader).Check(t.Context()))
}

// What needs a server of its own: a setting of the whole server, a password, a
// standby.
func TestPostgresCheckNamesTheServersSetting(t *testing.T) {
	on := onPostgres
	capability.Need(t, on.needs...)
	own, err := servers.StartPostgres(t.Context(), "fsync=off")
	require.NoError(t, err)
	defer func() { require.NoError(t, own.Close()) }()
	data := filepath.Join(own.Dir(), "data")
	db := onPostgres.connect(t, own.URL("postgres"))
	_, err = barrier.New(t.Context(), on.config(db))
	require.NoError(t, err)
	misconfigured(t, on.skippingSchema(t, own.URL("postgres")), "set fsync=on")

	_, err = db.Exec("CREATE ROLE app LOGIN PASSWORD 'right'")
	require.NoError(t, err)
	access, err := os.ReadFile(filepath.Join(data, "pg_hba.conf"))
	require.NoError(t, err)
	access = append([]byte("host all app 127.0.0.1/32 scram-sha-256\n"), access...)
	require.NoError(t, os.WriteFile(filepath.Join(data, "pg_hba.conf"), access, 0o600))
	require.NoError(t, own.Restart(t.Context()))
	misconfigured(t, on.skippingSchema(t, strings.Replace(own.URL("postgres"), "postgres@", "app:wrong@", 1)), "correct the user and password")

	require.NoError(t, own.Stop(t.Context()))
	require.NoError(t, os.WriteFile(filepath.Join(data, "standby.signal"), nil, 0o644))
	require.NoError(t, own.Start(t.Context()))
	misconfigured(t, on.skippingSchema(t, own.URL("postgres")), "connect to the primary server")
}

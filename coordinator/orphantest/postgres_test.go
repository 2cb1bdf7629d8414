package orphantest

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
	"github.com/assent-tm/assent/participant/postgres"
)

func TestPostgres(t *testing.T) { testOrphans(t, openPostgres(t)) }

// postgresql is PostgreSQL.
type postgresql struct {
	url  string
	pool *pgxpool.Pool
}

func openPostgres(t *testing.T) database {
	capability.Need(t, capability.Postgres)
	server, err := servers.StartPostgres(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Close()) })
	d := &postgresql{url: server.URL("postgres")}
	d.pool, err = pgxpool.New(t.Context(), d.url)
	require.NoError(t, err)
	t.Cleanup(d.pool.Close)
	_, err = d.pool.Exec(t.Context(), "CREATE TABLE effect (tx text NOT NULL)")
	require.NoError(t, err)
	p := d.open(t).(*ownPool)
	require.NoError(t, p.CreateTable(t.Context()))
	require.NoError(t, p.Close())
	return d
}

// ownPool is an adapter with a pool that nobody else uses.
type ownPool struct {
	*postgres.Participant
	pool *pgxpool.Pool
}

func (p *ownPool) Close() error {
	err := p.Participant.Close()
	p.pool.Close()
	return err
}

func (d *postgresql) open(t *testing.T) adapter {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), d.url)
	require.NoError(t, err)
	p, err := postgres.New(t.Context(), postgres.Config{Name: "bank", Pool: pool})
	require.NoError(t, err)
	return &ownPool{p, pool}
}

func (d *postgresql) work(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
	session, err := p.(*ownPool).Join(ctx, tx)
	if err == nil {
		_, err = session.Exec(ctx, "INSERT INTO effect VALUES ($1)", tx.ID().String())
	}
	return err
}

func (d *postgresql) effects(t *testing.T, id participant.TxID) (n int) {
	t.Helper()
	require.NoError(t, d.pool.QueryRow(t.Context(), "SELECT count(*) FROM effect WHERE tx = $1", id.String()).Scan(&n))
	return n
}

func (d *postgresql) foreign(t *testing.T) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), d.url)
	require.NoError(t, err)
	_, err = conn.Exec(t.Context(), "BEGIN; INSERT INTO effect VALUES ('foreign'); PREPARE TRANSACTION 'orders:an''other \"application\"'")
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func (d *postgresql) prepared(t *testing.T) map[string]bool {
	t.Helper()
	rows, err := d.pool.Query(t.Context(), "SELECT gid FROM pg_prepared_xacts")
	require.NoError(t, err)
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	prepared := make(map[string]bool)
	for _, gid := range gids {
		prepared[gid] = true
	}
	return prepared
}

func (d *postgresql) client(t *testing.T, statements string) {
	t.Helper()
	run(t, statements, "psql", "--no-psqlrc", "--set=ON_ERROR_STOP=1", d.url)
}

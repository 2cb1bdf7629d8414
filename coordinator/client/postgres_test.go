package client_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/client"
	"github.com/assent-tm/assent/participant/participanttest/capability"
	"github.com/assent-tm/assent/participant/participanttest/servers"
	"github.com/assent-tm/assent/participant/postgres"
)

// A service with a database of its own and a coordinator elsewhere: Join works as it
// does with an embedded one, and the branch's calls come to the process that has the
// session.
func TestJoinWithARemoteCoordinator(t *testing.T) {
	capability.Need(t, capability.Postgres)
	db, err := servers.StartPostgres(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	look, err := pgxpool.New(t.Context(), db.URL("postgres"))
	require.NoError(t, err)
	defer look.Close()
	_, err = look.Exec(t.Context(), "CREATE TABLE account (name text PRIMARY KEY, cents bigint NOT NULL CHECK (cents >= 0)); INSERT INTO account VALUES ('ann', 100)")
	require.NoError(t, err)
	cents := func() (cents, inDoubt int) {
		require.NoError(t, look.QueryRow(t.Context(), "SELECT cents, (SELECT count(*) FROM pg_prepared_xacts) FROM account").Scan(&cents, &inDoubt))
		return cents, inDoubt
	}

	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		_, err := look.Exec(t.Context(), "UPDATE account SET cents = 100")
		require.NoError(t, err)
		here, elsewhere := newOffice(t, db), newOffice(t, db)
		c, _ := serve(t, s, here, change)
		_, _ = serve(t, s, elsewhere, change) // another process of the same service
		pay := func(amount int, then error) error {
			return c.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
				session, err := here.Join(ctx, tx)
				if err != nil {
					return err
				}
				if _, err = session.Exec(ctx, "UPDATE account SET cents = cents - $1 WHERE name = 'ann'", amount); err != nil {
					return err
				}
				if _, err = tx.Enlist(ctx, s.b, nil); err != nil {
					return err
				}
				return then
			})
		}
		requireCents := func(want int) {
			t.Helper()
			got, inDoubt := cents()
			require.Equal(t, want, got)
			require.Zero(t, inDoubt)
		}
		for n := range 10 {
			require.NoError(t, pay(1, nil), "%d", n)
		}
		requireCents(90)

		failed := errors.New("no stock")
		require.ErrorIs(t, pay(1, failed), failed)
		s.b.does(refuses, nil)
		require.ErrorIs(t, pay(1, nil), coordinator.ErrRolledBack)
		s.b.does(nil, nil)
		require.ErrorContains(t, pay(1000, nil), "account_cents_check")
		require.NoError(t, pay(1, nil)) // waits for the locks of those before
		requireCents(89)

		// The stream breaks while the branch is open: its calls wait for this process.
		require.NoError(t, c.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
			session, err := here.Join(ctx, tx)
			if err != nil {
				return err
			}
			_, err = session.Exec(ctx, "UPDATE account SET cents = cents - 1 WHERE name = 'ann'")
			s.line.cut()
			return err
		}))
		requireCents(88)
	})
}

// newOffice returns a process of a service that has its accounts in the database.
func newOffice(t *testing.T, db *servers.Postgres) *postgres.Participant {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), db.URL("postgres"))
	require.NoError(t, err)
	p, err := postgres.New(t.Context(), postgres.Config{Name: attachedName, Pool: pool})
	require.NoError(t, err)
	require.NoError(t, p.CreateTable(t.Context()))
	t.Cleanup(func() {
		require.NoError(t, p.Close())
		pool.Close()
	})
	return p
}

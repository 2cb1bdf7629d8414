package postgres_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

const clients = 16

func withRoom(c *pgxpool.Config) { c.MaxConns = clients }

// One row written in a branch, prepared and committed.
func BenchmarkBranch(b *testing.B) {
	f := newFixture(b, withRoom)
	inParallel(b, func(ctx context.Context) error {
		tx := newTransaction()
		session, err := f.Join(ctx, tx)
		if err != nil {
			return err
		}
		if _, err := session.Exec(ctx, "INSERT INTO effect VALUES ($1)", tx.Tx.String()); err != nil {
			return err
		}
		if vote, err := f.Prepare(ctx, tx.Branch); vote != participant.VotePrepared {
			return err
		}
		return f.Commit(ctx, tx.Branch)
	})
}

// The same by hand, all of it on one connection.
func BenchmarkByHand(b *testing.B) {
	f := newFixture(b, withRoom)
	inParallel(b, func(ctx context.Context) error {
		conn, err := f.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
		tx := newTransaction()
		xid := string(tx.XID())
		if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "INSERT INTO effect VALUES ($1)", tx.Tx.String()); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "INSERT INTO assent_witness VALUES ($1, 'committed', now())", xid); err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "PREPARE TRANSACTION '"+xid+"'"); err != nil {
			return err
		}
		_, err = conn.Exec(ctx, "COMMIT PREPARED '"+xid+"'")
		return err
	})
}

func inParallel(b *testing.B, work func(context.Context) error) {
	for name, clients := range map[string]int{"1": 1, "16": clients} {
		b.Run(name, func(b *testing.B) {
			var left atomic.Int64
			left.Store(int64(b.N))
			done := make(chan error, clients)
			for range clients {
				go func() {
					var err error
					for err == nil && left.Add(-1) >= 0 {
						err = work(b.Context())
					}
					done <- err
				}()
			}
			for range clients {
				require.NoError(b, <-done)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "branches/s")
		})
	}
}

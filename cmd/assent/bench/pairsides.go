package bench

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/assent-tm/assent/coordinator"
)

// What every side does in each database.
const (
	updatePostgres = "UPDATE account SET n = n + 1 WHERE id = $1"
	updateMariaDB  = "UPDATE account SET n = n + 1 WHERE id = ?"
)

// commitEach commits in each database by itself.
func (p *pair) commitEach(ctx context.Context, account int) error {
	return both(func() error {
		_, err := p.postgres.pool.Exec(ctx, updatePostgres, account)
		return err
	}, func() error {
		_, err := p.mariadb.db.ExecContext(ctx, updateMariaDB, account)
		return err
	})
}

// commitWithAssent is what a user of Assent writes.
func (p *pair) commitWithAssent(ctx context.Context, account int) error {
	return p.assent.dtm.Run(ctx, func(ctx context.Context, tx *coordinator.Tx) error {
		return both(func() error {
			session, err := p.postgres.participant.Join(ctx, tx)
			if err == nil {
				_, err = session.Exec(ctx, updatePostgres, account)
			}
			return err
		}, func() error {
			session, err := p.mariadb.participant.Join(ctx, tx)
			if err == nil {
				_, err = session.ExecContext(ctx, updateMariaDB, account)
			}
			return err
		})
	})
}

// commitByHand is what one writes without Assent: both databases at once, each on one
// connection from beginning to end, with rows that tell what has committed. But nobody
// could finish it after a crash: there is no log of the decision.
func (p *pair) commitByHand(ctx context.Context, account int) error {
	name := fmt.Sprintf("by-hand-%d", p.byHand.Add(1))
	postgres, err := p.postgres.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer postgres.Release()
	mariadb, err := p.mariadb.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer mariadb.Close() //nolint:errcheck // it goes back to its pool
	err = both(
		func() error { return preparePostgres(ctx, postgres, name, account) },
		func() error { return prepareMariaDB(ctx, mariadb, name, account) },
	)
	if err != nil {
		return err
	}
	return both(func() error {
		_, err := postgres.Exec(ctx, "COMMIT PREPARED '"+name+"'")
		return err
	}, func() error {
		_, err := mariadb.ExecContext(ctx, "XA COMMIT '"+name+"'")
		return err
	})
}

// Of statements with arguments pgx keeps the plans, which makes up for the round trips
// that fewer and longer ones would save. The witness tables are Assent's.

func preparePostgres(ctx context.Context, conn *pgxpool.Conn, name string, account int) error {
	if _, err := conn.Exec(ctx, "BEGIN"); err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, updatePostgres, account); err != nil {
		return err
	}
	const witness = "INSERT INTO assent_witness (id, state, expires) VALUES ($1, 'committed', now() + interval '30 days')"
	if _, err := conn.Exec(ctx, witness, name); err != nil {
		return err
	}
	const prepare = "PREPARE TRANSACTION"
	tag, err := conn.Exec(ctx, prepare+" '"+name+"'")
	if err == nil && tag.String() != prepare { // of a transaction that has failed, and no error
		err = fmt.Errorf("%s was answered with %s", prepare, tag)
	}
	return err
}

func prepareMariaDB(ctx context.Context, conn *sql.Conn, name string, account int) error {
	if _, err := conn.ExecContext(ctx, "XA START '"+name+"'"); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, updateMariaDB, account); err != nil {
		return err
	}
	const witness = "INSERT INTO assent_witness (id, state, origin, expires) VALUES (?, 'committed', '', UNIX_TIMESTAMP() + 30 * 86400)"
	if _, err := conn.ExecContext(ctx, witness, name); err != nil {
		return err
	}
	if _, err := conn.ExecContext(ctx, "XA END '"+name+"'"); err != nil {
		return err
	}
	_, err := conn.ExecContext(ctx, "XA PREPARE '"+name+"'")
	return err
}

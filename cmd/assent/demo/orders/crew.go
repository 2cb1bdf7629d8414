package orders

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tm/assent/cmd/assent/demo"
	"github.com/assent-tm/assent/participant/mysql"
	"github.com/assent-tm/assent/participant/nats"
	"github.com/assent-tm/assent/participant/postgres"
)

// crew are the participants. Parent and child have each their own.
type crew struct {
	postgres *postgres.Participant
	mariadb  *mysql.Participant
	nats     *nats.Participant

	pool *pgxpool.Pool
	conn *natsgo.Conn
	js   jetstream.JetStream
}

// openCrew connects to NATS alone; with patience that may be later. The crew, if there
// is one, is to be closed also after an error.
func openCrew(ctx context.Context, a *Addresses, r run, logger *slog.Logger, patient bool) (c *crew, err error) {
	conn, err := natsgo.Connect(a.NATS, natsgo.MaxReconnects(-1), natsgo.ReconnectWait(reconnectWait), natsgo.RetryOnFailedConnect(patient))
	if err != nil {
		return nil, fmt.Errorf("%s at %s: %w", natsName, a.shown(natsName), err)
	}
	c = &crew{conn: conn}
	if c.js, err = jetstream.New(conn); err != nil {
		return c, err
	}
	c.nats, err = nats.New(nats.Config{
		Name: natsName, JetStream: c.js, Stream: r.stream(), Subject: r.markers(), Staging: r.staging(), Logger: logger,
	})
	if err != nil {
		return c, err
	}
	config, err := pgxpool.ParseConfig(a.Postgres)
	if err != nil {
		return c, err // it hides the password
	}
	config.MaxConns = max(config.MaxConns, 2*demo.Window)
	if c.pool, err = pgxpool.NewWithConfig(ctx, config); err != nil {
		return c, err
	}
	if c.postgres, err = postgres.New(ctx, postgres.Config{Name: postgresName, Pool: c.pool, Table: r.table("witness")}); err != nil {
		return c, err
	}
	c.mariadb, err = mysql.New(mysql.Config{Name: mariadbName, DSN: a.MySQL, Table: r.table("witness"), Logger: logger})
	return c, err
}

// reconnectWait is the pause before a connection to NATS is made again.
const reconnectWait = 20 * time.Millisecond

func (c *crew) close() (err error) {
	if c.mariadb != nil {
		err = c.mariadb.Close()
	}
	if c.postgres != nil {
		err = errors.Join(err, c.postgres.Close())
	}
	if c.pool != nil {
		c.pool.Close()
	}
	c.conn.Close()
	return err
}

func (c *crew) all() []demo.Participant { return []demo.Participant{c.postgres, c.mariadb, c.nats} }

func (c *crew) participant(name string) demo.Participant {
	i := slices.IndexFunc(c.all(), func(p demo.Participant) bool { return p.Name() == name })
	return c.all()[i]
}

package postgres_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/postgres"
)

// Each misconfiguration is named, with what to change, and passes once it is changed.
func TestCheckNamesWhatToChange(t *testing.T) {
	f := newFixture(t)
	database := f.url[strings.LastIndex(f.url, "/")+1 : strings.Index(f.url, "?")]
	admin := theServer(t).URL("postgres")
	reload := func(statement string) {
		execute(t, admin, statement)
		// The settings have arrived when a new connection has them.
		conn := connect(t, admin)
		var loaded string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_conf_load_time()::text").Scan(&loaded))
		require.NoError(t, conn.Close(t.Context()))
		execute(t, admin, "SELECT pg_reload_conf()")
		f.waitUntil(func() bool { return f.number("SELECT (pg_conf_load_time()::text <> $1)::int", loaded) == 1 })
	}
	set := func(statement string) func() { return func() { execute(t, admin, statement) } }
	for name, wrong := range map[string]struct {
		break_, mend func()
		says         string
	}{
		"full_page_writes": {
			func() { reload("ALTER SYSTEM SET full_page_writes = off") }, func() { reload("ALTER SYSTEM RESET full_page_writes") },
			"set full_page_writes = on",
		},
		"synchronous_commit": {
			set("ALTER DATABASE " + database + " SET synchronous_commit = off"), set("ALTER DATABASE " + database + " RESET synchronous_commit"),
			"set synchronous_commit = on",
		},
		"read only": {
			set("ALTER DATABASE " + database + " SET default_transaction_read_only = on"), set("ALTER DATABASE " + database + " RESET default_transaction_read_only"),
			"default_transaction_read_only is on: set it off",
		},
		"table": {
			func() { execute(t, f.url, "ALTER TABLE assent_witness RENAME TO away") }, func() { execute(t, f.url, "ALTER TABLE away RENAME TO assent_witness") },
			postgres.Schema(""),
		},
		"column": {
			func() { execute(t, f.url, "ALTER TABLE assent_witness RENAME COLUMN expires TO until") },
			func() { execute(t, f.url, "ALTER TABLE assent_witness RENAME COLUMN until TO expires") },
			postgres.Schema(""),
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, f.Check(t.Context()))
			wrong.break_()
			err := f.start().Check(t.Context())
			wrong.mend()
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, wrong.says)
			require.ErrorContains(t, err, `participant "pg"`)
			require.NoError(t, f.start().Check(t.Context()))
		})
	}
}

// The right to write the table, and to log in at all.
func TestCheckNamesWhoMayNot(t *testing.T) {
	f := newFixture(t)
	execute(t, f.url, "CREATE ROLE carol LOGIN; GRANT SELECT, DELETE ON assent_witness TO carol")
	defer execute(t, f.url, "DROP OWNED BY carol; DROP ROLE carol")
	as := func(role string) *process { return f.start(func(c *pgxpool.Config) { c.ConnConfig.User = role }) }

	err := as("carol").Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, `GRANT INSERT, UPDATE ON public.assent_witness TO "carol"`)
	execute(t, f.url, "GRANT INSERT, UPDATE ON public.assent_witness TO carol")
	require.NoError(t, as("carol").Check(t.Context()))

	err = as("nobody_of_that_name").Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "correct user and password")
	err = f.start(func(c *pgxpool.Config) { c.ConnConfig.Database = "nowhere" }).Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "correct the database")
}

// A pool whose connections SET ROLE has to be able to end its own sessions.
func TestPoolThatSetsItsRole(t *testing.T) {
	f := newFixture(t)
	execute(t, f.url, `CREATE ROLE clerk; CREATE ROLE office LOGIN; GRANT clerk TO office;
		GRANT ALL ON ALL TABLES IN SCHEMA public TO clerk`)
	defer execute(t, f.url, "DROP OWNED BY clerk, office; DROP ROLE clerk, office")
	office := f.start(func(c *pgxpool.Config) {
		c.ConnConfig.User = "office"
		c.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "SET ROLE clerk")
			return err
		}
	})
	const remedy = `GRANT pg_read_all_stats, pg_signal_backend TO "clerk"`
	err := office.Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, remedy)
	_, err = office.Join(t.Context(), newTransaction())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, remedy)

	execute(t, f.url, "GRANT pg_read_all_stats, pg_signal_backend TO clerk")
	require.NoError(t, office.Check(t.Context()))
	clerk := *f
	clerk.process = office
	tx := clerk.prepared()
	clerk.pool.Reset()
	require.NoError(t, clerk.Commit(t.Context(), tx.Branch))
	require.Equal(t, 1, f.effects(tx))
	tx, session := clerk.begun()
	backend := pid(t, session)
	rows, err := session.Query(t.Context(), "SELECT generate_series(1, 100000)")
	require.NoError(t, err)
	require.NoError(t, clerk.Rollback(t.Context(), tx.Branch))
	require.Zero(t, f.backends(backend))
	rows.Close()
}

// A server of its own is led from one trouble into the next.
func TestCheckAtAServerInTrouble(t *testing.T) {
	theServer(t)
	s := serverWith(t, "fsync=off")
	f := fixtureAt(t, s, "postgres")
	err := f.Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "set fsync = on in postgresql.conf")
	tx := f.prepared()

	t.Run("password", func(t *testing.T) {
		execute(t, f.url, "CREATE ROLE dave LOGIN PASSWORD 'right'")
		hba := filepath.Join(s.Dir(), "data", "pg_hba.conf")
		rules, err := os.ReadFile(hba)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(hba, append([]byte("host all dave 127.0.0.1/32 scram-sha-256\n"), rules...), 0o600))
		execute(t, f.url, "SELECT pg_reload_conf()")
		with := func(password string) error {
			return f.start(func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = "dave", password }).Check(t.Context())
		}
		f.waitUntil(func() bool { return with("wrong") != nil })
		err = with("wrong")
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, "correct user and password")
		require.ErrorContains(t, err, `participant "pg"`)
		require.NotContains(t, err.Error(), "wrong")

		p := f.start(func(c *pgxpool.Config) { c.ConnConfig.User, c.ConnConfig.Password = "dave", "wrong" })
		other := newTransaction()
		_, err = p.Join(t.Context(), other)
		require.ErrorIs(t, err, participant.ErrConfig)
		require.Nil(t, other.Data, "it is not enlisted")
		require.ErrorIs(t, p.Commit(t.Context(), tx.Branch), participant.ErrConfig)
	})

	t.Run("standby", func(t *testing.T) {
		require.NoError(t, s.Stop(t.Context()))
		signal := filepath.Join(s.Dir(), "data", "standby.signal")
		require.NoError(t, os.WriteFile(signal, nil, 0o600))
		info, err := os.Stat(filepath.Join(s.Dir(), "data", "PG_VERSION"))
		require.NoError(t, err)
		require.NoError(t, chownLike(signal, info))
		require.NoError(t, s.Start(t.Context()))
		p := f.start()
		err = p.Check(t.Context())
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, "point the pool at the primary")
		for _, call := range []func(context.Context, participant.Branch) error{p.Commit, p.Rollback} {
			err = call(t.Context(), tx.Branch)
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, "point the pool at the primary")
		}
		require.NoError(t, s.Stop(t.Context()))
		require.NoError(t, os.Remove(signal))
	})

	t.Run("down", func(t *testing.T) {
		p := f.start()
		// What starts while the server is down reports, and works once it is up.
		for _, err := range []error{p.Check(t.Context()), p.Commit(t.Context(), tx.Branch), p.Rollback(t.Context(), tx.Branch)} {
			require.Error(t, err)
			require.NotErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, `participant "pg"`)
		}
		_, err := p.Join(t.Context(), newTransaction())
		require.Error(t, err)
		require.NoError(t, s.Start(t.Context()))
		f.look.Reset()
		require.NoError(t, p.Commit(t.Context(), tx.Branch))
		require.Equal(t, 1, f.effects(tx))
	})
}

func chownLike(path string, info os.FileInfo) error {
	owner := info.Sys().(*syscall.Stat_t)
	return os.Chown(path, int(owner.Uid), int(owner.Gid))
}

func TestNewNamesWhatIsWrong(t *testing.T) {
	pool, err := pgxpool.New(t.Context(), "postgres://nobody@127.0.0.1:1/nowhere")
	require.NoError(t, err)
	defer pool.Close()
	for says, change := range map[string]func(*postgres.Config){
		"name":         func(c *postgres.Config) { c.Name = "" },
		"Pool is nil":  func(c *postgres.Config) { c.Pool = nil },
		"Table":        func(c *postgres.Config) { c.Table = "x; DROP TABLE y" },
		`Table "A"`:    func(c *postgres.Config) { c.Table = "A" },
		`Table "a."`:   func(c *postgres.Config) { c.Table = "a." },
		`Table "a.b.`:  func(c *postgres.Config) { c.Table = "a.b.c" },
		"Retention":    func(c *postgres.Config) { c.Retention = 1 },
		"MaxRetention": func(c *postgres.Config) { c.MaxRetention = time.Minute },
	} {
		config := postgres.Config{Name: "pg", Pool: pool}
		change(&config)
		_, err := postgres.New(t.Context(), config)
		require.ErrorIs(t, err, participant.ErrInvalidParticipant)
		require.ErrorContains(t, err, says)
	}
}

// The table may be in a schema, and what a branch does to its search path is its own.
func TestTableInASchema(t *testing.T) {
	f := newFixture(t)
	execute(t, f.url, "CREATE SCHEMA coordination; DROP TABLE assent_witness")
	p, err := postgres.New(t.Context(), postgres.Config{Name: "pg", Pool: f.pool, Table: "coordination.witness"})
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	require.ErrorContains(t, p.Check(t.Context()), postgres.Schema("coordination.witness"))
	for range 2 {
		require.NoError(t, p.CreateTable(t.Context()))
	}
	require.NoError(t, p.Check(t.Context()))
	tx := newTransaction()
	session, err := p.Join(t.Context(), tx)
	require.NoError(t, err)
	_, err = session.Exec(t.Context(), "SET LOCAL search_path = pg_catalog; INSERT INTO public.effect VALUES ('x')")
	require.NoError(t, err)
	vote, err := p.Prepare(t.Context(), tx.Branch)
	require.Equal(t, participant.VotePrepared, vote, "%v", err)
	require.NoError(t, p.Commit(t.Context(), tx.Branch))
	require.NoError(t, p.Commit(t.Context(), tx.Branch))
}

// Processes that start at once create it once.
func TestTableCreatedByManyAtOnce(t *testing.T) {
	f := newFixture(t)
	execute(t, f.url, "DROP TABLE assent_witness")
	errs := make(chan error)
	for range 8 {
		p := f.start()
		go func() { errs <- p.CreateTable(t.Context()) }()
	}
	for range 8 {
		require.NoError(t, <-errs)
	}
}

func TestClosedParticipant(t *testing.T) {
	f := newFixture(t)
	p := f.start()
	tx := newTransaction()
	session, err := p.Join(t.Context(), tx)
	require.NoError(t, err)
	_, err = session.Exec(t.Context(), "INSERT INTO effect VALUES ('x')")
	require.NoError(t, err)
	inDoubt := f.prepared()
	require.NoError(t, p.Participant.Close())
	_, err = session.Exec(t.Context(), "SELECT 1")
	require.ErrorIs(t, err, postgres.ErrFinished)
	_, err = p.Join(t.Context(), newTransaction())
	require.Error(t, err)
	for _, err := range []error{p.Commit(t.Context(), inDoubt.Branch), p.Rollback(t.Context(), inDoubt.Branch), p.Check(t.Context())} {
		require.ErrorContains(t, err, "closed")
	}
	require.Equal(t, 1, f.inDoubt())
	require.NoError(t, f.Commit(t.Context(), inDoubt.Branch))
}

package postgres_test

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest/servers"
	"github.com/assent-tm/assent/participant/postgres"
)

// What the server says when a branch is prepared, and what comes of it: all refuse,
// with the server's words, and nothing stays prepared.
func TestWhatRefusesAPrepare(t *testing.T) {
	f := newFixture(t)
	for name, refused := range map[string]struct {
		statements string // of the branch, after its first
		foreign    string // runs before on another connection, {xid} is the branch's
		domain     string
		code, says string
	}{
		"temporary table":   {statements: "CREATE TEMPORARY TABLE scratch (n int)", code: "0A000", says: "temporary"},
		"listen":            {statements: "LISTEN orders", code: "0A000"},
		"notify":            {statements: "NOTIFY orders", code: "0A000"},
		"cursor with hold":  {statements: "DECLARE c CURSOR WITH HOLD FOR SELECT 1", code: "0A000"},
		"exported snapshot": {statements: "SELECT pg_export_snapshot()", code: "0A000"},
		"both kinds of advisory lock": {
			statements: "SELECT pg_advisory_lock(7), pg_advisory_xact_lock(7)", code: "0A000",
		},
		"deferred constraint": {statements: "INSERT INTO child VALUES (4711)", code: "23503", says: "child"},
		"prepared by others": {
			foreign: "BEGIN; PREPARE TRANSACTION '{xid}'", code: "42710", says: "already in use",
		},
		"identifier too long": {domain: strings.Repeat("d", 200), code: "22023"},
		"rolled back before": {
			foreign: "INSERT INTO assent_witness VALUES ('{xid}', 'rolled back', now())", code: "23505", says: "rolled back before",
		},
		"failed statement": {statements: "SELECT 1 / 0", code: "22012", says: "a statement of the branch failed"},
		"no table":         {foreign: "ALTER TABLE assent_witness RENAME TO away", code: "42P01", says: postgres.Schema("")},
		"no right": {
			statements: "SET LOCAL ROLE nobody", foreign: "DROP ROLE IF EXISTS nobody; CREATE ROLE nobody", code: "42501",
			says: "GRANT SELECT, INSERT, UPDATE, DELETE ON public.assent_witness",
		},
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.join()
			if refused.domain != "" {
				tx.Domain = refused.domain
			}
			if refused.foreign != "" {
				execute(t, f.url, strings.ReplaceAll(refused.foreign, "{xid}", string(tx.XID())))
			}
			_, err := session.Exec(t.Context(), "INSERT INTO effect VALUES ($1)", tx.Tx.String())
			require.NoError(t, err)
			_, _ = session.Exec(t.Context(), refused.statements) // whether it fails is seen below
			before := f.inDoubt()

			err = f.reason(tx, participant.VoteRefused)
			require.Equal(t, refused.code, sqlState(err), "%v", err)
			require.ErrorContains(t, err, refused.says)
			require.ErrorContains(t, err, `participant "pg"`)
			require.Equal(t, refused.code == "42P01" || refused.code == "42501", isConfig(err), "%v", err)
			require.Equal(t, before, f.inDoubt())
			f.poolIsClean()

			execute(t, f.url, "ALTER TABLE IF EXISTS away RENAME TO assent_witness")
			if name == "prepared by others" {
				execute(t, f.url, "ROLLBACK PREPARED '"+string(tx.XID())+"'")
			}
			require.NoError(t, f.Rollback(t.Context(), tx.Branch))
			require.Zero(t, f.effects(tx))
			require.Zero(t, f.inDoubt())
		})
	}
}

func isConfig(err error) bool { return strings.Contains(err.Error(), participant.ErrConfig.Error()) }

// The second of two that would contradict each other is refused, here at its vote.
func TestSerializationFailureRefuses(t *testing.T) {
	f := newFixture(t)
	skew := func(reads string) (*transaction, *postgres.Session) {
		tx, session := f.join()
		_, err := session.Exec(t.Context(), "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
		require.NoError(t, err)
		_, err = session.Exec(t.Context(), "SELECT * FROM account WHERE name = $1", reads)
		require.NoError(t, err)
		return tx, session
	}
	write := func(session *postgres.Session, name string) {
		_, err := session.Exec(t.Context(), "UPDATE account SET cents = 0 WHERE name = $1", name)
		require.NoError(t, err)
	}
	one, first := skew("ann")
	two, second := skew("bob")
	write(first, "bob")
	write(second, "ann")
	f.votes(one, participant.VotePrepared)
	require.Equal(t, "40001", sqlState(f.reason(two, participant.VoteRefused)))
	require.NoError(t, f.Rollback(t.Context(), two.Branch))
	require.NoError(t, f.Commit(t.Context(), one.Branch))
}

// A statement that waits for a branch in doubt fails as its own timeout says.
func TestLockTimeoutRefuses(t *testing.T) {
	f := newFixture(t)
	const update = "UPDATE account SET cents = cents + 1 WHERE name = 'ann'"
	holder, session := f.join()
	_, err := session.Exec(t.Context(), update)
	require.NoError(t, err)
	f.votes(holder, participant.VotePrepared)

	tx, session := f.join()
	_, err = session.Exec(t.Context(), "SET LOCAL lock_timeout = '1ms'; "+update)
	require.Equal(t, "55P03", sqlState(err))
	require.Equal(t, "55P03", sqlState(f.reason(tx, participant.VoteRefused)))
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	require.NoError(t, f.Commit(t.Context(), holder.Branch))
	require.Equal(t, 101, f.number("SELECT cents FROM account WHERE name = 'ann'"))
}

// A session whose server process is killed before its Prepare is rolled back by the
// server; its vote is no yes.
func TestSessionKilledBeforePrepare(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begun()
	backend := pid(t, session)
	execute(t, f.url, "DO $$ BEGIN PERFORM pg_terminate_backend("+str(backend)+", 5000); END $$")
	vote, err := f.Prepare(t.Context(), tx.Branch)
	require.False(t, vote.Valid(), "the end of the session may have come after its last statement was done")
	require.Error(t, err)
	require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	require.Zero(t, f.inDoubt())
	f.poolIsClean()
}

// No slot, or none left: the error says so, and names the setting.
func TestPreparedTransactionSlots(t *testing.T) {
	theServer(t)
	t.Run("none at all", func(t *testing.T) {
		f := fixtureAt(t, serverWith(t, "max_prepared_transactions=0"), "postgres")
		tx, _ := f.begun()
		err := f.reason(tx, participant.VoteRefused)
		require.ErrorIs(t, err, participant.ErrConfig)
		require.Equal(t, "55000", sqlState(err))
		require.ErrorContains(t, err, "set max_prepared_transactions")
		require.NoError(t, f.Rollback(t.Context(), tx.Branch))

		err = f.Check(t.Context())
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, "set max_prepared_transactions in postgresql.conf")
	})
	t.Run("none left", func(t *testing.T) {
		f := fixtureAt(t, serverWith(t, "max_prepared_transactions=1"), "postgres")
		holder := f.prepared()
		tx, _ := f.begun()
		err := f.reason(tx, participant.VoteRefused)
		require.NotErrorIs(t, err, participant.ErrConfig)
		require.Equal(t, "53200", sqlState(err))
		require.ErrorContains(t, err, "raise max_prepared_transactions")
		require.NoError(t, f.Rollback(t.Context(), tx.Branch))
		require.NoError(t, f.Commit(t.Context(), holder.Branch))
		again, _ := f.begun()
		f.votes(again, participant.VotePrepared)
		require.NoError(t, f.Rollback(t.Context(), again.Branch))
	})
}

// Two that finish a branch at once: one does, the other is told to come again, which is
// no end of the branch.
func TestBusyBranchIsToldAgain(t *testing.T) {
	f := newFixture(t)
	tx := f.prepared()
	// Without its standby the server commits, and does not answer.
	standby := func(statement string) {
		admin := theServer(t).URL("postgres")
		execute(t, admin, statement)
		execute(t, admin, "SELECT pg_reload_conf()")
	}
	standby("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	defer standby("ALTER SYSTEM RESET synchronous_standby_names")
	waiting := "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = current_database()"
	// The setting has arrived once a commit waits for the standby.
	answers := make(chan error, 1000)
	writes := 0
	for f.number(waiting) == 0 {
		writes++
		conn := connect(t, f.url)
		go func() {
			_, err := conn.Exec(context.Background(), "INSERT INTO effect VALUES ('other')")
			answers <- err
			_ = conn.Close(context.Background())
		}()
		f.waitUntil(func() bool { return f.number(waiting) > 0 || len(answers) == writes })
	}

	first := make(chan error)
	go func() { first <- f.start().Commit(t.Context(), tx.Branch) }()
	f.waitUntil(func() bool { return f.number(waiting) == 2 })
	for _, again := range []error{f.Commit(t.Context(), tx.Branch), f.Rollback(t.Context(), tx.Branch)} {
		require.Equal(t, "55000", sqlState(again))
		require.NotErrorIs(t, again, participant.ErrConfig)
		require.NotErrorIs(t, again, participant.ErrUnknownBranch)
	}
	standby("ALTER SYSTEM RESET synchronous_standby_names")
	require.NoError(t, <-first)
	for range writes {
		require.NoError(t, <-answers)
	}
	require.NoError(t, f.Commit(t.Context(), tx.Branch))
	heuristic(t, participant.OutcomeCommitted, f.Rollback(t.Context(), tx.Branch))
	require.Equal(t, 1, f.effects(tx))
}

// Only the role that prepared a branch may finish it, or a superuser.
func TestAnotherRolesBranch(t *testing.T) {
	f := newFixture(t)
	for _, role := range []string{"alice", "bob"} {
		execute(t, f.url, "CREATE ROLE "+role+" LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO "+role)
		defer execute(t, f.url, "DROP OWNED BY "+role+"; DROP ROLE "+role)
	}
	as := func(role string) func(*pgxpool.Config) {
		return func(c *pgxpool.Config) { c.ConnConfig.User = role }
	}
	alice, bob := *f, f.start(as("bob"))
	alice.process = f.start(as("alice"))
	require.NoError(t, bob.Check(t.Context()))
	for end, call := range map[string]func(context.Context, participant.Branch) error{"commit": bob.Commit, "roll back": bob.Rollback} {
		tx := alice.prepared()
		err := call(t.Context(), tx.Branch)
		require.ErrorIs(t, err, participant.ErrConfig)
		require.Equal(t, "42501", sqlState(err))
		require.ErrorContains(t, err, end)
		require.ErrorContains(t, err, `prepared by role "alice"`)
		require.Equal(t, 1, f.inDoubt())
		require.NoError(t, alice.Rollback(t.Context(), tx.Branch))
	}
}

// serverWith starts a server of the test's own.
func serverWith(t *testing.T, settings ...string) *servers.Postgres {
	t.Helper()
	s, err := servers.StartPostgres(t.Context(), settings...)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

func str(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

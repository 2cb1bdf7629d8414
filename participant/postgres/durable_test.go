package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// A branch that turned synchronous_commit off is durable all the same once it is
// prepared, or committed in one phase.
func TestBranchesAreDurableWhateverTheySet(t *testing.T) {
	f := newFixture(t)
	// By itself the server would write it only after some seconds.
	admin := theServer(t).URL("postgres")
	execute(t, admin, "ALTER SYSTEM SET wal_writer_delay = '10s'")
	execute(t, admin, "SELECT pg_reload_conf()")
	defer func() {
		execute(t, admin, "ALTER SYSTEM RESET wal_writer_delay")
		execute(t, admin, "SELECT pg_reload_conf()")
	}()
	begin := func() *transaction {
		tx, session := f.join()
		_, err := session.Exec(t.Context(), "SET LOCAL synchronous_commit = off")
		require.NoError(t, err)
		_, err = session.Exec(t.Context(), "INSERT INTO effect VALUES ($1)", tx.Tx.String())
		require.NoError(t, err)
		return tx
	}
	restart := func() {
		require.NoError(t, theServer(t).Restart(t.Context()))
		f.look.Reset()
		f.pool.Reset()
	}
	tx := begin()
	f.votes(tx, participant.VotePrepared)
	restart()
	require.Equal(t, 1, f.inDoubt())
	require.NoError(t, f.start().Commit(t.Context(), tx.Branch))

	tx = begin()
	require.NoError(t, f.CommitOnePhase(t.Context(), tx.Branch))
	restart()
	require.Equal(t, 1, f.effects(tx))
}

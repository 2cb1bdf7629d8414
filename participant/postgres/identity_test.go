package postgres_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// What a database says that never had the branch is nothing about the branch (R7).
func TestR7AnotherDatabaseBehindTheName(t *testing.T) {
	f := newFixture(t)
	here, other := newFixture(t), fixtureAt(t, serverWith(t), "postgres")
	for name, wrong := range map[string]*fixture{"database": here, "server": other} {
		t.Run(name, func(t *testing.T) {
			inDoubt, ended := f.prepared(), f.prepared()
			require.NoError(t, f.Commit(t.Context(), ended.Branch))
			for _, tx := range []*transaction{inDoubt, ended} {
				for _, err := range []error{
					wrong.Commit(t.Context(), tx.Branch), wrong.Rollback(t.Context(), tx.Branch),
					wrong.CommitOnePhase(t.Context(), tx.Branch), wrong.reason(tx, 0),
				} {
					require.ErrorIs(t, err, participant.ErrConfig)
					require.NotErrorIs(t, err, participant.ErrUnknownBranch)
					require.NotErrorIs(t, err, participant.ErrRefused)
				}
				require.Zero(t, wrong.rows(tx, "rolled back"))
			}
			err := wrong.Commit(t.Context(), ended.Branch)
			require.ErrorContains(t, err, `the branch is in database "test_`)
			require.ErrorContains(t, err, "system identifier")
			require.NoError(t, f.Commit(t.Context(), inDoubt.Branch))
			require.Equal(t, 1, f.effects(inDoubt))
		})
	}
}

func TestForeignDataIsNoBranchOfOurs(t *testing.T) {
	f := newFixture(t)
	tx := newTransaction()
	tx.Data = []byte("something else")
	require.ErrorIs(t, f.Commit(t.Context(), tx.Branch), participant.ErrConfig)
	require.ErrorIs(t, f.Rollback(t.Context(), tx.Branch), participant.ErrConfig)
	require.ErrorIs(t, f.reason(tx, 0), participant.ErrConfig)
}

// The sweep knows no more than the XID.
func TestBranchWithoutDataIsFinished(t *testing.T) {
	f := newFixture(t)
	one, two := f.prepared(), f.prepared()
	for _, tx := range []*transaction{one, two} {
		tx.Data = nil
	}
	require.NoError(t, f.start().Commit(t.Context(), one.Branch))
	require.NoError(t, f.start().Rollback(t.Context(), two.Branch))
	require.Equal(t, 1, f.effects(one))
	require.Zero(t, f.effects(two))
}

// What somebody rolled back by hand looks like a branch that never was (R7).
func TestR7BranchFinishedByHand(t *testing.T) {
	f := newFixture(t)
	undone, done := f.prepared(), f.prepared()
	execute(t, f.url, "ROLLBACK PREPARED '"+string(undone.XID())+"'")
	execute(t, f.url, "COMMIT PREPARED '"+string(done.XID())+"'")
	require.ErrorIs(t, f.Commit(t.Context(), undone.Branch), participant.ErrUnknownBranch)
	require.NoError(t, f.Rollback(t.Context(), undone.Branch))
	require.NoError(t, f.Commit(t.Context(), done.Branch))
	heuristic(t, participant.OutcomeCommitted, f.Rollback(t.Context(), done.Branch))
}

// psql gives PostgreSQL's own client something to run.
func (f *fixture) psql(statements string) {
	f.t.Helper()
	command := exec.Command("psql", "-X", "-v", "ON_ERROR_STOP=1", f.url)
	command.Stdin = strings.NewReader(statements)
	output, err := command.CombinedOutput()
	require.NoError(f.t, err, "%s", output)
}

// What Explain gives for the hand finishes a branch, and the coordinator is told later.
func TestExplainedBranchesAreFinishedByHand(t *testing.T) {
	f := newFixture(t)
	undone, done := f.prepared(), f.prepared()
	const foreign = `not "our's"`
	execute(t, f.url, "BEGIN; INSERT INTO effect VALUES ('x'); PREPARE TRANSACTION 'not \"our''s\"'")
	newFixture(t).prepared() // in another database
	list, err := f.Explain(t.Context())
	require.NoError(t, err)
	require.Len(t, list, 3)
	for _, e := range list {
		switch e.Name {
		case string(undone.XID()):
			require.Equal(t, undone.Tx, e.Branch.Tx)
			f.psql(e.Rollback)
		case string(done.XID()):
			require.Equal(t, done.Tx, e.Branch.Tx)
			f.psql(e.Commit)
		default:
			require.Equal(t, foreign, e.Name)
			require.Zero(t, e.Branch)
			f.psql(e.Rollback)
		}
	}
	require.Zero(t, f.inDoubt())
	heuristic(t, participant.OutcomeRolledBack, f.Commit(t.Context(), undone.Branch))
	require.NoError(t, f.Commit(t.Context(), done.Branch))
}

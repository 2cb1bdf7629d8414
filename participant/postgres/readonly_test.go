package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

func TestABranchThatChangesNothingVotesReadOnly(t *testing.T) {
	f := newFixture(t)
	execute(t, f.url, `CREATE FUNCTION touch(tx text) RETURNS void LANGUAGE sql AS 'INSERT INTO effect VALUES (tx)'`)
	for name, reads := range map[string]struct {
		statement string // "" for none at all
		vote      participant.Vote
	}{
		"no statement":       {"", participant.VoteReadOnly},
		"select":             {"SELECT * FROM account", participant.VoteReadOnly},
		"update of nothing":  {"UPDATE account SET cents = 0 WHERE name = 'nobody'", participant.VoteReadOnly},
		"read only":          {"SET TRANSACTION READ ONLY; SELECT * FROM account", participant.VoteReadOnly},
		"lock":               {"SELECT * FROM account FOR UPDATE", participant.VotePrepared},
		"function":           {"SELECT touch('x')", participant.VotePrepared},
		"create table":       {"CREATE TABLE made (n int)", participant.VotePrepared},
		"undone":             {"SAVEPOINT s; SELECT touch('x'); ROLLBACK TO SAVEPOINT s", participant.VotePrepared},
		"update of the same": {"UPDATE account SET cents = cents", participant.VotePrepared},
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.join()
			if reads.statement != "" {
				_, err := session.Exec(t.Context(), reads.statement)
				require.NoError(t, err)
			}
			f.votes(tx, reads.vote)
			f.poolIsClean()
			require.Equal(t, reads.vote == participant.VotePrepared, f.inDoubt() == 1)
			require.NoError(t, f.Rollback(t.Context(), tx.Branch))
			require.Zero(t, f.inDoubt())
		})
	}
}

func TestOnePhase(t *testing.T) {
	f := newFixture(t)
	for name, statement := range map[string]string{
		"writes":         "UPDATE account SET cents = cents + 1 WHERE name = 'ann'",
		"reads":          "SELECT * FROM account",
		"may only read":  "SET TRANSACTION READ ONLY; SELECT * FROM account",
		"does nothing":   "",
		"commits lazily": "SET LOCAL synchronous_commit = off; UPDATE account SET cents = cents + 1 WHERE name = 'ann'",
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.join()
			if statement != "" {
				_, err := session.Exec(t.Context(), statement)
				require.NoError(t, err)
			}
			require.NoError(t, f.CommitOnePhase(t.Context(), tx.Branch))
			f.poolIsClean()
			// Provable from anywhere: the same answer to the same question.
			require.NoError(t, f.start().CommitOnePhase(t.Context(), tx.Branch))
			heuristic(t, participant.OutcomeCommitted, f.start().Rollback(t.Context(), tx.Branch))
			require.Equal(t, 1, f.rows(tx, "committed"))
		})
	}
	require.Equal(t, 102, f.number("SELECT cents FROM account WHERE name = 'ann'"))
}

func TestOnePhaseRefusesForGood(t *testing.T) {
	f := newFixture(t)
	for name, statement := range map[string]string{
		"failed":   "SELECT 1 / 0",
		"deferred": "INSERT INTO child VALUES (4711)",
		"ended":    "ROLLBACK",
	} {
		t.Run(name, func(t *testing.T) {
			tx, session := f.begun()
			_, _ = session.Exec(t.Context(), statement)
			for range 2 {
				require.ErrorIs(t, f.CommitOnePhase(t.Context(), tx.Branch), participant.ErrRefused)
			}
			require.ErrorIs(t, f.start().CommitOnePhase(t.Context(), tx.Branch), participant.ErrRefused)
			require.NoError(t, f.Rollback(t.Context(), tx.Branch))
			require.Zero(t, f.effects(tx))
			f.poolIsClean()
		})
	}
}

// A transaction may be made read-only after it has written: then its row can't be
// written, and what it has done must not be given up for nothing.
func TestOnePhaseOfWhatBecameReadOnly(t *testing.T) {
	f := newFixture(t)
	execute(t, f.url, `CREATE FUNCTION touch() RETURNS void LANGUAGE sql AS 'INSERT INTO effect VALUES (''touched'')'`)
	for _, write := range []string{"INSERT INTO effect VALUES ('x')", "SELECT touch()"} {
		tx, session := f.join()
		_, err := session.Exec(t.Context(), write)
		require.NoError(t, err)
		_, err = session.Exec(t.Context(), "SET TRANSACTION READ ONLY")
		require.NoError(t, err)
		err = f.CommitOnePhase(t.Context(), tx.Branch)
		require.ErrorIs(t, err, participant.ErrRefused)
		require.ErrorContains(t, err, "READ ONLY")
		require.Zero(t, f.rows(tx, "committed"))
		f.poolIsClean()
	}
}

// A statement that still runs is no answer: the branch may yet commit.
func TestOnePhaseWaitsForItsStatement(t *testing.T) {
	f := newFixture(t)
	tx, session := f.begun()
	rows, err := session.Query(t.Context(), "SELECT 1")
	require.NoError(t, err)
	err = f.CommitOnePhase(t.Context(), tx.Branch)
	require.Error(t, err)
	require.NotErrorIs(t, err, participant.ErrRefused)
	rows.Close()
	require.NoError(t, f.CommitOnePhase(t.Context(), tx.Branch))
	require.Equal(t, 1, f.effects(tx))
}

package participant_test

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// A forgotten field must never read as a promise or as an outcome.
func TestZeroVoteAndZeroOutcomeAreInvalid(t *testing.T) {
	var vote participant.Vote
	require.False(t, vote.Valid())
	require.Equal(t, "invalid vote 0", vote.String())
	var outcome participant.Outcome
	require.False(t, outcome.Valid())
	require.False(t, outcome.Heuristic())
	require.Equal(t, "invalid outcome 0", outcome.String())
}

func TestVotes(t *testing.T) {
	words := map[participant.Vote]string{
		participant.VotePrepared: "prepared", participant.VoteReadOnly: "read-only", participant.VoteRefused: "refused",
	}
	for i := range 256 {
		vote := participant.Vote(i)
		word, known := words[vote]
		require.Equal(t, known, vote.Valid(), vote)
		if !known {
			word = fmt.Sprintf("invalid vote %d", i)
		}
		require.Equal(t, word, vote.String())
	}
}

func TestOutcomes(t *testing.T) {
	words := map[participant.Outcome]string{
		participant.OutcomeCommitted: "committed", participant.OutcomeRolledBack: "rolled back",
		participant.OutcomeHeuristicCommit: "heuristic commit", participant.OutcomeHeuristicRollback: "heuristic rollback",
		participant.OutcomeHeuristicHazard: "heuristic hazard", participant.OutcomeHeuristicMixed: "heuristic mixed",
	}
	for i := range 256 {
		outcome := participant.Outcome(i)
		word, known := words[outcome]
		require.Equal(t, known, outcome.Valid(), outcome)
		decided := outcome == participant.OutcomeCommitted || outcome == participant.OutcomeRolledBack
		require.Equal(t, known && !decided, outcome.Heuristic(), outcome)
		if !known {
			word = fmt.Sprintf("invalid outcome %d", i)
		}
		require.Equal(t, word, outcome.String())
	}
}

func TestHeuristicErrorIsFoundWrapped(t *testing.T) {
	err := fmt.Errorf("commit branch: %w", &participant.HeuristicError{Outcome: participant.OutcomeHeuristicRollback, Err: io.ErrUnexpectedEOF})
	var heuristic *participant.HeuristicError
	require.ErrorAs(t, err, &heuristic)
	require.Equal(t, participant.OutcomeHeuristicRollback, heuristic.Outcome)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.EqualError(t, err, "commit branch: heuristic rollback: unexpected EOF")

	bare := &participant.HeuristicError{Outcome: participant.OutcomeCommitted}
	require.EqualError(t, bare, "committed")
	require.NoError(t, errors.Unwrap(bare))
}

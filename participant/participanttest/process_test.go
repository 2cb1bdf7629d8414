package participanttest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

func newProcess(t *testing.T) (*participant.Registered, *process) {
	t.Helper()
	reg, err := startProcess(t.Context(), "\n"+filepath.Join(t.TempDir(), "bank.db"))
	require.NoError(t, err)
	p := reg.Participant.(*process)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return reg, p
}

func TestProcessAnswersUntilItIsKilled(t *testing.T) {
	reg, p := newProcess(t)
	require.Equal(t, "bank", reg.Name())
	require.NotEqual(t, os.Getpid(), p.command.Process.Pid)
	b := newBranch("")
	vote, err := reg.Prepare(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	require.NoError(t, reg.Commit(t.Context(), b))
	err = reg.Rollback(t.Context(), b)
	var heuristic *participant.HeuristicError
	require.ErrorAs(t, err, &heuristic)
	require.Equal(t, participant.OutcomeCommitted, heuristic.Outcome)
	require.ErrorIs(t, reg.OnePhaser.CommitOnePhase(t.Context(), newBranch(DataRefuse)), participant.ErrRefused)

	require.NoError(t, p.kill())
	require.ErrorIs(t, reg.Commit(t.Context(), b), errGone)
	require.ErrorContains(t, reg.Commit(t.Context(), b), "signal: killed")
	require.ErrorContains(t, p.kill(), "it ended before it was killed")
}

func TestProcessWhoseCallerDoesNotWait(t *testing.T) {
	reg, p := newProcess(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, reg.Commit(ctx, newBranch("")), context.Canceled)
	require.ErrorIs(t, reg.Commit(t.Context(), newBranch("")), participant.ErrUnknownBranch, "the next answer is its own")
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Empty(t, p.waiting)
}

func TestProcessThatCanNotServe(t *testing.T) {
	_, err := startProcess(t.Context(), "a place that is none")
	require.EqualError(t, err, `make the subject: "a place that is none" is nowhere`)
	_, err = startProcess(t.Context(), "\n"+filepath.Join(t.TempDir(), "none", "bank.db"))
	require.ErrorContains(t, err, "new instance: ")
}

// Without Main a process would not serve, but do what the program does.
func TestProcessNeedsMain(t *testing.T) {
	willServe.Store(false)
	defer willServe.Store(true)
	_, err := startProcess(t.Context(), "anywhere")
	require.ErrorContains(t, err, "does not call participanttest.Main")
}

func TestErrorsKeepTheirMeaningBetweenProcesses(t *testing.T) {
	require.NoError(t, newFailure(nil).err())
	for i, meaning := range meanings {
		err := newFailure(fmt.Errorf("commit b: %w", meaning)).err()
		require.EqualError(t, err, "commit b: "+meaning.Error())
		for j, other := range meanings {
			require.Equal(t, i == j, errors.Is(err, other))
		}
	}
	err := newFailure(errors.Join(&participant.HeuristicError{Outcome: participant.OutcomeHeuristicCommit}, participant.ErrConfig)).err()
	var heuristic *participant.HeuristicError
	require.ErrorAs(t, err, &heuristic)
	require.Equal(t, participant.OutcomeHeuristicCommit, heuristic.Outcome)
	require.ErrorIs(t, err, participant.ErrConfig)
}

func TestTailKeepsTheEnd(t *testing.T) {
	var said tail
	require.Empty(t, said.quoted())
	for range maxTail {
		_, err := fmt.Fprintln(&said, "line")
		require.NoError(t, err)
	}
	_, err := fmt.Fprintln(&said, "last")
	require.NoError(t, err)
	require.Len(t, said.text, maxTail)
	require.Contains(t, said.quoted(), "line\nlast")
}

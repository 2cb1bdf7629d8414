package demo

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
)

func shell(script string) []string { return []string{"/bin/sh", "-c", script} }

func TestCoordinatorThatDiesIsReported(t *testing.T) {
	p, err := Start(t.Context(), shell("echo the log is locked >&2; exit 3"), t.TempDir())
	require.NoError(t, err)
	defer p.End()
	_, err = p.Until(t.Context(), EventReady)
	require.ErrorContains(t, err, "ended by itself: exit status 3")
	require.ErrorContains(t, err, "the log is locked")
}

func TestCoordinatorThatEndsEarlyIsReported(t *testing.T) {
	p, err := Start(t.Context(), shell(`echo '{"event":"ready"}'`), t.TempDir())
	require.NoError(t, err)
	defer p.End()
	_, err = p.Until(t.Context(), EventReady)
	require.NoError(t, err)
	_, err = p.Until(t.Context(), EventAnswer)
	require.ErrorContains(t, err, "ended by itself: exit status 0")
}

func TestCoordinatorThatCannotStartIsReported(t *testing.T) {
	_, err := Start(t.Context(), []string{"/nowhere/assent"}, t.TempDir())
	require.ErrorContains(t, err, "start the coordinator")
	require.ErrorContains(t, err, "/nowhere/assent")
}

func TestFailedAnswerEndsTheDemo(t *testing.T) {
	p, err := Start(t.Context(), shell(`echo '{"event":"answer","answer":"failed","reason":"disk full"}'; exec cat`), t.TempDir())
	require.NoError(t, err)
	defer p.End()
	_, err = p.Until(t.Context(), EventAnswer)
	require.ErrorContains(t, err, "disk full")
}

// What a process said before the kill is not lost, but for a line that is torn.
func TestKillKeepsWhatWasSaid(t *testing.T) {
	p, err := Start(t.Context(), shell(`printf '{"event":"ready"}\n{"event":"recovered"}\n{"event":"ans'; exec cat`), t.TempDir())
	require.NoError(t, err)
	defer p.End()
	_, err = p.Until(t.Context(), EventReady)
	require.NoError(t, err)
	said, err := p.Kill()
	require.NoError(t, err)
	require.Equal(t, []Event{{Kind: EventRecovered}}, said)
}

func TestInterruptEndsTheCoordinator(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := Start(ctx, shell("exec cat"), t.TempDir())
	require.NoError(t, err)
	defer p.End()
	cancel()
	_, err = p.Until(ctx, EventReady)
	require.ErrorIs(t, err, context.Canceled)
	p.End()
	require.NotNil(t, p.command.ProcessState, "the process is gone")
}

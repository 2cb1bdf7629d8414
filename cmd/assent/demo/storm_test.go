package demo

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// Any seed and number of transfers gives enough kills that are sure to meet a
// transaction in doubt, in an order that can be carried out.
func TestPlanKills(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payments := rapid.IntRange(MinTransfers, 5000).Draw(t, "payments")
		seed := rapid.Uint64().Draw(t, "seed")
		plan := planKills(rand.New(rand.NewPCG(seed, 0)), payments)
		require.Equal(t, plan, planKills(rand.New(rand.NewPCG(seed, 0)), payments))
		byPoint := map[hold]int{}
		for _, k := range plan {
			byPoint[k.at]++
			require.Less(t, k.after, payments-window)
			require.Less(t, k.delay, maxDelay)
		}
		require.True(t, slices.IsSortedFunc(plan, func(a, b kill) int { return a.after - b.after }))
		require.GreaterOrEqual(t, len(plan)-byPoint[holdNowhere], minMetInDoubt)
		require.NotZero(t, byPoint[holdNowhere])
		require.NotZero(t, byPoint[holdVotes])
		require.NotZero(t, byPoint[holdDecision])
		require.NotZero(t, byPoint[holdHalf])
	})
}

func TestStormClaimsFail(t *testing.T) {
	s := &storm{payments: []*payment{{answer: answerCommitted}, {answer: answerRefused}}, toll: toll{kills: 30, metInDoubt: minMetInDoubt}}
	for _, c := range s.prove() {
		require.Empty(t, c.wrong)
	}
	s.payments = append(s.payments, &payment{answer: answerRefused})
	s.toll.metInDoubt--
	for _, c := range s.prove() {
		require.Len(t, c.wrong, 1)
	}
}

func shell(script string) []string { return []string{"/bin/sh", "-c", script} }

func TestCoordinatorThatDiesIsReported(t *testing.T) {
	p, err := start(t.Context(), shell("echo the log is locked >&2; exit 3"), t.TempDir())
	require.NoError(t, err)
	defer p.end()
	_, err = p.until(t.Context(), eventReady)
	require.ErrorContains(t, err, "ended by itself: exit status 3")
	require.ErrorContains(t, err, "the log is locked")
}

func TestCoordinatorThatEndsEarlyIsReported(t *testing.T) {
	p, err := start(t.Context(), shell(`echo '{"event":"ready"}'`), t.TempDir())
	require.NoError(t, err)
	defer p.end()
	_, err = p.until(t.Context(), eventReady)
	require.NoError(t, err)
	_, err = p.until(t.Context(), eventAnswer)
	require.ErrorContains(t, err, "ended by itself: exit status 0")
}

func TestCoordinatorThatCannotStartIsReported(t *testing.T) {
	_, err := start(t.Context(), []string{"/nowhere/assent"}, t.TempDir())
	require.ErrorContains(t, err, "start the coordinator")
	require.ErrorContains(t, err, "/nowhere/assent")
}

func TestFailedAnswerEndsTheDemo(t *testing.T) {
	p, err := start(t.Context(), shell(`echo '{"event":"answer","answer":"failed","reason":"disk full"}'; exec cat`), t.TempDir())
	require.NoError(t, err)
	defer p.end()
	_, err = p.until(t.Context(), eventAnswer)
	require.ErrorContains(t, err, "disk full")
}

// What a process said before the kill is not lost, but for a line that is torn.
func TestKillKeepsWhatWasSaid(t *testing.T) {
	p, err := start(t.Context(), shell(`printf '{"event":"ready"}\n{"event":"recovered"}\n{"event":"ans'; exec cat`), t.TempDir())
	require.NoError(t, err)
	defer p.end()
	_, err = p.until(t.Context(), eventReady)
	require.NoError(t, err)
	said, err := p.kill()
	require.NoError(t, err)
	require.Equal(t, []event{{Kind: eventRecovered}}, said)
}

func TestInterruptEndsTheCoordinator(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := start(ctx, shell("exec cat"), t.TempDir())
	require.NoError(t, err)
	defer p.end()
	cancel()
	_, err = p.until(ctx, eventReady)
	require.ErrorIs(t, err, context.Canceled)
	p.end()
	require.NotNil(t, p.command.ProcessState, "the process is gone")
}

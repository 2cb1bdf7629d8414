package banks

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

// Any seed and number of transfers gives enough kills that are sure to meet a
// transaction in doubt, in an order that can be carried out.
func TestPlanKills(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payments := rapid.IntRange(MinTransfers, 5000).Draw(t, "payments")
		seed := rapid.Uint64().Draw(t, "seed")
		plan := planKills(rand.New(rand.NewPCG(seed, 0)), payments)
		require.Equal(t, plan, planKills(rand.New(rand.NewPCG(seed, 0)), payments))
		byPoint := map[demo.Hold]int{}
		for _, k := range plan {
			byPoint[k.At]++
			require.Less(t, k.After, payments-demo.Window)
			require.Less(t, k.Delay, maxDelay)
		}
		require.True(t, slices.IsSortedFunc(plan, func(a, b demo.Kill) int { return a.After - b.After }))
		require.GreaterOrEqual(t, len(plan)-byPoint[demo.HoldNowhere], minMetInDoubt)
		require.NotZero(t, byPoint[demo.HoldNowhere])
		require.NotZero(t, byPoint[demo.HoldVotes])
		require.NotZero(t, byPoint[demo.HoldDecision])
		require.NotZero(t, byPoint[demo.HoldHalf])
	})
}

package orders

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

// Any seed and number of orders gives kills of every victim and at every crash point,
// most of them sure to meet a transaction in doubt, in an order that can be carried out.
func TestPlanKills(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		orders := rapid.IntRange(MinOrders, 2000).Draw(t, "orders")
		servers := rapid.SampledFrom([][]string{nil, participantNames}).Draw(t, "servers")
		seed := rapid.Uint64().Draw(t, "seed")
		plan := planKills(rand.New(rand.NewPCG(seed, 0)), orders, servers)
		require.Equal(t, plan, planKills(rand.New(rand.NewPCG(seed, 0)), orders, servers))
		byPoint, victims := map[demo.Hold]int{}, map[string]int{}
		for _, k := range plan {
			byPoint[k.At]++
			require.True(t, k.Coordinator || k.Server != "")
			if k.Coordinator {
				victims[demo.Coordinator]++
			}
			if k.Server != "" {
				victims[k.Server]++
			}
			require.Less(t, k.After, orders-demo.Window)
			require.Less(t, k.Delay, maxDelay)
			require.Less(t, k.Outage, maxOutage)
		}
		require.True(t, slices.IsSortedFunc(plan, func(a, b demo.Kill) int { return a.After - b.After }))
		require.Len(t, byPoint, 4)
		require.GreaterOrEqual(t, 3*(len(plan)-byPoint[demo.HoldNowhere]), 2*len(plan))
		require.Len(t, victims, 1+len(servers))
	})
}

// Orders go both ways, a tenth asks for more than there can be, and the same seed
// makes the same ones.
func TestNewOrders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(MinOrders, 2000).Draw(t, "n")
		seed := rapid.Uint64().Draw(t, "seed")
		orders := newOrders(rand.New(rand.NewPCG(seed, 0)), n)
		require.Equal(t, orders, newOrders(rand.New(rand.NewPCG(seed, 0)), n))
		from, tooLarge := map[string]int{}, 0
		for _, o := range orders {
			require.Contains(t, items, o.Item)
			require.Positive(t, o.Pieces)
			require.ElementsMatch(t, warehouseNames, []string{o.From, o.To})
			require.Zero(t, o.moved(postgresName)+o.moved(mariadbName))
			require.Negative(t, o.moved(o.From))
			from[o.From]++
			if o.Pieces >= tooMany {
				tooLarge++
			}
		}
		require.Len(t, from, 2)
		require.Equal(t, n/refusedEvery, tooLarge)
	})
}

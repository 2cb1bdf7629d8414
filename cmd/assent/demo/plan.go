package demo

import (
	"math/rand/v2"
	"time"
)

// Kill is one of a storm's plan: when and where to kill the coordinator.
type Kill struct {
	After int           // so many deals are finished
	At    Hold          // HoldNowhere: at any time
	Delay time.Duration // of a kill at any time
}

// Spread puts kills in any order and spreads them over so many deals, so that the
// last one still finds deals that are not begun. The same source gives the same plan,
// though not the same run: when the processes do what is not planned.
func Spread(random *rand.Rand, kills []Kill, deals int) {
	n := len(kills)
	random.Shuffle(n, func(i, j int) { kills[i], kills[j] = kills[j], kills[i] })
	span := deals - Window - 1
	for i := range kills {
		kills[i].After = (i*span + random.IntN(span)) / n
	}
}

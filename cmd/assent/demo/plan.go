package demo

import (
	"context"
	"math/rand/v2"
	"time"
)

// Coordinator is how the coordinator is called among a kill's victims.
const Coordinator = "coordinator"

// Kill is one of a storm's plan: when, where and whom to kill.
type Kill struct {
	After int           // so many deals are finished
	At    Hold          // HoldNowhere: at any time
	Delay time.Duration // of a kill at any time
	// Coordinator says that it is killed, Server whose server, if any.
	Coordinator bool
	Server      string
	// Outage is how long the server stays down.
	Outage time.Duration
}

// victims are the names of those that the kill strikes at once.
func (k Kill) victims() (names []string) {
	if k.Coordinator {
		names = append(names, Coordinator)
	}
	if k.Server != "" {
		names = append(names, k.Server)
	}
	return names
}

// Server is what a participant works with, and can be killed as kill -9 does and started
// again on its data.
type Server interface {
	// Kill returns when the server is gone, Start when it serves again.
	Kill(ctx context.Context) error
	Start(ctx context.Context) error
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

package orders

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

const (
	minKills      = 10
	ordersPerKill = 10
	maxDelay      = 50 * time.Millisecond  // of a kill that comes at any time
	maxOutage     = 200 * time.Millisecond // before a server is started again
)

// planKills spreads kills over so many orders. In turn it kills the coordinator, each
// of the servers, and the coordinator with each of them, and each of these at every
// crash point and at any time.
func planKills(random *rand.Rand, orders int, servers []string) []demo.Kill {
	victims := []demo.Kill{{Coordinator: true}}
	for _, name := range servers {
		victims = append(victims, demo.Kill{Server: name}, demo.Kill{Server: name, Coordinator: true})
	}
	points := []demo.Hold{demo.HoldVotes, demo.HoldDecision, demo.HoldHalf, demo.HoldNowhere}
	plan := make([]demo.Kill, max(minKills, orders/ordersPerKill))
	for i := range plan {
		round, turn := i/len(victims), i%len(victims)
		k := victims[turn]
		k.At = points[(round+turn)%len(points)]
		k.Delay = time.Duration(random.Int64N(int64(maxDelay)))
		k.Outage = time.Duration(random.Int64N(int64(maxOutage)))
		plan[i] = k
	}
	demo.Spread(random, plan, orders)
	return plan
}

// storm is the last act.
func (s *story) storm(ctx context.Context) (*demo.Storm[order], error) {
	s.Print("\n%d  %s more orders, %d at a time, and kill -9 again and again (--seed %d)\n", len(s.Deals)+1, demo.Count(s.Orders), demo.Window, s.Seed)
	started := time.Now()
	storm := &demo.Storm[order]{
		Start: s.Start, InDoubt: s.inDoubt, Holding: len(participantNames), Servers: map[string]demo.Server{},
		Progress: func(finished, kills int) {
			s.Progress("%s of %s orders, %d kills", demo.Count(finished), demo.Count(s.Orders), kills)
		},
	}
	for _, name := range s.killable() {
		storm.Servers[name] = s.site.own[name]
	}
	random := rand.New(rand.NewPCG(s.Seed, 0))
	for i, o := range newOrders(random, s.Orders) {
		storm.Ask(len(s.Deals)+1+i, o)
	}
	err := storm.Run(ctx, planKills(random, s.Orders, s.killable()))
	s.ClearProgress()
	if err != nil {
		return nil, err
	}
	s.Deals = append(s.Deals, storm.Deals...)
	s.tellToll(storm, time.Since(started))
	return storm, nil
}

func (s *story) tellToll(storm *demo.Storm[order], took time.Duration) {
	committed, toll := storm.Committed(), storm.Toll
	s.Line("orders", "%s committed, %s refused, in %.1f s", demo.Count(committed), demo.Count(len(storm.Deals)-committed), took.Seconds())
	of := "of the coordinator alone"
	if len(s.killable()) > 0 {
		of = "some of two at once: the coordinator " + demo.Count(toll.Of[demo.Coordinator])
		for _, name := range s.killable() {
			of += ", " + name + " " + demo.Count(toll.Of[name])
		}
	}
	s.Line("kills", "%s, %s; %s left a transaction in doubt", demo.Count(toll.Kills), of, demo.Count(toll.MetInDoubt))
	s.TellDoubt(storm, "done")
}

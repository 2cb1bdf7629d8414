package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/assent-tm/assent/participant/participanttest/servers"
)

var pairArea = area{
	name: "pair",
	figures: []string{
		"pair.local_tps.c1", "pair.hand_tps.c1", "pair.assent_tps.c1", "pair.assent_ratio.c1", "pair.p50_commits.c1",
		"pair.local_tps.c4", "pair.hand_tps.c4", "pair.assent_tps.c4", "pair.assent_ratio.c4",
		"pair.local_tps.c16", "pair.hand_tps.c16", "pair.assent_tps.c16", "pair.assent_ratio.c16",
	},
	measure: measurePair,
	about: func(o Options) time.Duration {
		const start, slices = 10 * time.Second, 10
		return start + perRound(slices)(o)
	},
	asked: func(o Options) bool { return o.Databases }, flag: "--databases", lacks: haveServers,
}

// pairClients are the numbers of clients; the last is the highest.
var pairClients = []int{1, 4, maxPairClients}

const maxPairClients = 16

// haveServers says what is missing, before anything is measured.
func haveServers(o Options) error {
	if err := errors.Join(servers.PostgresInstalled(), servers.MariaDBInstalled()); err != nil {
		return err
	}
	if o.Dir == "" {
		return nil
	}
	// The servers keep their files among the temporary ones.
	same, err := sameDisk(o.Dir, os.TempDir())
	if err == nil && !same {
		err = fmt.Errorf("--dir is on another disk than the servers' files, which go to %s: set TMPDIR to a directory on the same disk that all may enter", os.TempDir())
	}
	return err
}

// pairRound is one round with a number of clients: what stands in a ratio was measured
// within a few seconds.
type pairRound struct {
	local, hand, assent round
	commit              round // of bbolt; with one client only
}

// measurePair measures what a transaction over two databases costs, side by side with
// what it replaces.
func measurePair(ctx context.Context, o Options, dir string) (figures []Figure, err error) {
	o.Progress("starting the servers")
	var p pair
	defer func() { err = errors.Join(err, p.close(context.WithoutCancel(ctx))) }()
	if err := p.open(ctx, dir); err != nil {
		return nil, err
	}
	o.Progress("warming up")
	if _, err := p.round(ctx, maxPairClients, o.Slice, 0); err != nil {
		return nil, err
	}
	// They take turns more often: it is the disk that they wait for, whose speed
	// changes within a slice.
	o.Rounds, o.Slice = o.Rounds*shorter, o.Slice/shorter
	rounds := map[int][]pairRound{}
	for i := range o.Rounds {
		for _, clients := range pairClients {
			o.Progress(fmt.Sprintf("%s, round %d of %d", counted(clients), i+1, o.Rounds))
			r, err := p.round(ctx, clients, o.Slice, i)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", counted(clients), err)
			}
			rounds[clients] = append(rounds[clients], r)
		}
	}
	if err := p.requireDone(ctx); err != nil {
		return nil, err
	}
	for _, clients := range pairClients {
		figures = append(figures, pairFigures(clients, rounds[clients])...)
	}
	return figures, nil
}

// round lets all sides take their turns; none always comes first.
func (p *pair) round(ctx context.Context, clients int, slice time.Duration, number int) (r pairRound, err error) {
	sides := []struct {
		transaction func(context.Context, int) error
		measured    *round
	}{{p.commitEach, &r.local}, {p.commitByHand, &r.hand}, {p.commitWithAssent, &r.assent}}
	for turn := range sides {
		side := sides[(number+turn)%len(sides)]
		if *side.measured, err = p.load(ctx, clients, slice, side.transaction); err != nil {
			return r, err
		}
	}
	if clients == 1 {
		r.commit, err = load(ctx, 1, slice, p.plain.record)
	}
	return r, err
}

func pairFigures(clients int, rounds []pairRound) []Figure {
	of := func(value func(pairRound) float64) float64 { return medianOf(rounds, value) }
	name := func(what string) string { return fmt.Sprintf("pair.%s.c%d", what, clients) }
	figures := []Figure{
		told(name("local_tps"), of(func(r pairRound) float64 { return r.local.perSecond }), "tx/s", "update a row in PostgreSQL and one in MariaDB, each committed by itself, "+counted(clients)),
		told(name("hand_tps"), of(func(r pairRound) float64 { return r.hand.perSecond }), "tx/s", "the same by two-phase commit written by hand, without a log"),
		told(name("assent_tps"), of(func(r pairRound) float64 { return r.assent.perSecond }), "tx/s", "the same with Assent"),
	}
	ratio := of(func(r pairRound) float64 { return r.assent.perSecond / r.hand.perSecond })
	const what = "the latter to the one before"
	if clients == maxPairClients {
		return append(figures, atLeast(name("assent_ratio"), ratio, "times", 0.8, what))
	}
	figures = append(figures, told(name("assent_ratio"), ratio, "times", what))
	if clients == 1 {
		commits := of(func(r pairRound) float64 { return float64(r.assent.p50-r.hand.p50) / float64(r.commit.p50) })
		figures = append(figures, atMost(name("p50_commits"), commits, "commits", 2.5, "how much longer a transaction takes than by hand, in commits of bbolt"))
	}
	return figures
}

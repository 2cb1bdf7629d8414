package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// clientCounts are the points of the plot.
var clientCounts = []int{1, 4, 16, 64, 256, 1024}

// Point is what a number of clients got from Assent, and from one db.Update for
// each record.
type Point struct {
	Clients int   `json:"clients"`
	Assent  Curve `json:"assent"`
	Update  Curve `json:"update"`
}

// Curve is one side's values at a point.
type Curve struct {
	PerSecond float64 `json:"per_second"`
	P50Micros float64 `json:"p50_us"`
	P99Micros float64 `json:"p99_us"`
}

// measureClients takes both sides in turns, at each of the numbers of clients.
func measureClients(ctx context.Context, o Options, dir string, counts []int) (points []Point, err error) {
	a, err := openAssent(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close(context.WithoutCancel(ctx))) }()
	p, err := openPlain(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	ours, theirs := make([][]round, len(counts)), make([][]round, len(counts))
	for i := range o.Rounds {
		for at, clients := range counts {
			o.Progress(fmt.Sprintf("%s, round %d of %d", counted(clients), i+1, o.Rounds))
			r, err := load(ctx, clients, o.Slice, a.transaction)
			if err != nil {
				return nil, err
			}
			ours[at] = append(ours[at], r)
			if r, err = load(ctx, clients, o.Slice, p.transaction); err != nil {
				return nil, err
			}
			theirs[at] = append(theirs[at], r)
		}
	}
	for at, clients := range counts {
		points = append(points, Point{clients, curve(ours[at]), curve(theirs[at])})
	}
	return points, nil
}

func curve(rounds []round) Curve {
	return Curve{
		PerSecond: medianOf(rounds, func(r round) float64 { return r.perSecond }),
		P50Micros: medianOf(rounds, func(r round) float64 { return micros(r.p50) }),
		P99Micros: medianOf(rounds, func(r round) float64 { return micros(r.p99) }),
	}
}

// aboutClients counts two slices for each point. A thousand clients with an Update
// for each record take longer than a slice, until each has done two transactions.
func aboutClients(o Options) time.Duration {
	return time.Duration(o.Rounds) * (time.Duration(2*len(clientCounts))*o.Slice + 2*time.Second)
}

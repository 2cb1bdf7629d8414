package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var serverArea = area{
	name: "server",
	figures: []string{
		"server.http_tps.c1", "server.grpc_tps.c1", "server.stream_tps.c1", "server.p50_commits.c1",
		"server.http_tps.c16", "server.grpc_tps.c16", "server.stream_tps.c16",
		"server.http_tps.c64", "server.grpc_tps.c64", "server.stream_tps.c64",
		"server.http_tps.c256", "server.grpc_tps.c256", "server.stream_tps.c256",
		"server.http_cpu_us.c256", "server.grpc_cpu_us.c256", "server.stream_cpu_us.c256",
		"server.fdatasyncs.c1", "server.fdatasyncs.c256",
	},
	measure: measureServer, about: perRound(len(serverClients)*3 + 1), asked: func(o Options) bool { return o.Server }, flag: "--server",
}

var serverClients = []int{1, 16, 64, maxServerClients}

const maxServerClients = 256

// serverSlice is what clients got done by one way to ask, and what that took of the
// server.
type serverSlice struct {
	round
	cpu        time.Duration // of the server's process, for each transaction
	fdatasyncs float64
}

// serverRound is one round with a number of clients.
type serverRound struct {
	http, grpc, stream serverSlice
	commit             round // of bbolt; with one client only
}

// measureServer measures the standalone server. Load, server and services are
// processes of their own, on one machine.
func measureServer(ctx context.Context, o Options, dir string) (figures []Figure, err error) {
	o.Progress("starting the server")
	var s site
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.open(ctx, dir); err != nil {
		return nil, err
	}
	o.Progress("warming up")
	if _, err := s.round(ctx, maxServerClients, o.Slice, 0); err != nil {
		return nil, err
	}
	rounds := map[int][]serverRound{}
	for i := range o.Rounds {
		for _, clients := range serverClients {
			o.Progress(fmt.Sprintf("%s, round %d of %d", counted(clients), i+1, o.Rounds))
			r, err := s.round(ctx, clients, o.Slice, i)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", counted(clients), err)
			}
			rounds[clients] = append(rounds[clients], r)
		}
	}
	for _, clients := range serverClients {
		figures = append(figures, serverFigures(clients, rounds[clients])...)
	}
	return append(figures, serverCosts(rounds[1], rounds[maxServerClients])...), nil
}

// round lets all ways to ask take their turns; none always comes first.
func (s *site) round(ctx context.Context, clients int, slice time.Duration, number int) (r serverRound, err error) {
	ways := []struct {
		submit   func(context.Context) error
		measured *serverSlice
	}{{s.submitHTTP, &r.http}, {s.submitGRPC, &r.grpc}, {s.submitSession, &r.stream}}
	for turn := range ways {
		way := ways[(number+turn)%len(ways)]
		if *way.measured, err = s.slice(ctx, clients, slice, way.submit); err != nil {
			return r, err
		}
	}
	if clients == 1 {
		r.commit, err = load(ctx, 1, slice, s.plain.record)
	}
	return r, err
}

func (s *site) slice(ctx context.Context, clients int, slice time.Duration, submit func(context.Context) error) (serverSlice, error) {
	before, err := s.server.ask(ctx, order{})
	if err != nil {
		return serverSlice{}, err
	}
	r, err := load(ctx, clients, slice, submit)
	if err != nil {
		return serverSlice{}, err
	}
	after, err := s.server.ask(ctx, order{})
	n := float64(r.transactions)
	return serverSlice{
		round: r, cpu: time.Duration(float64(after.CPU-before.CPU) / n), fdatasyncs: float64(after.Fdatasyncs-before.Fdatasyncs) / n,
	}, err
}

func serverFigures(clients int, rounds []serverRound) []Figure {
	of := func(value func(serverRound) float64) float64 { return medianOf(rounds, value) }
	name := func(what string) string { return fmt.Sprintf("server.%s.c%d", what, clients) }
	overHTTP := of(func(r serverRound) float64 { return r.http.perSecond })
	overGRPC := of(func(r serverRound) float64 { return r.grpc.perSecond })
	overStream := of(func(r serverRound) float64 { return r.stream.perSecond })
	figures := []Figure{
		told(name("http_tps"), overHTTP, "tx/s", "Submit as JSON, 2 participants over HTTP, "+counted(clients)),
		told(name("grpc_tps"), overGRPC, "tx/s", "Submit over gRPC, 2 attached participants"),
		told(name("stream_tps"), overStream, "tx/s", "the same, as requests of one Session"),
	}
	switch clients {
	case 1:
		commits := of(func(r serverRound) float64 { return float64(r.http.p50) / float64(r.commit.p50) })
		figures = append(figures, atMost(name("p50_commits"), commits, "commits", 5, "how long a transaction over HTTP takes, in commits of bbolt"))
	case 64:
		figures[0] = atLeast(name("http_tps"), overHTTP, "tx/s", 2500, figures[0].What)
	case maxServerClients:
		figures[1] = atLeast(name("grpc_tps"), overGRPC, "tx/s", 5000, figures[1].What)
		figures[2] = atLeast(name("stream_tps"), overStream, "tx/s", 15000, figures[2].What)
	}
	return figures
}

func serverCosts(one, most []serverRound) []Figure {
	name := func(what string) string { return fmt.Sprintf("server.%s_cpu_us.c%d", what, maxServerClients) }
	const what = "processor time of the server for a transaction"
	return []Figure{
		told(name("http"), medianOf(most, func(r serverRound) float64 { return micros(r.http.cpu) }), "us", what+" over HTTP"),
		told(name("grpc"), medianOf(most, func(r serverRound) float64 { return micros(r.grpc.cpu) }), "us", what+" over gRPC"),
		told(name("stream"), medianOf(most, func(r serverRound) float64 { return micros(r.stream.cpu) }), "us", what+" of a Session"),
		told("server.fdatasyncs.c1", medianOf(one, func(r serverRound) float64 { return r.http.fdatasyncs }), "", "fdatasyncs for a transaction over HTTP, 1 client"),
		told(fmt.Sprintf("server.fdatasyncs.c%d", maxServerClients), medianOf(most, func(r serverRound) float64 { return r.stream.fdatasyncs }), "", "the same of a Session, "+counted(maxServerClients)),
	}
}

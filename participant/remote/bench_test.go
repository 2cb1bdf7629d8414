package remote_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// BenchmarkCalls makes calls of a service that does nothing, in this process and over
// loopback sockets: caller and handler share the processors.
func BenchmarkCalls(b *testing.B) {
	url := serveHere(b, &idle{}, remote.HandlerConfig{Secrets: secrets()[:1]})
	h, err := remote.NewHTTP(remote.HTTPConfig{Name: serviceName, URL: url, Secrets: secrets()[:1]})
	require.NoError(b, err)
	g, err := remote.NewGRPC(remote.GRPCConfig{Name: serviceName, URL: url, Secrets: secrets()[:1]})
	require.NoError(b, err)
	for _, kind := range []struct {
		name string
		p    remote.Participant
	}{{"http", h}, {"grpc", g}} {
		for _, clients := range []struct {
			name    string
			perProc int
		}{{"c1", 0}, {"c64", 32}} {
			b.Run(kind.name+"/"+clients.name, func(b *testing.B) {
				branch := aBranch()
				b.ReportAllocs()
				call := func() {
					if err := kind.p.Commit(b.Context(), branch); err != nil {
						b.Error(err)
					}
				}
				if clients.perProc == 0 {
					for b.Loop() {
						call()
					}
				} else {
					b.SetParallelism(clients.perProc)
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							call()
						}
					})
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			})
		}
		require.NoError(b, kind.p.Close())
	}
}

// idle does nothing, well.
type idle struct{}

func (*idle) Name() string { return serviceName }

func (*idle) Prepare(context.Context, participant.Branch) (participant.Vote, error) {
	return participant.VotePrepared, nil
}
func (*idle) Commit(context.Context, participant.Branch) error   { return nil }
func (*idle) Rollback(context.Context, participant.Branch) error { return nil }

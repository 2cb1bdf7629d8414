package bench

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestServerMeasuresEveryFigure(t *testing.T) {
	o := Options{Server: true, Only: []string{"server"}, Rounds: 1, Slice: 20 * time.Millisecond}
	report, err := Run(t.Context(), o)
	require.NoError(t, err)
	requireListed(t, "server", report.Figures)
	aims := map[string]string{}
	for _, f := range report.Figures {
		if f.Met != nil {
			aims[f.Name] = f.Bound + " " + number(f.Aim)
		}
	}
	require.Equal(t, map[string]string{
		"server.http_tps.c64":    ">= 2500",
		"server.grpc_tps.c256":   ">= 5000",
		"server.stream_tps.c256": ">= 15000",
		"server.p50_commits.c1":  "<= 5",
	}, aims)
}

func TestInterruptedServerLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	o := Options{Dir: t.TempDir(), Server: true, Only: []string{"server"}, Rounds: 1, Slice: time.Hour}
	o.Progress = func(what string) {
		if strings.Contains(what, "warming up") {
			cancel()
		}
	}
	_, err := Run(ctx, o)
	require.ErrorIs(t, err, context.Canceled)
	requireEmpty(t, o.Dir)
}

// A process that can't do what it is to do says why.
func TestProcessSaysWhatFailed(t *testing.T) {
	p, err := startProcess(roleServer)
	require.NoError(t, err)
	_, err = p.ask(t.Context(), order{Services: "http://127.0.0.1:1", Dir: "/nix/da"})
	require.ErrorContains(t, err, "the server: ")
	require.ErrorContains(t, err, "/nix")
	require.NoError(t, p.close())
}

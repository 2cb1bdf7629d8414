package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestMeasureLogMeasuresEveryFigure(t *testing.T) {
	o := Options{Rounds: 1, Slice: 20 * time.Millisecond, Progress: func(string) {}}
	figures, err := measureLog(t.Context(), o, t.TempDir())
	require.NoError(t, err)
	names, aims := []string{}, map[string]string{}
	for _, f := range figures {
		names = append(names, f.Name)
		if f.Met != nil {
			aims[f.Name] = f.Bound + " " + number(f.Aim)
		}
	}
	require.Equal(t, logArea.figures, names)
	require.Equal(t, map[string]string{
		"log.p50_commits.c1":     "<= 2.1",
		"log.raw_ratio.c1":       ">= 0.9",
		"log.raw_ratio.c16":      ">= 0.75",
		"log.raw_ratio.c64":      ">= 0.6",
		"log.raw_ratio.c256":     ">= 0.5",
		"log.raw_ratio.c1024":    ">= 0.35",
		"log.update_ratio.c16":   ">= 15",
		"log.update_ratio.c256":  ">= 100",
		"log.update_ratio.c1024": ">= 200",
		"log.bytes_per_tx.c1024": "<= 300",
		"log.retention_cost":     "<= 15",
	}, aims)
}

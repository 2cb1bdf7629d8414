package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSingleSyncIsMeasured(t *testing.T) {
	figures, err := measureSingleSync(t.Context(), Options{Rounds: 1, Slice: 20 * time.Millisecond, Progress: func(string) {}}, t.TempDir())
	require.NoError(t, err)
	require.Len(t, figures, 1)
	require.Equal(t, "log.singlesync_ratio.c1", figures[0].Name)
	require.Positive(t, figures[0].Value)
}

// BenchmarkSingleSync reports the ratio to two syncs, interleaved in one run.
func BenchmarkSingleSync(b *testing.B) {
	for b.Loop() {
		figures, err := measureSingleSync(b.Context(), Options{Rounds: 9, Slice: 300 * time.Millisecond, Progress: func(string) {}}, b.TempDir())
		require.NoError(b, err)
		b.ReportMetric(figures[0].Value, "ratio")
	}
}

package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAimsAreJudged(t *testing.T) {
	require.True(t, *atMost("a", 2.3, "", 2.3, "").Met)
	require.False(t, *atMost("a", 2.4, "", 2.3, "").Met)
	require.True(t, *atLeast("a", 30, "", 30, "").Met)
	require.False(t, *atLeast("a", 29, "", 30, "").Met)
	require.True(t, *exactly("a", 4, "", 4, "").Met)
	require.False(t, *exactly("a", 4.001, "", 4, "").Met)
	require.False(t, *exactly("a", 3.999, "", 4, "").Met)
	require.Nil(t, told("a", 4, "", "").Met)
}

func TestNumber(t *testing.T) {
	for want, v := range map[string]float64{
		"0": 0, "4": 4, "2.3": 2.3, "2.35": 2.3456, "71234": 71234.4, "1000": 999.6,
		"0.0029": 0.0029, "0.02": 0.02, "-1.5": -1.5, "60": 60,
	} {
		require.Equal(t, want, number(v))
	}
}

func TestPercentiles(t *testing.T) {
	var values []time.Duration
	for i := range 200 {
		values = append(values, time.Duration(200-i))
	}
	require.EqualValues(t, 101, median(values))
	require.EqualValues(t, 199, percentile(values, 99))
	require.EqualValues(t, 200, percentile(values, 100))
	require.EqualValues(t, 0, median([]float64(nil)))
	require.EqualValues(t, 2, medianOf([]int{3, 1, 2}, func(v int) float64 { return float64(v) }))
}

package bench

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The figures themselves depend on the machine; that they come, with their aims
// judged, does not.
func TestRunMeasuresEveryFigure(t *testing.T) {
	figures, err := Run(t.Context(), Options{Dir: t.TempDir(), Rounds: 1, Slice: 20 * time.Millisecond})
	require.NoError(t, err)
	names := map[string]bool{}
	for _, f := range figures {
		require.Positive(t, f.Value, f.Name)
		require.False(t, names[f.Name], "twice: %s", f.Name)
		names[f.Name] = true
	}
	for _, want := range []string{"tx.p50_commits.c1", "tx.update_ratio.c64", "tx.update_ratio.c1024"} {
		require.True(t, names[want], want)
	}
}

func TestAimsAreJudged(t *testing.T) {
	require.True(t, *atMost("a", 2.3, "", 2.3, "").Met)
	require.False(t, *atMost("a", 2.4, "", 2.3, "").Met)
	require.True(t, *atLeast("a", 30, "", 30, "").Met)
	require.False(t, *atLeast("a", 29, "", 30, "").Met)
}

func TestOutputs(t *testing.T) {
	figures := []Figure{told("log.commit", 250, "us", "one commit"), atLeast("tx.update_ratio.c64", 12.5, "times", 30, "to plain")}
	var table, array bytes.Buffer
	require.NoError(t, WriteTable(&table, figures))
	require.Equal(t, ""+
		"FIGURE               VALUE  UNIT   AIM    MET  WHAT\n"+
		"log.commit           250    us                 one commit\n"+
		"tx.update_ratio.c64  12.5   times  >= 30  no   to plain\n", table.String())
	require.NoError(t, WriteJSON(&array, figures))
	var parsed []map[string]any
	require.NoError(t, json.Unmarshal(array.Bytes(), &parsed))
	require.Equal(t, map[string]any{"name": "tx.update_ratio.c64", "value": 12.5, "unit": "times", "aim": 30.0, "met": false}, parsed[1])
}

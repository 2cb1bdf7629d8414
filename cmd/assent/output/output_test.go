package output

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Scripts find every field each time, numbers as numbers, and [] for nothing.
func TestMessagesAsJSONAndYAML(t *testing.T) {
	status := &assentv1.StatusResponse{
		Domain: "orders", InDoubt: 3, OldestInDoubt: durationpb.New(90 * time.Second),
		Started: timestamppb.New(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)),
	}
	var text strings.Builder
	require.NoError(t, Write(&text, JSON, Of(status)))
	require.Equal(t, `{
  "version": "",
  "domain": "orders",
  "started": "2026-01-02T03:04:05Z",
  "condition": "",
  "reason": "",
  "undecided": 0,
  "in_doubt": 3,
  "oldest_in_doubt": "1m30s",
  "participants": []
}
`, text.String())

	list := []*assentv1.Transaction{{State: assentv1.State_STATE_ROLLING_BACK, Branches: []*assentv1.Branch{{Number: 1}}}}
	text.Reset()
	require.NoError(t, Write(&text, YAML, List(list)))
	require.Contains(t, text.String(), "\n  state: rolling_back\n")
	require.Contains(t, text.String(), "\n    - number: 1\n      participant: \"\"\n")
	for _, format := range []Format{JSON, YAML} {
		text.Reset()
		require.NoError(t, Write(&text, format, List[*assentv1.Transaction](nil)))
		require.Equal(t, "[]\n", text.String())
		text.Reset()
		require.NoError(t, Write(&text, format, Fields{}))
		require.Equal(t, "{}\n", text.String())
	}
}

func TestManyValues(t *testing.T) {
	var text strings.Builder
	for range 2 {
		require.NoError(t, WriteEach(&text, JSON, Fields{{"a", "<b>"}}))
	}
	require.Equal(t, "{\"a\":\"<b>\"}\n{\"a\":\"<b>\"}\n", text.String())
	text.Reset()
	for range 2 {
		require.NoError(t, WriteEach(&text, YAML, Fields{{"a", 1}}))
	}
	require.Equal(t, "---\na: 1\n---\na: 1\n", text.String())
}

func TestWords(t *testing.T) {
	require.Equal(t, "heuristic_mixed", Word(assentv1.Outcome_OUTCOME_HEURISTIC_MIXED))
	require.Equal(t, "unknown_vote", Word(assentv1.Cause_CAUSE_UNKNOWN_VOTE))
	require.Empty(t, Word(assentv1.Vote_VOTE_UNSPECIFIED))
	require.Equal(t, "unknown", Word(assentv1.Vote(99)), "of a newer server")
}

// What others wrote does nothing to a terminal or a table.
func TestTablesAreClean(t *testing.T) {
	var text strings.Builder
	require.NoError(t, Rows(&text, []string{"A", "B"}, [][]string{{"", "x\ty\n"}, {"\x1b[31mred", ""}}))
	require.Equal(t, "A            B\n-            x\\ty\\n\n\\x1b[31mred\n", text.String())
	text.Reset()
	require.NoError(t, Pairs(&text, [2]string{"name", "für \"alle\""}, [2]string{"left out", ""}))
	require.Equal(t, "name  für \"alle\"\n", text.String())
}

func TestParseFormat(t *testing.T) {
	f, err := ParseFormat("yaml", JSON, YAML)
	require.NoError(t, err)
	require.Equal(t, YAML, f)
	_, err = ParseFormat("xml", Table, JSON, YAML)
	require.EqualError(t, err, `--output "xml": want table, json or yaml`)
}

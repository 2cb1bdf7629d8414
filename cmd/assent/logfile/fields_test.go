package logfile

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Whatever a record holds, its text is one line that does nothing to a terminal, and
// its JSON is one object that has all of it.
func TestRecordsAreOneLineAndOneObject(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[\x00-\x7f]{0,9}`), rapid.Just("a b=c"), rapid.Just("\x1b[2J\r\n"))
	rapid.Check(t, func(t *rapid.T) {
		state := record.State{
			Tx: participant.TxID{Term: participant.NewTerm(1, 1)}, At: time.UnixMilli(1), By: record.NoBranch,
			Attributes: record.Attributes{text.Draw(t, "key"): text.Draw(t, "value")},
			Branches: []record.Branch{{
				Participant: text.Draw(t, "participant"), Data: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data"), Reason: text.Draw(t, "reason"),
			}},
		}
		f := fieldsOf(record.Carried{State: state})
		for _, full := range []bool{true, false} {
			line := f.text(full)
			require.NotContains(t, line, "\n")
			require.Equal(t, -1, strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }), "%q", line)
		}
		encoded, err := json.Marshal(f)
		require.NoError(t, err)
		var decoded struct {
			Attributes map[string]string
			Branches   []struct{ Data string }
		}
		require.NoError(t, json.Unmarshal(encoded, &decoded), "%s", encoded)
		require.Len(t, decoded.Attributes, 1)
		require.Len(t, decoded.Branches, 1)
		require.Len(t, decoded.Branches[0].Data, 2*len(state.Branches[0].Data))
	})
}

func TestDataIsShortenedUnlessAskedFor(t *testing.T) {
	f := fieldsOf(record.Enlisted{Participant: "bank_a", Data: make([]byte, 17)})
	require.Equal(t, "branch=0 participant=bank_a data="+strings.Repeat("00", 16)+"…(17 bytes)", f.text(false))
	require.Equal(t, "branch=0 participant=bank_a data="+strings.Repeat("00", 17), f.text(true))
	h := fieldsOf(record.Header{Catalogue: &record.Catalogue{Domain: "orders", Terms: make([]record.TermMarks, 3)}})
	require.Equal(t, "domain=orders terms=3", h.text(false))
	require.Contains(t, h.text(true), "terms=[{term=0} {term=0} {term=0}]")
}

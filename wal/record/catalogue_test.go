package record_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"github.com/vmihailenco/msgpack/v5"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// A log of few terms is written as it was before terms were packed.
func TestOnlyManyTermsArePacked(t *testing.T) {
	const version = 3 // length, array, kind, version; longer lengths come before
	h := record.Header{Term: participant.NewTerm(1, 1), Seq: 1, Catalogue: &record.Catalogue{Domain: "orders"}}
	for range 256 {
		h.Catalogue.Terms = append(h.Catalogue.Terms, record.TermMarks{Term: participant.NewTerm(1, 1)})
	}
	plain, err := record.Append(nil, h)
	require.NoError(t, err)
	h.Catalogue.Terms = append(h.Catalogue.Terms, record.TermMarks{Term: participant.NewTerm(1, 1)})
	packed, err := record.Append(nil, h)
	require.NoError(t, err)
	require.Equal(t, byte(1), plain[version+1])
	require.Equal(t, byte(3), packed[version+1])
	require.Less(t, len(packed), len(plain)/5)
}

// R12: what a catalogue needs is known before it is written, however far marks rise.
func TestR12TheSizeOfTermsIsKnownBeforehand(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := rapid.SliceOfN(rapid.Custom(genTermMarks), 1, 10).Draw(t, "terms")
		h := record.Header{Term: participant.NewTerm(1, 1), Catalogue: &record.Catalogue{}}
		for i := range 300 {
			h.Catalogue.Terms = append(h.Catalogue.Terms, few[i%len(few)])
		}
		most := record.TermsSize(h.Catalogue.Terms)
		for i, m := range h.Catalogue.Terms {
			if m.Mark == uuid.Nil && i%2 == 0 {
				h.Catalogue.Terms[i].Mark = m.Highest
			} else if m.Mark == uuid.Nil && m.Highest != uuid.Nil {
				h.Catalogue.Terms[i].Mark = uuid.UUID{15: 1}
			}
		}
		require.LessOrEqual(t, record.TermsSize(h.Catalogue.Terms), most)
		frame, err := record.Append(nil, h)
		require.NoError(t, err)
		require.LessOrEqual(t, len(frame), most+100)
	})
}

// R12: as many terms as may be listed fit into a record with all else that can be said.
func TestR12TheLargestCatalogueFits(t *testing.T) {
	word := record.Word{Number: 1, At: time.UnixMilli(1), Reason: strings.Repeat("x", record.MaxReason)}
	h := record.Header{Term: participant.NewTerm(1<<24-1, 1), Seq: 1 << 60, Catalogue: &record.Catalogue{
		Domain: strings.Repeat("x", participant.MaxDomain), Words: record.Words{Quarantine: word, Acceptance: word},
	}}
	many := record.MaxTermsSize / 37
	h.Catalogue.Terms = make([]record.TermMarks, many)
	for i := range h.Catalogue.Terms {
		h.Catalogue.Terms[i] = record.TermMarks{Term: participant.NewTerm(1, uint32(i)), Highest: uuid.UUID{2}, Mark: uuid.UUID{1}}
	}
	require.Greater(t, record.TermsSize(h.Catalogue.Terms), record.MaxTermsSize-37)
	frame, err := record.Append(nil, h)
	require.NoError(t, err)
	got, _, err := record.Next(frame)
	require.NoError(t, err)
	require.Equal(t, h.Catalogue.Terms, got.(record.Header).Catalogue.Terms)
}

// packedHeader is the body of a header with these packed terms.
func packedHeader(t *testing.T, packed []byte) []byte {
	id := make([]byte, 16)
	body, err := msgpack.Marshal([]any{int(record.KindHeader), 3, uint64(participant.NewTerm(1, 1)), id, 1, id, "orders", packed, nil, nil})
	require.NoError(t, err)
	return body
}

func TestPackedTermsThatWereNeverWrittenAreDamage(t *testing.T) {
	term := []byte{1<<2 | 3, 0, 0, 0, 9}
	ids := append(make([]byte, 31), 1)
	same := make([]byte, 32)
	same[0], same[16] = 1, 1
	for name, c := range map[string]struct {
		packed []byte
		sound  bool
	}{
		"none":                      {[]byte{0}, true},
		"one":                       {append(append([]byte{1}, term...), ids...), true},
		"nothing":                   {[]byte{}, false},
		"no bytes":                  {nil, false},
		"fewer than their number":   {append(append([]byte{2}, term...), ids...), false},
		"more than their number":    {append(append([]byte{0}, term...), ids...), false},
		"an id cut off":             {append(append([]byte{1}, term...), ids[1:]...), false},
		"a number longer than need": {append(append([]byte{0x81, 0}, term...), ids...), false},
		"a counter of 34 bits":      {append([]byte{1, 0xfc, 0xff, 0xff, 0xff, 0xff, 1}, term[1:]...), false},
		"a mark that is not needed": {append(append([]byte{1}, term...), same...), false},
		"ids that are not needed":   {append(append([]byte{1}, term...), make([]byte, 32)...), false},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := record.Next(frame(packedHeader(t, c.packed)))
			if c.sound {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, record.ErrCorrupt)
			}
		})
	}
}

package participant_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
)

const maxCounter = 1<<24 - 1

var (
	domainChars = []rune("abcdefghijklmnopqrstuvwxyz0123456789-")
	longest     = participant.Branch{
		Domain: strings.Repeat("z", participant.MaxDomain),
		Tx:     participant.TxID{Term: participant.NewTerm(maxCounter, math.MaxUint32), UUID: uuid.Max},
		Number: participant.MaxBranches - 1,
	}
)

func terms() *rapid.Generator[participant.Term] {
	return rapid.Custom(func(t *rapid.T) participant.Term {
		return participant.NewTerm(rapid.Uint32Range(1, maxCounter).Draw(t, "counter"), rapid.Uint32().Draw(t, "random"))
	})
}

func txIDs() *rapid.Generator[participant.TxID] {
	return rapid.Custom(func(t *rapid.T) participant.TxID {
		id := participant.TxID{Term: terms().Draw(t, "term")}
		copy(id.UUID[:], rapid.SliceOfN(rapid.Byte(), len(id.UUID), len(id.UUID)).Draw(t, "uuid"))
		return id
	})
}

func branches() *rapid.Generator[participant.Branch] {
	return rapid.Custom(func(t *rapid.T) participant.Branch {
		return participant.Branch{
			Domain: rapid.StringOfN(rapid.SampledFrom(domainChars), 1, participant.MaxDomain, -1).Draw(t, "domain"),
			Tx:     txIDs().Draw(t, "tx"),
			Number: rapid.IntRange(0, participant.MaxBranches-1).Draw(t, "number"),
		}
	})
}

func TestIDsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := branches().Draw(t, "branch")

		term, err := participant.ParseTerm(b.Tx.Term.String())
		require.NoError(t, err)
		require.Equal(t, b.Tx.Term, term)

		id, err := participant.ParseTxID(b.Tx.String())
		require.NoError(t, err)
		require.Equal(t, b.Tx, id)

		back, err := participant.ParseXID(string(b.XID()))
		require.NoError(t, err)
		require.Equal(t, b, back)
	})
}

// Resource managers give a global transaction id 64 bytes and no choice of
// characters that is wider than this one.
func TestXIDFitsEveryResourceManager(t *testing.T) {
	require.Len(t, string(longest.XID()), participant.MaxXID, "the bound is reached, not only kept")

	rapid.Check(t, func(t *rapid.T) {
		b := branches().Draw(t, "branch")
		xid := string(b.XID())
		require.LessOrEqual(t, len(xid), participant.MaxXID)
		require.Empty(t, strings.Trim(xid, string(domainChars)+":"), "characters outside [a-z0-9:-]")
		require.True(t, strings.HasPrefix(xid, participant.XIDPrefix(b.Domain)))
	})
}

// R10: the prefix of a domain selects no branch of another one.
func TestXIDPrefixTellsDomainsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, other := branches().Draw(t, "branch"), branches().Draw(t, "other")
		if rapid.Bool().Draw(t, "lookalike") && len(b.Domain) < participant.MaxDomain {
			other.Domain = b.Domain + "-"
		}
		own := strings.HasPrefix(string(other.XID()), participant.XIDPrefix(b.Domain))
		require.Equal(t, b.Domain == other.Domain, own)
	})
}

func TestDifferentBranchesHaveDifferentXIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := branches().Draw(t, "a"), branches().Draw(t, "b")
		b.Tx.UUID = a.Tx.UUID // else they differ by their UUIDs alone
		same := a.Domain == b.Domain && a.Tx == b.Tx && a.Number == b.Number
		require.Equal(t, same, a.XID() == b.XID())
	})
}

func TestTermsAreOrderedByCounter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := terms().Draw(t, "a"), terms().Draw(t, "b")
		if a.Counter() < b.Counter() {
			require.Less(t, a, b)
		}
	})
}

func TestTermBounds(t *testing.T) {
	require.False(t, participant.Term(0).Valid())
	require.False(t, participant.Term(math.MaxUint32).Valid(), "counter 0")
	require.True(t, participant.NewTerm(1, 0).Valid())
	require.True(t, longest.Tx.Term.Valid())
	require.False(t, (longest.Tx.Term + 1).Valid(), "counter 2^24")
	require.EqualValues(t, maxCounter, longest.Tx.Term.Counter())
	require.Panics(t, func() { participant.NewTerm(0, 1) })
	require.Panics(t, func() { participant.NewTerm(maxCounter+1, 1) })
}

func TestTxIDsCompareAsTheyWereBegun(t *testing.T) {
	newID := func(term participant.Term) participant.TxID {
		return participant.TxID{Term: term, UUID: uuid.Must(uuid.NewV7())}
	}
	first := newID(participant.NewTerm(2, 7))
	second := newID(participant.NewTerm(2, 7))
	earlierTerm := newID(participant.NewTerm(1, math.MaxUint32))
	require.Negative(t, first.Compare(second))
	require.Positive(t, second.Compare(first))
	require.Zero(t, first.Compare(first))
	require.Negative(t, earlierTerm.Compare(first), "the term counts before the UUID")
	require.True(t, participant.TxID{}.IsZero())
	require.False(t, first.IsZero())
}

func TestTxIDIsAStringInJSON(t *testing.T) {
	text, err := json.Marshal(longest.Tx)
	require.NoError(t, err)
	require.Equal(t, `"`+longest.Tx.String()+`"`, string(text))
	var back participant.TxID
	require.NoError(t, json.Unmarshal(text, &back))
	require.Equal(t, longest.Tx, back)
	require.Error(t, json.Unmarshal([]byte(`"abc"`), &back))
	require.True(t, back.IsZero(), "nothing half read stays behind")
}

// Each of these is one step from a valid text. A second spelling of an id would
// be a second transaction to a resource manager.
func TestParseRefusesOtherSpellings(t *testing.T) {
	const digits = "0190a0b0c0d070008000000000000001"
	for _, text := range []string{
		"", "-", "1z141z5", "1z141z5-", "-" + digits, "0-" + digits, "zz-" + digits, "+1z141z5-" + digits, "01z141z5-" + digits,
		"1Z141Z5-" + digits, "1z141z5-" + strings.ToUpper(digits), "1z141z5-" + digits[1:], "1z141z5-" + digits + "0",
		"1z141z5-" + digits[:31] + "g", "1z141z5:" + digits, " 1z141z5-" + digits, "zzzzzzzzzzz-" + digits, "3w5e11264sgsf-" + digits,
		"1z141z5-0190a0b0-c0d0-7000-8000-000000000001",
	} {
		_, err := participant.ParseTxID(text)
		require.Error(t, err, text)
	}
	_, err := participant.ParseTxID("1z141z5-" + digits)
	require.NoError(t, err, "the text all of the above are one step from")

	xid := "a-b:1z141z5:" + digits + ":"
	for _, text := range []string{
		"", ":::", xid, xid + "64", xid + "-1", xid + "-0", xid + "+1", xid + "01", xid + "1:", xid + "1 ", xid + "1\n",
		"A" + xid + "1", "a_" + xid + "1", strings.Repeat("a", 14) + xid + "1", ":1z141z5:" + digits + ":1", "x:" + xid + "1",
		"a:0:" + digits + ":1",
	} {
		_, err := participant.ParseXID(text)
		require.Error(t, err, text)
	}
	_, err = participant.ParseXID(xid + "63")
	require.NoError(t, err)
}

func TestValidDomain(t *testing.T) {
	for _, domain := range []string{"a", "0", "-", "orders", "a-b", strings.Repeat("x", participant.MaxDomain)} {
		require.NoError(t, participant.ValidDomain(domain), domain)
	}
	for _, domain := range []string{"", "A", "a_b", "a b", "a:b", "a%", "é", "a\x00", strings.Repeat("x", participant.MaxDomain+1)} {
		require.Error(t, participant.ValidDomain(domain), domain)
	}
}

func FuzzParseTerm(f *testing.F) {
	f.Add(longest.Tx.Term.String())
	f.Add(participant.NewTerm(1, 0).String())
	f.Add("+1z141z5")
	f.Fuzz(func(t *testing.T, s string) {
		if term, err := participant.ParseTerm(s); err == nil {
			require.True(t, term.Valid())
			require.Equal(t, s, term.String())
		}
	})
}

func FuzzParseTxID(f *testing.F) {
	f.Add(longest.Tx.String())
	f.Add("1z141z5-0190a0b0c0d070008000000000000001")
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := participant.ParseTxID(s); err == nil {
			require.Equal(t, s, id.String())
			require.False(t, id.IsZero())
		}
	})
}

func FuzzParseXID(f *testing.F) {
	f.Add(string(longest.XID()))
	f.Add("a-b:1z141z5:0190a0b0c0d070008000000000000001:0")
	f.Fuzz(func(t *testing.T, s string) {
		if b, err := participant.ParseXID(s); err == nil {
			require.Equal(t, s, string(b.XID()))
			require.LessOrEqual(t, len(s), participant.MaxXID)
			require.NoError(t, participant.ValidDomain(b.Domain))
		}
	})
}

package banks

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestSampleIsValid(t *testing.T) {
	transfers, err := Sample()
	require.NoError(t, err)
	tooLarge := 0
	for _, transfer := range transfers {
		if transfer.Amount > openingTotal() {
			tooLarge++
		}
	}
	require.NotZero(t, tooLarge, "some must be refused, whatever happens")
	require.Less(t, 4*tooLarge, len(transfers))
}

func TestReadTransfers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "in.csv")
	for _, text := range []string{
		"from,to,amount\nalice,bob,30\nbruno,agnes,1000000000\n",
		"\xef\xbb\xbffrom, to ,amount\r\n\r\n alice ,\"bob\", 30\r\nbruno,agnes,1000000000",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		transfers, err := ReadTransfers(path)
		require.NoError(t, err)
		require.Equal(t, []Transfer{{"alice", "bob", 30}, {"bruno", "agnes", 1_000_000_000}}, transfers)
	}
}

// Malformed files: the error says where, in the form file:line:column.
func TestMalformedTransfersAreRefused(t *testing.T) {
	const header = "from,to,amount\nalice,bob,1\n"
	for name, c := range map[string]struct{ text, where, says string }{
		"empty file":          {"", "", "empty"},
		"only a header":       {"from,to,amount\n", "", "no transfers"},
		"other header":        {"from,into,amount\nalice,bob,1\n", ":1:6", "the header is"},
		"no header":           {"alice,bob,1\n", ":1:1", "the header is"},
		"short header":        {"from,to\nalice,bob,1\n", ":1:6", "the header is"},
		"long header":         {"from,to,amount,note\nalice,bob,1\n", ":1:16", "more columns"},
		"missing column":      {header + "alice,bob\n", ":3:7", "column amount is missing"},
		"extra column":        {header + "alice,bob,1,2\n", ":3:13", "more columns"},
		"not a number":        {header + "alice,bob,ten\n", ":3:11", "not a whole number"},
		"a fraction":          {header + "alice,bob,1.5\n", ":3:11", "not a whole number"},
		"no amount":           {header + "alice,bob,\n", ":3:11", "not a whole number"},
		"zero":                {header + "alice,bob,0\n", ":3:11", "not above zero"},
		"negative":            {header + "alice,bob,-5\n", ":3:11", "not above zero"},
		"too large":           {header + "alice,bob,1000000001\n", ":3:11", "out of range"},
		"overflow":            {header + "alice,bob,99999999999999999999\n", ":3:11", "out of range"},
		"negative overflow":   {header + "alice,bob,-99999999999999999999\n", ":3:11", "out of range"},
		"unknown account":     {header + "alice,zoe,1\n", ":3:7", `unknown account "zoe"`},
		"no account":          {header + ",bob,1\n", ":3:1", `unknown account ""`},
		"same account":        {header + "alice,alice,1\n", ":3:7", "both alice"},
		"same bank":           {header + "alice,anna,1\n", ":3:7", "both in bank_a"},
		"after a blank line":  {header + "\nalice,bob,x\n", ":4:11", "not a whole number"},
		"bare quote":          {header + "ali\"ce,bob,1\n", ":3:4", "bare"},
		"open quote":          {header + "\"alice,bob,1\n", ":3:", "quote"},
		"zeros":               {header + "\x00\x00\x00\n", ":3:1", "column to is missing"},
		"nothing can be paid": {"from,to,amount\nalice,bob,1001\n", "", "no transfer can be paid"},
		"larger than allowed": {header + strings.Repeat("alice,bob,1\n", maxFile/12), "", "larger than 8 MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "in.csv")
			require.NoError(t, os.WriteFile(path, []byte(c.text), 0o600))
			_, err := ReadTransfers(path)
			require.ErrorContains(t, err, path+c.where)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func TestUnreadableTransfersAreRefused(t *testing.T) {
	dir := t.TempDir()
	_, err := ReadTransfers(dir)
	require.ErrorContains(t, err, "is a directory")
	_, err = ReadTransfers(filepath.Join(dir, "missing.csv"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "missing.csv")
	_, err = ReadTransfers("/dev/zero")
	require.ErrorContains(t, err, "/dev/zero: larger than")
}

func FuzzParseTransfers(f *testing.F) {
	f.Add(sample)
	f.Add([]byte("from,to,amount\nalice,bob,1\n\"a"))
	f.Fuzz(func(t *testing.T, text []byte) {
		transfers, err := parseTransfers("in.csv", text)
		if err != nil {
			require.ErrorContains(t, err, "in.csv:")
			return
		}
		for _, transfer := range transfers {
			require.NotEqual(t, bankOf(transfer.From), bankOf(transfer.To))
			require.Contains(t, bankNames, bankOf(transfer.From))
			require.Contains(t, bankNames, bankOf(transfer.To))
			require.Positive(t, transfer.Amount)
		}
	})
}

// Two passes over any input leave every account as it was.
func TestFeedSendsTheMoneyBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		transfers := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) Transfer {
			return Transfer{
				From: rapid.SampledFrom(accountsOf[bankA]).Draw(t, "from"), To: rapid.SampledFrom(accountsOf[bankB]).Draw(t, "to"),
				Amount: rapid.Int64Range(1, maxAmount).Draw(t, "amount"),
			}
		}), 1, 20).Draw(t, "transfers")
		f, sum := feed{transfers: transfers}, map[string]int64{}
		for range 2 * len(transfers) {
			next := f.next()
			sum[next.From] -= next.Amount
			sum[next.To] += next.Amount
		}
		for account, moved := range sum {
			require.Zero(t, moved, account)
		}
	})
}

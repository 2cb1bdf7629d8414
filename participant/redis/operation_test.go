package redis

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestDecodeReadsWhatEncodeWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		argument := rapid.StringN(0, 5, -1)
		operations := rapid.SliceOf(rapid.Custom(func(t *rapid.T) operation {
			return operation(rapid.SliceOfN(argument, 2, 9).Draw(t, "arguments"))
		})).Draw(t, "operations")
		got, err := decode(encode(operations))
		if err != nil || len(got) != len(operations) {
			t.Fatal(got, err)
		}
		for i := range got {
			if strings.Join(got[i], "\x00") != strings.Join(operations[i], "\x00") || len(got[i]) != len(operations[i]) {
				t.Fatal(got[i], operations[i])
			}
		}
	})
}

func TestDecodeRejects(t *testing.T) {
	for _, flat := range []string{"", "1|a", "0", "-1|a|b", "02|a|b", "+2|a|b", "3|a|b", "2|a|b|2|a", "x|a|b", "9999999999999999999|a", "2|a|b|"} {
		_, err := decode(strings.Split(flat, "|"))
		require.ErrorIs(t, err, errDamaged, "%q", flat)
	}
	_, err := decode(append([]string{"5000"}, make([]string, 5000)...))
	require.ErrorIs(t, err, errDamaged)
	operations, err := decode(nil)
	require.NoError(t, err)
	require.Empty(t, operations)
}

func FuzzDecode(f *testing.F) {
	f.Add("3\x00SET\x00a\x001\x002\x00INCRBY\x00b")
	f.Add("0")
	f.Add("4098\x00a")
	f.Fuzz(func(t *testing.T, text string) {
		flat := strings.Split(text, "\x00")
		operations, err := decode(flat)
		if err != nil {
			require.ErrorIs(t, err, errDamaged)
			return
		}
		require.Equal(t, flat, encode(operations))
		require.LessOrEqual(t, len(keysOf(operations)), len(operations))
	})
}

func TestAtLeast(t *testing.T) {
	for version, want := range map[string]bool{"7.0.15": true, "7": true, "10.1": true, "6.2.14": false, "": false, "x": false} {
		require.Equal(t, want, atLeast(version, 7), version)
	}
}

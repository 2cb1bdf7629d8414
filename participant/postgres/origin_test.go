package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

func FuzzOrigin(f *testing.F) {
	f.Add(origin{identity{7713302172870014756, 16390, "orders"}, 4711, 1795000000000000}.data())
	f.Add([]byte("1 2 3 4 a name with spaces"))
	f.Add([]byte("1 2 3 x y"))
	f.Add([]byte("-1 2 99999999999 4 "))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		o, err := parseOrigin(data)
		if err != nil {
			require.ErrorIs(t, err, participant.ErrConfig)
			require.Zero(t, o)
			return
		}
		again, err := parseOrigin(o.data())
		require.NoError(t, err)
		require.Equal(t, o, again)
	})
}

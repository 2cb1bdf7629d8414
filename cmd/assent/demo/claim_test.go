package demo

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCount(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", -1000: "-1,000", -30: "-30", 1234567: "1,234,567"} {
		require.Equal(t, want, Count(n))
	}
}

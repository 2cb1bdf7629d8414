package nats

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSubjectsWithin(t *testing.T) {
	for _, test := range []struct {
		filter, pattern string
		want            bool
	}{
		{"a.b", "a.b", true},
		{"a.b", "a.c", false},
		{"a.b", "a", false},
		{"a", "a.b", false},
		{"a.*", "a.b", true},
		{"a.*", "a.b.c", false},
		{"a.>", "a.b.c", true},
		{"a.>", "a", false},
		{">", "a", true},
		{"*.b", "a.b", true},
		{"a.>", "a.>", true},
		{"a.>", "a.b.>", true},
		{"a.*.>", "a.b.>", true},
		{"a.b.>", "a.>", false},
		{"a.*", "a.>", false},
		{"a.*", "a.b.>", false},
		{"*.>", "a.>", true},
	} {
		require.Equal(t, test.want, within([]string{"x", test.filter}, test.pattern), "%s within %s", test.pattern, test.filter)
	}
}

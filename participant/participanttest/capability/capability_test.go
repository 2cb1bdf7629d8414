package capability

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recorder is a test that notes how Need ended it.
type recorder struct{ skipped, failed string }

func (r *recorder) Helper()          {}
func (r *recorder) Skip(args ...any) { r.skipped = fmt.Sprint(args...) }
func (r *recorder) Fatal(args ...any) {
	r.failed = fmt.Sprint(args...)
}

func TestNeed(t *testing.T) {
	only := func(c Capability) error {
		if c == Strace {
			return nil
		}
		return errors.New("not here")
	}
	for _, test := range []struct {
		name            string
		require         string
		short           bool
		needed          []Capability
		skipped, failed string
	}{
		{name: "present", needed: []Capability{Strace}},
		{name: "present and required", require: "all", needed: []Capability{Strace}},
		{name: "missing", needed: []Capability{Strace, Loop}, skipped: "missing capability loop: not here"},
		{
			name: "two missing", needed: []Capability{Root, Loop},
			skipped: "missing capability root: not here\nmissing capability loop: not here",
		},
		{name: "other required", require: "node, redis", needed: []Capability{Root}, skipped: "missing capability root: not here"},
		{name: "required", require: "node,root", needed: []Capability{Root}, failed: "missing capability root: not here"},
		{name: "all required", require: "all", needed: []Capability{Root}, failed: "make deps"},
		{name: "misspelt", require: "postgresql", needed: []Capability{Root}, failed: `names "postgresql"`},
		{
			name: "server in a short run", require: "all", short: true, needed: []Capability{Postgres},
			skipped: "left out of a short run: needs postgres",
		},
		{name: "no server in a short run", require: "all", short: true, needed: []Capability{Root}, failed: "missing capability root"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r recorder
			need(&r, only, test.require, test.short, test.needed)
			require.Equal(t, test.skipped, r.skipped)
			require.Contains(t, r.failed, test.failed)
			require.Equal(t, test.failed == "", r.failed == "")
		})
	}
}

// What Need writes, SkipReason reads, behind the prefix that package testing adds.
func TestSkipReasonReadsNeed(t *testing.T) {
	none := func(Capability) error { return errors.New("not here: really") }
	for _, c := range All() {
		for _, short := range []bool{false, true} {
			var r recorder
			need(&r, none, "", short, []Capability{c})
			got, lacks := SkipReason("    some_test.go:12: " + r.skipped + "\n")
			require.Equal(t, c, got)
			require.Equal(t, strings.HasPrefix(r.skipped, lacking), lacks)
		}
	}
	for _, line := range []string{"", "not today", "missing capability gold: none left"} {
		got, _ := SkipReason(line)
		require.Empty(t, got)
	}
}

// Every probe answers, and a reason fits one line: it is read line by line.
func TestProbesAnswerOnOneLine(t *testing.T) {
	require.Len(t, All(), 15)
	for _, path := range []string{"", "/nowhere"} {
		if path != "" {
			t.Setenv("PATH", path)
		}
		for _, c := range All() {
			if err := Missing(c); err != nil {
				require.NotContains(t, err.Error(), "\n", c)
			}
		}
	}
	require.Error(t, Missing(Strace))
	require.Error(t, Missing(Gcc))
	require.Error(t, Missing("gold"))
}

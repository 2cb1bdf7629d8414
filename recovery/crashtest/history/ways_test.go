package history_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	h "github.com/assent-tm/assent/recovery/crashtest/history"
)

// The other ways to break a rule, each alone.
func TestOtherWaysToBreakARule(t *testing.T) {
	onlyBegun := seq(of(h.KindBegin, "t"), enlist("t", 0))
	inquiry := func(o h.Outcome) h.Event { return outcome(h.KindInquiry, "t", 0, o) }
	none := of(h.KindBegin, "t")
	for _, c := range []struct {
		name   string
		rule   h.Rule
		broken []any
	}{
		{"lazily after durably", h.NoReversal, seq(begun(ro), decided("t", h.Commit), lazily("t", h.Rollback))},
		{"durably after lazily", h.NoReversal, seq(begun(ro), lazily("t", h.Commit), decided("t", h.Rollback))},
		{"decided otherwise than told", h.ToldHolds, seq(append(onlyBegun, crash, start, inquiry(h.Rollback), decided("t", h.Commit))...)},
		{"decided otherwise than ended", h.Agreement, seq(begun(yes), ack("t", 0, h.Rollback), decided("t", h.Commit))},
		{"told and not in the log", h.ToldHolds, seq(none, crash, inquiry(h.Commit), recovered("t", h.Undecided))},
		{"branches told otherwise than clients", h.ToldHolds, seq(append(onlyBegun, crash, start, inquiry(h.Rollback), tell("t", 0, h.Commit))...)},
		{"a branch turns round", h.NoReversal, seq(begun(yes), decided("t", h.Commit), ack("t", 0, h.Commit), ack("t", 0, h.Rollback))},
		{"an effect of a branch that rolled back", h.ExactlyOnce, seq(begun(yes), ack("t", 0, h.Rollback), at(h.KindEffect, "t", 0))},
		{"an effect of a rollback", h.Agreement, seq(begun(no), decided("t", h.Rollback), at(h.KindEffect, "t", 0))},
		{"a client told otherwise", h.Agreement, seq(begun(yes), decided("t", h.Commit), inquiry(h.Rollback))},
		{"a prepared branch of a settled transaction", h.Settles, seq(settled, left("p0", "x"), counted(h.KindListed, "p0", 1))},
		{"two rows", h.ExactlyOnce, seq(none, row("p0", "t"), row("p0", "t"), counted(h.KindWitnesses, "p0", 2))},
		{"a row of nothing", h.WitnessRows, seq(row("p0", "t"), counted(h.KindWitnesses, "p0", 1))},
	} {
		t.Run(c.name, func(t *testing.T) {
			violations, err := h.Check(history(c.broken...))
			require.NoError(t, err)
			require.Len(t, violations, 1, "%v", violations)
			require.Equal(t, c.rule, violations[0].Rule)
		})
	}
}

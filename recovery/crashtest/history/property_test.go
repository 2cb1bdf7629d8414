package history_test

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	h "github.com/assent-tm/assent/recovery/crashtest/history"
)

func TestWhatKeepsTheRulesIsNotBlamed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := generate(t).events
		violations, err := h.Check(events)
		require.NoError(t, err)
		require.Empty(t, violations, dump(events))
		var text bytes.Buffer
		require.NoError(t, h.Write(&text, events))
		again, err := h.Read(&text)
		require.NoError(t, err)
		require.Equal(t, events, again)
	})
}

func dump(events []h.Event) string {
	var text bytes.Buffer
	_ = h.Write(&text, events)
	return text.String()
}

// mutations each break one promise of a history that keeps them, at line i.
var mutations = []struct {
	name    string
	fits    func(g *generator, i int) bool
	violate func(events []h.Event, i int) []h.Event
	rules   []h.Rule
}{
	{
		"a branch ends otherwise",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindAck },
		turn,
		[]h.Rule{h.Agreement, h.NoReversal},
	},
	{
		"a branch is told otherwise",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindTell && !g.events[i].OnePhase },
		turn,
		[]h.Rule{h.Agreement, h.LogBeforeTell, h.ReadOnlyLeaves},
	},
	{
		"a client is told otherwise",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindAnswer && g.needs(g.caller(i)) },
		turn,
		[]h.Rule{h.Agreement, h.ToldHolds, h.LogBeforeTell},
	},
	{
		"an effect twice",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindEffect },
		func(events []h.Event, i int) []h.Event { return slices.Insert(events, i, events[i]) },
		[]h.Rule{h.ExactlyOnce},
	},
	{
		"no effect",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindEffect },
		remove,
		[]h.Rule{h.ExactlyOnce},
	},
	{
		"a vote that nobody gave",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindVote && g.committed(g.events[i].Tx) },
		remove,
		[]h.Rule{h.CommitNeedsVotes, h.LogBeforeTell},
	},
	{
		"told before it is durable",
		func(g *generator, i int) bool {
			return g.events[i].Kind == h.KindDecided && g.events[i].Outcome == h.Commit && !g.events[i].Lazy && g.heard(i) > 0
		},
		func(events []h.Event, i int) []h.Event {
			g := generator{events: events}
			after := g.heard(i)
			return append(remove(events[:after+1:after+1], i), append([]h.Event{events[i]}, events[after+1:]...)...)
		},
		[]h.Rule{h.LogBeforeTell},
	},
	{
		"a durable decision is lost",
		func(g *generator, i int) bool {
			return g.events[i].Kind == h.KindRecover && g.events[i].Outcome == h.Commit && g.committed(g.events[i].Tx)
		},
		func(events []h.Event, i int) []h.Event { events[i].Outcome = h.Undecided; return events },
		[]h.Rule{h.RecoveryIdempotent},
	},
	{
		"forgotten before it is told",
		func(g *generator, i int) bool {
			return g.events[i].Kind == h.KindDecided && !g.events[i].Lazy && g.prepared(g.events[i].Tx)
		},
		func(events []h.Event, i int) []h.Event {
			return slices.Insert(events, i+1, of(h.KindForget, events[i].Tx))
		},
		[]h.Rule{h.CompletedBeforeForget},
	},
	{
		"a row is missing",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindWitness },
		func(events []h.Event, i int) []h.Event {
			end := slices.IndexFunc(events, func(e h.Event) bool {
				return e.Kind == h.KindWitnesses && e.Participant == events[i].Participant
			})
			events[end] = counted(h.KindWitnesses, events[i].Participant, *events[end].Count-1)
			return remove(events, i)
		},
		[]h.Rule{h.WitnessRows},
	},
	{
		"an orphan stays",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindListed },
		func(events []h.Event, i int) []h.Event {
			events[i] = counted(h.KindListed, "p0", 2)
			return slices.Insert(events, i, left("p0", "orphan"))
		},
		[]h.Rule{h.Settles},
	},
	{
		"a foreign branch is ended",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindFinished },
		func(events []h.Event, i int) []h.Event { events[i].XID = "foreign"; return events },
		[]h.Rule{h.Untouched},
	},
	{
		"money is made",
		func(g *generator, i int) bool { return g.events[i].Kind == h.KindSum && i > 4 },
		func(events []h.Event, i int) []h.Event { events[i] = sum(101); return events },
		[]h.Rule{h.SumHolds},
	},
	{
		"undecided after it was decided",
		func(g *generator, i int) bool {
			return g.events[i].Kind == h.KindAnswer && g.op(i) == h.OpGet && g.told(g.caller(i)) < i
		},
		func(events []h.Event, i int) []h.Event { events[i].Outcome = h.Undecided; return events },
		[]h.Rule{h.Linearizable},
	},
}

func TestEachMutationIsCaught(t *testing.T) {
	for _, m := range mutations {
		t.Run(m.name, func(t *testing.T) {
			broken := 0
			rapid.Check(t, func(t *rapid.T) {
				g := generate(t)
				var where []int
				for i := range g.events {
					if m.fits(g, i) {
						where = append(where, i)
					}
				}
				if len(where) == 0 {
					return
				}
				broken++
				line := rapid.SampledFrom(where).Draw(t, "where")
				events := m.violate(slices.Clone(g.events), line)
				violations, err := h.Check(events)
				require.NoError(t, err)
				require.NotEmpty(t, violations, "line %d of\n%s", line+1, dump(events))
				caught := slices.ContainsFunc(violations, func(v h.Violation) bool { return slices.Contains(m.rules, v.Rule) })
				require.True(t, caught, "line %d: %v\n%s", line+1, violations, dump(events))
			})
			require.NotZero(t, broken)
		})
	}
}

func turn(events []h.Event, i int) []h.Event {
	if events[i].Outcome == h.Commit {
		events[i].Outcome = h.Rollback
	} else {
		events[i].Outcome = h.Commit
	}
	return events
}

func remove(events []h.Event, i int) []h.Event { return slices.Delete(slices.Clone(events), i, i+1) }

// caller is the transaction that an answer is about.
func (g *generator) caller(i int) string { return g.events[g.asked(i)].Tx }
func (g *generator) op(i int) h.Op       { return g.events[g.asked(i)].Op }

func (g *generator) asked(i int) int {
	return slices.IndexFunc(g.events, func(e h.Event) bool { return e.Kind == h.KindCall && *e.Call == *g.events[i].Call })
}

// told is the first answer about a transaction.
func (g *generator) told(tx string) int {
	for i, e := range g.events {
		if e.Kind == h.KindAnswer && g.caller(i) == tx {
			return i
		}
	}
	return len(g.events)
}

// heard is the line after i in which somebody hears of its decision, 0 if a crash
// comes first.
func (g *generator) heard(i int) int {
	for n, e := range g.events[i+1:] {
		switch {
		case e.Kind == h.KindCrash:
			return 0
		case e.Kind == h.KindAnswer && g.caller(i+1+n) == g.events[i].Tx, e.Kind == h.KindTell && e.Tx == g.events[i].Tx:
			return i + 1 + n
		}
	}
	return 0
}

// needs reports whether a branch of the transaction needs its outcome.
func (g *generator) needs(tx string) bool {
	for _, r := range g.txs {
		if r.id == tx {
			return !r.lazy && r.enlisted > 0 && slices.ContainsFunc(r.votes, func(v h.Vote) bool { return v != ro })
		}
	}
	return false
}

func (g *generator) committed(tx string) bool {
	return slices.ContainsFunc(g.of(tx), func(e h.Event) bool { return e.Kind == h.KindDecided && e.Outcome == h.Commit })
}

func (g *generator) prepared(tx string) bool {
	return slices.ContainsFunc(g.of(tx), func(e h.Event) bool { return e.Kind == h.KindVote && e.Vote == yes })
}

package wal_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

const (
	// interruptedBatch is at least what one append of Open may have in a log that is
	// Small, without the catalogue.
	interruptedBatch = 2 << 10
	// catalogued is at least what a catalogue needs for a term.
	catalogued = 48
)

// R9, R12: however often Open is interrupted, and wherever, a replay says the same; and
// the store never holds more than what the last life left, twice what has to be
// re-written of it, and one append more.
func TestR12OpensThatAreInterruptedLeaveALogThatIsBounded(t *testing.T) {
	seen := make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func() {
			w := newWorld(rt, seen)
			defer w.end()
			for range rapid.IntRange(1, 40).Draw(rt, "steps") {
				rapid.SampledFrom([]func(*rapid.T){w.begin, w.begin, w.finish, w.advance, w.advance, w.sleep, w.crash}).Draw(rt, "step")(rt)
				synctest.Wait()
			}
			w.replay(rt)
			require.NoError(rt, w.log.Close(context.Background()))
			require.NoError(rt, w.store.Close())

			interruptions := rapid.IntRange(1, 25).Draw(rt, "interruptions")
			bound := w.bound(rt, interruptions)
			same := rapid.Bool().Draw(rt, "always at the same call")
			var at interruption
			for i := range interruptions {
				if i == 0 || !same {
					at = drawInterruption(rt)
				}
				w.interruptAt(rt, at)
				for _, p := range w.points {
					if held := p.memory.Bytes(); held > bound {
						rt.Fatalf("R12: the store holds %d bytes after %s, more than %d", held, p.after, bound)
					}
				}
				w.history.replay(rt)
			}
			w.open(rt)
		})
	})
	require.Positive(t, seen["Opens that were interrupted"])
	require.Positive(t, seen["crash points after delete in Open"])
}

// interruption is where a process dies: before or after its n-th call of a name.
type interruption struct {
	name  string
	n     int
	after bool
}

func drawInterruption(t *rapid.T) interruption {
	return interruption{
		name:  rapid.SampledFrom([]string{"take over", "open", "append", "append", "delete", "delete"}).Draw(t, "call"),
		n:     rapid.IntRange(1, 6).Draw(t, "n"),
		after: rapid.Bool().Draw(t, "after"),
	}
}

// interruptAt opens the log in a process that dies there, if it makes the call.
func (w *world) interruptAt(t *rapid.T, at interruption) {
	made := 0
	store := w.memory.Open()
	log, _, err := wal.Open(context.Background(), &hooked{Store: store, hook: func(c call, do func() error) error {
		if c.name == at.name {
			made++
		}
		if made == at.n && c.name == at.name {
			w.seen["Opens that were interrupted"]++
			if at.after {
				if err := do(); err != nil {
					return err
				}
				w.changed(c, true)
			}
			store.Crash()
			return waltest.ErrCrashed
		}
		if err := do(); err != nil {
			return err
		}
		w.changed(c, true)
		return nil
	}}, w.config)
	if made >= at.n {
		require.ErrorIs(t, err, waltest.ErrCrashed)
		return
	}
	require.NoError(t, err)
	require.NoError(t, log.Close(context.Background()))
	require.NoError(t, store.Close())
}

// advance appends to some transaction, if one is left.
func (w *world) advance(t *rapid.T) {
	for _, m := range w.txs {
		if m.next < len(m.life) {
			w.appendNext(t)
			return
		}
	}
}

// bound is how many bytes the store may hold while Open is interrupted so often.
func (w *world) bound(t *rapid.T, interruptions int) int {
	memory := w.memory.Clone()
	log, inherited, err := wal.Open(context.Background(), memory.Open(), w.history.config)
	require.NoError(t, err)
	rewritten := interruptedBatch
	for _, in := range inherited {
		frame, err := record.Append(nil, record.Carried{State: *in.State})
		require.NoError(t, err)
		rewritten += len(frame)
	}
	terms := len(log.Terms()) + interruptions
	require.NoError(t, log.Close(context.Background()))
	headers := rewritten / 4 // of segments that are half full
	return w.memory.Bytes() + 2*(rewritten+headers) + interruptedBatch + 3*catalogued*terms
}

// R9, R10, R13: a term is deleted before all is re-written only if it holds nothing that
// older ones do not hold; wherever the process dies, its marks and the operators' words
// are not lost with it.
func TestR9OnlyATermThatSaysNothingNewIsDeletedEarly(t *testing.T) {
	config := config.Small()
	config.Retention = 1 << 60
	at := now()
	for name, c := range map[string]struct {
		early  bool
		second func(older *record.State) []record.Record // what the newer of two terms holds
	}{
		"nothing": {early: true, second: func(*record.State) []record.Record { return nil }},
		"the same": {early: true, second: func(older *record.State) []record.Record {
			return []record.Record{record.Carried{State: *older}}
		}},
		"another transaction": {second: func(older *record.State) []record.Record {
			return []record.Record{record.Carried{State: *older}, record.Carried{State: record.State{Tx: id(older.Tx.Term, 9), At: at, By: record.NoBranch}}}
		}},
		"a decision": {second: func(older *record.State) []record.Record {
			decided := *older
			decided.Decision = record.DecisionCommit
			return []record.Record{record.Carried{State: decided}}
		}},
		"an acknowledgement": {second: func(older *record.State) []record.Record {
			ended := *older
			ended.Branches = []record.Branch{older.Branches[0]}
			ended.Branches[0].Outcome = participant.OutcomeHeuristicHazard
			return []record.Record{record.Carried{State: ended}}
		}},
		"an end": {second: func(older *record.State) []record.Record {
			ended := *older
			ended.Decision, ended.Completed = record.DecisionCommit, at
			return []record.Record{record.Carried{State: ended}}
		}},
		"less": {second: func(older *record.State) []record.Record {
			return []record.Record{record.Carried{State: record.State{Tx: older.Tx, At: older.At, Timeout: older.Timeout, By: record.NoBranch}}}
		}},
		"what a leftover begins with": {second: func(older *record.State) []record.Record {
			return []record.Record{record.Carried{State: record.State{Tx: id(older.Tx.Term, 0), Preparing: true, By: record.NoBranch}}}
		}},
		"a record of its own": {second: func(older *record.State) []record.Record {
			return []record.Record{record.Carried{State: *older}, record.Preparing{Tx: older.Tx}}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			prepared := func() *waltest.Memory {
				memory := waltest.NewMemory()
				memory.Random = func() uint32 { return 1 }
				twoTermsByHand(t, memory, at, c.second)
				return memory
			}
			deletions, appends := 0, 0
			early := 0
			log, _ := openStore(t, &hooked{Store: prepared().Open(), hook: func(c call, do func() error) error {
				switch c.name {
				case "append":
					appends, early = appends+1, deletions
				case "delete":
					deletions++
				}
				return do()
			}}, config)
			require.NoError(t, log.Close(t.Context()))
			require.Greater(t, appends, 2)
			require.Equal(t, 2, deletions)
			require.Equal(t, c.early, early == 1, "deleted before the last append: %d", early)

			requireWholeWhereverOpenDies(t, prepared, config)
		})
	}
}

// requireWholeWhereverOpenDies lets an Open of what prepared returns die at each of its
// calls. The next one must find the same.
func requireWholeWhereverOpenDies(t *testing.T, prepared func() *waltest.Memory, config wal.Config) {
	t.Helper()
	want := wholeOf(t, prepared(), config)
	for n, interrupted := 0, true; interrupted; n++ {
		for _, after := range []bool{false, true} {
			memory := prepared()
			interrupted = interruptOpen(t, memory, config, n, after)
			want.requireSame(t, wholeOf(t, memory, config), fmt.Sprintf("call %d, after it: %t", n, after))
		}
	}
}

// R10, R13: of several redundant terms the older ones go at once if the newest one lists
// all that is known of them, and else not before another catalogue does.
func TestR10ARedundantTermIsDeletedOnceItIsListed(t *testing.T) {
	config := config.Small()
	config.Retention = 1 << 60
	at := now()
	for name, c := range map[string]struct {
		early  bool
		change func(c *record.Catalogue)
	}{
		"all":                         {true, func(*record.Catalogue) {}},
		"not the redundant term":      {false, func(c *record.Catalogue) { c.Terms = c.Terms[:2] }},
		"not a term that is gone":     {false, func(c *record.Catalogue) { c.Terms = c.Terms[1:] }},
		"a mark that is lower":        {false, func(c *record.Catalogue) { c.Terms[1].Mark = nth(4) }},
		"a highest id that is lower":  {false, func(c *record.Catalogue) { c.Terms[0].Highest = nth(6) }},
		"no words":                    {false, func(c *record.Catalogue) { c.Words = record.Words{} }},
		"a mark that is higher":       {true, func(c *record.Catalogue) { c.Terms[1].Mark = nth(6) }},
		"another term, which is gone": {true, func(c *record.Catalogue) { c.Terms = append([]record.TermMarks{{Term: 1<<32 - 1}}, c.Terms...) }},
	} {
		t.Run(name, func(t *testing.T) {
			prepared := func() *waltest.Memory {
				memory := waltest.NewMemory()
				memory.Random = func() uint32 { return 1 }
				twoTermsByHand(t, memory, at, func(older *record.State) []record.Record {
					return []record.Record{record.Carried{State: *older}}
				})
				store := memory.Open()
				stream, err := store.Open(t.Context(), "by hand")
				require.NoError(t, err)
				older, middle := participant.NewTerm(1, 1), participant.NewTerm(2, 1)
				require.Equal(t, participant.NewTerm(3, 1), stream.Term())
				catalogue := catalogueOfNewer(older, at)
				catalogue.Terms = append(catalogue.Terms, record.TermMarks{Term: middle})
				c.change(catalogue)
				segment, err := record.Append(nil, record.Header{Term: stream.Term(), Seq: 1, Catalogue: catalogue})
				require.NoError(t, err)
				require.NoError(t, stream.Append(t.Context(), 1, segment, nil))
				require.NoError(t, store.Close())
				return memory
			}
			var calls []string
			log, _ := openStore(t, &hooked{Store: prepared().Open(), hook: func(c call, do func() error) error {
				calls = append(calls, c.name)
				return do()
			}}, config)
			require.NoError(t, log.Close(t.Context()))
			early := slices.Index(calls, "delete") < slices.Index(calls, "open")
			require.Equal(t, c.early, early, "%v", calls)
			requireWholeWhereverOpenDies(t, prepared, config)
		})
	}
}

// twoTermsByHand writes a term with several transactions, and a newer one with the
// records that second makes of the first of them. The newer one's catalogue says more
// than the older one.
func twoTermsByHand(t *testing.T, memory *waltest.Memory, at time.Time, second func(*record.State) []record.Record) {
	store := memory.Open()
	older, err := store.Open(t.Context(), "by hand")
	require.NoError(t, err)
	newer, err := store.Open(t.Context(), "by hand")
	require.NoError(t, err)
	write := func(stream wal.Stream, records ...record.Record) {
		var segment []byte
		for _, r := range records {
			segment, err = record.Append(segment, r)
			require.NoError(t, err)
		}
		require.NoError(t, stream.Append(t.Context(), 1, segment, nil))
	}
	all := []record.Record{record.Header{Term: older.Term(), Seq: 1, Highest: nth(9), Catalogue: &record.Catalogue{Domain: "orders"}}}
	state := record.NewState(id(older.Term(), 1))
	for n := range uint64(8) {
		tx := id(older.Term(), n+1)
		begun := record.Begun{Tx: tx, At: at, Timeout: time.Minute}
		enlisted := record.Enlisted{Tx: tx, Participant: "bank_a", Data: make([]byte, 400)}
		if n == 0 {
			require.NoError(t, errors.Join(state.Apply(begun), state.Apply(enlisted), state.Apply(record.Preparing{Tx: tx})))
		}
		all = append(all, begun, enlisted, record.Preparing{Tx: tx})
	}
	all = append(all, record.Preparing{Tx: id(older.Term(), 0)}) // a leftover
	write(older, all...)
	write(newer, append([]record.Record{record.Header{Term: newer.Term(), Seq: 1, Catalogue: catalogueOfNewer(older.Term(), at)}}, second(state)...)...)
	require.NoError(t, store.Close())
}

// catalogueOfNewer lists another term, which is gone.
func catalogueOfNewer(older participant.Term, at time.Time) *record.Catalogue {
	return &record.Catalogue{
		Domain: "orders",
		Terms:  []record.TermMarks{{Term: participant.NewTerm(1, 0), Highest: nth(7), Mark: nth(6)}, {Term: older, Highest: nth(9), Mark: nth(5)}},
		Words:  record.Words{Quarantine: record.Word{Number: 1, At: at, Term: older, Reason: "restored"}},
	}
}

// whole is what an Open finds.
type whole struct {
	terms  []record.TermMarks
	words  record.Words
	states []*record.State
}

// requireSame fails unless a later Open found the same, and a term for each Open between.
func (w whole) requireSame(t *testing.T, later whole, when string) {
	t.Helper()
	require.Equal(t, w.terms, later.terms[:len(w.terms)], "R10, R13: %s", when)
	require.Equal(t, w.words, later.words, when)
	require.Equal(t, w.states, later.states, when)
}

func wholeOf(t *testing.T, memory *waltest.Memory, config wal.Config) whole {
	clone := memory.Clone()
	log, _ := open(t, clone, config)
	w := whole{terms: log.Terms(), words: log.Words()}
	require.NoError(t, log.Close(t.Context()))
	w.terms = w.terms[:len(w.terms)-1] // the own one may be another's next time
	w.states = statesOf(t, memory.Clone(), config)
	return w
}

// R12: starts that always die at the same place leave no more than one that does.
func TestR12OpensThatDieAtTheSamePlaceLeaveABoundedLog(t *testing.T) {
	config := config.Small()
	config.Retention = 1 << 60
	for _, name := range []string{"take over", "open", "append", "delete"} {
		for n := 1; n <= 4; n++ {
			for _, after := range []bool{false, true} {
				memory := waltest.NewMemory()
				twoTermsByHand(t, memory, now(), func(*record.State) []record.Record { return nil })
				want := wholeOf(t, memory, config)
				most := 0
				for round := range 40 {
					made := 0
					store := memory.Open()
					log, _, err := wal.Open(t.Context(), &hooked{Store: store, hook: func(c call, do func() error) error {
						if c.name == name {
							made++
						}
						var err error
						if c.name != name || made != n || after {
							err = do()
						}
						if c.name == name && made == n {
							store.Crash()
							return waltest.ErrCrashed
						}
						return err
					}}, config)
					if err == nil {
						require.NoError(t, log.Close(t.Context()))
						require.NoError(t, store.Close())
					}
					if round < 3 {
						most = max(most, memory.Bytes())
					}
					require.LessOrEqual(t, memory.Bytes(), most+round*2*catalogued, "after round %d, call %d of %s, after it: %t", round, n, name, after)
				}
				want.requireSame(t, wholeOf(t, memory, config), fmt.Sprintf("call %d of %s, after it: %t", n, name, after))
			}
		}
	}
}

package wal_test

import (
	"context"
	"errors"
	"maps"
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

// R9, R10, R13: however much is carried, dropped, taken over, merged and re-written,
// and wherever the process dies, also in the middle of Open: what a replay finds is
// what a log would say that never cleans anything, but for outcomes that were
// forgotten, and those are at or below a mark.
func TestR9ReplayAgreesWithALogThatIsNeverCleaned(t *testing.T) {
	seen := make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func() {
			w := newWorld(rt, seen)
			defer w.end()
			rt.Repeat(map[string]func(*rapid.T){
				"":        w.replay,
				"begin":   w.begin,
				"append":  w.appendNext,
				"append2": w.appendNext, // twice as likely
				"finish":  w.finish,
				"sleep":   w.sleep,
				"reopen":  w.reopen,
				"crash":   w.crash,
				"depose":  w.depose,
			})
			w.reopen(rt)
			w.replay(rt)
		})
	})
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		t.Logf("%7d %s", seen[what], what)
	}
	if testing.Short() {
		return // too few runs to see everything
	}
	for _, what := range []string{
		"carried", "carried again in one life", "segments dropped", "leftovers",
		"merged from 2 terms", "merged from 3 terms", "marks raised", "marks of former terms raised",
		"lives that crashed", "lives that were deposed", "Opens that were interrupted",
		"found begun", "found preparing", "found delegated", "found decided", "found heuristic", "found paused", "found retained", "found forgotten",
		"crash points after append", "crash points after open in Open", "crash points after take over in Open",
		"crash points after append in Open", "crash points after delete in Open", "crash points after release in Open",
	} {
		require.Positive(t, seen[what], "no run saw: %s", what)
	}
}

// inBubble runs f in a synctest bubble of its own and hands on the panics by which
// rapid ends a run.
func inBubble(t *testing.T, f func()) {
	var ended any
	synctest.Test(t, func(*testing.T) {
		defer func() { ended = recover() }()
		f()
	})
	if ended != nil {
		panic(ended)
	}
}

// world is a log that lives many lives, and its history.
type world struct {
	*history
	config wal.Config
	store  *waltest.MemoryStore
	log    *wal.Log
	// die makes the store's process die before (-1) or after (1) its next append.
	die int

	last uint64
	txs  map[participant.TxID]*modelTx
}

// modelTx is a transaction that is not completed.
type modelTx struct {
	place *wal.Place
	life  []record.Record // what is appended one after the other; of a stuck one not to the end
	next  int             // of life
}

func newWorld(t *rapid.T, seen map[string]int) *world {
	config := wal.Config{
		Domain:        "orders",
		Retention:     rapid.SampledFrom([]time.Duration{-1, time.Hour}).Draw(t, "retention"),
		RetainBytes:   rapid.SampledFrom([]int64{0, 1 << 10, 4 << 10}).Draw(t, "retained bytes"),
		RetainAtLeast: rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "retained at least"),
	}.Small()
	w := &world{history: newHistory(config, seen), config: config, txs: make(map[participant.TxID]*modelTx)}
	w.config.Forgotten = w.forgotten
	w.open(t)
	return w
}

func (w *world) end() {
	if w.log != nil {
		_ = w.log.Close(context.Background())
	}
	_ = w.store.Close()
}

// replay lets what is under way come to rest first.
func (w *world) replay(t *rapid.T) {
	synctest.Wait()
	w.history.replay(t)
}

// open begins a life, after some that ended in the middle of Open.
func (w *world) open(t *rapid.T) {
	for range rapid.IntRange(0, 2).Draw(t, "interruptions") {
		w.interrupt(t, rapid.IntRange(0, 8).Draw(t, "call"), rapid.Bool().Draw(t, "after"))
	}
	w.store = w.memory.Open()
	opening := true
	log, inherited, err := wal.Open(context.Background(), &hooked{Store: w.store, hook: func(c call, do func() error) error {
		return w.hook(c, do, opening)
	}}, w.config)
	require.NoError(t, err)
	opening = false
	w.log = log
	for tx, m := range w.txs {
		m.place, m.next = nil, w.durable(tx)
	}
	for _, in := range inherited {
		if m := w.txs[in.State.Tx]; m != nil {
			m.place = in.Place
		}
	}
	// What was lost was not durable: the replays see to that.
	maps.DeleteFunc(w.txs, func(_ participant.TxID, m *modelTx) bool { return m.place == nil })
	clear(w.carries)
}

// hook notes what the store does, and lets the process die at an append.
func (w *world) hook(c call, do func() error, opening bool) error {
	die := w.die
	if c.name != "append" {
		die = 0
	}
	if die < 0 {
		w.store.Crash()
		return waltest.ErrCrashed
	}
	if err := do(); err != nil {
		return err
	}
	w.changed(c, opening)
	if die > 0 {
		w.store.Crash()
		return waltest.ErrCrashed
	}
	return nil
}

// interrupt opens the log in a process that dies at its n-th call that changes the
// store, if it makes so many.
func (w *world) interrupt(t *rapid.T, n int, after bool) {
	store := w.memory.Open()
	died := false
	log, _, err := wal.Open(context.Background(), &hooked{Store: store, hook: func(c call, do func() error) error {
		n--
		if n != -1 || after {
			if err := do(); err != nil {
				return err
			}
			w.changed(c, true)
		}
		if n != -1 {
			return nil
		}
		died = true
		store.Crash()
		return waltest.ErrCrashed
	}}, w.config)
	n = -1
	if died {
		w.seen["Opens that were interrupted"]++
		require.ErrorIs(t, err, waltest.ErrCrashed)
		return
	}
	require.NoError(t, err)
	require.NoError(t, log.Close(context.Background()))
	require.NoError(t, store.Close())
}

// begin begins a transaction, and decides what becomes of it.
func (w *world) begin(t *rapid.T) {
	w.last++
	tx := id(w.log.Term(), w.last)
	m := &modelTx{place: w.log.NewPlace(tx), life: lifeOf(t, tx)}
	w.txs[tx] = m
	w.append(t, m, 1, rapid.Bool().Draw(t, "forced"))
}

// lifeOf returns the records that a transaction leaves, from its beginning to its
// end or to where it is stuck for ever.
func lifeOf(t *rapid.T, tx participant.TxID) []record.Record {
	life := []record.Record{record.Begun{Tx: tx, At: now(), Timeout: time.Minute}}
	branches := rapid.IntRange(1, 3).Draw(t, "branches")
	size := rapid.SampledFrom([]int{1, 200}).Draw(t, "size")
	for i := range branches {
		life = append(life, record.Enlisted{Tx: tx, Number: i, Participant: "bank_a", Data: make([]byte, size)})
	}
	if branches == 1 && rapid.Bool().Draw(t, "delegated") {
		life = append(life, record.Delegated{Tx: tx})
	} else {
		life = append(life, record.Preparing{Tx: tx})
	}
	decided := record.Decided{Tx: tx, Decision: record.DecisionCommit, By: record.NoBranch, Votes: make([]participant.Vote, branches)}
	for i := range decided.Votes {
		decided.Votes[i] = participant.VotePrepared
	}
	if rapid.Bool().Draw(t, "rolled back") {
		decided.Decision, decided.Cause, decided.By, decided.Reason = record.DecisionRollback, record.CauseRefused, 0, "no money"
		decided.Votes[0] = participant.VoteRefused
	}
	life = append(life, decided)
	if rapid.Bool().Draw(t, "heuristic") {
		life = append(life, record.Heuristic{Tx: tx, Number: 0, Outcome: participant.OutcomeHeuristicHazard, Reason: "who knows"})
	}
	for i := range rapid.SampledFrom([]int{0, 0, 0, 3}).Draw(t, "operators' words") {
		life = append(life, record.Operator{
			Tx: tx, Number: uint64(i + 1), At: now(), Verb: record.VerbPause + record.Verb(i%2), Branch: record.NoBranch, Who: "alice", Reason: "maintenance",
		})
	}
	life = append(life, record.Completed{Tx: tx})
	if rapid.Bool().Draw(t, "stuck") {
		life = life[:rapid.IntRange(1, len(life)-1).Draw(t, "stuck at")]
	}
	return life
}

// append appends the transaction's next records.
func (w *world) append(t *rapid.T, m *modelTx, n int, forced bool) {
	records := slices.Clone(m.life[m.next : m.next+n])
	if completed, ok := records[n-1].(record.Completed); ok {
		completed.At = now()
		records[n-1] = completed
		delete(w.txs, completed.Tx)
	}
	b, err := w.log.Append(m.place, forced, records...)
	require.NoError(t, err)
	m.next += n
	if !forced {
		return
	}
	<-b.Done()
	if w.die != 0 {
		if !errors.Is(b.Err(), wal.ErrPoisoned) { // lazy records before it were too many for one append
			require.ErrorIs(t, b.Err(), wal.ErrUnknown, "R5")
		}
		return
	}
	require.NoError(t, b.Err())
	w.holds(t, m)
}

// holds checks that all that was appended to a transaction is durable.
func (w *world) holds(t *rapid.T, m *modelTx) {
	require.Equal(t, m.next, w.durable(m.place.ID()), "records of %s that are durable", m.place.ID())
}

// now is the time as a record keeps it.
func now() time.Time { return time.UnixMilli(time.Now().UnixMilli()) }

// appendNext appends the next records of some transaction, of this or a former term.
func (w *world) appendNext(t *rapid.T) {
	var going []*modelTx
	for _, m := range w.txs {
		if m.next < len(m.life) {
			going = append(going, m)
		}
	}
	if len(going) == 0 {
		t.Skip("none goes on")
	}
	slices.SortFunc(going, func(a, b *modelTx) int { return a.place.ID().Compare(b.place.ID()) })
	m := rapid.SampledFrom(going).Draw(t, "transaction")
	w.append(t, m, rapid.IntRange(1, min(3, len(m.life)-m.next)).Draw(t, "records"), rapid.Bool().Draw(t, "forced"))
}

// finish runs transactions from their beginning to their end: they become what the
// log wants to be rid of.
func (w *world) finish(t *rapid.T) {
	for range rapid.IntRange(1, 12).Draw(t, "times") {
		w.last++
		tx := id(w.log.Term(), w.last)
		m := &modelTx{place: w.log.NewPlace(tx), life: []record.Record{
			record.Begun{Tx: tx, At: now()},
			record.Enlisted{Tx: tx, Participant: "bank", Data: make([]byte, 300)},
			record.Decided{Tx: tx, Decision: record.DecisionCommit, By: record.NoBranch},
			record.Completed{Tx: tx},
		}}
		// In one segment, or so that leftovers of it stay in a later one.
		first := rapid.SampledFrom([]int{2, 4}).Draw(t, "at first")
		w.append(t, m, first, true)
		if first < len(m.life) {
			w.append(t, m, len(m.life)-first, true)
		}
	}
}

func (w *world) sleep(t *rapid.T) {
	time.Sleep(rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 40 * time.Minute, time.Hour}).Draw(t, "pause"))
	synctest.Wait()
	for _, m := range w.txs {
		w.holds(t, m) // lazy records, too
	}
}

func (w *world) reopen(t *rapid.T) {
	require.NoError(t, w.log.Close(context.Background()))
	for _, m := range w.txs {
		w.holds(t, m)
	}
	require.NoError(t, w.store.Close())
	w.open(t)
}

// crash lets the process die: at once, or before or after the write of a record.
func (w *world) crash(t *rapid.T) {
	w.seen["lives that crashed"]++
	if w.die = rapid.IntRange(-1, 1).Draw(t, "at"); w.die == 0 {
		w.store.Crash()
	} else {
		w.begin(t)
		b, err := w.log.Append(w.log.NewPlace(id(w.log.Term(), w.last+1)), true, record.Begun{Tx: id(w.log.Term(), w.last+1), At: now()})
		require.NoError(t, err)
		w.last++
		<-b.Done()
	}
	_ = w.log.Close(context.Background())
	w.die = 0
	w.open(t)
}

// depose lets another process take the term over while its owner lives on: what the
// owner then writes is not written.
func (w *world) depose(t *rapid.T) {
	w.seen["lives that were deposed"]++
	synctest.Wait()
	w.store.Expire()
	log, store := w.log, w.store
	w.open(t)
	tx := id(log.Term(), w.last+1)
	b, err := log.Append(log.NewPlace(tx), true, record.Begun{Tx: tx, At: now()})
	require.NoError(t, err)
	<-b.Done()
	require.ErrorIs(t, b.Err(), wal.ErrFenced, "R9")
	require.ErrorIs(t, log.Close(context.Background()), wal.ErrFenced)
	require.NoError(t, store.Close())
	require.Zero(t, w.durable(tx))
}

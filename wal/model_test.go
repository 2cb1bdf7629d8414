package wal_test

import (
	"context"
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

// R9, R13: whatever is carried, dropped, taken over and re-written, and wherever
// the process dies: what was durable is found again as it was, unless it has ended
// and been forgotten; and what was not durable is not found.
func TestR9ReplayAgreesWithAModel(t *testing.T) {
	seen := make(map[string]int)
	rapid.Check(t, func(rt *rapid.T) {
		inBubble(t, func() {
			w := newWorld(rt)
			defer w.end()
			rt.Repeat(map[string]func(*rapid.T){
				"":        func(*rapid.T) {},
				"begin":   w.begin,
				"append":  w.appendNext,
				"append2": w.appendNext, // twice as likely
				"finish":  w.finishGroup,
				"fill":    w.fill,
				"sleep":   w.sleep,
				"reopen":  w.reopen,
				"crash":   w.crash,
			})
			w.reopen(rt)
			seen["carried"] += int(w.carried)
			seen["told forgotten"] += len(w.told)
			seen["found"] += w.found
			seen["found forgotten"] += w.foundForgotten
			seen["crashes"] += w.crashes
			seen["interrupted opens"] += w.interrupted
		})
	})
	t.Log(seen)
	for _, what := range slices.Sorted(maps.Keys(seen)) {
		require.Positive(t, seen[what], "the model never saw: %s", what)
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

// world is a log beside a model of it.
type world struct {
	t      *rapid.T
	memory *waltest.Memory
	config wal.Config

	store *waltest.MemoryStore
	log   *wal.Log
	// die makes the store's process die before (-1) or after (1) its next append.
	die int

	last uint64
	txs  map[participant.TxID]*modelTx
	// queued are lazy records that are not durable yet.
	queued []modelRecord
	told   map[participant.TxID]bool

	carried                                     int64
	found, foundForgotten, crashes, interrupted int
}

type modelTx struct {
	tx      *wal.Place
	records []record.Record // durable ones
	size    int             // records appended, durable or not
	ended   bool            // Completed was appended
}

type modelRecord struct {
	tx     *modelTx
	record record.Record
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, memory: waltest.NewMemory(), txs: make(map[participant.TxID]*modelTx),
		told: make(map[participant.TxID]bool),
		config: wal.Config{
			Domain:      "orders",
			Retention:   rapid.SampledFrom([]time.Duration{-1, time.Hour}).Draw(t, "retention"),
			RetainBytes: rapid.SampledFrom([]int64{0, 1 << 10, 256 << 10}).Draw(t, "retained bytes"),
		},
	}
	w.config.Forgotten = func(ids []participant.TxID) {
		for _, id := range ids {
			w.told[id] = true
		}
	}
	w.open(t)
	return w
}

func (w *world) end() {
	if w.log != nil {
		_ = w.log.Close(context.Background())
	}
	_ = w.store.Close()
}

func (w *world) open(t *rapid.T) {
	for range rapid.IntRange(0, 2).Draw(t, "interruptions") {
		w.interrupt(rapid.IntRange(0, 8).Draw(t, "call"), rapid.Bool().Draw(t, "after"))
	}
	w.store = w.memory.Open()
	log, inheritance, err := wal.Open(context.Background(), &hooked{Store: w.store, hook: w.hook}, w.config)
	require.NoError(t, err)
	w.log = log
	w.check(inheritance)
}

// hook lets the process die at an append.
func (w *world) hook(c call, do func() error) error {
	if c.name != "append" || w.die == 0 {
		return do()
	}
	if w.die > 0 {
		require.NoError(w.t, do())
	}
	w.store.Crash()
	return waltest.ErrCrashed
}

// interrupt opens the log in a process that dies at its n-th write, if it makes so
// many.
func (w *world) interrupt(n int, after bool) {
	store := w.memory.Open()
	died := false
	log, _, err := wal.Open(context.Background(), &hooked{Store: store, hook: func(c call, do func() error) error {
		if n--; n != -1 {
			return do()
		}
		died = true
		if after {
			_ = do()
		}
		store.Crash()
		return waltest.ErrCrashed
	}}, w.config)
	n = -1
	if died {
		w.interrupted++
		require.ErrorIs(w.t, err, waltest.ErrCrashed)
		return
	}
	require.NoError(w.t, err)
	require.NoError(w.t, log.Close(context.Background()))
	require.NoError(w.t, store.Close())
}

// check compares what was found to the model.
func (w *world) check(inheritance []wal.Inherited) {
	t := w.t
	found := make(map[participant.TxID]*wal.Place)
	for _, inherited := range inheritance {
		w.found++
		m := w.txs[inherited.State.Tx]
		require.NotNil(t, m, "%s was not durable, or was found forgotten before", inherited.State.Tx)
		want := record.NewState(m.tx.ID())
		for _, r := range m.records {
			require.NoError(t, want.Apply(r))
		}
		require.Equal(t, want, inherited.State)
		require.False(t, w.told[m.tx.ID()], "%s was forgotten", m.tx.ID())
		m.tx = inherited.Place
		found[m.tx.ID()] = m.tx
	}
	for id, m := range w.txs {
		m.size = len(m.records)
		switch {
		case m.size == 0: // not durable, and not found: else it were above
			require.NotEqual(t, wal.AbsentForeign, w.log.Absent(id))
			delete(w.txs, id)
		case found[id] != nil:
			m.ended = m.records[m.size-1].Kind() == record.KindCompleted
		default:
			w.foundForgotten++
			last, ended := m.records[m.size-1].(record.Completed)
			require.True(t, ended, "%s is lost", id)
			age := time.Since(last.At)
			require.True(t, w.told[id] || age >= w.config.Retention || w.config.RetainBytes != 0, "%s was forgotten after %s", id, age)
			require.Equal(t, wal.AbsentForgotten, w.log.Absent(id), "R13")
			delete(w.txs, id)
		}
	}
}

// append appends a record, forced or lazy.
func (w *world) append(m *modelTx, forced bool, recs ...record.Record) {
	b, err := w.log.Append(m.tx, forced, recs...)
	require.NoError(w.t, err)
	for _, r := range recs {
		w.queued = append(w.queued, modelRecord{m, r})
	}
	m.size += len(recs)
	if forced {
		<-b.Done()
		if w.die == 0 {
			require.NoError(w.t, b.Err())
		} else {
			require.ErrorIs(w.t, b.Err(), wal.ErrUnknown, "R5")
		}
		w.flushed(w.die >= 0)
	}
}

// flushed notes what became of the queued records.
func (w *world) flushed(durable bool) {
	if durable {
		for _, q := range w.queued {
			q.tx.records = append(q.tx.records, q.record)
		}
	}
	w.queued = nil
}

func (w *world) newTx() *modelTx {
	w.last++
	m := &modelTx{tx: w.log.NewPlace(id(w.log.Term(), w.last))}
	w.txs[m.tx.ID()] = m
	return m
}

// now is the time as a record keeps it.
func now() time.Time { return time.UnixMilli(time.Now().UnixMilli()) }

func (w *world) begin(t *rapid.T) {
	m := w.newTx()
	w.append(m, rapid.Bool().Draw(t, "forced"), record.Begun{Tx: m.tx.ID(), At: now(), Timeout: time.Minute})
}

// appendNext appends to a live transaction, of this or a former term, the next
// record of its life.
func (w *world) appendNext(t *rapid.T) {
	var live []participant.TxID
	for id, m := range w.txs {
		if !m.ended {
			live = append(live, id)
		}
	}
	if len(live) == 0 {
		t.Skip("none is live")
	}
	slices.SortFunc(live, participant.TxID.Compare)
	m := w.txs[rapid.SampledFrom(live).Draw(t, "transaction")]
	tx := m.tx.ID()
	var next record.Record
	switch {
	case m.size < 3:
		size := rapid.SampledFrom([]int{1, 200, participant.MaxData}).Draw(t, "size")
		next = record.Enlisted{Tx: tx, Number: m.size - 1, Participant: "bank_a", Data: make([]byte, size)}
	case m.size == 3:
		next = record.Preparing{Tx: tx}
	case m.size == 4:
		next = record.Decided{Tx: tx, Decision: record.DecisionCommit, By: -1, Votes: []participant.Vote{1, 1}}
	case m.size == 5:
		next = record.Heuristic{Tx: tx, Number: 1, Outcome: participant.OutcomeHeuristicHazard, Reason: "who knows"}
	default:
		next = record.Completed{Tx: tx, At: now()}
		m.ended = true
	}
	w.append(m, rapid.Bool().Draw(t, "forced"), next)
}

// finishGroup ends as many transactions as it takes to drop segments.
func (w *world) finishGroup(t *rapid.T) {
	for range group + 1 {
		w.finish(0)
	}
}

// fill ends transactions of many bytes: live ones are carried.
func (w *world) fill(t *rapid.T) {
	for range rapid.IntRange(1, 25).Draw(t, "times") {
		w.finish(64)
	}
}

func (w *world) finish(branches int) {
	m := w.newTx()
	tx := m.tx.ID()
	recs := []record.Record{record.Begun{Tx: tx, At: now()}}
	for i := range branches {
		recs = append(recs, record.Enlisted{Tx: tx, Number: i, Participant: "bank", Data: filling})
	}
	m.ended = true
	w.append(m, true, append(recs, record.Completed{Tx: tx, At: now()})...)
}

var filling = make([]byte, participant.MaxData)

func (w *world) sleep(t *rapid.T) {
	time.Sleep(rapid.SampledFrom([]time.Duration{time.Second, 40 * time.Minute, time.Hour}).Draw(t, "pause"))
	synctest.Wait()
	w.flushed(true)
}

func (w *world) reopen(t *rapid.T) {
	w.t = t
	require.NoError(t, w.log.Close(context.Background()))
	w.flushed(true)
	w.carried += w.log.Stats().Carried
	require.NoError(t, w.store.Close())
	w.open(t)
}

// crash lets the process die: at once, or before or after the write of a record.
func (w *world) crash(t *rapid.T) {
	w.t = t
	w.crashes++
	w.die = rapid.IntRange(-1, 1).Draw(t, "at")
	if w.die == 0 {
		w.store.Crash()
		w.flushed(false)
	} else {
		m := w.newTx()
		w.append(m, true, record.Begun{Tx: m.tx.ID(), At: now()})
	}
	w.die = 0
	_ = w.log.Close(context.Background())
	w.carried += w.log.Stats().Carried
	w.open(t)
}

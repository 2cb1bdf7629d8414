package wal_test

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"sync"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// history is the log that never cleans anything: every record that a caller's
// append made durable, in a plain list for each transaction. Beside it are the
// crash points, one after each call that changed the store: what a restart would
// find if all processes died there.
type history struct {
	memory *waltest.Memory
	config wal.Config // of the replays

	mu      sync.Mutex
	records map[participant.TxID][]record.Record
	states  map[participant.TxID]*record.State // what records say; never changed in place
	carries map[participant.TxID]int           // how often it was carried in one life
	told    map[participant.TxID]int           // forgotten, in the order in which that was told
	points  []crashPoint
	broken  []error // what a hook found

	marks map[participant.Term]record.TermMarks // the last durable ones that were seen
	seen  map[string]int
}

type crashPoint struct {
	after  string
	memory *waltest.Memory
	states map[participant.TxID]*record.State
	told   int
}

func newHistory(config wal.Config, seen map[string]int) *history {
	h := &history{
		memory: waltest.NewMemory(), config: config, seen: seen,
		records: make(map[participant.TxID][]record.Record),
		states:  make(map[participant.TxID]*record.State),
		carries: make(map[participant.TxID]int),
		told:    make(map[participant.TxID]int),
		marks:   make(map[participant.Term]record.TermMarks),
	}
	h.memory.Random = func() uint32 { return 1 } // a failure can be repeated
	return h
}

// changed notes a call that changed the store. What Open re-writes is not counted as
// carried: that is no cleaning.
func (h *history) changed(c call, opening bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c.name == "append" {
		h.appended(c, opening)
	}
	after := c.name
	if opening {
		after += " in Open"
	}
	h.points = append(h.points, crashPoint{after, h.memory.Clone(), maps.Clone(h.states), len(h.told)})
}

func (h *history) appended(c call, opening bool) {
	if len(c.drop) > 0 {
		h.seen["segments dropped"] += len(c.drop)
	}
	for rest := c.segment; len(rest) > 0; {
		var r record.Record
		var err error
		if r, rest, err = record.Next(rest); err != nil {
			h.broken = append(h.broken, err)
			return
		}
		tx := r.TxID()
		switch {
		case r.Kind() == record.KindHeader:
		case r.Kind() != record.KindCarried:
			h.records[tx] = append(h.records[tx], r)
			h.states[tx], err = stateOf(tx, h.records[tx])
			h.broken = append(h.broken, err)
		case !opening:
			if h.carries[tx]++; h.carries[tx] > 1 {
				h.seen["carried again in one life"]++
			}
			h.seen["carried"]++
		}
	}
}

func stateOf(tx participant.TxID, records []record.Record) (*record.State, error) {
	s := record.NewState(tx)
	for _, r := range records {
		if err := s.Apply(r); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// forgotten is a wal.Config's.
func (h *history) forgotten(ids []participant.TxID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		h.told[id] = len(h.told)
	}
}

// durable returns how many records of the transaction the store was given.
func (h *history) durable(tx participant.TxID) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.records[tx])
}

// replay replays every crash point since the last call.
func (h *history) replay(t *rapid.T) {
	h.mu.Lock()
	points := h.points
	h.points = nil
	for _, err := range h.broken {
		require.NoError(t, err)
	}
	h.mu.Unlock()
	for _, p := range points {
		h.seen["crash points after "+p.after]++
		h.raw(t, p)
		store := p.memory.Open()
		log, inherited, err := wal.Open(context.Background(), store, h.config)
		require.NoError(t, err, "after %s", p.after)
		h.compare(t, p, log, inherited)
		require.NoError(t, log.Close(context.Background()))
		require.NoError(t, store.Close())
	}
}

// compare compares what a replay found to the plain list. There are hundreds of
// thousands of states: what is right is seen without testify.
func (h *history) compare(t *rapid.T, p crashPoint, log *wal.Log, inherited []wal.Inherited) {
	found := make(map[participant.TxID]bool, len(inherited))
	for _, in := range inherited {
		tx := in.State.Tx
		found[tx] = true
		if want := p.states[tx]; !reflect.DeepEqual(want, in.State) { // nil: it was not durable
			require.Equal(t, want, in.State, "after %s", p.after)
		}
		if order, told := h.told[tx]; told && order < p.told {
			t.Fatalf("R13: %s was told to be forgotten, and came back after %s", tx, p.after)
		}
		h.seen["found "+describe(in.State)]++
	}
	for tx, s := range p.states {
		if found[tx] {
			continue
		}
		age := time.Since(s.Completed)
		switch {
		case s.Completed.IsZero():
			t.Fatalf("%s is lost after %s", tx, p.after)
		case age < h.config.Retention && (h.config.RetainBytes == 0 || age < h.config.RetainAtLeast):
			t.Fatalf("R13: %s was forgotten %s after its end", tx, age)
		case log.Absent(tx) != wal.AbsentForgotten:
			t.Fatalf("R13: %s is %s after %s", tx, log.Absent(tx), p.after)
		}
		h.seen["found forgotten"]++
	}
}

func describe(s *record.State) string {
	switch {
	case !s.Completed.IsZero():
		return "retained"
	case s.Paused():
		return "paused"
	case len(s.Branches) > 0 && s.Branches[0].Outcome.Valid():
		return "heuristic"
	case s.Decision.Valid():
		return "decided"
	case s.Delegated:
		return "delegated"
	case s.Preparing:
		return "preparing"
	default:
		return "begun"
	}
}

// raw reads the segments as they lie in the store: marks only rise, however they
// were re-written (R10, R13); and counts what the replay will have to unite.
func (h *history) raw(t *rapid.T, p crashPoint) {
	store := p.memory.Clone().Open()
	defer func() { require.NoError(t, store.Close()) }()
	orphans, _, err := store.Orphans(context.Background())
	require.NoError(t, err)
	now := make(map[participant.Term]record.TermMarks)
	rise := func(m record.TermMarks) {
		before := now[m.Term]
		before.Term = m.Term
		now[m.Term] = before.Merge(m)
	}
	roots, others := make(map[participant.TxID]int), make(map[participant.TxID]bool)
	for _, term := range orphans {
		_, err := store.TakeOver(context.Background(), term, "reader")
		require.NoError(t, err)
		rise(record.TermMarks{Term: term})
		rooted := make(map[participant.TxID]bool)
		err = store.Scan(context.Background(), term, func(_ uint64, segment []byte) error {
			for len(segment) > 0 {
				r, rest, err := record.Next(segment)
				if err != nil {
					return err
				}
				segment = rest
				switch r := r.(type) {
				case record.Header:
					rise(record.TermMarks{Term: r.Term, Highest: r.Highest, Mark: r.Mark})
					if r.Catalogue != nil {
						for _, m := range r.Catalogue.Terms {
							rise(m)
						}
					}
				case record.Begun, record.Carried:
					rooted[r.TxID()] = true
				default:
					others[r.TxID()] = true
				}
			}
			return nil
		})
		require.NoError(t, err)
		for tx := range rooted {
			roots[tx]++
		}
	}
	for tx, n := range roots {
		h.seen[fmt.Sprintf("merged from %d terms", n)]++
		delete(others, tx)
	}
	h.seen["leftovers"] += len(others)
	for term, before := range h.marks {
		require.Equal(t, now[term], before.Merge(now[term]), "R10, R13: a mark of term %s fell after %s", term, p.after)
		if now[term].Mark != before.Mark {
			h.seen["marks raised"]++
			if len(orphans) > 0 && term != orphans[len(orphans)-1] {
				h.seen["marks of former terms raised"]++
			}
		}
	}
	h.marks = now
}

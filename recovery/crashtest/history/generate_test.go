package history_test

import (
	"fmt"

	"pgregory.net/rapid"

	h "github.com/assent-tm/assent/recovery/crashtest/history"
)

// generator draws histories of a coordinator that keeps every rule: transactions
// interleave, and it crashes between any two lines.
type generator struct {
	*rapid.T
	events []h.Event
	txs    []*run
	calls  int64
}

// run is one transaction; next is its next step, nil when it has ended.
type run struct {
	id       string
	votes    []h.Vote
	onePhase bool
	next     func()

	call               int64 // open
	enlisted, prepared int
	preparing          bool
	decision           h.Outcome // durable
	lazy               bool
	applied, acked     []bool
}

func (g *generator) emit(events ...h.Event)    { g.events = append(g.events, events...) }
func (g *generator) callNumber() (fresh int64) { g.calls++; return g.calls }

// chance spreads what rapid draws, mostly small numbers, over the whole range.
func (g *generator) chance(percent int) bool {
	return (rapid.IntRange(0, 99).Draw(g.T, "chance")*37+50)%100 >= 100-percent
}

func generate(t *rapid.T) *generator {
	g := &generator{T: t}
	g.emit(header(h.SeesLog, h.SeesEffects), plant("p0", "foreign", h.OwnerForeign), plant("p0", "orphan", h.OwnerOurs), sum(100))
	for n := range rapid.IntRange(1, 4).Draw(t, "transactions") {
		r := &run{id: fmt.Sprintf("t%d", n)}
		r.votes = rapid.SliceOfN(rapid.SampledFrom([]h.Vote{yes, yes, yes, ro, ro, no, h.VoteUnknown}), 1, 3).Draw(t, "votes")
		r.onePhase = len(r.votes) == 1 && g.chance(30)
		r.applied, r.acked = make([]bool, len(r.votes)), make([]bool, len(r.votes))
		r.next = func() { g.begin(r) }
		g.txs = append(g.txs, r)
	}
	for live := g.live(); len(live) > 0; live = g.live() {
		if g.chance(8) {
			g.crash()
			continue
		}
		rapid.SampledFrom(live).Draw(t, "transaction").next()
	}
	g.end()
	return g
}

func (g *generator) live() (live []*run) {
	for _, r := range g.txs {
		if r.next != nil {
			live = append(live, r)
		}
	}
	return live
}

func (g *generator) begin(r *run) {
	g.emit(of(h.KindBegin, r.id))
	r.next = func() { g.enlist(r) }
}

func (g *generator) enlist(r *run) {
	g.emit(enlist(r.id, r.enlisted))
	if r.enlisted++; r.enlisted == len(r.votes) {
		r.call = g.callNumber()
		g.emit(call(r.call, r.id, h.OpCommit))
		r.next = func() { g.force(r) }
	}
}

func (g *generator) force(r *run) {
	r.preparing = true
	if r.onePhase {
		g.emit(of(h.KindDelegated, r.id))
		r.next = func() { g.onePhase(r) }
		return
	}
	g.emit(of(h.KindPreparing, r.id))
	r.next = func() { g.prepare(r) }
}

func (g *generator) prepare(r *run) {
	n := r.prepared
	g.emit(at(h.KindPrepare, r.id, n), vote(r.id, n, r.votes[n]))
	if g.chance(5) {
		g.rollBack(r)
		return
	}
	if r.prepared++; r.prepared == len(r.votes) {
		r.next = func() { g.decide(r) }
	}
}

// rollBack is a deadline or a client's wish that wins the register (R2).
func (g *generator) rollBack(r *run) {
	if g.chance(50) {
		g.emit(of(h.KindDeadline, r.id))
	} else {
		number := g.callNumber()
		g.emit(call(number, r.id, h.OpRollback), decided(r.id, h.Rollback), answer(number, h.Rollback))
	}
	r.decision = h.Rollback
	g.emit(decided(r.id, h.Rollback))
	r.next = func() { g.answerAndTell(r) }
}

func (g *generator) decide(r *run) {
	outcome, readOnly := h.Commit, true
	for _, v := range r.votes {
		if v != yes && v != ro {
			outcome = h.Rollback
		}
		readOnly = readOnly && v == ro
	}
	r.lazy = readOnly
	if readOnly {
		g.emit(lazily(r.id, outcome))
		g.answer(r, outcome)
		r.next = nil
		return
	}
	r.decision = outcome
	r.next = func() { g.answerAndTell(r) }
	if g.chance(10) {
		g.crash() // between the fsync and its line
		return
	}
	g.emit(decided(r.id, outcome))
}

func (g *generator) answerAndTell(r *run) {
	g.answer(r, r.decision)
	r.next = func() { g.tell(r) }
}

func (g *generator) answer(r *run, o h.Outcome) {
	if r.call > 0 {
		g.emit(answer(r.call, o))
	}
	r.call = 0
}

func (g *generator) onePhase(r *run) {
	g.emit(onePhase(r.id))
	outcome := rapid.SampledFrom([]h.Outcome{h.Commit, h.Rollback}).Draw(g.T, "the branch decides")
	if outcome == h.Commit {
		g.apply(r, 0)
	}
	g.emit(ack(r.id, 0, outcome))
	r.acked[0], r.decision = true, outcome
	r.next = func() { g.answerAndTell(r) }
}

func (g *generator) apply(r *run, n int) {
	if !r.applied[n] {
		g.emit(at(h.KindEffect, r.id, n))
	}
	r.applied[n] = true
}

// tell tells one branch; of repeated tells and acknowledgements nothing changes.
func (g *generator) tell(r *run) {
	for n := range r.votes {
		if n >= r.enlisted || r.acked[n] || r.votes[n] == ro && r.decision == h.Commit {
			continue
		}
		g.emit(tell(r.id, n, r.decision))
		if g.chance(20) {
			return // the message is lost
		}
		if r.decision == h.Commit {
			g.apply(r, n)
		}
		g.emit(ack(r.id, n, r.decision))
		r.acked[n] = !g.chance(20) // or the answer is
		return
	}
	g.read(r, r.decision)
	g.emit(of(h.KindForget, r.id))
	r.next = nil
}

func (g *generator) read(r *run, o h.Outcome) {
	number := g.callNumber()
	g.emit(call(number, r.id, h.OpGet), answer(number, o))
}

// crash loses what is not durable; the replay is done once or, when it crashes too,
// twice.
func (g *generator) crash() {
	for range rapid.IntRange(1, 2).Draw(g.T, "crashes") {
		g.emit(crash, start)
		for _, r := range g.live() {
			if r.preparing {
				g.emit(recovered(r.id, orUndecided(r.decision)))
			}
		}
	}
	for _, r := range g.live() {
		r.call = 0
		switch {
		case r.enlisted == 0 && len(g.of(r.id)) == 0:
			// Not begun yet.
		case !r.preparing:
			g.read(r, h.Rollback)
			r.next = nil
		case r.decision == "" && r.onePhase:
			r.next = func() { g.onePhase(r) }
		case r.decision == "":
			r.decision = h.Rollback
			r.next = func() { g.tell(r) }
		default:
			r.next = func() { g.tell(r) }
		}
	}
}

func orUndecided(o h.Outcome) h.Outcome {
	if o == "" {
		return h.Undecided
	}
	return o
}

func (g *generator) of(tx string) (events []h.Event) {
	for _, e := range g.events {
		if e.Tx == tx {
			events = append(events, e)
		}
	}
	return events
}

func (g *generator) end() {
	g.emit(finished("p0", "orphan", h.Rollback), repaired, settled, sum(100))
	for n := range 3 {
		rows := 0
		for _, r := range g.txs {
			if n < len(r.votes) && r.applied[n] {
				g.emit(row(name(n), r.id))
				rows++
			}
		}
		g.emit(counted(h.KindWitnesses, name(n), rows))
	}
	g.emit(left("p0", "foreign"), counted(h.KindListed, "p0", 1))
}

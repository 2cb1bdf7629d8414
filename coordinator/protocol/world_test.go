package protocol

import (
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// world is one transaction and all that can happen to it: a coordinator that can
// crash, its log, the network and the participants. It is what the exploration
// walks: actions_test.go says what may happen next, participant_test.go how a
// participant behaves, rules_test.go what must never be seen.
type world struct {
	*setting
	m Machine
	// lives counts the coordinators so far.
	lives int
	// gone: the crash left no record, so nobody will ever drive the transaction.
	gone bool
	// poisoned: an append failed. What is pending may be on disk or not (R5).
	poisoned bool
	// durable are the records that a restart will read, pending the appends on
	// their way to the disk, in order.
	durable []record.Record
	pending []write
	onDisk  facts

	branches [maxBranches]branch
	joined   int // branches that the client enlisted
	left     budget
	commit   bool // the client called Commit

	// told is what the client was told at the end, known the decision it could
	// have learnt before.
	told  participant.Outcome
	known record.Decision
	// finished: this coordinator has told the client how it ended.
	finished bool
	// excused: something happened that may be answered with a rollback (AC4).
	excused bool
	// undecided: this coordinator found no decision in the log (R3).
	undecided bool

	broken *violation
}

const maxBranches = 3

// setting is what is being explored: how many branches, what they may answer, and
// how often each mishap may happen.
type setting struct {
	name     string
	branches int
	onePhase bool
	// votes are the answers to Prepare that the world chooses from; 0 is an error.
	votes  []participant.Vote
	budget budget
	// haunted: a coordinator that was taken over may live on. It can't write, so it
	// can't go on to anything new (R9), but it repeats what it was sending.
	haunted bool
	// oracle: the walk is compared with TwoPhase, which needs some history.
	oracle bool
	system
}

// system is what is explored: the real machine and the real replay, or a seeded
// bug's.
type system struct {
	step   func(*Machine, Event) []Effect
	replay func([]record.Record) (*record.State, error)
}

var realSystem = system{
	step: func(m *Machine, ev Event) []Effect {
		effects, _ := m.Step(ev) // Enlist gives an error once the list is sealed, and Said is asked only what fits
		return effects.All()
	},
	replay: replay,
}

func replay(records []record.Record) (*record.State, error) {
	s := record.NewState(theTx)
	for _, r := range records {
		if err := s.Apply(r); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// mishap is something that may happen only so often.
type mishap uint8

const (
	crash mishap = iota
	lost
	doubled
	late
	failedAppend
	rollbackCall // the client's Rollback, racing
	deadline
	alone   // a participant decides alone
	amnesia // a participant does not know its prepared branch for a while
	word    // an operator ends a branch by his word
	mishaps
)

type budget [mishaps]int8

// write is one append on its way to the disk.
type write struct {
	records []record.Record
	forced  bool
}

// answered reports whether the machine hears of the append.
func (p write) answered() bool { return p.forced || p.last() == record.KindCompleted }

func (p write) last() record.Kind { return p.records[len(p.records)-1].Kind() }

// facts are what the durable records say, kept beside them for the checks.
type facts struct {
	begun, preparing, delegated, completed bool
	enlisted                               int
	decision                               record.Decision
	votes                                  [maxBranches]participant.Vote
	outcomes                               [maxBranches]participant.Outcome
	words                                  [maxBranches]byte // see wordByte
}

var (
	theTx   = participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.UUID{15: 1}}
	anyTime = time.Unix(1, 0)
)

func newWorld(s *setting) *world {
	w := &world{setting: s, left: s.budget, lives: 1}
	var effects Effects
	w.m, effects = New(record.Begun{Tx: theTx, At: anyTime})
	w.carryOut(effects.All())
	return w
}

// copyTo makes a copy, in the room of a world that is not needed any more if there
// is one. Copies share what is never written in place: records and their lists.
func (w *world) copyTo(room *world) *world {
	if room == nil {
		room = &world{}
	}
	branches := append(room.m.branches[:0], w.m.branches...)
	*room = *w
	room.m.branches = branches
	if w.m.spoken != nil {
		said := *w.m.spoken
		room.m.spoken = &said
	}
	return room
}

func (w *world) feed(ev Event) {
	w.carryOut(w.step(&w.m, ev))
	w.learn()
}

// carryOut is the driver: it does what the effects say, in order.
func (w *world) carryOut(effects []Effect) {
	for _, e := range effects {
		switch e.Kind {
		case EffectAppend:
			w.append(e)
		case EffectPrepare:
			w.send(callPrepare, e.Branches)
		case EffectCancelPrepare:
			for i := range w.branches {
				b := &w.branches[i]
				b.cancelled = b.cancelled || b.call == callPrepare
			}
		case EffectCommit:
			w.send(callCommit, e.Branches)
		case EffectCommitOnePhase:
			w.send(callOnePhase, e.Branches)
		case EffectRollback:
			w.send(callRollback, e.Branches)
		case EffectForget:
			w.send(callForget, e.Branches)
		case EffectFinish:
			w.checkFinish(e.Outcome)
		case EffectWithdraw:
			w.withdraw(e.Branches)
		case EffectPause, EffectUnpause, EffectRetry: // only when something is told: see package coordinator
		}
	}
}

func (w *world) append(e Effect) {
	w.checkAppend(e)
	w.pending = append(w.pending[:len(w.pending):len(w.pending)], write{stamped(e.Records()), e.Forced})
}

// stamped gives Completed its time, as the driver does: the machine has no clock.
func stamped(records []record.Record) []record.Record {
	if completed, ok := records[len(records)-1].(record.Completed); ok {
		completed.At = anyTime
		records[len(records)-1] = completed
	}
	return records
}

func (w *world) send(c call, branches []int) {
	for _, i := range branches {
		w.checkSend(c, i)
		b := &w.branches[i]
		if c == callForget {
			b.astray |= 1 << callForget // nobody waits for its answer
			continue
		}
		b.call, b.answered, b.cancelled = c, false, false
	}
}

// withdraw ends the calls that tell the branches something. A request under way may still
// arrive; nobody reads its answer.
func (w *world) withdraw(branches []int) {
	for _, i := range branches {
		b := &w.branches[i]
		if b.call == 0 || b.call == callPrepare {
			continue
		}
		if !b.answered {
			b.astray |= 1 << b.call
		}
		b.call, b.answered = 0, false
	}
}

// wordByte tells an operator's words on a branch apart; 0 is none.
func wordByte(r record.Operator) byte { return byte(r.Verb)<<4 | byte(r.Outcome) }

// land makes records durable.
func (w *world) land(records ...record.Record) {
	w.durable = append(w.durable[:len(w.durable):len(w.durable)], records...)
	for _, r := range records {
		switch r := r.(type) {
		case record.Begun:
			w.onDisk.begun = true
		case record.Enlisted:
			w.onDisk.enlisted++
		case record.Preparing:
			w.onDisk.preparing = true
		case record.Delegated:
			w.onDisk.delegated = true
		case record.Decided:
			w.checkDecided(r.Decision)
			w.onDisk.decision = r.Decision
			copy(w.onDisk.votes[:], r.Votes)
		case record.Carried: // only a seeded bug writes it
			for i, b := range r.State.Branches {
				w.onDisk.votes[i] = b.Vote
			}
		case record.Heuristic:
			w.onDisk.outcomes[r.Number] = r.Outcome
		case record.Operator:
			w.onDisk.words[r.Branch] = wordByte(r)
		case record.Completed:
			w.onDisk.completed = true
			w.checkCompleted()
		}
	}
}

// flush makes the log durable up to the first append that somebody waits for, and
// tells the machine. Flushing less can't be seen but by a crash, which keeps any
// prefix anyway.
func (w *world) flush() {
	for {
		first := w.pending[0]
		w.pending = w.pending[1:]
		w.land(first.records...)
		if first.answered() {
			w.feed(Appended(first.last(), Durable))
			return
		}
	}
}

func (w *world) waitedFor() bool {
	for _, p := range w.pending {
		if p.answered() {
			return true
		}
	}
	return false
}

// fail poisons the log: what is pending stays so until a restart finds out.
func (w *world) fail() {
	w.poisoned, w.excused = true, true
	if first := w.pending[0]; first.answered() {
		w.feed(Appended(first.last(), Unknown))
	} else {
		w.feed(LogFailed())
	}
}

// prefixes counts the ways a crash can leave the pending appends. Lazy records are
// kept one by one, those of a forced append all or none.
func (w *world) prefixes() (n int) {
	for _, p := range w.pending {
		if p.forced {
			n++
		} else {
			n += len(p.records)
		}
	}
	return n + 1
}

// restart ends the coordinator, keeps the given prefix of what was pending, and
// starts the next one from the durable records. Requests that were under way may
// still arrive; answers reach nobody.
func (w *world) restart(prefix int) {
	for _, p := range w.pending {
		switch {
		case p.forced && prefix > 0:
			w.land(p.records...)
			prefix--
		case !p.forced:
			n := min(prefix, len(p.records))
			w.land(p.records[:n]...)
			prefix -= n
		}
		if prefix == 0 {
			break
		}
	}
	w.pending, w.poisoned, w.excused, w.finished = nil, false, true, false
	for i := range w.branches {
		b := &w.branches[i]
		if b.call != 0 && !b.answered {
			b.astray |= 1 << b.call
		}
		b.call, b.answered, b.cancelled = 0, false, false
	}
	w.lives++
	if !w.onDisk.begun {
		w.gone, w.m = true, Machine{}
		return
	}
	state, err := w.replay(w.durable)
	if err != nil {
		w.violate("R2", "the log contradicts itself")
		return
	}
	w.m = Resume(state)
	w.undecided = !w.onDisk.decision.Valid() && !w.onDisk.delegated
	w.learn()
}

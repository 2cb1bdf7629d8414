package protocol

import (
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// What must never be seen. AC1 to AC5 are the properties of atomic commitment as
// Babaoglu and Toueg number them, R1 to R8 the rules of ARCHITECTURE.md:
//
//	AC1  No two branches end differently by the coordinator's word.
//	AC2  No branch, and no client who was told, sees an outcome reversed.
//	AC3  Commit only if every branch voted prepared or read-only.
//	AC4  If nothing goes wrong and all vote so, the decision is commit.
//	AC5  From wherever mishaps end, everything comes to its end.
type violation struct {
	rule, what string
}

func (w *world) violate(rule, what string) {
	if w.broken == nil {
		w.broken = &violation{rule, what}
	}
}

// knew reports what the machine has as the branch's vote.
func (w *world) knew(i int) participant.Vote { return w.m.branches[i].Vote }

func (w *world) checkSend(c call, i int) {
	b := &w.branches[i]
	switch {
	case w.poisoned:
		w.violate("R5", "something was sent after an append had failed")
	case b.call == callPrepare:
		w.violate("R4", "a branch was told before its Prepare had returned")
	case b.call != 0 && c != callForget:
		w.violate("R6", "two calls at once for one branch")
	case w.onDisk.words[i] != 0:
		w.violate("R2", "a branch was told something after an operator had ended it")
	}
	switch c {
	case callPrepare:
		if !w.onDisk.preparing || w.onDisk.enlisted < w.joined {
			w.violate("R1", "Prepare was sent before the branches were durable")
		}
		if w.onDisk.decision.Valid() {
			w.violate("R2", "Prepare was sent after the decision")
		}
	case callOnePhase:
		if !w.onDisk.delegated {
			w.violate("R1", "CommitOnePhase was sent before the delegation was durable")
		}
	case callCommit:
		if w.onDisk.decision != record.DecisionCommit {
			w.violate("R1", "Commit was sent before the decision was durable")
		}
		if b.is == readOnly {
			w.violate("R4", "a branch that had voted read-only was told to commit")
		}
	case callRollback:
		w.checkRollback(i)
	case callForget:
		if !w.onDisk.completed {
			w.violate("R1", "Forget was sent before the completion was durable")
		}
	}
}

func (w *world) checkRollback(i int) {
	switch {
	case w.onDisk.decision == record.DecisionRollback:
	case !w.onDisk.delegated:
		w.violate("R1", "Rollback was sent before the decision was durable")
	case w.lives == 1:
		w.violate("R3", "Rollback was sent to the branch that decides")
	}
	if w.knew(i) == participant.VoteReadOnly {
		w.violate("R4", "a branch that had voted read-only was told to roll back")
	}
}

func (w *world) checkAppend(e Effect) {
	if w.poisoned {
		w.violate("R5", "something was written after an append had failed")
	}
	for _, r := range e.Records() {
		d, ok := r.(record.Decided)
		if !ok {
			continue
		}
		if d.Decision == record.DecisionCommit && w.undecided {
			w.violate("R3", "commit was decided after a crash that left no decision")
		}
		if d.Decision == record.DecisionRollback && !w.excused {
			w.violate("AC4", "rollback was decided though nothing had gone wrong")
		}
		if d.Decision == record.DecisionRollback && w.onDisk.delegated && w.branches[0].word != record.DecisionRollback {
			w.violate("R3", "rollback was decided in place of the branch that decides")
		}
	}
}

// checkDecided looks at a decision that becomes durable.
func (w *world) checkDecided(d record.Decision) {
	if w.onDisk.decision.Valid() && w.onDisk.decision != d {
		w.violate("R2", "the durable decision was overwritten")
	}
	if d == record.DecisionRollback || w.onDisk.delegated {
		return
	}
	for i := range w.joined {
		if is := w.branches[i].is; is == working || is == refused {
			w.violate("AC3", "commit was decided without every branch's vote for it")
		}
	}
}

// learn notes the decision that the coordinator shows to the client: it may never
// be another one. Exempt is the outcome that changes nothing anywhere.
func (w *world) learn() {
	d := w.m.Decision()
	if !d.Valid() || w.changesNothing() {
		return
	}
	if w.known.Valid() && w.known != d {
		w.violate("AC2", "the decision changed after the client could have learnt it")
	}
	w.known = d
}

// changesNothing: every branch has voted read-only. The outcome is written lazily,
// and a crash may turn it into a rollback, which changed as little.
func (w *world) changesNothing() bool {
	for i := range w.joined {
		if w.branches[i].is != readOnly {
			return false
		}
	}
	return true
}

// checkFinish looks at the outcome the client is told.
func (w *world) checkFinish(o participant.Outcome) {
	if w.finished {
		w.violate("AC2", "the client was answered twice")
	}
	w.finished = true
	if !o.Valid() {
		if !w.poisoned {
			w.violate("R6", "the transaction ended without an outcome")
		}
		return
	}
	if w.poisoned {
		w.violate("R5", "an outcome was told after an append had failed")
	}
	if w.changesNothing() {
		return
	}
	w.checkEnded()
	if o != w.outcome() {
		w.violate("heuristics", "the outcome told is not what the branches did: "+o.String())
	}
	if w.told.Valid() && w.told != o && !w.gaveUpAny() {
		w.violate("AC2", "two outcomes were told: "+w.told.String()+", then "+o.String())
	}
	w.told = o
}

// checkEnded: a transaction ends when all its branches have.
func (w *world) checkEnded() {
	for i := range w.joined {
		if i >= len(w.m.branches) {
			continue // its record was lost before anything was sent
		}
		if w.gaveUp(i) {
			continue
		}
		switch b := &w.branches[i]; {
		case b.is == amnesiac:
			w.violate("R7", "absence was taken for an acknowledgement of commit")
		case b.is == working, b.is == refused, b.is == prepared && w.m.decision == record.DecisionRollback:
			w.violate("R4", "the transaction ended, but a branch was never told to roll back")
		case b.is == prepared:
			w.violate("R6", "the transaction ended before a branch had acknowledged")
		case b.is == readOnly && w.knew(i) != participant.VoteReadOnly:
			w.violate("R4", "the transaction ended, but a branch whose vote is unknown was not told")
		}
	}
}

// gaveUp reports whether an operator has given the branch up: it may be anything.
func (w *world) gaveUp(i int) bool {
	return w.onDisk.words[i] == wordByte(record.Operator{Verb: record.VerbForgetBranch})
}

// gaveUpAny: the one outcome that is told and may become another is that of a transaction whose
// acknowledgements a crash lost before an operator gave a branch up: a hazard then.
func (w *world) gaveUpAny() bool {
	for i := range w.joined {
		if w.gaveUp(i) {
			return true
		}
	}
	return false
}

// outcome is what the client should be told, from what the participants really
// did.
func (w *world) outcome() participant.Outcome {
	var committed, rolledBack, hazard bool
	for i := range min(w.joined, len(w.m.branches)) {
		switch b := &w.branches[i]; {
		case w.gaveUp(i):
			hazard = true
		case b.is == aloneMixed:
			return participant.OutcomeHeuristicMixed
		case b.is == aloneHazard:
			hazard = true
		case b.is == aloneCommitted, b.word == record.DecisionCommit:
			committed = true
		case b.is == aloneRolledBack, b.word == record.DecisionRollback:
			rolledBack = true
		case b.is == readOnly && w.m.decision == record.DecisionRollback:
			rolledBack = true
		}
	}
	switch {
	case committed && rolledBack:
		return participant.OutcomeHeuristicMixed
	case hazard:
		return participant.OutcomeHeuristicHazard
	case rolledBack && w.m.decision == record.DecisionCommit:
		return participant.OutcomeHeuristicRollback
	case committed && w.m.decision == record.DecisionRollback:
		return participant.OutcomeHeuristicCommit
	default:
		return w.m.decision.Outcome()
	}
}

// checkCompleted: what the log will say of a completed transaction is what the
// client was told.
func (w *world) checkCompleted() {
	if !w.told.Valid() {
		return
	}
	state, err := w.replay(w.durable)
	if err != nil {
		w.violate("R2", "the log contradicts itself")
		return
	}
	if m := Resume(state); m.Outcome() != w.told {
		w.violate("AC2", "the log says "+m.Outcome().String()+", but the client was told "+w.told.String())
	}
}

// checkState looks at the whole after every action.
func (w *world) checkState() {
	var committed, rolledBack bool
	for i := range w.joined {
		committed = committed || w.branches[i].word == record.DecisionCommit
		rolledBack = rolledBack || w.branches[i].word == record.DecisionRollback
	}
	if committed && rolledBack {
		w.violate("AC1", "one branch was committed, another rolled back")
	}
	if w.known == record.DecisionCommit && rolledBack || w.known == record.DecisionRollback && committed {
		w.violate("AC1", "a branch ended against the decision")
	}
	if w.m.phase == Stopped && !w.poisoned {
		w.violate("R5", "the machine stopped though the log is well")
	}
	w.checkEchoes()
}

// checkEchoes lets every answer that was heard come a second time, and every vote
// that was given up come late after all: the machine takes no notice.
func (w *world) checkEchoes() {
	if w.gone {
		return
	}
	m := w.m
	for i := range m.branches {
		b := m.branches[i]
		if b.Answered {
			w.ignored(&m, Voted(i, participant.VotePrepared, ""))
			w.ignored(&m, Voted(i, participant.VoteRefused, ""))
		}
		if b.Outcome.Valid() {
			w.ignored(&m, Acknowledged(i, b.Outcome, ""))
			w.ignored(&m, Hazard(i, ""))
		}
		if b.Hazard {
			w.ignored(&m, Hazard(i, ""))
		}
	}
}

func (w *world) ignored(m *Machine, ev Event) {
	b := m.branches[ev.Branch]
	if effects := w.step(m, ev); len(effects) > 0 || m.phase != w.m.phase || m.decision != w.m.decision || b != m.branches[ev.Branch] {
		w.violate("R2", "an answer that came twice or too late changed something")
	}
}

// checkSettled looks at a world in which nothing goes on by itself any more (AC5).
func (w *world) checkSettled() {
	if w.gone {
		for i := range w.joined {
			if w.branches[i].is != working {
				w.violate("R1", "a transaction without a record had reached a participant")
			}
		}
		return
	}
	waiting := false
	for i := range w.m.branches {
		if w.gaveUp(i) {
			continue
		}
		switch b := &w.branches[i]; b.is {
		case amnesiac:
			// The commit is repeated until the participant finds its branch (R7).
			if b.call != callCommit || !w.m.branches[i].Hazard {
				w.violate("AC5", "nobody repeats the commit to a branch that is not found")
			}
			waiting = true
		case prepared:
			w.violate("AC5", "a branch stays in doubt for ever")
		case working, refused:
			if w.m.decision.Valid() {
				w.violate("AC5", "a branch was never told")
			}
		default: // it has ended
		}
	}
	if w.m.phase != Done && !waiting {
		w.violate("AC5", "the transaction stays "+w.m.phase.String()+" for ever")
	}
}

package protocol

import (
	"fmt"
	"slices"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// verb is a kind of action: one thing that can happen next in the world.
type verb uint8

const (
	// What goes on by itself, if nothing goes wrong.
	enlist verb = 1 + iota
	callForCommit
	flush
	arrive // a request reaches the participant, which acts
	answerArrives
	resume
	reopen // the log after a failure: what was pending is found or not

	// What may happen or not.
	callForRollback
	timeOut
	crashNow
	failAppend
	loseRequest
	loseAnswer
	doubleRequest
	delayRequest // the caller gives up first
	cancelCall   // the caller gave up because the vote does not matter any more
	arriveAstray
	decideAlone
	forgetBranch
	recallBranch
	giveUpBranch // an operator says that nobody is to be told any more
	resolveBranch
)

// action is one step of the world. choice selects among the ways it can go.
type action struct {
	verb   verb
	branch uint8
	choice uint8
}

// actions appends what can happen next. progress tells how many of them, the
// first ones, go on by themselves.
func (w *world) actions(all []action) (_ []action, progress int) {
	add := func(v verb, branch, choice int) { all = append(all, action{v, uint8(branch), uint8(choice)}) }
	if !w.gone {
		w.goOn(add)
	}
	progress = len(all)
	if w.left[crash] > 0 && !w.gone && !w.poisoned && w.m.phase != Done {
		for prefix := range w.prefixes() {
			add(crashNow, 0, prefix)
		}
	}
	if w.left[failedAppend] > 0 && len(w.pending) > 0 {
		add(failAppend, 0, 0)
	}
	if w.left[rollbackCall] > 0 && w.joined > 0 && !w.gone {
		add(callForRollback, 0, 0)
	}
	if w.left[deadline] > 0 && w.joined > 0 && !w.gone {
		add(timeOut, 0, 0)
	}
	for i := range w.joined {
		w.mishapsOf(i, add)
	}
	return all, progress
}

func (w *world) goOn(add func(v verb, branch, choice int)) {
	if w.joined < w.setting.branches && w.lives == 1 && w.m.phase == Active {
		add(enlist, 0, 0)
	} else if !w.commit {
		add(callForCommit, 0, 0)
	}
	switch {
	case w.poisoned:
		for prefix := range w.prefixes() {
			add(reopen, 0, prefix)
		}
	case w.waitedFor():
		add(flush, 0, 0)
	}
	if w.m.phase == Inherited {
		add(resume, 0, 0)
	}
	for i := range w.joined {
		b := &w.branches[i]
		switch {
		case b.call == 0:
		case b.answered:
			add(answerArrives, i, 0)
		case b.call == callCommit && b.is == amnesiac && (w.m.branches[i].Hazard || w.m.awaitsWord(i)):
			// The commit is repeated, and the answer stays the same (R7).
		default:
			for choice := range w.choices(i, b.call) {
				add(arrive, i, choice)
			}
		}
	}
}

// mishapsOf adds what may befall a branch. An answer that comes twice or late is
// not among it: checkEchoes tries that in every state.
func (w *world) mishapsOf(i int, add func(v verb, branch, choice int)) {
	b := &w.branches[i]
	if b.call != 0 && !b.answered {
		if w.left[lost] > 0 && b.call == callPrepare { // losing a repeated request changes nothing
			add(loseRequest, i, 0)
		}
		if w.left[doubled] > 0 && b.astray&(1<<b.call) == 0 {
			add(doubleRequest, i, 0)
		}
		if w.left[late] > 0 && b.call == callPrepare { // for a repeated one that is the same as doubled
			add(delayRequest, i, 0)
		}
	}
	if b.call != 0 && w.left[lost] > 0 && (b.answered || b.atOnce()) {
		add(loseAnswer, i, 0)
	}
	if b.cancelled {
		add(cancelCall, i, 0)
	}
	for c := callPrepare; c <= callForget; c++ {
		if b.astray&(1<<c) == 0 {
			continue
		}
		for choice := range w.choices(i, c) {
			add(arriveAstray, i, choice<<4|int(c))
		}
	}
	if b.is == prepared && w.left[alone] > 0 {
		for how := aloneCommitted; how <= aloneHazard; how++ {
			add(decideAlone, i, int(how))
		}
	}
	if b.is == prepared && w.left[amnesia] > 0 {
		add(forgetBranch, i, 0)
	}
	if b.is == amnesiac {
		add(recallBranch, i, 0)
	}
	if w.left[word] > 0 && !w.gone && !w.poisoned && i < len(w.m.branches) {
		w.wordsOn(i, add)
	}
}

// wordsOn adds what an operator may say of a branch. He is honest: what he says was done to it
// he has done, or found.
func (w *world) wordsOn(i int, add func(v verb, branch, choice int)) {
	if _, err := w.m.Fits(record.Operator{Verb: record.VerbForgetBranch, Branch: i}); err == nil {
		add(giveUpBranch, i, 0)
	}
	if _, err := w.m.Fits(record.Operator{Verb: record.VerbResolve, Branch: i}); err != nil {
		return
	}
	b := &w.branches[i]
	free := b.is == prepared || b.is == amnesiac || b.is == working && w.m.delegated()
	if free || b.is == aloneCommitted || b.is == ended && b.word == record.DecisionCommit {
		add(resolveBranch, i, int(participant.OutcomeCommitted))
	}
	if free || b.is == aloneRolledBack || b.is == ended && b.word == record.DecisionRollback {
		add(resolveBranch, i, int(participant.OutcomeRolledBack))
	}
}

// resolve lets an operator end the branch, if it has not ended, and say so.
func (w *world) resolve(i int, outcome participant.Outcome) {
	b := &w.branches[i]
	decision, alone := record.DecisionCommit, aloneCommitted
	if outcome == participant.OutcomeRolledBack {
		decision, alone = record.DecisionRollback, aloneRolledBack
	}
	switch b.is {
	case working: // it decides: what the operator does is its word
		b.is, b.word = ended, decision
	case prepared, amnesiac:
		b.is = alone
	default:
	}
	w.say(record.Operator{Verb: record.VerbResolve, Branch: i, Outcome: outcome})
}

func (w *world) say(r record.Operator) {
	w.left[word]--
	w.excused = true
	r.Tx, r.Number, r.At = theTx, uint64(len(w.m.Words())+1), anyTime
	w.feed(Said(r))
}

// do lets an action happen.
func (w *world) do(a action) {
	i := int(a.branch)
	switch a.verb {
	case enlist:
		w.joined++
		w.feed(Enlist("p", nil, w.onePhase))
	case callForCommit:
		w.commit = true
		w.feed(CommitRequested())
	case callForRollback:
		w.request(rollbackCall, RollbackRequested(record.CauseRequested, ""))
	case timeOut:
		w.request(deadline, DeadlinePassed(""))
	case flush:
		w.flush()
	case failAppend:
		w.left[failedAppend]--
		w.fail()
	case crashNow:
		w.left[crash]--
		w.restart(int(a.choice))
	case reopen:
		w.restart(int(a.choice))
	case resume:
		w.feed(Resumed())
	case decideAlone:
		w.left[alone]--
		w.branches[i].is = condition(a.choice)
	case forgetBranch:
		w.left[amnesia]--
		w.branches[i].is, w.excused = amnesiac, true
	case recallBranch:
		w.branches[i].is = prepared
	case giveUpBranch:
		w.say(record.Operator{Verb: record.VerbForgetBranch, Branch: i})
	case resolveBranch:
		w.resolve(i, participant.Outcome(a.choice))
	default:
		w.message(a, i, &w.branches[i])
	}
	w.checkState()
}

// request feeds what asks for a rollback (R2, R8). One that changes nothing costs
// nothing, so that it is tried again in every later state.
func (w *world) request(m mishap, ev Event) {
	before, pending, excused := w.m, len(w.pending), w.excused
	w.excused = true
	w.feed(ev)
	if len(w.pending) == pending && w.m.phase == before.phase && w.m.pending == before.pending {
		w.excused = excused
		return
	}
	w.left[m]--
}

func (w *world) message(a action, i int, b *branch) {
	switch a.verb {
	case arrive:
		b.answer = w.receive(i, b.call, int(a.choice))
		if b.answered = !b.atOnce(); !b.answered {
			w.returnCall(i, b.answer)
		}
	case answerArrives:
		w.returnCall(i, b.answer)
	case loseRequest:
		w.left[lost]--
		w.giveUp(i)
	case loseAnswer:
		w.left[lost]--
		if b.atOnce() {
			w.receive(i, b.call, 0)
		}
		w.giveUp(i)
	case doubleRequest:
		w.left[doubled]--
		b.astray |= 1 << b.call
	case delayRequest:
		w.left[late]--
		b.astray |= 1 << b.call
		w.giveUp(i)
	case cancelCall:
		w.giveUp(i)
	case arriveAstray:
		c := call(a.choice & 15)
		if !w.haunted {
			b.astray &^= 1 << c
		}
		w.receive(i, c, int(a.choice>>4))
	default:
		panic(fmt.Sprintf("action %d", a.verb))
	}
}

// atOnce: the answer to Commit and Rollback is heard when the participant acts.
// Nothing that happens in between could tell the difference, but for the answer's
// loss, and a crash, which leaves the request astray.
func (b *branch) atOnce() bool { return b.call == callCommit || b.call == callRollback }

// returnCall ends the call in flight with an answer. What is not acknowledged is
// called again (R6), unless the log has failed (R5).
func (w *world) returnCall(i int, a answer) {
	b := &w.branches[i]
	c := b.call
	b.call, b.answered, b.cancelled = 0, false, false
	if again := w.hear(i, c, a); again && !w.poisoned {
		b.call = c
	}
}

// giveUp ends the call in flight without an answer.
func (w *world) giveUp(i int) {
	b := &w.branches[i]
	w.excused = true
	c := b.call
	b.call, b.answered, b.cancelled = 0, false, false
	switch {
	case c == callPrepare:
		w.feed(Voted(i, 0, ""))
	case !w.poisoned:
		b.call = c
	}
}

func (w *world) describe(a action) string {
	i := int(a.branch)
	b := &w.branches[i]
	switch a.verb {
	case enlist:
		return fmt.Sprintf("branch %d is enlisted", w.joined)
	case callForCommit:
		return "the client calls Commit"
	case callForRollback:
		return "the client calls Rollback"
	case timeOut:
		return "the deadline passes"
	case flush:
		return "the log is flushed"
	case failAppend:
		return "an append fails: durable or not, nobody knows"
	case crashNow:
		return fmt.Sprintf("the coordinator crashes; of what was pending, the log keeps %d", a.choice)
	case reopen:
		return fmt.Sprintf("the log is opened again; of what was pending, it has %d", a.choice)
	case resume:
		return "the new coordinator resumes"
	case decideAlone:
		return fmt.Sprintf("participant %d ends its prepared branch: %s", i, conditionNames[a.choice])
	case forgetBranch:
		return fmt.Sprintf("participant %d does not know its prepared branch any more", i)
	case recallBranch:
		return fmt.Sprintf("participant %d knows its branch again", i)
	case giveUpBranch:
		return fmt.Sprintf("an operator gives branch %d up", i)
	case resolveBranch:
		return fmt.Sprintf("an operator sees to it that branch %d is %s, and says so", i, participant.Outcome(a.choice))
	case arrive:
		return fmt.Sprintf("%s reaches participant %d%s", b.call, i, w.picks(i, b.call, int(a.choice)))
	case arriveAstray:
		c := call(a.choice & 15)
		return fmt.Sprintf("an old %s reaches participant %d%s", c, i, w.picks(i, c, int(a.choice>>4)))
	default:
		what := [...]string{
			answerArrives: "arrives", loseRequest: "is lost", loseAnswer: "is lost", doubleRequest: "will arrive twice",
			delayRequest: "will arrive after its time", cancelCall: "is not waited for",
		}[a.verb]
		if slices.Contains([]verb{loseRequest, doubleRequest, delayRequest, cancelCall}, a.verb) {
			return fmt.Sprintf("%s to participant %d %s", b.call, i, what)
		}
		return fmt.Sprintf("the answer of participant %d to %s %s", i, b.call, what)
	}
}

// picks says what a participant that is free to choose will do.
func (w *world) picks(i int, c call, choice int) string {
	switch {
	case w.branches[i].is != working:
		return fmt.Sprintf(" (%s)", conditionNames[w.branches[i].is])
	case c == callPrepare && w.votes[choice] == 0:
		return ", which fails"
	case c == callPrepare:
		return fmt.Sprintf(", which votes %s", participant.Vote(w.votes[choice]))
	case c == callOnePhase:
		return ", which " + [...]string{"commits", "refuses", "ends mixed", "can't tell how it ended"}[choice]
	default:
		return ""
	}
}

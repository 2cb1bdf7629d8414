package protocol

import (
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// call is what a coordinator asks of a participant.
type call uint8

const (
	callPrepare call = 1 + iota
	callCommit
	callRollback
	callOnePhase
	callForget
)

var callNames = [...]string{"nothing", "Prepare", "Commit", "Rollback", "CommitOnePhase", "Forget"}

func (c call) String() string { return callNames[c] }

// condition is where a participant stands with its branch. It keeps the contract
// of package participant: its votes are promises, its answers repeat, and after
// Rollback a late Prepare is refused, until it is told to forget.
type condition uint8

const (
	working condition = iota
	refused
	readOnly
	prepared
	ended // by the coordinator's word: see branch.word
	aloneCommitted
	aloneRolledBack
	aloneMixed
	aloneHazard
	amnesiac // prepared, but can't find the branch now
	forgotten
	orphan // prepared by a request that came after Forget: the sweep's (R10)
)

var conditionNames = [...]string{
	"working", "refused", "read-only", "prepared", "ended", "committed alone", "rolled back alone", "mixed alone", "hazard alone",
	"amnesiac", "forgotten", "orphan",
}

// branch is one participant and its line to the coordinator.
type branch struct {
	is condition
	// word is how the branch ended, if not alone; it is kept when it is forgotten.
	word record.Decision
	// promised: the participant has voted prepared. heard: the coordinator got it
	// while it was undecided. For the oracle.
	promised, heard bool

	// call is the coordinator's call in flight, if any; once answered, answer is on
	// its way back. cancelled: the coordinator does not wait for it any more.
	call      call
	answered  bool
	answer    answer
	cancelled bool
	// astray are requests, by call, that may arrive at any time or never, and whose
	// answer nobody reads.
	astray uint8
}

// answer is a vote, to Prepare, or an index of answers.
type answer uint8

const (
	answerDone answer = iota
	answerUnknownBranch
	answerRefused
	answerCommitted
	answerAloneCommitted
	answerAloneRolledBack
	answerAloneMixed
	answerAloneHazard
)

var answers = [...]error{
	answerDone:            nil,
	answerUnknownBranch:   participant.ErrUnknownBranch,
	answerRefused:         participant.ErrRefused,
	answerCommitted:       &participant.HeuristicError{Outcome: participant.OutcomeCommitted},
	answerAloneCommitted:  &participant.HeuristicError{Outcome: participant.OutcomeHeuristicCommit},
	answerAloneRolledBack: &participant.HeuristicError{Outcome: participant.OutcomeHeuristicRollback},
	answerAloneMixed:      &participant.HeuristicError{Outcome: participant.OutcomeHeuristicMixed},
	answerAloneHazard:     &participant.HeuristicError{Outcome: participant.OutcomeHeuristicHazard},
}

// choices says how many ways the participant may answer: for one that is free to
// choose, the votes of the setting, or commit and refuse in one phase.
func (w *world) choices(i int, c call) int {
	switch {
	case w.branches[i].is != working:
		return 1
	case c == callPrepare:
		return len(w.votes)
	case c == callOnePhase && w.left[alone] > 0:
		return 4
	case c == callOnePhase:
		return 2
	default:
		return 1
	}
}

// receive lets the participant act on a request. choice counts within choices.
func (w *world) receive(i int, c call, choice int) answer {
	b := &w.branches[i]
	switch c {
	case callPrepare:
		return w.prepare(b, choice)
	case callCommit:
		return w.commitBranch(b)
	case callRollback:
		return w.rollBack(b)
	case callOnePhase:
		return w.commitOnePhase(b, choice)
	default:
		if b.is == prepared || b.is == working {
			w.violate("R1", "a branch was forgotten that had not ended")
		}
		b.is = forgotten
		return answerDone
	}
}

func (w *world) prepare(b *branch, choice int) answer {
	switch b.is {
	case working:
		vote := w.votes[choice]
		switch vote {
		case participant.VotePrepared:
			b.is, b.promised = prepared, true
		case participant.VoteReadOnly:
			b.is = readOnly
		case participant.VoteRefused:
			b.is, b.word, w.excused = refused, record.DecisionRollback, true
		default:
			w.excused = true
		}
		return answer(vote)
	case readOnly:
		return answer(participant.VoteReadOnly)
	case forgotten:
		b.is = orphan
		return answer(participant.VotePrepared)
	case refused, ended:
		return answer(participant.VoteRefused)
	case amnesiac:
		return 0
	default:
		return answer(participant.VotePrepared)
	}
}

func (w *world) commitBranch(b *branch) answer {
	switch b.is {
	case prepared:
		b.is, b.word = ended, record.DecisionCommit
	case working, refused:
		w.violate("AC3", "commit reached a branch that had not voted for it")
	case ended:
		if b.word != record.DecisionCommit {
			w.violate("AC2", "commit reached a branch that was rolled back")
		}
	case orphan:
		b.is = forgotten
	case amnesiac, forgotten:
		return answerUnknownBranch
	default:
		return b.aloneAnswer()
	}
	return answerDone
}

func (w *world) rollBack(b *branch) answer {
	switch b.is {
	case working, refused, prepared, readOnly:
		b.is, b.word = ended, record.DecisionRollback
	case ended:
		if b.word == record.DecisionCommit {
			if !w.onDisk.delegated {
				w.violate("AC2", "rollback reached a branch that was committed")
			}
			return answerCommitted
		}
	case amnesiac:
		b.is, b.word = ended, record.DecisionRollback
		return answerUnknownBranch
	case orphan:
		b.is = forgotten
	case forgotten:
		return answerUnknownBranch
	default:
		return b.aloneAnswer()
	}
	return answerDone
}

func (w *world) commitOnePhase(b *branch, choice int) answer {
	if b.is == working {
		switch choice {
		case 0:
			b.is, b.word = ended, record.DecisionCommit
		case 1:
			b.is, b.word, w.excused = ended, record.DecisionRollback, true
		default:
			b.is = aloneMixed + condition(choice-2)
			w.left[alone]--
		}
	}
	switch {
	case b.is == ended && b.word == record.DecisionCommit:
		return answerDone
	case b.is == ended:
		return answerRefused
	case b.is == forgotten:
		return answerUnknownBranch
	default:
		return b.aloneAnswer()
	}
}

func (b *branch) aloneAnswer() answer {
	switch b.is {
	case aloneCommitted:
		return answerAloneCommitted
	case aloneRolledBack:
		return answerAloneRolledBack
	case aloneMixed:
		return answerAloneMixed
	case aloneHazard:
		return answerAloneHazard
	default:
		return answerDone
	}
}

// hear gives the coordinator an answer, as the driver reads it. again reports
// whether the call has to be repeated.
func (w *world) hear(i int, c call, a answer) (again bool) {
	if c == callPrepare {
		vote := participant.Vote(a)
		if vote == participant.VotePrepared && !w.onDisk.decision.Valid() {
			w.branches[i].heard = true
		}
		w.feed(Voted(i, vote, ""))
		return false
	}
	var outcome participant.Outcome
	var acknowledged bool
	switch c {
	case callOnePhase:
		outcome, acknowledged = AnswerOnePhase(answers[a])
	case callRollback:
		outcome, acknowledged = Answer(record.DecisionRollback, answers[a])
	default:
		outcome, acknowledged = Answer(record.DecisionCommit, answers[a])
	}
	switch {
	case acknowledged:
		w.feed(Acknowledged(i, outcome, ""))
	case outcome == participant.OutcomeHeuristicHazard:
		w.feed(Hazard(i, ""))
		return true
	default:
		return true
	}
	return false
}

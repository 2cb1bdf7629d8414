package protocol

import (
	"fmt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// EventKind tells events apart.
type EventKind uint8

const (
	// EventEnlist: a branch joins.
	EventEnlist EventKind = 1 + iota
	// EventCommitRequested: Commit was called; the list of branches is sealed.
	EventCommitRequested
	// EventRollbackRequested: Rollback was called, or something else that may
	// decide a rollback, but not a commit, happened: see Cause.
	EventRollbackRequested
	// EventDeadline: the time for a decision has passed.
	EventDeadline
	// EventVote: a branch's Prepare returned.
	EventVote
	// EventAppended: what came of an Append effect.
	EventAppended
	// EventAcknowledged: a branch ended.
	EventAcknowledged
	// EventHazard: a branch does not know the transaction it is to commit (R7).
	EventHazard
	// EventResumed: recovery lets an inherited transaction go on.
	EventResumed
	// EventLogFailed: the log failed outside this transaction's own appends.
	EventLogFailed
	// EventSaid: an operator has a word on the transaction.
	EventSaid
)

// Event is something that happened to a transaction. Make one with the functions
// below; the fields that a kind does not use are zero.
type Event struct {
	Kind        EventKind
	Branch      int
	Participant string
	Data        []byte
	OnePhaser   bool
	Vote        participant.Vote
	Outcome     participant.Outcome
	Appended    record.Kind
	Result      Result
	Cause       record.Cause
	Reason      string
	Word        *record.Operator
}

// Result is what came of an append. R5: a log write has three answers.
type Result uint8

const (
	// Durable: the records are on disk.
	Durable Result = 1 + iota
	// Fenced: another coordinator owns the transaction; nothing was written.
	Fenced
	// Unknown: the records may or may not be on disk.
	Unknown
)

func (r Result) String() string {
	switch r {
	case Durable:
		return "durable"
	case Fenced:
		return "fenced"
	case Unknown:
		return "unknown"
	default:
		return fmt.Sprintf("invalid result %d", uint8(r))
	}
}

// Enlist adds a branch for the named participant. onePhaser says that it can
// commit in one phase.
func Enlist(name string, data []byte, onePhaser bool) Event {
	return Event{Kind: EventEnlist, Participant: name, Data: data, OnePhaser: onePhaser}
}

// CommitRequested asks for a commit.
func CommitRequested() Event { return Event{Kind: EventCommitRequested} }

// RollbackRequested asks for a rollback, and says why.
func RollbackRequested(cause record.Cause, reason string) Event {
	return Event{Kind: EventRollbackRequested, Cause: cause, Reason: reason}
}

// DeadlinePassed says that the time for a decision is over (R8).
func DeadlinePassed(reason string) Event {
	return Event{Kind: EventDeadline, Cause: record.CauseTimeout, Reason: reason}
}

// Voted says that the branch's Prepare returned. An invalid vote is unknown (R4).
func Voted(branch int, vote participant.Vote, reason string) Event {
	return Event{Kind: EventVote, Branch: branch, Vote: vote, Reason: reason}
}

// Appended says what came of the append whose last record was of this kind.
func Appended(kind record.Kind, result Result) Event {
	return Event{Kind: EventAppended, Appended: kind, Result: result}
}

// Acknowledged says that the branch ended so.
func Acknowledged(branch int, outcome participant.Outcome, reason string) Event {
	return Event{Kind: EventAcknowledged, Branch: branch, Outcome: outcome, Reason: reason}
}

// Hazard says that the branch does not know what it is to commit.
func Hazard(branch int, reason string) Event {
	return Event{Kind: EventHazard, Branch: branch, Outcome: participant.OutcomeHeuristicHazard, Reason: reason}
}

// Resumed lets a machine made by Resume go on.
func Resumed() Event { return Event{Kind: EventResumed} }

// Said is an operator's word. Step returns ErrUnfit if it can't be heeded. Until what came
// of its append is fed in no other is taken.
func Said(word record.Operator) Event { return Event{Kind: EventSaid, Word: &word} }

// LogFailed stops the machine.
func LogFailed() Event { return Event{Kind: EventLogFailed, Result: Unknown} }

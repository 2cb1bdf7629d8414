package demo

import (
	"time"

	"github.com/assent-tm/assent/participant"
)

// The parent and the coordinator talk in lines of JSON: requests go to the
// coordinator's standard input, events come from its standard output. A line is
// written before the coordinator goes on, so it outlives a kill: what the parent
// was not told has not begun.

// Request asks for one deal: a new one if What is set; else, with Release, that it
// goes on from its crash point, or what became of the transaction Tx. Number is the
// deal's, and comes back in its events.
type Request[T any] struct {
	Number  int              `json:"number"`
	What    *T               `json:"what,omitempty"`
	Hold    Hold             `json:"hold,omitempty"`
	Release bool             `json:"release,omitempty"`
	Tx      participant.TxID `json:"tx,omitzero"`
}

// Hold says at which crash point of a deal the coordinator waits, to be killed or
// released.
type Hold string

// The crash points.
const (
	HoldNowhere  Hold = ""
	HoldVotes    Hold = "votes"    // all participants are prepared, no vote was given
	HoldDecision Hold = "decision" // the decision commit is durable, no participant was told
	HoldHalf     Hold = "half"     // one participant has committed, the others were not told
)

// Kind is an event's.
type Kind string

// The kinds of events.
const (
	EventReady     Kind = "ready"     // the coordinator is open after Took; of the transactions Left in doubt, Decided have a decision in the log
	EventRecovered Kind = "recovered" // that is finished, Took after ready
	EventBegun     Kind = "begun"     // the deal's transaction is Tx; commit was not asked for yet
	EventHeld      Kind = "held"      // the call of Participant waits at the crash point
	EventAnswer    Kind = "answer"    // Answer, Reason; Votes and the times of a deal that was not interrupted
)

// Answer is what Commit returned.
type Answer string

// The answers.
const (
	AnswerNone       Answer = ""
	AnswerCommitted  Answer = "committed"
	AnswerPending    Answer = "pending"     // committed, but some participant has not acknowledged: to be asked again
	AnswerRefused    Answer = "refused"     // rolled back, because the deal can't be done
	AnswerRolledBack Answer = "rolled back" // for another reason: to be tried again in a new transaction
	AnswerFailed     Answer = "failed"      // Reason says why; nothing of the kind may happen here
)

// Event is what the coordinator tells the parent.
type Event struct {
	Kind        Kind               `json:"event"`
	Number      int                `json:"number,omitempty"`
	Tx          participant.TxID   `json:"tx,omitzero"`
	Left        []participant.TxID `json:"left,omitempty"`
	Decided     int                `json:"decided,omitempty"`
	Took        time.Duration      `json:"took,omitempty"`
	Participant string             `json:"participant,omitempty"`
	Answer      Answer             `json:"answer,omitempty"`
	Reason      string             `json:"reason,omitempty"`
	Votes       []Vote             `json:"votes,omitempty"`
	// DecidedAfter and DoneAfter count from begin.
	DecidedAfter time.Duration `json:"decided_after,omitempty"`
	DoneAfter    time.Duration `json:"done_after,omitempty"`
}

// Vote is a participant's, and how long Prepare took.
type Vote struct {
	Participant string        `json:"participant"`
	Vote        string        `json:"vote"`
	Reason      string        `json:"reason,omitempty"`
	Took        time.Duration `json:"took"`
}

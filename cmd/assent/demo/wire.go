package demo

import (
	"time"

	"github.com/assent-tm/assent/participant"
)

// The parent and the coordinator talk in lines of JSON: requests go to the
// coordinator's standard input, events come from its standard output. A line is
// written before the coordinator goes on, so it outlives a kill: what the parent
// was not told has not begun.

// request asks for one payment: a new one if Transfer is set, else what became of
// the transaction Tx. Number is the payment's, and comes back in its events.
type request struct {
	Number   int              `json:"number"`
	Transfer *Transfer        `json:"transfer,omitempty"`
	Hold     hold             `json:"hold,omitempty"`
	Tx       participant.TxID `json:"tx,omitzero"`
}

// hold says at which crash point of a payment the coordinator waits to be killed.
type hold string

const (
	holdNowhere  hold = ""
	holdVotes    hold = "votes"    // both banks are prepared, no vote was given
	holdDecision hold = "decision" // the decision commit is durable, no bank was told
	holdHalf     hold = "half"     // the sender's bank has committed, the other was not told
)

// heldBanks is how many events a hold gives: each bank waits in its own call.
const heldBanks = 2

type kind string

const (
	eventReady     kind = "ready"     // the coordinator is open after Took; InDoubt were left, of them Decided with a decision in the log
	eventRecovered kind = "recovered" // that is finished, Took after ready
	eventBegun     kind = "begun"     // the payment's transaction is Tx; commit was not asked for yet
	eventHeld      kind = "held"      // the call of Bank waits at the crash point
	eventAnswer    kind = "answer"    // Answer, Reason; Votes and the times of a payment that was not interrupted
)

// answer is what Commit returned.
type answer string

const (
	answerNone       answer = ""
	answerCommitted  answer = "committed"
	answerPending    answer = "pending"     // committed, but some bank has not acknowledged: to be asked again
	answerRefused    answer = "refused"     // rolled back, a bank refused
	answerRolledBack answer = "rolled back" // for another reason: to be tried again in a new transaction
	answerFailed     answer = "failed"      // Reason says why; nothing of the kind may happen here
)

type event struct {
	Kind    kind             `json:"event"`
	Number  int              `json:"number,omitempty"`
	Tx      participant.TxID `json:"tx,omitzero"`
	InDoubt int              `json:"in_doubt,omitempty"`
	Decided int              `json:"decided,omitempty"`
	Took    time.Duration    `json:"took,omitempty"`
	Bank    string           `json:"bank,omitempty"`
	Answer  answer           `json:"answer,omitempty"`
	Reason  string           `json:"reason,omitempty"`
	Votes   []vote           `json:"votes,omitempty"`
	// DecidedAfter and DoneAfter count from begin.
	DecidedAfter time.Duration `json:"decided_after,omitempty"`
	DoneAfter    time.Duration `json:"done_after,omitempty"`
}

// vote is a bank's, and how long Prepare took.
type vote struct {
	Bank   string        `json:"bank"`
	Vote   string        `json:"vote"`
	Reason string        `json:"reason,omitempty"`
	Took   time.Duration `json:"took"`
}

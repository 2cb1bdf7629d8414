// Package record defines what the recovery log holds: the kinds of records, their
// fields, their encoding, and how the records of one transaction merge into its
// state. It is the language that the protocol, the log and recovery share; pure
// data, no I/O.
//
// A transaction leaves these records, in this order:
//
//	Begun      lazily, with Begin
//	Enlisted   lazily, one for each branch
//	Preparing  forced, before the first Prepare (R1)
//	Decided    forced, before the first Commit or Rollback (R1); votes and decision
//	Heuristic  forced, for a branch that decided alone or does not know its transaction
//	Completed  lazily, after every acknowledgement and before any Forget (R1)
//
// Operator is an operator's word on the transaction, forced before it takes effect.
// Delegated takes the place of Preparing when the only branch decides (R3).
// Carried is the whole state in one record: the log writes it when it moves a
// transaction out of an old segment or an old term.
package record

import (
	"fmt"
	"time"

	"github.com/assent-tm/assent/participant"
)

// Limits of what a record may hold. They are checked when a record is encoded
// and when it is decoded.
const (
	// MaxAttributes is the number of bytes that the keys and values of a
	// transaction's attributes may have together.
	MaxAttributes = 1 << 10
	// MaxReason is the number of bytes that a text may have which says why: of a
	// rollback or of how a branch ended, cut by Reason, or of an operator's word.
	MaxReason = 512
)

// NoBranch is where a branch's number would be and no branch is meant. It is on
// disk.
const NoBranch = -1

// Kind tells records apart. The numbers are on disk: never reuse one.
type Kind uint8

const (
	KindBegun Kind = 1 + iota
	KindEnlisted
	KindPreparing
	KindDecided
	KindDelegated
	KindCompleted
	KindHeuristic
	KindCarried
	// KindOperator is an operator's word on a transaction; those on the whole log are
	// in Catalogue.Words.
	KindOperator
	// KindHeader is the first record of a segment; it belongs to no transaction.
	KindHeader
)

func (k Kind) String() string {
	switch k {
	case KindBegun:
		return "begun"
	case KindEnlisted:
		return "enlisted"
	case KindPreparing:
		return "preparing"
	case KindDecided:
		return "decided"
	case KindDelegated:
		return "delegated"
	case KindCompleted:
		return "completed"
	case KindHeuristic:
		return "heuristic"
	case KindCarried:
		return "carried"
	case KindOperator:
		return "operator"
	case KindHeader:
		return "header"
	default:
		return fmt.Sprintf("invalid kind %d", uint8(k))
	}
}

// Record is one of the types below: Begun, Enlisted, Preparing, Decided,
// Delegated, Completed, Heuristic, Operator, Carried or Header.
type Record interface {
	Kind() Kind
	// TxID is the transaction; zero for a Header.
	TxID() participant.TxID

	encodeFields(*encoder)
}

// Decision is the value of a transaction's write-once register (R2). The zero
// value is undecided.
type Decision uint8

const (
	DecisionCommit Decision = 1 + iota
	DecisionRollback
)

// Valid reports whether d is a decision.
func (d Decision) Valid() bool { return d == DecisionCommit || d == DecisionRollback }

// Outcome is how a transaction ends that is decided so and whose participants
// all obey; zero for undecided.
func (d Decision) Outcome() participant.Outcome {
	switch d {
	case DecisionCommit:
		return participant.OutcomeCommitted
	case DecisionRollback:
		return participant.OutcomeRolledBack
	default:
		return 0
	}
}

func (d Decision) String() string {
	switch d {
	case DecisionCommit:
		return "commit"
	case DecisionRollback:
		return "rollback"
	default:
		return "undecided"
	}
}

// Attributes are small texts a transaction was begun with: name, request id,
// owner.
type Attributes map[string]string

// The attributes' keys.
const (
	AttributeName      = "name"
	AttributeRequestID = "request"
	AttributeOwner     = "owner"
	// AttributeSubmission is a digest of the branches that a transaction was begun with
	// at once, if it has a request id.
	AttributeSubmission = "submission"
	// AttributeTraceparent is reserved.
	AttributeTraceparent = "traceparent"
)

// Size is the number of bytes that count against MaxAttributes.
func (a Attributes) Size() (n int) {
	for k, v := range a {
		n += len(k) + len(v)
	}
	return n
}

// Begun says that a transaction exists.
type Begun struct {
	Tx participant.TxID
	// At is the wall clock at Begin, to the millisecond; for people only (R8).
	At time.Time
	// Timeout is how long the transaction may stay undecided.
	Timeout    time.Duration
	Attributes Attributes
}

// Enlisted adds a branch.
type Enlisted struct {
	Tx          participant.TxID
	Number      int
	Participant string
	Data        []byte
}

// Preparing says that the list of branches is complete and that Prepare may have
// been sent to them.
type Preparing struct {
	Tx participant.TxID
}

// Decided holds votes and decision (R2).
type Decided struct {
	Tx       participant.TxID
	Decision Decision
	// Presumed says that recovery decided the rollback for want of a decision
	// (R3); it is told to a participant only after its list was read (R10).
	Presumed bool
	// Votes are the votes known at the decision, by branch number; an invalid
	// vote was unknown or never asked for. Shorter than the branches if the rest
	// is unknown.
	Votes []participant.Vote
	// Cause and Reason say what decided a rollback.
	Cause  Cause
	Reason string
	// By is the number of the branch whose vote decided a rollback; else NoBranch.
	By int
}

// Delegated hands the decision to the only branch (R3).
type Delegated struct {
	Tx participant.TxID
}

// Completed says that every branch has acknowledged.
type Completed struct {
	Tx participant.TxID
	// At is the wall clock, to the millisecond; the retention of outcomes counts
	// from here.
	At time.Time
}

// Heuristic says that a branch decided alone.
type Heuristic struct {
	Tx      participant.TxID
	Number  int
	Outcome participant.Outcome
	Reason  string
}

// Carried is the state of a transaction, whole.
type Carried struct {
	State State
}

func (r Begun) Kind() Kind     { return KindBegun }
func (r Enlisted) Kind() Kind  { return KindEnlisted }
func (r Preparing) Kind() Kind { return KindPreparing }
func (r Decided) Kind() Kind   { return KindDecided }
func (r Delegated) Kind() Kind { return KindDelegated }
func (r Completed) Kind() Kind { return KindCompleted }
func (r Heuristic) Kind() Kind { return KindHeuristic }
func (r Carried) Kind() Kind   { return KindCarried }
func (r Header) Kind() Kind    { return KindHeader }

func (r Begun) TxID() participant.TxID     { return r.Tx }
func (r Enlisted) TxID() participant.TxID  { return r.Tx }
func (r Preparing) TxID() participant.TxID { return r.Tx }
func (r Decided) TxID() participant.TxID   { return r.Tx }
func (r Delegated) TxID() participant.TxID { return r.Tx }
func (r Completed) TxID() participant.TxID { return r.Tx }
func (r Heuristic) TxID() participant.TxID { return r.Tx }
func (r Carried) TxID() participant.TxID   { return r.State.Tx }
func (r Header) TxID() participant.TxID    { return participant.TxID{} }

// Cause is what decided a rollback.
type Cause uint8

const (
	// CauseRequested: Rollback was called.
	CauseRequested Cause = 1 + iota
	// CauseRefused: a branch voted refused.
	CauseRefused
	// CauseUnknownVote: a branch gave no valid vote (R4).
	CauseUnknownVote
	// CauseTimeout: the transaction was not decided in time.
	CauseTimeout
	// CausePresumed: a crash left the transaction without a decision (R3).
	CausePresumed
	// CauseClosed: the coordinator was closed.
	CauseClosed
	// CauseContext: the context of Commit ended before the decision.
	CauseContext
)

// Valid reports whether c is a cause.
func (c Cause) Valid() bool { return CauseRequested <= c && c <= CauseContext }

func (c Cause) String() string {
	switch c {
	case CauseRequested:
		return "rollback was requested"
	case CauseRefused:
		return "a branch refused"
	case CauseUnknownVote:
		return "a branch gave no vote"
	case CauseTimeout:
		return "timed out"
	case CausePresumed:
		return "a crash left no decision"
	case CauseClosed:
		return "the coordinator was closed"
	case CauseContext:
		return "the caller's context ended"
	default:
		return fmt.Sprintf("invalid cause %d", uint8(c))
	}
}

// Reason cuts text to what a record may hold, at a boundary of characters.
func Reason(text string) string {
	if len(text) <= MaxReason {
		return text
	}
	cut := MaxReason
	for cut > 0 && text[cut]&0xC0 == 0x80 {
		cut--
	}
	return text[:cut]
}

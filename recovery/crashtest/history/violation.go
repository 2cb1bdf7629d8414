package history

import (
	"fmt"
	"strings"
)

// Rule is a promise that a history can break. AC1 to AC5 are those of atomic
// commitment: Bernstein, Hadzilacos, Goodman, "Concurrency Control and Recovery in
// Database Systems" (1987), section 7.3.
type Rule string

const (
	// Agreement: no two of coordinator, branches and clients have different outcomes.
	Agreement Rule = "AC1 agreement"
	// NoReversal: a decision, and a branch's end, never change.
	NoReversal Rule = "AC2 no reversal"
	// CommitNeedsVotes: commit only if every enlisted branch voted prepared or
	// read-only; a failed Prepare is none (R4).
	CommitNeedsVotes Rule = "AC3 commit only if all voted for it"
	// NoFailureCommits: without a failure, a deadline or a rollback call, what all
	// voted for is committed.
	NoFailureCommits Rule = "AC4 no failure and all yes commits"
	// Settles: with all failures repaired, every branch learns its outcome.
	Settles Rule = "AC5 all failures repaired decides"
	// ToldHolds: what a client or a participant was told never changes.
	ToldHolds Rule = "told outcomes hold"
	// LogBeforeTell: nothing is told before it is durable (R1).
	LogBeforeTell Rule = "log before tell"
	// RecoveryIdempotent: every replay says what was durable before it.
	RecoveryIdempotent Rule = "recovery is idempotent"
	// CompletedBeforeForget: forgotten only when every branch that needs the outcome
	// has it (R1).
	CompletedBeforeForget Rule = "completed before forget"
	// ExactlyOnce: a branch's work is applied once, and only after the decision.
	ExactlyOnce Rule = "effects exactly once"
	// ReadOnlyLeaves: a branch that voted read-only is not told to commit.
	ReadOnlyLeaves Rule = "read-only branches leave"
	// Untouched: nobody but its owner ends a branch; an orphan is never committed (R10).
	Untouched Rule = "orphans and foreign branches"
	// UniqueIDs: no transaction id is given out twice.
	UniqueIDs Rule = "transaction ids are unique"
	// SumHolds: the total over all participants does not change.
	SumHolds Rule = "sums hold"
	// WitnessRows: a transaction's row is at all its participants or at none.
	WitnessRows Rule = "witness rows at all or none"
	// Linearizable: what clients see is a register that is written once (R2).
	Linearizable Rule = "outcomes are a write-once register"
)

// Violation is one broken promise.
type Violation struct {
	Rule Rule
	// Tx is the transaction; of Untouched and Settles also the XID of a planted
	// branch; empty for SumHolds.
	Tx string
	// Lines are the numbers of the lines that prove it, ascending, counted from 1.
	Lines []int
	// Text says what is wrong with them.
	Text string
}

func (v Violation) String() string {
	lines := strings.Trim(fmt.Sprint(v.Lines), "[]")
	return fmt.Sprintf("%s: transaction %q: %s (lines %s)", v.Rule, v.Tx, v.Text, lines)
}

// Package recovery says what to do about what a crash left behind. It reads what
// the log holds and what the participants list, and returns a plan; it never
// acts. The coordinator carries the plan out with the same drive loop that live
// transactions use (R11).
//
// Two questions are answered here: how does each transaction of the log go on
// ([NewPlan]), and what becomes of a prepared branch that the log does not hold
// ([Judge])?
package recovery

import (
	"fmt"

	"github.com/assent-tm/assent/wal/record"
)

// Step is how an inherited transaction goes on.
type Step uint8

const (
	// Keep: it is completed; its outcome is kept for those who ask.
	Keep Step = 1 + iota
	// Resend: its decision is durable and may be told again at once (R10).
	Resend
	// RollBack: it has no decision and is rolled back (R3), or was rolled back for
	// that reason before. It may go to a participant only after that participant's
	// list was read in this run (R10).
	RollBack
	// Ask: the only branch was to commit by itself. It is asked to roll back; its
	// answer is the decision (R3). Gated as RollBack.
	Ask
)

func (s Step) String() string {
	switch s {
	case Keep:
		return "keep"
	case Resend:
		return "resend"
	case RollBack:
		return "roll back"
	case Ask:
		return "ask"
	default:
		return fmt.Sprintf("invalid step %d", uint8(s))
	}
}

// NextStep returns how a transaction in this state goes on.
func NextStep(s *record.State) Step {
	switch {
	case !s.Completed.IsZero():
		return Keep
	case s.Decision.Valid() && !s.Presumed:
		return Resend
	case s.Decision.Valid():
		return RollBack // by absence, as decided in an earlier run
	case s.Delegated:
		return Ask
	default:
		return RollBack
	}
}

// Plan sorts the transactions of a log by how they go on.
type Plan struct {
	Keep, Resend, RollBack, Ask []*record.State
}

// NewPlan returns the plan for these transactions, in their order.
func NewPlan(states []*record.State) Plan {
	var p Plan
	for _, s := range states {
		switch NextStep(s) {
		case Keep:
			p.Keep = append(p.Keep, s)
		case Resend:
			p.Resend = append(p.Resend, s)
		case RollBack:
			p.RollBack = append(p.RollBack, s)
		case Ask:
			p.Ask = append(p.Ask, s)
		}
	}
	return p
}

// InDoubt is the number of transactions that still have branches to be told.
func (p Plan) InDoubt() int { return len(p.Resend) + len(p.RollBack) + len(p.Ask) }

package recovery

import "github.com/assent-tm/assent/wal/record"

// Plan is how the transactions of a log that are in doubt go on. Completed ones
// are not: their outcomes are only kept for those who ask.
type Plan struct {
	// Resend: the decision is durable and may be told again at once (R10).
	Resend []*record.State
	// RollBack: it has no decision and is rolled back (R3), or was rolled back for
	// that reason before. It may go to a participant only after that participant's
	// list was read in this run (R10).
	RollBack []*record.State
	// Ask: the only branch was to commit by itself. It is asked to roll back; its
	// answer is the decision (R3). It waits for the list as RollBack does.
	Ask []*record.State
}

// NewPlan returns the plan for these transactions, in their order.
func NewPlan(states []*record.State) Plan {
	var p Plan
	for _, s := range states {
		switch {
		case !s.Completed.IsZero():
		case s.Decision.Valid() && !s.Presumed:
			p.Resend = append(p.Resend, s)
		case s.Decision.Valid():
			p.RollBack = append(p.RollBack, s) // by absence, as decided in an earlier run
		case s.Delegated:
			p.Ask = append(p.Ask, s)
		default:
			p.RollBack = append(p.RollBack, s)
		}
	}
	return p
}

// InDoubt is the number of transactions that still have branches to be told.
func (p Plan) InDoubt() int { return len(p.Resend) + len(p.RollBack) + len(p.Ask) }

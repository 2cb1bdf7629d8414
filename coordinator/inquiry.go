package coordinator

import (
	"context"
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Inquiry is what a participant is told that holds a prepared branch and asks what
// became of its transaction.
type Inquiry uint8

const (
	// InquiryCommitted: the decision is commit, for ever.
	InquiryCommitted Inquiry = 1 + iota
	// InquiryRolledBack: the decision is rollback, for ever, or there never was one
	// (R3).
	InquiryRolledBack
	// InquiryUndecided: ask again.
	InquiryUndecided
	// InquiryUnknown: the outcome is not kept any more, or it is no transaction of this
	// log, or the log may be an old one: an operator has to find out.
	InquiryUnknown
)

func (q Inquiry) String() string {
	switch q {
	case InquiryCommitted:
		return "committed"
	case InquiryRolledBack:
		return "rolled back"
	case InquiryUndecided:
		return "undecided"
	case InquiryUnknown:
		return "unknown"
	default:
		return fmt.Sprintf("invalid inquiry %d", uint8(q))
	}
}

// Outcome says what a participant in doubt may do with its branch of the transaction.
// It asks for nothing and changes nothing. Absence is read by R13; in safe mode nothing
// is InquiryRolledBack: what else would be is InquiryUnknown (R10).
//
// An error says that there is no answer: ErrClosed, ErrLogFailed or ErrNotOwner while
// former coordinators' transactions are still being looked for.
func (d *DTM) Outcome(ctx context.Context, id participant.TxID) (Inquiry, error) {
	t, err := d.find(ctx, id)
	answer := InquiryUndecided
	switch {
	case err == nil:
		answer = t.inquiry()
	case errors.Is(err, ErrRolledBack):
		answer = InquiryRolledBack
	case errors.Is(err, ErrForgotten), errors.Is(err, ErrNotFound), errors.Is(err, ErrSafeMode):
		answer = InquiryUnknown
	case errors.Is(err, ErrOutcomeUnknown): // the participants' lists are still to be read
	default:
		return 0, fmt.Errorf("inquire the outcome of transaction %s: %w", id, err)
	}
	if answer == InquiryRolledBack && d.safeMode.Load() != nil {
		answer = InquiryUnknown
	}
	return answer, nil
}

func (t *transaction) inquiry() Inquiry {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch decision := t.machine.Decision(); {
	case t.unsure: // R5: the log says it when it is opened anew
		return InquiryUndecided
	case decision == record.DecisionCommit:
		return InquiryCommitted
	case decision == record.DecisionRollback:
		return InquiryRolledBack
	default:
		return InquiryUndecided
	}
}

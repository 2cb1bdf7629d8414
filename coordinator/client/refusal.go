package client

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// Errors that an embedded coordinator does not have.
var (
	// ErrUnknownParticipant says that the server knows no participant of this name.
	ErrUnknownParticipant = errors.New("the server has no such participant")
	// ErrInvalid says that the server can't accept a field of the request.
	ErrInvalid = errors.New("invalid request")
	// ErrUnauthenticated says that the server does not know who calls.
	ErrUnauthenticated = errors.New("the server does not know who calls")
	// ErrForbidden says that the server does not allow it to this client.
	ErrForbidden = errors.New("the server does not allow this")
)

// reasons are the errors that the server's reasons stand for.
var reasons = map[assentv1.ErrorReason]error{
	assentv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN:     coordinator.ErrOutcomeUnknown,
	assentv1.ErrorReason_ERROR_REASON_COMMITTED:           coordinator.ErrCommitted,
	assentv1.ErrorReason_ERROR_REASON_NOT_FOUND:           coordinator.ErrNotFound,
	assentv1.ErrorReason_ERROR_REASON_FORGOTTEN:           coordinator.ErrForgotten,
	assentv1.ErrorReason_ERROR_REASON_SAFE_MODE:           coordinator.ErrSafeMode,
	assentv1.ErrorReason_ERROR_REASON_CLOSED:              coordinator.ErrClosed,
	assentv1.ErrorReason_ERROR_REASON_LOG_FAILED:          coordinator.ErrLogFailed,
	assentv1.ErrorReason_ERROR_REASON_NOT_OWNER:           coordinator.ErrNotOwner,
	assentv1.ErrorReason_ERROR_REASON_CONFLICT:            coordinator.ErrConflict,
	assentv1.ErrorReason_ERROR_REASON_LIMIT:               coordinator.ErrLimit,
	assentv1.ErrorReason_ERROR_REASON_LOG_FULL:            coordinator.ErrLogFull,
	assentv1.ErrorReason_ERROR_REASON_SEALED:              coordinator.ErrSealed,
	assentv1.ErrorReason_ERROR_REASON_INVALID:             ErrInvalid,
	assentv1.ErrorReason_ERROR_REASON_UNKNOWN_PARTICIPANT: ErrUnknownParticipant,
	assentv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED:     ErrUnauthenticated,
	assentv1.ErrorReason_ERROR_REASON_FORBIDDEN:           ErrForbidden,
}

// refusal is what came in place of an answer.
type refusal struct {
	code connect.Code
	text string
	info *assentv1.ErrorInfo // nil if the server did not say it
	err  error               // of the connection, if the server did not say it
}

// newRefusal reads the error of an RPC.
func newRefusal(err error) *refusal {
	var status *connect.Error
	if !errors.As(err, &status) {
		return &refusal{code: connect.CodeUnknown, text: err.Error(), err: err}
	}
	r := &refusal{code: status.Code(), text: status.Message(), err: err}
	for _, packed := range status.Details() {
		detail, err := connectproto.UnmarshalErrorDetail(packed)
		if info, ok := detail.(*assentv1.ErrorInfo); err == nil && ok {
			r.info, r.err = info, nil
		}
	}
	return r
}

// again reports whether the same request may be answered when it comes again: the
// connection was lost, or the server is ending and another one takes its place.
func (r *refusal) again() bool {
	if r.info != nil {
		return r.info.GetReason() == assentv1.ErrorReason_ERROR_REASON_CLOSED
	}
	if errors.Is(r.err, errClientClosed) || errors.Is(r.err, coordinator.ErrLimit) {
		return false
	}
	switch r.code {
	case connect.CodeUnavailable, connect.CodeUnknown, connect.CodeInternal, connect.CodeCanceled, connect.CodeDeadlineExceeded, connect.CodeAborted:
		return true
	default:
		return false
	}
}

// tellsOutcome reports whether it is an answer to the question what became of the
// transaction.
func (r *refusal) tellsOutcome() bool {
	switch r.info.GetReason() {
	case assentv1.ErrorReason_ERROR_REASON_ROLLED_BACK, assentv1.ErrorReason_ERROR_REASON_HEURISTIC,
		assentv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, assentv1.ErrorReason_ERROR_REASON_FORGOTTEN:
		return true
	default:
		return false
	}
}

// error returns what an embedded coordinator returns. Its text does not name the
// transaction: what it is wrapped in does.
func (r *refusal) error(id participant.TxID) error {
	switch reason := r.info.GetReason(); {
	case r.info == nil && r.code == connect.CodeUnauthenticated:
		return &toldError{text: r.text, is: ErrUnauthenticated}
	case r.info == nil && r.code == connect.CodePermissionDenied:
		return &toldError{text: r.text, is: ErrForbidden}
	case r.info == nil && r.again():
		return fmt.Errorf("%w: %w", ErrUnreachable, r.err)
	case r.info == nil:
		return r.err
	case reason == assentv1.ErrorReason_ERROR_REASON_ROLLED_BACK:
		return &coordinator.RolledBackError{
			Tx: id, Cause: causes[r.info.GetCause()], Participant: r.info.GetParticipant(), Reason: r.info.GetDetail(),
		}
	case reason == assentv1.ErrorReason_ERROR_REASON_HEURISTIC:
		e := &coordinator.HeuristicError{
			Tx: id, Decision: decisions[r.info.GetDecision()], Outcome: outcomes[r.info.GetOutcome()], Branches: r.info.GetBranches(),
		}
		if !e.Outcome.Valid() {
			e.Outcome = participant.OutcomeHeuristicMixed
		}
		return e
	default:
		is := reasons[reason]
		if is == nil {
			return errors.New(r.text)
		}
		if r.code == connect.CodeDeadlineExceeded {
			is = errors.Join(is, context.DeadlineExceeded)
		}
		return &toldError{text: strings.TrimPrefix(r.text, "transaction "+id.String()+": "), is: is}
	}
}

// toldError is an error as the server put it, and which of ours it is.
type toldError struct {
	text string
	is   error
}

func (e *toldError) Error() string { return e.text }
func (e *toldError) Unwrap() error { return e.is }

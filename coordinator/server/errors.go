package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// failure is what a caller is told instead of an answer. Its text is made for callers:
// what stores and participants' drivers say may hold addresses and passwords, and is
// for the server's own log.
type failure struct {
	code    connect.Code
	message string
	info    assentv1.ErrorInfo
	cause   error
}

// known are the errors whose text says no more than what they are, in the order in
// which they are looked for.
var known = []struct {
	err       error
	code      connect.Code
	reason    assentv1.ErrorReason
	decision  assentv1.Decision
	retryable bool
}{
	{coordinator.ErrOutcomeUnknown, connect.CodeUnavailable, assentv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, 0, true},
	{coordinator.ErrCommitted, connect.CodeFailedPrecondition, assentv1.ErrorReason_ERROR_REASON_COMMITTED, assentv1.Decision_DECISION_COMMIT, false},
	{coordinator.ErrForgotten, connect.CodeNotFound, assentv1.ErrorReason_ERROR_REASON_FORGOTTEN, 0, false},
	{coordinator.ErrNotFound, connect.CodeNotFound, assentv1.ErrorReason_ERROR_REASON_NOT_FOUND, 0, false},
	{coordinator.ErrSafeMode, connect.CodeFailedPrecondition, assentv1.ErrorReason_ERROR_REASON_SAFE_MODE, 0, false},
	{coordinator.ErrNotOwner, connect.CodeUnavailable, assentv1.ErrorReason_ERROR_REASON_NOT_OWNER, 0, true},
	{coordinator.ErrLogFailed, connect.CodeUnavailable, assentv1.ErrorReason_ERROR_REASON_LOG_FAILED, 0, true},
	{coordinator.ErrClosed, connect.CodeUnavailable, assentv1.ErrorReason_ERROR_REASON_CLOSED, 0, true},
	{coordinator.ErrLogFull, connect.CodeResourceExhausted, assentv1.ErrorReason_ERROR_REASON_LOG_FULL, 0, true},
	{coordinator.ErrSealed, connect.CodeFailedPrecondition, assentv1.ErrorReason_ERROR_REASON_SEALED, 0, false},
	{coordinator.ErrConflict, connect.CodeAlreadyExists, assentv1.ErrorReason_ERROR_REASON_CONFLICT, 0, false},
	{protocol.ErrTooManyBranches, connect.CodeResourceExhausted, assentv1.ErrorReason_ERROR_REASON_LIMIT, 0, false},
}

// failed says to a caller what err means for the transaction with this id, "" if none
// has one yet.
func failed(id string, err error) *failure {
	f := &failure{cause: err}
	f.info.TransactionId = id
	var heuristic *coordinator.HeuristicError
	var rolledBack *coordinator.RolledBackError
	switch {
	case errors.Is(err, coordinator.ErrOutcomeUnknown):
		f.isKnown(err)
	case errors.As(err, &heuristic):
		f.is(connect.CodeDataLoss, assentv1.ErrorReason_ERROR_REASON_HEURISTIC, heuristic.Error())
		f.info.Decision, f.info.Outcome, f.info.Branches = decision(heuristic.Decision), outcome(heuristic.Outcome), heuristic.Branches
	case errors.As(err, &rolledBack):
		f.rolledBack(rolledBack)
	case f.isKnown(err):
	case errors.Is(err, coordinator.ErrUnfit):
		f.is(connect.CodeFailedPrecondition, assentv1.ErrorReason_ERROR_REASON_UNFIT, worded(err, coordinator.ErrUnfit))
	case errors.Is(err, coordinator.ErrLimit):
		f.is(connect.CodeResourceExhausted, assentv1.ErrorReason_ERROR_REASON_LIMIT, worded(err, coordinator.ErrLimit))
		f.info.Retryable = true
	case errors.Is(err, context.DeadlineExceeded):
		f.is(connect.CodeDeadlineExceeded, assentv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, "the deadline passed first: ask again, do not redo")
		f.info.Retryable = true
	case errors.Is(err, context.Canceled):
		f.is(connect.CodeCanceled, assentv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN, "the caller gave up waiting: ask again, do not redo")
		f.info.Retryable = true
	default:
		f.is(connect.CodeInternal, assentv1.ErrorReason_ERROR_REASON_UNSPECIFIED, "internal error: the server's log has it")
	}
	return f
}

// worded returns what the coordinator says of an error whose text it words itself.
func worded(err, is error) string {
	text := err.Error()
	if at := strings.Index(text, is.Error()); at >= 0 {
		return text[at:]
	}
	return is.Error()
}

func (f *failure) is(code connect.Code, reason assentv1.ErrorReason, message string) {
	f.code, f.info.Reason, f.message = code, reason, message
	if f.info.TransactionId != "" {
		f.message = fmt.Sprintf("transaction %s: %s", f.info.TransactionId, message)
	}
}

func (f *failure) isKnown(err error) bool {
	for i := range known {
		if k := &known[i]; errors.Is(err, k.err) {
			f.is(k.code, k.reason, k.err.Error())
			f.info.Decision, f.info.Retryable = k.decision, k.retryable
			return true
		}
	}
	return false
}

// rolledBack tells why: a participant's refusal in its own words, as it was meant for
// the caller; but not what a call returned that failed.
func (f *failure) rolledBack(e *coordinator.RolledBackError) {
	said := *e
	if e.Cause == record.CauseUnknownVote {
		said.Reason = ""
	}
	f.is(connect.CodeAborted, assentv1.ErrorReason_ERROR_REASON_ROLLED_BACK, said.Error())
	f.info.Decision = assentv1.Decision_DECISION_ROLLBACK
	f.info.Cause, f.info.Participant, f.info.Detail = cause(e.Cause), said.Participant, said.Reason
}

// invalid says that a field of a request is wrong.
func invalid(format string, args ...any) *failure {
	f := &failure{code: connect.CodeInvalidArgument, message: fmt.Sprintf(format, args...)}
	f.info.Reason = assentv1.ErrorReason_ERROR_REASON_INVALID
	return f
}

// noParticipant says that nobody of this name is registered.
func noParticipant(name string) *failure {
	f := &failure{code: connect.CodeNotFound, message: fmt.Sprintf("no participant %q is registered", name)}
	f.info.Reason, f.info.Participant = assentv1.ErrorReason_ERROR_REASON_UNKNOWN_PARTICIPANT, name
	return f
}

// notFound is the answer to an id that is nobody's, or another client's: both read
// the same.
func notFound(id participant.TxID) *failure { return failed(id.String(), coordinator.ErrNotFound) }

// Error is what the server's log gets.
func (f *failure) Error() string {
	if f.cause != nil {
		return f.cause.Error()
	}
	return f.message
}

func (f *failure) Unwrap() error { return f.cause }

// status returns the error of an RPC.
func (f *failure) status() error {
	e := connect.NewError(f.code, f.message).WithCause(f.cause)
	detail, err := connectproto.NewErrorDetail(&f.info)
	if err != nil {
		return e
	}
	return e.WithDetail(detail)
}

// answer returns the failure for where there is no status to put it in.
func (f *failure) answer() *assentv1.Failure {
	return &assentv1.Failure{Code: uint32(f.code), Message: f.message, Info: &f.info}
}

package remotetx

import (
	"context"
	"errors"
	"fmt"
	"net"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

// Kind says what the caller can do about an error.
type Kind uint8

// The kinds.
const (
	// Other needs a look at the message.
	Other Kind = 1 + iota
	// Invalid: what was asked is wrong in itself.
	Invalid
	// Unreachable: no server, no answer in time, or one that takes nothing at present.
	Unreachable
	// Auth: who asks is not known, or may not.
	Auth
	// NotFound: the transaction or participant does not exist, or is another's.
	NotFound
	// Conflict: something else was said before, or a precondition or limit does not
	// allow it.
	Conflict
	// RolledBack: the decision is rollback. The work may be done anew.
	RolledBack
	// Pending: the outcome is not known, or committed and still to be told. Never do
	// the work again.
	Pending
)

// kinds are those of the reasons that a server gives.
var kinds = map[assentv1.ErrorReason]Kind{
	assentv1.ErrorReason_ERROR_REASON_ROLLED_BACK:         RolledBack,
	assentv1.ErrorReason_ERROR_REASON_OUTCOME_UNKNOWN:     Pending,
	assentv1.ErrorReason_ERROR_REASON_HEURISTIC:           Other,
	assentv1.ErrorReason_ERROR_REASON_COMMITTED:           Conflict,
	assentv1.ErrorReason_ERROR_REASON_NOT_FOUND:           NotFound,
	assentv1.ErrorReason_ERROR_REASON_FORGOTTEN:           NotFound,
	assentv1.ErrorReason_ERROR_REASON_SAFE_MODE:           Conflict,
	assentv1.ErrorReason_ERROR_REASON_CLOSED:              Unreachable,
	assentv1.ErrorReason_ERROR_REASON_LOG_FAILED:          Unreachable,
	assentv1.ErrorReason_ERROR_REASON_NOT_OWNER:           Unreachable,
	assentv1.ErrorReason_ERROR_REASON_CONFLICT:            Conflict,
	assentv1.ErrorReason_ERROR_REASON_LIMIT:               Conflict,
	assentv1.ErrorReason_ERROR_REASON_LOG_FULL:            Conflict,
	assentv1.ErrorReason_ERROR_REASON_SEALED:              Conflict,
	assentv1.ErrorReason_ERROR_REASON_INVALID:             Invalid,
	assentv1.ErrorReason_ERROR_REASON_UNKNOWN_PARTICIPANT: NotFound,
	assentv1.ErrorReason_ERROR_REASON_UNAUTHENTICATED:     Auth,
	assentv1.ErrorReason_ERROR_REASON_FORBIDDEN:           Auth,
	assentv1.ErrorReason_ERROR_REASON_UNFIT:               Conflict,
}

// codes are the kinds of errors that came without a reason, from a proxy perhaps.
var codes = map[connect.Code]Kind{
	connect.CodeInvalidArgument:    Invalid,
	connect.CodeDeadlineExceeded:   Unreachable,
	connect.CodeUnavailable:        Unreachable,
	connect.CodeUnauthenticated:    Auth,
	connect.CodePermissionDenied:   Auth,
	connect.CodeNotFound:           NotFound,
	connect.CodeAlreadyExists:      Conflict,
	connect.CodeFailedPrecondition: Conflict,
	connect.CodeResourceExhausted:  Conflict,
	connect.CodeUnimplemented:      Other,
}

// Error is what became of a call that got no answer, or one that is an error.
type Error struct {
	Kind    Kind
	Message string
	// Info is what the server said beside the message; nil if it did not.
	Info *assentv1.ErrorInfo
	// Cause is what the call returned.
	Cause error
}

func (e *Error) Error() string { return e.Message }

func (e *Error) Unwrap() error { return e.Cause }

// sent reports whether the server may have got the request, and answered nothing that
// says that it did nothing.
func (e *Error) sent() bool {
	var failed *net.OpError
	dialled := !errors.As(e.Cause, &failed) || failed.Op != "dial"
	return e.Info == nil && dialled
}

// explain says what an error of a call means, and what to do.
func (s *Server) explain(err error) error {
	var failed *connect.Error
	if !errors.As(err, &failed) {
		failed = connect.NewError(connect.CodeOf(err), err.Error()).WithCause(err)
	}
	e := &Error{Kind: codes[failed.Code()], Message: failed.Message(), Info: infoOf(failed), Cause: err}
	if e.Kind == 0 {
		e.Kind = Other
	}
	switch {
	case e.Info != nil:
		if kind, ok := kinds[e.Info.GetReason()]; ok {
			e.Kind = kind
		}
	case failed.Code() == connect.CodeDeadlineExceeded, errors.Is(err, context.DeadlineExceeded):
		e.Kind = Unreachable
		e.Message = fmt.Sprintf("no answer within %s (--timeout)", s.timeout)
	case failed.Code() == connect.CodeUnimplemented: // also what a 404 of another program is
		e.Message = "what answers there does not know this call: is it the right listener? --server takes tx, --admin operators' words and status"
	case !failed.IsRemote():
		if e.Message = "cannot reach a server: " + e.Message; !e.sent() {
			e.Message += "; is 'assent serve' or 'assent dev' running there?"
		}
	}
	if e.Kind == Auth {
		e.Message += "; give a token of a fitting role with --token-file or ASSENT_TOKEN ('assent token create' makes one)"
	}
	return e
}

// infoOf returns the detail of a server's error, or nil.
func infoOf(failed *connect.Error) *assentv1.ErrorInfo {
	for _, detail := range failed.Details() {
		if message, err := connectproto.UnmarshalErrorDetail(detail); err == nil {
			if info, ok := message.(*assentv1.ErrorInfo); ok {
				return info
			}
		}
	}
	return nil
}

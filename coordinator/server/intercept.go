package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant/remote"
)

// intercept surrounds every RPC: before it, whether the caller may; after it, what he
// is told. Nothing of a request is read before.
func (s *Server) intercept(next connect.ServerFunc) connect.ServerFunc {
	return func(ctx context.Context, spec connect.Spec, stream connect.ServerStream) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = failed("", &panicError{value: p, stack: debug.Stack()}).status()
			}
			if err != nil {
				err = s.told(spec.Procedure, err)
			}
		}()
		shown := headersOf(ctx)
		who, f := s.admit(shown, spec.Procedure)
		if f != nil {
			return f.status()
		}
		under := s.countedWith(spec)
		if spec.StreamType != connect.StreamTypeUnary {
			stream = &admittedStream{ServerStream: stream, s: s, procedure: spec.Procedure, shown: shown, who: who}
		}
		if !under.enter() {
			return failed("", under.full()).status()
		}
		defer under.leave()
		if p, ok := ctx.Value(patienceKey{}).(*patience); ok {
			defer context.AfterFunc(s.life, p.stopReading)() //nolint:contextcheck // streams end with the server
		}
		if shown.traceparent != "" {
			ctx = remote.WithTraceparent(ctx, shown.traceparent)
		}
		return next(withIdentity(ctx, who), spec, stream)
	}
}

// countedWith returns what a call counts with (R12): what clients do keeps neither
// operators nor participants out.
func (s *Server) countedWith(spec connect.Spec) *calls {
	switch {
	case spec.Procedure == assentv1connect.AttachmentServiceAttachProcedure:
		return &s.attached
	case spec.StreamType != connect.StreamTypeUnary:
		return &s.streams
	case roles[spec.Procedure] > RoleClient:
		return &s.operate
	default:
		return &s.calls
	}
}

// admittedStream looks again at who calls while a stream lasts: a token that expired
// or was revoked must not work for as long as somebody holds a stream open.
type admittedStream struct {
	connect.ServerStream
	s         *Server
	procedure string
	shown     headers
	who       *Identity
	looked    atomic.Int64 // in Unix nanoseconds
}

func (a *admittedStream) Receive(message any) error {
	if err := a.ServerStream.Receive(message); err != nil {
		return err
	}
	return a.look()
}

func (a *admittedStream) Send(message any) error {
	if err := a.look(); err != nil {
		return err
	}
	return a.ServerStream.Send(message)
}

func (a *admittedStream) look() error {
	if a.s.config.Auth == nil || time.Now().UnixNano()-a.looked.Load() < int64(checkInterval) {
		return nil
	}
	a.looked.Store(time.Now().UnixNano())
	who, f := a.s.admit(a.shown, a.procedure)
	switch {
	case f != nil:
		return f.status()
	case !who.is(a.who):
		return unauthenticated().status()
	default:
		return nil
	}
}

// logInternal logs what a caller is not told.
func (s *Server) logInternal(procedure string, err error) {
	var f *failure
	if errors.As(err, &f) && f.code != connect.CodeInternal {
		return
	}
	s.logger.Error("call failed", zap.String("procedure", procedure), zap.Error(err))
}

// unexpectedError hides what an error is: nothing of it is for callers.
type unexpectedError struct{ err error }

func (e *unexpectedError) Error() string { return e.err.Error() }

// panicError is a bug of the server.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// told returns what the caller is told of an error, and logs what he is not.
func (s *Server) told(procedure string, err error) error {
	var status *connect.Error
	switch {
	case errors.As(err, &status) && !status.IsRemote() && len(status.Details()) > 0:
	case s.life.Err() != nil: // a stream that the server ended
		return failed("", coordinator.ErrClosed).status()
	case status != nil && !status.IsRemote():
	case errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded): // a stream that the caller left
		return failed("", err).status()
	default:
		errors.As(failed("", &unexpectedError{err}).status(), &status)
	}
	switch {
	case status.Code() == connect.CodeInternal:
		s.logInternal(procedure, status.Unwrap())
	case len(status.Details()) > 0:
	case status.Code() == connect.CodeInvalidArgument:
		return invalid("%s", status.Message()).status() // what was sent could not be read
	case status.Code() == connect.CodeResourceExhausted:
		f := &failure{code: status.Code(), message: status.Message()} // or is too long
		f.info.Reason = assentv1.ErrorReason_ERROR_REASON_LIMIT
		return f.status()
	}
	return status
}

package remote

import (
	"context"
	"errors"
	"io"
	"runtime"
	"time"

	"connectrpc.com/connect/v2"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// helloTime is how long a new stream may take to say who it is.
const helloTime = 10 * time.Second

// ServerStream is the coordinator's end of an Attach stream; that of the generated
// handler satisfies it. Send and Receive are called by one goroutine each.
type ServerStream interface {
	Receive() (*assentv1.AttachRequest, error)
	Send(*assentv1.AttachResponse) error
}

// stream is one attached stream.
type stream struct {
	woken  chan struct{} // takes one
	hello  chan *assentv1.Hello
	ended  chan struct{} // closed by the receiver
	failed error         // why; set before ended is closed
	ender  chan error    // takes one: the hub ends the stream

	// Guarded by attached.mu.
	instance     *instance
	received     uint64 // answers
	acknowledged uint64 // of them
	closing      bool   // the instance is to be told that the server ends
	told         bool   // it was
}

func (s *stream) wake() {
	select {
	case s.woken <- struct{}{}:
	default:
	}
}

// end ends the stream with this error.
func (s *stream) end(err error) {
	select {
	case s.ender <- err:
	default:
	}
}

// Attach serves a stream until it ends, ctx does, or the hub is closed. It returns nil
// if the instance closed its side, else an error that is a *connect.Error where the
// instance should know why: NOT_FOUND for a participant that the hub has not,
// FAILED_PRECONDITION for an instance that can't do what the participant's instances
// have to, INVALID_ARGUMENT for what is not of the protocol, DEADLINE_EXCEEDED for who does
// not say hello, ABORTED when the same instance has attached again, RESOURCE_EXHAUSTED past
// MaxStreams, or when it left more than MaxCalls withdrawn calls unanswered, UNAVAILABLE
// when the hub is closing.
//
// A goroutine of the hub may be in Receive for a moment after Attach has returned; the
// stream has to end it, as that of an HTTP handler does.
func (h *Hub) Attach(ctx context.Context, conn ServerStream) error {
	if err := h.enter(); err != nil {
		return err
	}
	defer h.leave()
	s := &stream{
		woken: make(chan struct{}, 1), hello: make(chan *assentv1.Hello, 1), ended: make(chan struct{}), ender: make(chan error, 1),
	}
	start := make(chan *attached, 1)
	defer close(start)
	go func() {
		defer h.attaching.Done()
		defer close(s.ended)
		s.failed = s.receive(conn, start)
	}()
	hello, err := s.awaitHello(ctx)
	if err != nil {
		return err
	}
	p, err := h.admit(hello)
	if err != nil {
		return err
	}
	unanswered, err := p.arrive(s, hello.Instance)
	if err != nil {
		return err
	}
	start <- p
	err = conn.Send(&assentv1.AttachResponse{Message: &assentv1.AttachResponse_Welcome{
		Welcome: &assentv1.Welcome{Domain: h.cfg.Domain, Server: h.server, Unanswered: unanswered},
	}})
	if err == nil {
		err = s.send(ctx, conn, p)
	}
	p.depart(s, err == nil)
	return err
}

func (s *stream) awaitHello(ctx context.Context) (*assentv1.Hello, error) {
	late := time.NewTimer(helloTime)
	defer late.Stop()
	select {
	case hello := <-s.hello:
		return hello, nil
	case <-s.ended:
		return nil, s.failed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-late.C:
		return nil, connect.Errorf(connect.CodeDeadlineExceeded, "no hello within %s", helloTime)
	}
}

// admit returns the participant that an instance is of.
func (h *Hub) admit(hello *assentv1.Hello) (*attached, error) {
	p := h.participant(hello.Participant)
	switch {
	case p == nil:
		return nil, connect.Errorf(connect.CodeNotFound, "no participant %q has attached instances here; the server's configuration names those that have", hello.Participant)
	case participant.ValidName(hello.Instance) != nil:
		return nil, connect.NewError(connect.CodeInvalidArgument, invalidInstance(hello.Instance).Error())
	case p.lists && !hello.Lists, p.forgets && !hello.Forgets:
		return nil, connect.Errorf(connect.CodeFailedPrecondition,
			"participant %q is configured to list: %t, to forget: %t; this instance lists: %t, forgets: %t", p.name, p.lists, p.forgets, hello.Lists, hello.Forgets)
	}
	return p, nil
}

// receive takes what the instance sends. It returns nil if the instance closes its side.
func (s *stream) receive(conn ServerStream, start <-chan *attached) error {
	first, err := conn.Receive()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return connect.NewError(connect.CodeInvalidArgument, "the first message of a stream is a hello")
	}
	s.hello <- hello
	p := <-start
	if p == nil {
		return nil // it was not admitted
	}
	for {
		request, err := conn.Receive()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case request.GetAnswers() == nil:
			return connect.NewError(connect.CodeInvalidArgument, "all messages of a stream but the first are answers")
		}
		p.take(s, request.GetAnswers().GetAnswers())
	}
}

// send sends calls until the stream ends. It returns nil if the instance left.
func (s *stream) send(ctx context.Context, conn ServerStream, p *attached) error {
	for {
		select {
		case <-s.woken:
		case <-s.ended:
			return s.failed
		case err := <-s.ender:
			return err
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		runtime.Gosched() // calls that are about to be made ride along
		for frame := p.frame(s); frame != nil; frame = p.frame(s) {
			if err := conn.Send(frame); err != nil {
				return err
			}
		}
	}
}

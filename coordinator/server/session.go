package server

import (
	"context"
	"errors"
	"io"
	"runtime"
	"runtime/debug"
	"sync"

	"connectrpc.com/connect/v2"

	"github.com/assent-tm/assent/coordinator/api"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant/remote"
)

// session is one stream of requests and answers. Nobody but its reader waits for it
// while it is idle. Whoever has an answer sends it, and with it those that others have
// by then: under load one message carries many.
type session struct {
	t      transactions
	stream assentv1connect.TransactionServiceSessionServerStream
	max    int

	mu       sync.Mutex
	changed  sync.Cond // inFlight, sending or broken are others
	inFlight int       // requests whose answers have not been sent
	answers  []*assentv1.Answer
	spare    []*assentv1.Answer
	sending  bool
	broken   bool // nothing can be sent any more

	next chan *assentv1.Request // to who has answered one; nil to end
	over chan struct{}          // closed when the session is
}

// Session answers until the caller has said that nothing more comes, and all is
// answered. With Config.MaxInFlight unanswered requests it reads no more until some are
// answered (R12). A call of the session that the caller hangs up on goes on.
func (t transactions) Session(ctx context.Context, stream assentv1connect.TransactionServiceSessionServerStream) error {
	s := &session{t: t, stream: stream, max: t.s.config.MaxInFlight, next: make(chan *assentv1.Request), over: make(chan struct{})}
	defer close(s.over)
	if info, ok := connect.CallInfoForServerContext(ctx); ok {
		info.ResponseHeader().Set(api.AdmittedHeader, "true")
	}
	s.changed.L = &s.mu
	stop := context.AfterFunc(ctx, s.giveUp)
	defer stop()
	err := s.read(ctx)
	if !errors.Is(err, io.EOF) {
		s.giveUp()
	}
	s.finish()
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// read takes requests until there are no more.
//
//nolint:contextcheck // a request lasts as long as it does, whatever becomes of the stream
func (s *session) read(ctx context.Context) error {
	lasting := remote.WithTraceparent(withIdentity(context.Background(), caller(ctx)), remote.Traceparent(ctx))
	for {
		message, err := s.stream.Receive()
		if err != nil {
			return err
		}
		for _, r := range message.GetRequests() {
			if !s.take() {
				return ctx.Err()
			}
			select {
			case s.next <- r:
			default:
				go s.work(lasting, r)
			}
		}
	}
}

// work answers requests until none is under way. Its stack has grown to what a request
// takes by the second.
func (s *session) work(ctx context.Context, r *assentv1.Request) {
	for r != nil {
		s.answer(ctx, r)
		s.mu.Lock()
		idle := s.inFlight == 0
		s.mu.Unlock()
		if idle {
			s.dismiss()
			return
		}
		select {
		case r = <-s.next:
		case <-s.over:
			return
		}
	}
}

// dismiss ends the goroutines that wait for a request.
func (s *session) dismiss() {
	for {
		select {
		case s.next <- nil:
		default:
			return
		}
	}
}

// take counts a request once there is room for it; false if the session is broken.
func (s *session) take() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.inFlight >= s.max && !s.broken {
		s.changed.Wait()
	}
	s.inFlight++
	return !s.broken
}

// giveUp lets nothing be sent any more.
func (s *session) giveUp() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
	s.changed.Broadcast()
}

// finish waits until all is answered, or nothing can be. Nobody uses the stream after
// that.
func (s *session) finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.sending || s.inFlight > 0 && !s.broken {
		s.changed.Wait()
	}
	s.broken = true
}

// answer serves a request and sends what there is to send.
func (s *session) answer(ctx context.Context, r *assentv1.Request) {
	answer := &assentv1.Answer{Id: r.GetId()}
	under := &s.t.s.calls
	if under.enter() {
		defer under.leave()
		s.t.serve(ctx, r, answer)
	} else {
		answer.Answer = &assentv1.Answer_Failure{Failure: failed("", under.full()).answer()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, answer)
	if s.sending || s.broken {
		return // who sends now takes it along
	}
	s.sending = true
	for len(s.answers) > 0 && !s.broken {
		s.sendLocked()
	}
	s.sending = false
	s.changed.Broadcast()
}

// sendLocked sends what there is. Called with the mutex held, which it gives up
// meanwhile.
func (s *session) sendLocked() {
	s.mu.Unlock()
	runtime.Gosched() // one append of the log ends many transactions: their answers are about to be here
	s.mu.Lock()
	batch := s.answers
	s.answers, s.spare = s.spare, nil
	s.mu.Unlock()
	err := s.stream.Send(&assentv1.SessionResponse{Answers: batch})
	sent := len(batch)
	clear(batch)
	s.mu.Lock()
	s.spare = batch[:0]
	s.inFlight -= sent
	s.broken = s.broken || err != nil
	s.changed.Broadcast()
}

// serve answers one request.
func (t transactions) serve(ctx context.Context, r *assentv1.Request, answer *assentv1.Answer) {
	var f *failure
	defer func() {
		if p := recover(); p != nil {
			f = failed("", &panicError{value: p, stack: debug.Stack()})
		}
		if f != nil {
			t.s.logInternal(assentv1connect.TransactionServiceSessionProcedure, f)
			answer.Answer = &assentv1.Answer_Failure{Failure: f.answer()}
		}
	}()
	switch request := r.GetRequest().(type) {
	case *assentv1.Request_Submit:
		var a *assentv1.SubmitResponse
		a, f = t.submit(ctx, request.Submit)
		answer.Answer = &assentv1.Answer_Submit{Submit: a}
	case *assentv1.Request_Commit:
		var a *assentv1.CommitResponse
		a, f = t.commit(ctx, request.Commit)
		answer.Answer = &assentv1.Answer_Commit{Commit: a}
	case *assentv1.Request_Begin:
		var a *assentv1.BeginResponse
		a, f = t.begin(ctx, request.Begin)
		answer.Answer = &assentv1.Answer_Begin{Begin: a}
	case *assentv1.Request_Enlist:
		var a *assentv1.EnlistResponse
		a, f = t.enlist(ctx, request.Enlist)
		answer.Answer = &assentv1.Answer_Enlist{Enlist: a}
	case *assentv1.Request_Rollback:
		var a *assentv1.RollbackResponse
		a, f = t.rollback(ctx, request.Rollback)
		answer.Answer = &assentv1.Answer_Rollback{Rollback: a}
	default:
		f = invalid("request %d: it asks for nothing, or for what this server does not know", r.GetId())
	}
}

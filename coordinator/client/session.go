package client

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connectproto"
	"google.golang.org/protobuf/proto"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/api"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
)

// session makes requests over one stream: what comes up while a message is on its way
// goes in the next. The stream is opened when there is something to send. When it
// breaks, all that is unanswered fails, as a lost connection does.
type session struct {
	c *Client

	mu      sync.Mutex
	lastID  uint64
	calls   map[uint64]*sessionCall // unanswered
	queue   []*assentv1.Request     // of them, what is to be sent
	running bool                    // a goroutine serves the stream
	woken   chan struct{}           // takes one
}

// sessionCall is a request that waits for its answer.
type sessionCall struct {
	answered chan struct{} // takes one
	answer   *assentv1.Answer
	err      error
}

func newSession(c *Client) *session {
	return &session{c: c, calls: make(map[uint64]*sessionCall), woken: make(chan struct{}, 1)}
}

func (s *session) Begin(ctx context.Context, r *assentv1.BeginRequest) (*assentv1.BeginResponse, error) {
	answer, err := s.do(ctx, &assentv1.Request{Request: &assentv1.Request_Begin{Begin: r}})
	return answered(answer.GetBegin(), err)
}

func (s *session) Enlist(ctx context.Context, r *assentv1.EnlistRequest) (*assentv1.EnlistResponse, error) {
	answer, err := s.do(ctx, &assentv1.Request{Request: &assentv1.Request_Enlist{Enlist: r}})
	return answered(answer.GetEnlist(), err)
}

func (s *session) Commit(ctx context.Context, r *assentv1.CommitRequest) (*assentv1.CommitResponse, error) {
	answer, err := s.do(ctx, &assentv1.Request{Request: &assentv1.Request_Commit{Commit: r}})
	return answered(answer.GetCommit(), err)
}

func (s *session) Rollback(ctx context.Context, r *assentv1.RollbackRequest) (*assentv1.RollbackResponse, error) {
	answer, err := s.do(ctx, &assentv1.Request{Request: &assentv1.Request_Rollback{Rollback: r}})
	return answered(answer.GetRollback(), err)
}

func (s *session) Submit(ctx context.Context, r *assentv1.SubmitRequest) (*assentv1.SubmitResponse, error) {
	answer, err := s.do(ctx, &assentv1.Request{Request: &assentv1.Request_Submit{Submit: r}})
	return answered(answer.GetSubmit(), err)
}

// answered returns the answer that was asked for.
func answered[A comparable](answer A, err error) (A, error) {
	var none A
	if err == nil && answer == none {
		err = connect.NewError(connect.CodeInternal, "the server answered another request than it was asked")
	}
	return answer, err
}

// do sends a request and waits for its answer. Errors are like those of an RPC.
func (s *session) do(ctx context.Context, r *assentv1.Request) (*assentv1.Answer, error) {
	call := &sessionCall{answered: make(chan struct{}, 1)}
	if err := s.put(r, call); err != nil { //nolint:contextcheck // the stream outlives the call
		return nil, err
	}
	select {
	case <-call.answered:
	case <-ctx.Done():
		s.mu.Lock()
		delete(s.calls, r.Id)
		s.mu.Unlock()
		return nil, context.Cause(ctx)
	}
	if call.err != nil {
		return nil, call.err
	}
	if failure := call.answer.GetFailure(); failure != nil {
		return nil, newFailureError(failure)
	}
	return call.answer, nil
}

// newFailureError returns the failure as an RPC has it.
func newFailureError(f *assentv1.Failure) error {
	err := connect.NewError(connect.Code(f.GetCode()), f.GetMessage())
	info := f.GetInfo()
	if info == nil {
		info = &assentv1.ErrorInfo{}
	}
	if detail, detailErr := connectproto.NewErrorDetail(info); detailErr == nil {
		err = err.WithDetail(detail)
	}
	return err
}

func (s *session) put(r *assentv1.Request, call *sessionCall) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.calls) >= s.c.config.MaxInFlight {
		return fmt.Errorf("%w: %d requests are unanswered (Config.MaxInFlight)", coordinator.ErrLimit, len(s.calls))
	}
	if !s.running {
		if err := s.c.enter(); err != nil {
			return err
		}
		s.running = true
		go s.run()
	}
	s.lastID++
	r.Id = s.lastID
	s.calls[r.Id] = call
	s.queue = append(s.queue, r)
	select {
	case s.woken <- struct{}{}:
	default:
	}
	return nil
}

// run serves one stream.
func (s *session) run() {
	defer s.c.all.Done()
	ctx, cancel := context.WithCancel(s.c.life)
	defer cancel()
	err := s.exchange(ctx)
	if s.c.life.Err() != nil {
		err = errClientClosed
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.queue = false, nil
	for id, call := range s.calls {
		delete(s.calls, id)
		call.err = err
		call.answered <- struct{}{}
	}
}

func (s *session) exchange(ctx context.Context) error {
	ctx, info := connect.NewClientContext(ctx)
	stream, err := s.c.server.Session(ctx)
	if err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() { received <- s.receive(stream, info) }()
	err = s.send(ctx, stream, received)
	_ = stream.Close() // ends receive
	if err == nil {
		return <-received
	}
	if reason := <-received; connect.CodeOf(reason) != connect.CodeCanceled {
		return reason // it says more
	}
	return err
}

const (
	maxFrameRequests = 512
	maxFrameBytes    = 512 << 10
)

// send sends what comes up, until receive has ended. It leaves received as it was.
func (s *session) send(ctx context.Context, stream assentv1connect.TransactionServiceSessionClientStream, received chan error) error {
	for {
		select {
		case <-s.woken:
		case err := <-received:
			received <- err
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		runtime.Gosched() // others who are about to ask ride along
		for frame := s.frame(); frame != nil; frame = s.frame() {
			if err := stream.Send(frame); err != nil {
				return err
			}
		}
	}
}

// frame returns what is to be sent, nil if there is nothing.
func (s *session) frame() *assentv1.SessionRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	frame := &assentv1.SessionRequest{}
	n, bytes := 0, 0
	for ; n < len(s.queue) && len(frame.Requests) < maxFrameRequests; n++ {
		r := s.queue[n]
		if _, wanted := s.calls[r.Id]; !wanted {
			continue
		}
		if bytes += proto.Size(r); bytes > maxFrameBytes && len(frame.Requests) > 0 {
			break
		}
		frame.Requests = append(frame.Requests, r)
	}
	if s.queue = s.queue[n:]; len(s.queue) == 0 {
		s.queue = nil
	}
	if len(frame.Requests) == 0 {
		return nil
	}
	return frame
}

// receive hands answers out until the stream ends. What the stream ends with is no
// answer to any request, unless the server did not admit the caller: one whose token was
// revoked meanwhile is told the same, and what he asked may have been done.
func (s *session) receive(stream assentv1connect.TransactionServiceSessionClientStream, info *connect.CallInfo) error {
	for taken := false; ; taken = true {
		message, err := stream.Receive()
		taken = taken || info.ResponseHeader().Get(api.AdmittedHeader) != ""
		if code := connect.CodeOf(err); err != nil && !taken && (code == connect.CodeUnauthenticated || code == connect.CodePermissionDenied) {
			return err
		}
		if err != nil {
			return connect.NewError(connect.CodeUnavailable, "the session ended: "+err.Error()).WithCause(err)
		}
		s.mu.Lock()
		for _, answer := range message.GetAnswers() {
			if call := s.calls[answer.GetId()]; call != nil {
				delete(s.calls, answer.GetId())
				call.answer = answer
				call.answered <- struct{}{}
			}
		}
		s.mu.Unlock()
	}
}

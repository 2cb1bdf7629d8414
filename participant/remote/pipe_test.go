package remote

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
)

var errKilled = errors.New("the stream was killed")

// pipe is a stream without a network. What one side sends, the other receives as it
// was encoded; each direction holds a few messages.
type pipe struct {
	instance            atomic.Value // string, the hello's
	requests, responses chan []byte
	closed              chan struct{} // the instance closed its side
	closeOnce           sync.Once
	broken              chan struct{}
	breakOnce           sync.Once
	err                 error // why; set before broken is closed
	// tap, if set, sees every message before it is sent, and says whether the stream is
	// killed in its place. fromServer says who sends it.
	tap func(fromServer bool, m proto.Message) (kill bool)
	// sent, if set, says after a message was sent whether the stream is killed.
	sent func() (kill bool)
	// refuses, if set, says which instances get nowhere.
	refuses func(instance string) bool
}

func newPipe() *pipe {
	return &pipe{
		requests: make(chan []byte, 4), responses: make(chan []byte, 4), closed: make(chan struct{}), broken: make(chan struct{}),
	}
}

// kill ends the stream for both sides.
func (p *pipe) kill(err error) {
	p.breakOnce.Do(func() {
		p.err = err
		close(p.broken)
	})
}

func (p *pipe) send(to chan<- []byte, fromServer bool, m proto.Message) error {
	if p.tap != nil && p.tap(fromServer, m) {
		p.kill(errKilled)
	}
	encoded, err := proto.Marshal(m)
	if err != nil {
		return err
	}
	select {
	case <-p.broken:
		return p.err
	default:
	}
	select {
	case to <- encoded:
		if p.sent != nil && p.sent() {
			p.kill(errKilled)
		}
		return nil
	case <-p.broken:
		return p.err
	}
}

// serverEnd is the coordinator's end of a pipe.
type serverEnd struct{ *pipe }

func (s serverEnd) Send(m *assentv1.AttachResponse) error { return s.send(s.responses, true, m) }

func (s serverEnd) Receive() (*assentv1.AttachRequest, error) {
	m := &assentv1.AttachRequest{}
	select {
	case <-s.broken:
		return nil, s.err
	default:
	}
	select {
	case encoded := <-s.requests:
		return m, proto.Unmarshal(encoded, m)
	case <-s.broken:
		return nil, s.err
	case <-s.closed:
		select {
		case encoded := <-s.requests:
			return m, proto.Unmarshal(encoded, m)
		default:
			return nil, io.EOF
		}
	}
}

// clientEnd is the instance's end of a pipe.
type clientEnd struct{ *pipe }

func (c clientEnd) Send(m *assentv1.AttachRequest) error {
	if hello := m.GetHello(); hello != nil {
		c.instance.Store(hello.GetInstance())
		if c.refuses != nil && c.refuses(hello.GetInstance()) {
			c.kill(errKilled)
		}
	}
	return c.send(c.requests, false, m)
}

func (c clientEnd) Receive() (*assentv1.AttachResponse, error) {
	m := &assentv1.AttachResponse{}
	select {
	case encoded := <-c.responses:
		return m, proto.Unmarshal(encoded, m)
	default:
	}
	select {
	case encoded := <-c.responses:
		return m, proto.Unmarshal(encoded, m)
	case <-c.broken:
		return nil, c.err
	}
}

func (c clientEnd) CloseSend() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return nil
}

func (c clientEnd) Close() error {
	c.kill(context.Canceled)
	return nil
}

// hubSite is a hub that can be reached by pipes.
type hubSite struct {
	hub *Hub
	all sync.WaitGroup

	mu    sync.Mutex
	pipes []*pipe
	// connect, if set, is asked before a stream is opened, and may set its tap.
	connect func(*pipe) error
	// forward is what streams are opened to in its place while forwarding is true.
	forward    *hubSite
	forwarding atomic.Bool
	refused    atomic.Value // the instance that can't attach
}

// open attaches a new stream to the hub, as a server does.
func (s *hubSite) open(ctx context.Context) (ClientStream, error) {
	if s.forwarding.Load() {
		return s.forward.open(ctx)
	}
	p := newPipe()
	p.refuses = func(instance string) bool { return s.refused.Load() == instance }
	s.mu.Lock()
	connect := s.connect
	s.mu.Unlock()
	if connect != nil {
		if err := connect(p); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	s.pipes = append(s.pipes, p)
	s.mu.Unlock()
	s.all.Add(1)
	go func() {
		defer s.all.Done()
		err := s.hub.Attach(context.WithoutCancel(ctx), serverEnd{p})
		if err == nil {
			err = io.EOF
		}
		p.kill(err)
	}()
	return clientEnd{p}, nil
}

// killAll kills every stream that was opened.
func (s *hubSite) killAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pipes {
		p.kill(errKilled)
	}
}

// refuseAndKill kills the streams of an instance, and lets it attach no more.
func (s *hubSite) refuseAndKill(instance string) {
	s.refused.Store(instance)
	s.kill(instance)
}

// kill kills the streams of an instance.
func (s *hubSite) kill(instance string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pipes {
		if p.instance.Load() == instance {
			p.kill(errKilled)
		}
	}
}

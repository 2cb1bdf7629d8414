package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"
)

// served is a stream that the instance serves.
type served struct {
	conn    ClientStream
	a       *answerer
	ended   chan struct{} // closed by the receiver
	failed  error         // why; set before ended is closed
	closing chan struct{} // closed when the server says that it ends
}

// receive takes what the server sends.
func (s *served) receive() {
	defer close(s.ended)
	told := false
	for {
		response, err := s.conn.Receive()
		switch {
		case err != nil:
			s.failed = err
			return
		case response.GetClosing() != nil && !told:
			told = true
			close(s.closing)
		case response.GetCalls() != nil:
			if err := s.a.take(response.GetCalls()); err != nil {
				s.failed = err
				return
			}
		}
	}
}

var errServerEnds = errors.New("the server ends")

// serve sends answers until the stream ends, the server does, or ctx.
func (s *served) serve(ctx context.Context, leaveTime time.Duration) error {
	for {
		select {
		case <-s.a.woken:
		case <-s.ended:
			return s.failed
		case <-s.closing:
			return s.leave(ctx, errServerEnds, leaveTime)
		case <-ctx.Done():
			return s.leave(ctx, context.Cause(ctx), leaveTime)
		}
		runtime.Gosched() // answers that are about to be given ride along
		if err := s.flush(); err != nil {
			return err
		}
	}
}

func (s *served) flush() error {
	for frame := s.a.frame(); frame != nil; frame = s.a.frame() {
		err := s.conn.Send(frame)
		if errors.Is(err, io.EOF) { // Receive tells why
			<-s.ended
			return s.failed
		}
		if err != nil {
			return fmt.Errorf("send answers: %w", err)
		}
	}
	return nil
}

// leave finishes what runs, answers it, and closes the stream. What takes longer than
// that is not answered, and the stream is broken off.
func (s *served) leave(ctx context.Context, why error, leaveTime time.Duration) error {
	idle := s.a.leave()
	late, stop := context.WithTimeout(context.WithoutCancel(ctx), leaveTime)
	defer stop()
	for left := false; !left; {
		select {
		case <-s.a.woken:
		case <-idle:
			left = true
		case <-s.ended:
			return s.failed
		case <-late.Done():
			// What still runs is not over, as it would be if this side was closed (R4).
			return errors.Join(s.flush(), why)
		}
		if err := s.flush(); err != nil {
			return err
		}
	}
	if err := s.conn.CloseSend(); err != nil {
		return err
	}
	select {
	case <-s.ended:
	case <-late.Done():
	}
	return why
}

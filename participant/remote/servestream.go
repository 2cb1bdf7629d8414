package remote

import (
	"context"
	cryptorand "crypto/rand"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect/v2"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// ClientStream is the instance's end of an Attach stream; that of the generated client
// satisfies it. Send and Receive are called by one goroutine each. Close ends both.
type ClientStream interface {
	Send(*assentv1.AttachRequest) error
	Receive() (*assentv1.AttachResponse, error)
	CloseSend() error
	Close() error
}

// StreamConfig says how a participant is served over a stream.
type StreamConfig struct {
	// Participant answers. Required.
	Participant participant.Participant
	// Open opens a stream; it ends with ctx. Required.
	Open func(ctx context.Context) (ClientStream, error)
	// Instance tells this process from others that attach as the same participant: 1 to
	// 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'. Random if empty.
	Instance string
	// MaxCalls is the number of calls that are made at a time; more are not made, and the
	// server is told so. DefaultInstanceCalls.
	MaxCalls int
	// LeaveTime is how long calls may take that run when ctx ends, before their contexts
	// end, too. DefaultLeaveTime.
	LeaveTime time.Duration
	// OnAttached, if set, is called each time a stream is attached, and OnLost with the
	// reason each time that fails or one ends. They are not called concurrently.
	OnAttached func()
	OnLost     func(error)
}

// Defaults of StreamConfig.
const (
	DefaultInstanceCalls = 4096
	DefaultLeaveTime     = 5 * time.Second
)

// Pauses before another stream is opened.
const (
	minReopen = 50 * time.Millisecond
	maxReopen = 5 * time.Second
)

// ServeStream attaches a participant to a coordinator and answers its calls, several at
// a time, until ctx ends; a stream that breaks is replaced by another. A call that comes
// again because its answer was lost gets the answer that it was given. Calls about the
// same branch are made one after the other.
//
// When ctx ends ServeStream finishes the calls that run, answers them, leaves, and
// returns nil. It returns an error at once for a StreamConfig that is invalid, and for
// an instance that the server refuses, never having taken it, for a reason that lasts:
// a participant that it does not know, a missing permission.
func ServeStream(ctx context.Context, cfg StreamConfig) error {
	a, stop, err := cfg.prepare(ctx)
	if err != nil {
		return fmt.Errorf("serve a participant over a stream: %w", err)
	}
	defer a.all.Wait()
	defer stop()
	attached := false
	for failures := 0; ; failures++ {
		welcomed, err := cfg.serveOne(ctx, a)
		if ctx.Err() != nil {
			return nil
		}
		if welcomed {
			attached, failures = true, 0
		}
		if !attached && lasting(err) {
			return fmt.Errorf("attach participant %q: %w", cfg.Participant.Name(), err)
		}
		if cfg.OnLost != nil {
			cfg.OnLost(err)
		}
		pause := time.NewTimer(reopenPause(failures))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil
		}
	}
}

func reopenPause(failures int) time.Duration {
	longest := min(minReopen<<min(failures, 10), maxReopen)
	return longest/2 + rand.N(longest/2)
}

// lasting reports whether the server would say the same if it was asked again.
func lasting(err error) bool {
	switch connect.CodeOf(err) {
	case connect.CodeInvalidArgument, connect.CodeNotFound, connect.CodePermissionDenied, connect.CodeUnauthenticated,
		connect.CodeFailedPrecondition, connect.CodeUnimplemented:
		return true
	default:
		return false
	}
}

// prepare returns the answerer, and what ends its calls.
func (cfg *StreamConfig) prepare(ctx context.Context) (*answerer, context.CancelFunc, error) {
	registered, _, err := new(participant.Registry).Register(cfg.Participant)
	if err != nil {
		return nil, nil, err
	}
	if cfg.Open == nil {
		return nil, nil, errors.New("StreamConfig.Open is nil")
	}
	if cfg.MaxCalls < 0 || cfg.LeaveTime < 0 {
		return nil, nil, fmt.Errorf("StreamConfig: MaxCalls %d and LeaveTime %s must not be negative", cfg.MaxCalls, cfg.LeaveTime)
	}
	if cfg.MaxCalls == 0 {
		cfg.MaxCalls = DefaultInstanceCalls
	}
	if cfg.LeaveTime == 0 {
		cfg.LeaveTime = DefaultLeaveTime
	}
	if cfg.Instance == "" {
		cfg.Instance = cryptorand.Text()
	}
	if participant.ValidName(cfg.Instance) != nil {
		return nil, nil, invalidInstance(cfg.Instance)
	}
	// What runs when ctx ends is finished.
	own, stop := context.WithCancel(context.WithoutCancel(ctx))
	return newAnswerer(own, registered, cfg.MaxCalls), stop, nil
}

// serveOne serves one stream until it ends.
func (cfg *StreamConfig) serveOne(ctx context.Context, a *answerer) (welcomed bool, err error) {
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stopOpening := context.AfterFunc(ctx, cancel)
	conn, err := cfg.Open(streamCtx)
	stopOpening()
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	// Until it is welcomed there is nothing to leave in good order. An idle stream may
	// not notice that its context has ended.
	giveUp := func() {
		cancel()
		_ = conn.Close()
	}
	stopGreeting := context.AfterFunc(ctx, giveUp)
	defer stopGreeting()
	late := time.AfterFunc(helloTime, giveUp)
	defer late.Stop()
	welcome, err := cfg.greet(conn, a)
	if err != nil {
		return false, err
	}
	if !stopGreeting() {
		return false, context.Cause(ctx)
	}
	if !late.Stop() {
		return false, errors.New("the server was too slow to say welcome")
	}
	a.stay()
	a.welcome(welcome)
	if cfg.OnAttached != nil {
		cfg.OnAttached()
	}
	s := &served{conn: conn, a: a, ended: make(chan struct{}), closing: make(chan struct{})}
	go s.receive() //nolint:contextcheck // calls have contexts of their own
	err = s.serve(ctx, cfg.LeaveTime)
	_ = conn.Close() // ends receive
	<-s.ended
	return true, err
}

// greet says hello, and returns the server's welcome.
func (cfg *StreamConfig) greet(conn ClientStream, a *answerer) (*assentv1.Welcome, error) {
	sendErr := conn.Send(&assentv1.AttachRequest{Message: &assentv1.AttachRequest_Hello{Hello: &assentv1.Hello{
		Participant: cfg.Participant.Name(), Instance: cfg.Instance,
		Lists: a.participant.Lister != nil, Forgets: a.participant.Forgetter != nil,
	}}})
	if sendErr != nil && !errors.Is(sendErr, io.EOF) {
		return nil, sendErr
	}
	first, err := conn.Receive() // tells why, if Send could not
	if err != nil {
		return nil, err
	}
	if first.GetWelcome() == nil {
		return nil, errors.New("the server's first message is no welcome")
	}
	return first.GetWelcome(), nil
}

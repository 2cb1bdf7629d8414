package remotetx

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/assent-tm/assent/cmd/assent/output"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
)

// lookAgain is how often a transaction that is watched is asked for: its last event
// may have been before the first that was seen.
const lookAgain = 2 * time.Second

// Watch passes on what happens, until ctx ends or, if one transaction is watched, that
// has ended.
func (s *Server) Watch(ctx context.Context, request *assentv1.WatchRequest, show func(*assentv1.Event) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	stream, err := s.Transactions.Watch(ctx, request)
	if err != nil {
		return s.explain(err)
	}
	received := make(chan received)
	go receive(ctx, stream, received)
	err = s.follow(ctx, request.GetTransactionId(), received, show)
	stop()
	closed := stream.Close()
	for range received { // until the goroutine has ended
	}
	return errors.Join(err, closed)
}

type received struct {
	event *assentv1.Event
	err   error
}

func receive(ctx context.Context, stream assentv1connect.TransactionServiceWatchClientStream, to chan<- received) {
	defer close(to)
	for {
		response, err := stream.Receive()
		select {
		case to <- received{response.GetEvent(), err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

func (s *Server) follow(ctx context.Context, id string, from <-chan received, show func(*assentv1.Event) error) error {
	look := make(<-chan time.Time)
	if id != "" {
		ticker := time.NewTicker(lookAgain)
		defer ticker.Stop()
		look = ticker.C
		if ended, err := s.ended(ctx, id); ended || err != nil {
			return err
		}
	}
	for {
		select {
		case r := <-from:
			if r.err != nil {
				return s.watchEnded(ctx, r.err)
			}
			if err := show(r.event); err != nil {
				return err
			}
			if id != "" && r.event.GetKind() == assentv1.EventKind_EVENT_KIND_FINISHED {
				return nil
			}
		case <-look:
			if ended, err := s.ended(ctx, id); ended || err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ended reports whether a transaction has ended.
func (s *Server) ended(ctx context.Context, id string) (bool, error) {
	got, err := Ask(ctx, s, s.Transactions.Get, &assentv1.GetRequest{TransactionId: id})
	switch got.GetTransaction().GetState() {
	case assentv1.State_STATE_COMMITTED, assentv1.State_STATE_ROLLED_BACK, assentv1.State_STATE_HEURISTIC:
		return true, err
	default:
		return false, err
	}
}

func (s *Server) watchEnded(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF):
		return &Error{Kind: Unreachable, Message: "the server ended the stream: it drains, or this was read too slowly; watch again, with --after and the last event's id", Cause: err}
	default:
		return s.explain(err)
	}
}

// EventLine is an event as people read it.
func EventLine(e *assentv1.Event) string {
	text := []string{e.GetAt().AsTime().Format("15:04:05.000"), fmt.Sprintf("%-9s", words(e.GetKind()))}
	add := func(word string) {
		if word != "" {
			text = append(text, word)
		}
	}
	add(e.GetTransactionId())
	add(e.GetParticipant())
	add(words(e.GetVote()))
	add(words(e.GetDecision()))
	add(words(e.GetOutcome()))
	add(words(e.GetCause()))
	if e.GetAttempt() > 1 {
		add(fmt.Sprintf("attempt %d", e.GetAttempt()))
	}
	if e.GetTook() != nil {
		add("in " + e.GetTook().AsDuration().Round(10*time.Microsecond).String())
	}
	if e.GetError() != "" {
		add("error: " + output.Clean(e.GetError()))
	}
	return strings.Join(text, "  ")
}

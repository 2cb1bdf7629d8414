package nats_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator/coordinatortest"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/nats"
	"github.com/assent-tm/assent/participant/participanttest"
)

// process is an instance with a connection of its own, as a process has it.
type process struct {
	*nats.Participant
	js jetstream.JetStream
}

func (p *process) Close() error {
	p.js.Conn().Close()
	return nil
}

// subject reaches the server from any process.
func subject(url string) (participanttest.Subject, error) {
	return participanttest.Subject{
		Where: url,
		New: func(context.Context) (participant.Participant, error) {
			js, err := dial(url)
			if err != nil {
				return nil, err
			}
			p, err := nats.New(nats.Config{Name: "outbox", JetStream: js, Stream: stream, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				js.Conn().Close()
				return nil, err
			}
			return &process{p, js}, nil
		},
		Begin: func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
			session, err := p.(*process).Join(ctx, tx)
			if err != nil {
				return err
			}
			name := "orders." + tx.ID().String()
			return errors.Join(session.Publish(name, natsgo.Header{"Kind": {"paid"}}, []byte("1")), session.Publish(name, nil, []byte("2")))
		},
	}, nil
}

// wholeSubject has what the tests of this process need, too.
func wholeSubject(t *testing.T) participanttest.Subject {
	t.Helper()
	s := newService(t)
	running := server(t)
	kit, err := subject(running.URL())
	require.NoError(t, err)
	kit.Restart = func(ctx context.Context) error {
		if err := running.Restart(ctx); err != nil {
			return err
		}
		return connected(ctx, s.js.Conn())
	}
	kit.Visible = func(ctx context.Context, b participant.Branch) (bool, error) {
		messages, err := messagesOf(ctx, s.js, stream, "orders."+b.Tx.String())
		if err != nil {
			return false, err
		}
		switch {
		case len(messages) == 0:
			return false, nil
		case len(messages) == 2 && string(messages[0].Data)+string(messages[1].Data) == "12" && messages[0].Header.Get("Kind") == "paid":
			return true, nil
		}
		return false, fmt.Errorf("%d messages, want two, in order", len(messages))
	}
	// A stream that loses a subject between Publish and Prepare.
	//nolint:contextcheck // the stream is the test's own
	kit.Refuse = func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
		s.change(func(c *jetstream.StreamConfig) { c.Subjects = append(c.Subjects, "gone") })
		session, err := p.(*process).Join(ctx, tx)
		if err != nil {
			return err
		}
		err = errors.Join(session.Publish("orders."+tx.ID().String(), nil, nil), session.Publish("gone", nil, nil))
		s.change(func(*jetstream.StreamConfig) {})
		return err
	}
	return kit
}

func TestContract(t *testing.T) { participanttest.Test(t, wholeSubject(t)) }

func TestTransactions(t *testing.T) { coordinatortest.Test(t, wholeSubject(t)) }

package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tm/assent/participant"
)

// message is what an order publishes.
type message struct {
	Tx participant.TxID `json:"tx"`
	order
}

// outbox is the run's stream of messages, as the parent sees it.
type outbox struct {
	js  jetstream.JetStream
	run run
}

// create makes the stream as the participant needs it, which makes the staging stream
// itself.
func (o *outbox) create(ctx context.Context) error {
	_, err := o.js.CreateStream(ctx, jetstream.StreamConfig{
		Name: o.run.stream(), Description: "orders of a demo of Assent",
		Subjects: []string{o.run.subject(), o.run.markers() + ".branch.>"},
		Storage:  jetstream.FileStorage, AllowAtomicPublish: true, AllowMsgTTL: true, AllowRollup: true,
	})
	return o.explain(err)
}

// drop removes the streams, those that are there.
func (o *outbox) drop(ctx context.Context) (err error) {
	for _, name := range []string{o.run.stream(), o.run.staging()} {
		if deleteErr := o.js.DeleteStream(ctx, name); !errors.Is(deleteErr, jetstream.ErrStreamNotFound) {
			err = errors.Join(err, deleteErr)
		}
	}
	return o.explain(err)
}

// read reads all messages.
func (o *outbox) read(ctx context.Context) (messages []message, err error) {
	stream, err := o.js.Stream(ctx, o.run.stream())
	if err != nil {
		return nil, o.explain(err)
	}
	for next := uint64(1); ; {
		stored, err := stream.GetMsg(ctx, next, jetstream.WithGetMsgSubject(o.run.subject()))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return messages, nil
		}
		if err != nil {
			return nil, o.explain(err)
		}
		var m message
		if err := json.Unmarshal(stored.Data, &m); err != nil {
			return nil, o.explain(fmt.Errorf("message %d: %w", stored.Sequence, err))
		}
		messages = append(messages, m)
		next = stored.Sequence + 1
	}
}

// inDoubt returns the branches of which the staging stream has messages.
func (o *outbox) inDoubt(ctx context.Context) (branches []participant.Branch, err error) {
	prefix := o.run.markers() + ".staged."
	stream, err := o.js.Stream(ctx, o.run.staging())
	if err != nil {
		return nil, o.explain(err)
	}
	info, err := stream.Info(ctx, jetstream.WithSubjectFilter(prefix+">"))
	if err != nil {
		return nil, o.explain(err)
	}
	for subject := range info.State.Subjects {
		b, err := participant.ParseXID(strings.ReplaceAll(strings.TrimPrefix(subject, prefix), ".", ":"))
		if err != nil {
			return nil, o.explain(err)
		}
		branches = append(branches, b)
	}
	return branches, nil
}

func (o *outbox) explain(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("streams of participant %q: %w", natsName, err)
}

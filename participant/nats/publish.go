package nats

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers that the server reads.
const (
	headerExpectedLast  = "Nats-Expected-Last-Subject-Sequence"
	headerTTL           = "Nats-TTL"
	headerRollup        = "Nats-Rollup"
	headerBatchID       = "Nats-Batch-Id"
	headerBatchSequence = "Nats-Batch-Sequence"
	headerBatchCommit   = "Nats-Batch-Commit"

	rollupSubject = "sub"
)

// newMsg returns a message with a header that may be written to.
func newMsg(subject string, data []byte) *natsgo.Msg {
	m := natsgo.NewMsg(subject)
	m.Data = data
	return m
}

// expectingNone makes the server refuse m, with errTaken, if its subject has a message.
func expectingNone(m *natsgo.Msg) *natsgo.Msg {
	m.Header.Set(headerExpectedLast, "0")
	return m
}

// expiring replaces what the subject has by m, which goes after the retention.
func expiring(m *natsgo.Msg, retention time.Duration) *natsgo.Msg {
	m.Header.Set(headerTTL, strconv.FormatInt(int64((retention+time.Second-1)/time.Second), 10))
	m.Header.Set(headerRollup, rollupSubject)
	return m
}

// publish stores messages in a stream: one by itself, several as an atomic batch of
// which all are stored, or none. nil means that they are as durable as the server makes
// them; errTaken that a subject was not as expected; any other error is unknown.
func (p *Participant) publish(ctx context.Context, stream string, messages []*natsgo.Msg) error {
	if len(messages) > 1 {
		return p.publishBatch(ctx, stream, messages)
	}
	answer, err := p.request(ctx, messages[0])
	if err != nil {
		return err
	}
	return acknowledged(answer.Data, stream, 0)
}

// publishBatch is the protocol of atomic batches: the first message asks whether the
// stream takes one, the last has it stored.
func (p *Participant) publishBatch(ctx context.Context, stream string, messages []*natsgo.Msg) error {
	select {
	case p.batches <- struct{}{}:
		defer func() { <-p.batches }()
	case <-ctx.Done():
		return fmt.Errorf("wait for %d other batches: %w", maxBatches, context.Cause(ctx))
	}
	// A new one each time: a batch that was cut off leaves its id behind.
	id, last := rand.Text(), len(messages)-1
	for i, m := range messages {
		m.Header.Set(headerBatchID, id)
		m.Header.Set(headerBatchSequence, strconv.Itoa(i+1))
	}
	messages[last].Header.Set(headerBatchCommit, "1")
	answer, err := p.request(ctx, messages[0])
	if err != nil {
		return err
	}
	if len(answer.Data) > 0 {
		return acknowledged(answer.Data, stream, 1)
	}
	for _, m := range messages[1:last] {
		if err := p.conn.PublishMsg(m); err != nil {
			return fmt.Errorf("publish to %q: %w", m.Subject, err)
		}
	}
	if answer, err = p.request(ctx, messages[last]); err != nil {
		return err
	}
	err = acknowledged(answer.Data, stream, len(messages))
	var failure *jetstream.APIError
	if errors.As(err, &failure) && failure.ErrorCode == codeBatchIncomplete {
		return p.incomplete(messages, err)
	}
	return err
}

// incomplete tells which message of a batch the server did not pass on to the stream, if
// it has said so: those in the middle get no answer.
func (p *Participant) incomplete(messages []*natsgo.Msg, err error) error {
	for _, m := range messages {
		if denied := p.denied(m.Subject); denied != nil {
			return fmt.Errorf("%w: %w", denied, err)
		}
	}
	return err
}

// acknowledged reads the answer to a published message, of a batch if count is not
// zero.
func acknowledged(data []byte, stream string, count int) error {
	var ack struct {
		Error  *jetstream.APIError `json:"error"`
		Stream string              `json:"stream"`
		Count  int                 `json:"count"`
	}
	switch err := json.Unmarshal(data, &ack); {
	case err != nil:
		return fmt.Errorf("read the acknowledgement %q: %w", data, err)
	case ack.Error != nil:
		return apiError(ack.Error)
	case ack.Stream != stream || ack.Count != count:
		return fmt.Errorf("the acknowledgement %q is not that of %d messages by stream %q", data, count, stream)
	}
	return nil
}

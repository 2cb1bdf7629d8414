package nats_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/nats"
)

const (
	reconnectWait = 10 * time.Millisecond

	stream  = "ORDERS"
	staging = "ASSENT_outbox"
	markers = "assent.outbox.branch."
	staged  = "assent.outbox.staged."
)

// streamConfig is that of a stream that is fit.
func streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: stream, Subjects: []string{"orders.>", "assent.outbox.branch.>"}, Storage: jetstream.FileStorage,
		AllowAtomicPublish: true, AllowMsgTTL: true, AllowRollup: true,
	}
}

// service is a participant on empty streams, and means to look behind it.
type service struct {
	*nats.Participant
	t      *testing.T
	js     jetstream.JetStream
	cfg    nats.Config
	term   participant.Term
	warned *strings.Builder
}

func newService(t *testing.T, changes ...func(*nats.Config)) *service {
	t.Helper()
	return serviceAt(t, connect(t, server(t).URL()), changes...)
}

func serviceAt(t *testing.T, js jetstream.JetStream, changes ...func(*nats.Config)) *service {
	t.Helper()
	s := &service{t: t, js: js, term: participant.NewTerm(1, rand.Uint32()), warned: &strings.Builder{}}
	s.cfg = nats.Config{Name: "outbox", JetStream: js, Stream: stream, Logger: slog.New(slog.NewTextHandler(s.warned, nil))}
	for _, change := range changes {
		change(&s.cfg)
	}
	s.empty()
	s.create(streamConfig())
	s.Participant = s.fresh()
	return s
}

// empty deletes all streams.
func (s *service) empty() {
	s.t.Helper()
	names := s.js.StreamNames(s.t.Context())
	for name := range names.Name() {
		require.NoError(s.t, s.js.DeleteStream(s.t.Context(), name))
	}
	require.NoError(s.t, names.Err())
}

func (s *service) create(config jetstream.StreamConfig) {
	s.t.Helper()
	require.NoError(s.t, afterDelete(func() error {
		_, err := s.js.CreateStream(s.t.Context(), config)
		return err
	}))
}

// afterDelete repeats what creates a stream while the server still clears away one of
// the same name.
func afterDelete(create func() error) error {
	for {
		var failure *jetstream.APIError
		if err := create(); !errors.As(err, &failure) || failure.ErrorCode != 10049 {
			return err
		}
		runtime.Gosched()
	}
}

// change changes the stream.
func (s *service) change(how func(*jetstream.StreamConfig)) {
	s.t.Helper()
	config := streamConfig()
	how(&config)
	_, err := s.js.UpdateStream(s.t.Context(), config)
	require.NoError(s.t, err)
}

// fresh returns an instance as a process has it that just started.
func (s *service) fresh() *nats.Participant {
	s.t.Helper()
	p, err := nats.New(s.cfg)
	require.NoError(s.t, err)
	return p
}

// transaction is an Enlister, and the branch that it made.
type transaction struct {
	branch participant.Branch
	err    error
}

func (tx *transaction) ID() participant.TxID { return tx.branch.Tx }

func (tx *transaction) Enlist(_ context.Context, p participant.Participant, data []byte) (participant.Branch, error) {
	if tx.err != nil {
		return participant.Branch{}, tx.err
	}
	tx.branch.Participant, tx.branch.Data = p.Name(), data
	return tx.branch, nil
}

func (s *service) begin() *transaction {
	return &transaction{branch: participant.Branch{
		Domain: "shop", Tx: participant.TxID{Term: s.term, UUID: uuid.Must(uuid.NewV7())}, Epoch: 1, Deadline: time.Now().Add(time.Hour),
	}}
}

// join returns the session of a new transaction.
func (s *service) join() (session *nats.Session) {
	s.t.Helper()
	require.NoError(s.t, afterDelete(func() (err error) {
		session, err = s.Join(s.t.Context(), s.begin())
		return err
	}))
	return session
}

// staged returns a new branch that has staged messages to these subjects.
func (s *service) staged(subjects ...string) participant.Branch {
	s.t.Helper()
	session := s.join()
	for _, subject := range subjects {
		require.NoError(s.t, session.Publish(subject, nil, []byte(subject)))
	}
	return session.Branch()
}

// prepared returns a new branch that has prepared messages to these subjects.
func (s *service) prepared(subjects ...string) participant.Branch {
	s.t.Helper()
	b := s.staged(subjects...)
	vote, err := s.Prepare(s.t.Context(), b)
	require.NoError(s.t, err)
	require.Equal(s.t, participant.VotePrepared, vote)
	return b
}

func (s *service) refuses(b participant.Branch, is error, says string) {
	s.t.Helper()
	vote, err := s.Prepare(s.t.Context(), b)
	require.Equal(s.t, participant.VoteRefused, vote, "error %v", err)
	require.ErrorIs(s.t, err, participant.ErrRefused)
	require.ErrorIs(s.t, err, is)
	require.ErrorContains(s.t, err, says)
	require.ErrorContains(s.t, err, string(b.XID()))
	require.ErrorContains(s.t, err, `"outbox"`)
}

// published returns the subjects of the messages in a stream that match the filter, in
// order.
func (s *service) published(stream, filter string) (subjects []string) {
	s.t.Helper()
	for _, m := range s.messages(stream, filter) {
		subjects = append(subjects, m.Subject)
	}
	return subjects
}

func (s *service) messages(stream, filter string) []*jetstream.RawStreamMsg {
	s.t.Helper()
	messages, err := messagesOf(s.t.Context(), s.js, stream, filter)
	require.NoError(s.t, err)
	return messages
}

// messagesOf reads a stream from the beginning.
func messagesOf(ctx context.Context, js jetstream.JetStream, stream, filter string) (list []*jetstream.RawStreamMsg, err error) {
	handle, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, err
	}
	for next := uint64(1); ; {
		m, err := handle.GetMsg(ctx, next, jetstream.WithGetMsgSubject(filter))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		list, next = append(list, m), m.Sequence+1
	}
}

func tokens(b participant.Branch) string { return strings.ReplaceAll(string(b.XID()), ":", ".") }

// put stores a message as somebody else might.
func (s *service) put(subject, data string) uint64 {
	s.t.Helper()
	ack, err := s.js.PublishMsg(s.t.Context(), &natsgo.Msg{Subject: subject, Data: []byte(data)})
	require.NoError(s.t, err)
	return ack.Sequence
}

func endedAs(t *testing.T, outcome participant.Outcome, err error) {
	t.Helper()
	var heuristic *participant.HeuristicError
	require.ErrorAs(t, err, &heuristic)
	require.Equal(t, outcome, heuristic.Outcome)
}

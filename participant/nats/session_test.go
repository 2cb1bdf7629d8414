package nats_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/nats"
)

func TestMessagesAreThoseThatWereGiven(t *testing.T) {
	s := newService(t)
	session := s.join()
	header, data := natsgo.Header{"Kind": {"a", "b"}, "lower-case": {""}}, []byte("first")
	require.NoError(t, session.Publish("orders.1", header, data))
	header.Set("Kind", "other")
	copy(data, "other")
	require.NoError(t, session.Publish("orders.2", nil, nil))
	require.NoError(t, session.Publish("orders.1", nil, []byte{0, 255}))
	vote, err := s.Prepare(t.Context(), session.Branch())
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	require.Empty(t, s.published(stream, ">"))

	require.NoError(t, s.Commit(t.Context(), session.Branch()))
	require.Equal(t, []string{markers + tokens(session.Branch()), "orders.1", "orders.2", "orders.1"}, s.published(stream, ">"))
	messages := s.messages(stream, "orders.>")
	require.Equal(t, []string{"a", "b"}, messages[0].Header["Kind"])
	require.Equal(t, []string{""}, messages[0].Header["lower-case"])
	require.Equal(t, "first", string(messages[0].Data))
	require.Empty(t, messages[1].Data)
	require.Equal(t, []byte{0, 255}, messages[2].Data)
	require.Empty(t, s.published(staging, staged+">"))
}

func TestJoiningAgainCollectsIntoTheSame(t *testing.T) {
	s := newService(t)
	tx := s.begin()
	for range 2 {
		session, err := s.Join(t.Context(), tx)
		require.NoError(t, err)
		require.NoError(t, session.Publish("orders.1", nil, nil))
		require.Equal(t, tx.branch, session.Branch())
	}
	require.NoError(t, s.CommitOnePhase(t.Context(), tx.branch))
	require.Len(t, s.published(stream, "orders.>"), 2)
}

func TestSessionOfAnEndedBranch(t *testing.T) {
	s := newService(t)
	prepared, rolledBack, refused, decided := s.join(), s.join(), s.join(), s.join()
	for _, session := range []*nats.Session{prepared, rolledBack, refused, decided} {
		require.NoError(t, session.Publish("orders.1", nil, nil))
	}
	_, err := s.Prepare(t.Context(), prepared.Branch())
	require.NoError(t, err)
	require.NoError(t, s.fresh().Rollback(t.Context(), refused.Branch()))
	s.refuses(refused.Branch(), participant.ErrRefused, "rolled back already")
	require.NoError(t, s.Rollback(t.Context(), rolledBack.Branch()))
	require.NoError(t, s.CommitOnePhase(t.Context(), decided.Branch()))

	require.ErrorIs(t, prepared.Publish("orders.1", nil, nil), nats.ErrFinished)
	require.ErrorIs(t, decided.Publish("orders.1", nil, nil), nats.ErrFinished)
	require.ErrorIs(t, rolledBack.Publish("orders.1", nil, nil), nats.ErrRolledBack)
	err = refused.Publish("orders.1", nil, nil)
	require.ErrorIs(t, err, nats.ErrRolledBack)
	require.ErrorContains(t, err, string(refused.Branch().XID()))
	require.ErrorContains(t, err, `"outbox"`)
}

func TestBadMessagesAreRefusedAtOnce(t *testing.T) {
	s := newService(t)
	session := s.join()
	for says, err := range map[string]error{
		`subject "" is empty`:                                        session.Publish("", nil, nil),
		`subject "orders 1" is empty or has white space`:             session.Publish("orders 1", nil, nil),
		`subject "orders..1" has an empty token`:                     session.Publish("orders..1", nil, nil),
		`subject "orders.*" has a wildcard`:                          session.Publish("orders.*", nil, nil),
		`subject "orders.>" has a wildcard`:                          session.Publish("orders.>", nil, nil),
		`subject "assent.outbox.branch.x" is one of the participant`: session.Publish("assent.outbox.branch.x", nil, nil),
		`subject "stock.1" is not one of stream "ORDERS"`:            session.Publish("stock.1", nil, nil),
		`a subject of 2055 bytes, 2048 at most`:                      session.Publish("orders."+strings.Repeat("x", 2048), nil, nil),
		`header "Nats-Msg-Id" is the server's`:                       session.Publish("orders.1", natsgo.Header{"Nats-Msg-Id": {"1"}}, nil),
		`header "nats-rollup" is the server's`:                       session.Publish("orders.1", natsgo.Header{"nats-rollup": {"sub"}}, nil),
		`header "" is no name`:                                       session.Publish("orders.1", natsgo.Header{"": {"1"}}, nil),
		`header "a b" is no name`:                                    session.Publish("orders.1", natsgo.Header{"a b": {"1"}}, nil),
		`header "Kind" has a value of several lines`:                 session.Publish("orders.1", natsgo.Header{"Kind": {"1\r\nNats-Rollup: all"}}, nil),
	} {
		require.ErrorIs(t, err, nats.ErrMessage)
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, `"outbox"`)
	}
	vote, err := s.Prepare(t.Context(), session.Branch())
	require.NoError(t, err)
	require.Equal(t, participant.VoteReadOnly, vote)
}

// R12: what a branch and a process stage is bounded, and what is over is refused at
// once.
func TestR12SessionLimits(t *testing.T) {
	s := newService(t, func(c *nats.Config) { c.MaxMessages, c.MaxBytes, c.MaxStaged = 3, 1000, 1600 })
	session := s.join()
	for says, err := range map[string]error{
		"1000 (Config.MaxBytes)":                     session.Publish("orders.1", nil, make([]byte, 1000)),
		"32768 at most":                              session.Publish("orders.1", natsgo.Header{"Kind": {strings.Repeat("x", 32<<10)}}, nil),
		"1048576 at most (the server's max_payload)": session.Publish("orders.1", nil, make([]byte, 1<<20)),
	} {
		require.ErrorIs(t, err, nats.ErrLimit)
		require.ErrorContains(t, err, says)
		require.ErrorContains(t, err, `"outbox"`)
	}
	for range 3 {
		require.NoError(t, session.Publish("orders.1", nil, nil))
	}
	require.ErrorContains(t, session.Publish("orders.1", nil, nil), "3 messages (Config.MaxMessages)")
	s.join()
	_, err := s.Join(t.Context(), s.begin())
	require.ErrorIs(t, err, nats.ErrLimit)
	require.ErrorContains(t, err, "Config.MaxStaged")
	require.NoError(t, s.CommitOnePhase(t.Context(), session.Branch()))
	require.Len(t, s.published(stream, "orders.>"), 3)
}

// R12: the server's limits count, too.
func TestR12LimitsOfTheServer(t *testing.T) {
	s := serviceAt(t, connect(t, start(t, "max_payload: 4096").URL()))
	session := s.join()
	require.NoError(t, session.Publish("orders.1", nil, make([]byte, 2000)))
	err := session.Publish("orders.1", nil, make([]byte, 2000))
	require.ErrorIs(t, err, nats.ErrLimit)
	require.ErrorContains(t, err, "are over 3584 (the server's max_payload)")
	require.NoError(t, session.Publish("orders.1", nil, make([]byte, 1200)))
	_, err = s.Prepare(t.Context(), session.Branch())
	require.NoError(t, err)
	require.NoError(t, s.Commit(t.Context(), session.Branch()))
	require.Len(t, s.published(stream, "orders.>"), 2)

	s.change(func(c *jetstream.StreamConfig) { c.MaxMsgSize = 1000 })
	session = s.join()
	err = session.Publish("orders.1", nil, make([]byte, 800))
	require.ErrorIs(t, err, nats.ErrLimit)
	require.ErrorContains(t, err, `1000 at most (max_msg_size of stream "ORDERS")`)
}

// As many messages as a batch takes, and as many bytes as a message and a subject take.
func TestLargestBranches(t *testing.T) {
	s := newService(t)
	many, long := s.join(), s.join()
	longest := "orders." + strings.Repeat("x", 2041)
	require.NoError(t, long.Publish(longest, nil, nil))
	for range nats.DefaultMaxMessages {
		require.NoError(t, many.Publish("orders.many", natsgo.Header{"Kind": {"paid"}}, []byte("x")))
	}
	for size := 1 << 20; size > 1; {
		if err := long.Publish("orders.long", nil, make([]byte, size)); err == nil {
			continue
		}
		size /= 2
	}
	for _, session := range []*nats.Session{many, long} {
		b := session.Branch()
		vote, err := s.Prepare(t.Context(), b)
		require.NoError(t, err)
		require.Equal(t, participant.VotePrepared, vote)
		require.NoError(t, s.Commit(t.Context(), b))
		require.NoError(t, s.Commit(t.Context(), b))
	}
	require.Len(t, s.published(stream, "orders.many"), nats.DefaultMaxMessages)
	require.Len(t, s.published(stream, longest), 1)
	bytes := 0
	for _, m := range s.messages(stream, "orders.long") {
		bytes += len(m.Data)
	}
	require.Greater(t, bytes, 1<<20-4<<10)
}

func TestJoinTellsWhatIsWrong(t *testing.T) {
	s := newService(t)
	refused := s.begin()
	refused.err = errors.New("sealed")
	_, err := s.Join(t.Context(), refused)
	require.ErrorIs(t, err, refused.err)
	require.ErrorContains(t, err, refused.ID().String())
	require.ErrorContains(t, err, `"outbox"`)

	s.empty()
	_, err = s.Join(t.Context(), s.begin())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, `ask for stream "ORDERS": participant is misconfigured: create the stream`)

	// The staging stream is made when it is first needed.
	s.create(streamConfig())
	_, err = s.js.Stream(t.Context(), staging)
	require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
	s.join()
	info, err := s.js.Stream(t.Context(), staging)
	require.NoError(t, err)
	require.Equal(t, jetstream.FileStorage, info.CachedInfo().Config.Storage)
}

func TestNewRejects(t *testing.T) {
	js := connect(t, server(t).URL())
	for says, change := range map[string]func(*nats.Config){
		"name":                         func(c *nats.Config) { c.Name = "" },
		"JetStream is nil":             func(c *nats.Config) { c.JetStream = nil },
		`Stream "" is no name`:         func(c *nats.Config) { c.Stream = "" },
		`Stream "a.b" is no name`:      func(c *nats.Config) { c.Stream = "a.b" },
		`Staging "ASSENT_a.b" is no`:   func(c *nats.Config) { c.Name = "a.b" },
		"Staging is Stream":            func(c *nats.Config) { c.Staging = stream },
		`"a.*" has a wildcard`:         func(c *nats.Config) { c.Subject = "a.*" },
		`"a." has an empty token`:      func(c *nats.Config) { c.Subject = "a." },
		"a subject of 3000 bytes":      func(c *nats.Config) { c.Subject = strings.Repeat("a", 3000) },
		"MaxMessages 1000":             func(c *nats.Config) { c.MaxMessages = 1000 },
		"MaxMessages -1":               func(c *nats.Config) { c.MaxMessages = -1 },
		"MaxBytes -1":                  func(c *nats.Config) { c.MaxBytes = -1 },
		"MaxStaged 5 must be at least": func(c *nats.Config) { c.MaxStaged = 5 },
		"Retention 1ms":                func(c *nats.Config) { c.Retention = time.Millisecond },
		"MaxRetention 1m0s at":         func(c *nats.Config) { c.Retention, c.MaxRetention = time.Hour, time.Minute },
	} {
		cfg := nats.Config{Name: "outbox", JetStream: js, Stream: stream}
		change(&cfg)
		_, err := nats.New(cfg)
		require.ErrorIs(t, err, participant.ErrInvalidParticipant)
		require.ErrorContains(t, err, says)
	}
	_, err := nats.New(nats.Config{Name: "a.b", JetStream: js, Stream: stream, Staging: "AB"})
	require.NoError(t, err)
}

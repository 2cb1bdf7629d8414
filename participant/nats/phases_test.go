package nats_test

import (
	"errors"
	"fmt"
	"testing"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/nats"
)

func TestEmptyBranchIsReadOnly(t *testing.T) {
	s := newService(t)
	vote, err := s.Prepare(t.Context(), s.staged())
	require.NoError(t, err)
	require.Equal(t, participant.VoteReadOnly, vote)
	require.Empty(t, s.published(stream, ">"))

	rolledBack := s.staged()
	require.NoError(t, s.fresh().Rollback(t.Context(), rolledBack))
	s.refuses(rolledBack, participant.ErrRefused, "rolled back already")

	onePhase := s.staged()
	require.NoError(t, s.CommitOnePhase(t.Context(), onePhase))
	require.NoError(t, s.fresh().CommitOnePhase(t.Context(), onePhase))
	endedAs(t, participant.OutcomeCommitted, s.Rollback(t.Context(), onePhase))
}

func TestBranchOfAnotherProcessIsRefusedForGood(t *testing.T) {
	s := newService(t)
	b := s.staged("orders.1")
	vote, err := s.fresh().Prepare(t.Context(), b)
	require.Equal(t, participant.VoteRefused, vote)
	require.ErrorContains(t, err, "what it staged is not in this process")
	s.refuses(b, participant.ErrRefused, "rolled back already")
	require.Empty(t, s.published(staging, staged+">"))

	b = s.staged("orders.1")
	require.ErrorIs(t, s.fresh().CommitOnePhase(t.Context(), b), participant.ErrRefused)
	require.ErrorIs(t, s.CommitOnePhase(t.Context(), b), participant.ErrRefused)
	require.Empty(t, s.published(stream, "orders.>"))
}

// N3: a repeated Commit publishes nothing, whatever is left of the first.
func TestCommitPublishesOnce(t *testing.T) {
	s := newService(t)
	b := s.prepared("orders.1", "orders.2")
	left := s.messages(staging, staged+">")[0].Data
	require.NoError(t, s.Commit(t.Context(), b))

	// The process was killed before it removed what was staged.
	s.put(staged+tokens(b), string(left))
	require.NoError(t, s.fresh().Commit(t.Context(), b))
	require.Empty(t, s.published(staging, staged+">"))
	s.put(staged+tokens(b), string(left))
	endedAs(t, participant.OutcomeCommitted, s.fresh().Rollback(t.Context(), b))
	require.Empty(t, s.published(staging, staged+">"))
	s.put(staged+tokens(b), string(left))
	require.NoError(t, s.fresh().CommitOnePhase(t.Context(), b))
	s.put(staged+tokens(b), string(left))
	vote, err := s.fresh().Prepare(t.Context(), b)
	require.Equal(t, participant.VoteRefused, vote)
	require.ErrorContains(t, err, "committed already")
	require.Empty(t, s.published(staging, staged+">"))
	require.Equal(t, []string{"orders.1", "orders.2"}, s.published(stream, "orders.>"))
}

// A Prepare whose answer was lost finds its messages stored, and leaves them so.
func TestPrepareRepeatedByTheProcess(t *testing.T) {
	s := newService(t)
	b := s.staged("orders.1")
	other := s.prepared("orders.1")
	stored := s.put(staged+tokens(b), string(s.messages(staging, staged+">")[0].Data))
	vote, err := s.Prepare(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	require.Equal(t, stored, s.messages(staging, staged+tokens(b))[0].Sequence)
	require.NoError(t, s.Commit(t.Context(), b))
	require.NoError(t, s.Rollback(t.Context(), other))
	require.Len(t, s.published(stream, "orders.>"), 1)
}

// A message that was on its way while its branch was rolled back, as the connection
// was lost perhaps, is no branch any more.
func TestLateMessagesOfARolledBackBranch(t *testing.T) {
	s := newService(t)
	b := s.prepared("orders.1")
	left := s.messages(staging, staged+">")[0].Data
	require.NoError(t, s.Rollback(t.Context(), b))
	require.Empty(t, s.published(staging, staged+">"))
	s.put(staged+tokens(b), string(left))
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Empty(t, listing.Prepared)
	require.Empty(t, s.published(staging, staged+">"))

	s.put(staged+tokens(b), string(left))
	endedAs(t, participant.OutcomeRolledBack, s.Commit(t.Context(), b))
	s.put(staged+tokens(b), string(left))
	s.refuses(b, participant.ErrRefused, "rolled back already")
	require.NoError(t, s.Rollback(t.Context(), b))
	require.Empty(t, s.published(stream, "orders.>"))
	require.Empty(t, s.published(staging, staged+">"))
}

// What the stream would not take any more is refused.
func TestPrepareRefusesWhatTheStreamWouldNotTake(t *testing.T) {
	for says, change := range map[string]func(*jetstream.StreamConfig){
		`subject "orders.2" is not one of stream "ORDERS"`: func(c *jetstream.StreamConfig) { c.Subjects[0] = "orders.1" },
		`max_msg_size of stream "ORDERS"`:                  func(c *jetstream.StreamConfig) { c.MaxMsgSize = 100 },
		"set max_msgs to -1":                               func(c *jetstream.StreamConfig) { c.MaxMsgs = 100 },
		`add the subject "assent.outbox.branch.>"`:         func(c *jetstream.StreamConfig) { c.Subjects = []string{"orders.>", "assent.outbox.branch.shop.>"} },
	} {
		t.Run(says, func(t *testing.T) {
			s := newService(t)
			twoPhases, onePhase := s.staged("orders.1", "orders.2"), s.staged("orders.1", "orders.2")
			s.change(change)
			s.refuses(twoPhases, participant.ErrRefused, says)
			s.refuses(twoPhases, participant.ErrRefused, "rolled back already")
			err := s.CommitOnePhase(t.Context(), onePhase)
			require.ErrorIs(t, err, participant.ErrRefused)
			require.ErrorContains(t, err, says)
			require.ErrorIs(t, s.CommitOnePhase(t.Context(), onePhase), participant.ErrRefused)
			require.Empty(t, s.published(stream, "orders.>"))
			require.Empty(t, s.published(staging, staged+">"))
		})
	}
}

// What is more than the stream can ever hold is refused: its commit would wait for ever.
func TestPrepareRefusesMoreThanTheStreamHolds(t *testing.T) {
	for says, change := range map[string]func(*jetstream.StreamConfig){
		`3 messages and a marker, 3 at most (max_msgs of stream "ORDERS")`: func(c *jetstream.StreamConfig) { c.MaxMsgs = 3 },
		`4096 at most (max_bytes of stream "ORDERS")`:                      func(c *jetstream.StreamConfig) { c.MaxBytes = 4096 },
	} {
		t.Run(says, func(t *testing.T) {
			s := newService(t)
			session := s.join()
			for range 3 {
				require.NoError(t, session.Publish("orders.1", nil, make([]byte, 2000)))
			}
			s.change(func(c *jetstream.StreamConfig) { c.Discard = jetstream.DiscardNew; change(c) })
			s.refuses(session.Branch(), nats.ErrLimit, says)
			require.NoError(t, s.Check(t.Context())) // smaller branches fit
		})
	}
}

// R6: after the decision nothing gives up. A stream that was changed after Prepare
// holds the commit up, whole, until it is put right.
func TestR6CommitWaitsForAStreamThatBecameUnfit(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*jetstream.StreamConfig)
		says   string
		config bool
	}{
		"subject gone":   {func(c *jetstream.StreamConfig) { c.Subjects[0] = "orders.1" }, "10176", false},
		"last one gone":  {func(c *jetstream.StreamConfig) { c.Subjects[0] = "orders.2" }, `no stream takes subject "orders.1"`, false},
		"markers' gone":  {func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] }, `no stream takes subject "assent.outbox.branch.`, false},
		"full":           {func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 3, jetstream.DiscardNew }, "raise its max_msgs", true},
		"full of bytes":  {func(c *jetstream.StreamConfig) { c.MaxBytes, c.Discard = 300, jetstream.DiscardNew }, "raise its max_msgs or max_bytes", true},
		"small messages": {func(c *jetstream.StreamConfig) { c.MaxMsgSize = 100 }, "raise max_msg_size of the stream", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newService(t)
			b := s.prepared("orders.2", "orders.2", "orders.1")
			s.change(test.change)
			for range 2 {
				err := s.Commit(t.Context(), b)
				require.ErrorContains(t, err, test.says)
				require.Equal(t, test.config, isConfig(err))
				require.NotErrorIs(t, err, participant.ErrRefused)
				require.NotErrorIs(t, err, participant.ErrUnknownBranch)
				require.Empty(t, s.published(stream, ">"))
			}
			listing, err := s.List(t.Context(), "shop")
			require.NoError(t, err)
			require.Len(t, listing.Prepared, 1)
			s.change(func(*jetstream.StreamConfig) {})
			require.NoError(t, s.fresh().Commit(t.Context(), b))
			require.NoError(t, s.Commit(t.Context(), b))
			require.Equal(t, []string{"orders.2", "orders.2", "orders.1"}, s.published(stream, "orders.>"))
		})
	}
}

func isConfig(err error) bool { return errors.Is(err, participant.ErrConfig) }

// R7: a branch that the streams do not know is never taken for committed.
func TestR7CommitOfAnUnknownBranch(t *testing.T) {
	s := newService(t)
	b := s.staged("orders.1")
	require.ErrorIs(t, s.Commit(t.Context(), b), participant.ErrUnknownBranch)
	vote, err := s.Prepare(t.Context(), b)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	require.NoError(t, s.Commit(t.Context(), b))
}

// R7: other streams of the same names know nothing of the branch, and that says
// nothing.
func TestR7OtherStreamsAreNoAnswer(t *testing.T) {
	for _, gone := range []string{stream, staging} {
		t.Run(gone, func(t *testing.T) {
			s := newService(t)
			committing, rollingBack := s.prepared("orders.1"), s.prepared("orders.2")
			require.NoError(t, s.js.DeleteStream(t.Context(), gone))
			if gone == staging {
				require.ErrorIs(t, s.Rollback(t.Context(), rollingBack), participant.ErrConfig) // there is none
			} else {
				s.create(streamConfig())
			}
			begun := s.join().Branch() // makes the staging stream
			require.NotEqual(t, committing.Data, begun.Data)
			if gone == stream {
				// What is staged is there still. It could be committed, but who knows what was.
				require.NoError(t, s.js.DeleteStream(t.Context(), staging))
				s.join()
			}
			for range 2 {
				for _, err := range []error{s.Commit(t.Context(), committing), s.Rollback(t.Context(), rollingBack)} {
					require.ErrorIs(t, err, participant.ErrConfig)
					require.NotErrorIs(t, err, participant.ErrUnknownBranch)
					require.ErrorContains(t, err, "are others than those where the branch was begun")
				}
			}
			require.Empty(t, s.published(stream, ">"))
		})
	}
}

// An orphan's branch has no Data: the sweep knows only its XID.
func TestBranchWithoutDataIsFinished(t *testing.T) {
	s := newService(t)
	s.prepared("orders.1")
	s.prepared("orders.1")
	listing, err := s.List(t.Context(), "shop")
	require.NoError(t, err)
	require.Len(t, listing.Prepared, 2)
	require.NoError(t, s.Commit(t.Context(), listing.Prepared[0]))
	require.NoError(t, s.Rollback(t.Context(), listing.Prepared[1]))
	require.Len(t, s.published(stream, "orders.>"), 1)
}

func TestDamagedMessagesAreAHazard(t *testing.T) {
	s := newService(t)
	b := s.prepared("orders.1")
	s.put(staged+tokens(b), "what is this")
	err := s.Commit(t.Context(), b)
	require.ErrorIs(t, err, participant.ErrUnknownBranch)
	require.ErrorContains(t, err, "damaged")
	require.Empty(t, s.published(stream, ">"))
	require.NoError(t, s.Rollback(t.Context(), b))
}

func TestMarkerThatIsNoneIsAnError(t *testing.T) {
	s := newService(t)
	b := s.prepared("orders.1")
	s.put(markers+tokens(b), "what is this")
	for _, err := range []error{s.Commit(t.Context(), b), s.Rollback(t.Context(), b), s.CommitOnePhase(t.Context(), b)} {
		require.ErrorContains(t, err, `did not write: marker "what is this"`)
		require.NotErrorIs(t, err, participant.ErrRefused)
	}
}

func TestOnePhaseOfAPreparedBranch(t *testing.T) {
	s := newService(t)
	b := s.prepared("orders.1")
	require.NoError(t, s.fresh().CommitOnePhase(t.Context(), b))
	require.NoError(t, s.CommitOnePhase(t.Context(), b))
	require.Equal(t, []string{"orders.1"}, s.published(stream, "orders.>"))
}

// Of the 50 batches that a stream takes at a time one more is refused for a while.
func TestTooManyBatchesAreAskedForAgain(t *testing.T) {
	s := newService(t)
	b := s.prepared("orders.1")
	conn := s.js.Conn()
	for i := range 50 {
		m := natsgo.NewMsg("orders.open")
		m.Header.Set("Nats-Batch-Id", fmt.Sprint("open", i))
		m.Header.Set("Nats-Batch-Sequence", "1")
		_, err := conn.RequestMsgWithContext(t.Context(), m)
		require.NoError(t, err)
	}
	err := s.Commit(t.Context(), b)
	require.ErrorContains(t, err, "10210")
	require.NotErrorIs(t, err, participant.ErrConfig)
	require.Empty(t, s.published(stream, ">"))

	// Finished, one makes room.
	last := natsgo.NewMsg("orders.open")
	last.Header.Set("Nats-Batch-Id", "open0")
	last.Header.Set("Nats-Batch-Sequence", "2")
	last.Header.Set("Nats-Batch-Commit", "1")
	_, err = conn.RequestMsgWithContext(t.Context(), last)
	require.NoError(t, err)
	require.NoError(t, s.Commit(t.Context(), b))
	require.Len(t, s.published(stream, "orders.1"), 1)
}

// What the server answers to batches that are not as they have to be.
func TestAnswersToBatches(t *testing.T) {
	s := newService(t)
	message := func(subject string, header ...string) *natsgo.Msg {
		m := natsgo.NewMsg(subject)
		for i := 0; i < len(header); i += 2 {
			m.Header.Set(header[i], header[i+1])
		}
		return m
	}
	const expected = "Nats-Expected-Last-Subject-Sequence"
	publish := func(messages ...*natsgo.Msg) error { return s.Publish(t.Context(), stream, messages...) }
	require.NoError(t, publish(message("orders.a", expected, "0"), message("orders.b")))
	require.ErrorIs(t, publish(message("orders.a", expected, "0"), message("orders.b")), nats.ErrTaken)
	require.ErrorIs(t, publish(message("orders.b"), message("orders.a", expected, "0")), nats.ErrTaken)
	require.ErrorIs(t, publish(message("orders.a", expected, "0")), nats.ErrTaken)
	require.ErrorContains(t, publish(message("orders.b", "Nats-Msg-Id", "1"), message("orders.b", "Nats-Msg-Id", "1")), "10201")
	require.ErrorContains(t, publish(message("orders.b"), message("stock.b"), message("orders.b")), "10176")
	many := make([]*natsgo.Msg, 1001)
	for i := range many {
		many[i] = message("orders.b")
	}
	err := publish(many...)
	require.ErrorContains(t, err, "10199")
	require.ErrorContains(t, err, "raise max_batch_size")
	require.Equal(t, []string{"orders.a", "orders.b"}, s.published(stream, "orders.>"))
	require.ErrorContains(t, s.Publish(t.Context(), "STOCK", message("orders.b")), `not that of 0 messages by stream "STOCK"`)

	config := streamConfig()
	config.AllowAtomicPublish, config.AllowMsgTTL, config.AllowRollup = false, false, false
	s.empty()
	s.create(config)
	for says, err := range map[string]error{
		"set allow_atomic":      publish(message("orders.a"), message("orders.a")),
		"set allow_msg_ttl":     publish(message("orders.a", "Nats-TTL", "3600")),
		"set allow_rollup_hdrs": publish(message("orders.a", "Nats-Rollup", "sub")),
	} {
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, says)
	}
	config.Sealed = true
	_, err = s.js.UpdateStream(t.Context(), config)
	require.NoError(t, err)
	require.ErrorContains(t, publish(message("orders.a")), "sealed")
}

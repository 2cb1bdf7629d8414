package nats_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// A server that is killed while it stores a batch, message by message, has all of it
// or nothing afterwards: that is what the marker rests on.
func TestServerIsKilledInTheMiddleOfABatch(t *testing.T) {
	const messages, rounds = 900, 10
	s := newService(t)
	fill := func(subject string) participant.Branch {
		session := s.join()
		for range messages {
			require.NoError(t, session.Publish(subject, nil, make([]byte, 200)))
		}
		b := session.Branch()
		vote, err := s.Prepare(t.Context(), b)
		require.NoError(t, err)
		require.Equal(t, participant.VotePrepared, vote)
		return b
	}
	b := fill("orders.usual")
	begun := time.Now()
	require.NoError(t, s.Commit(t.Context(), b))
	usual := time.Since(begun)
	var none, all int
	for i := range rounds {
		subject := fmt.Sprint("orders.n", i)
		b := fill(subject)
		answer := make(chan error, 1)
		go func() { answer <- s.Commit(t.Context(), b) }()
		moment := time.NewTimer(rand.N(usual))
		<-moment.C
		require.NoError(t, server(t).Restart(t.Context()))
		err := <-answer
		require.NoError(t, connected(t.Context(), s.js.Conn()))
		switch n := len(s.published(stream, subject)); n {
		case 0:
			require.Error(t, err)
			none++
		case messages:
			all++
		default:
			require.Fail(t, "a part of a batch", "%d of %d messages", n, messages)
		}
		require.NoError(t, s.fresh().Commit(t.Context(), b))
		require.Len(t, s.published(stream, subject), messages)
	}
	t.Log(none, "commits were lost by the kill,", all, "were not")
}

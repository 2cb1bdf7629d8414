package client_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/client"
	"github.com/assent-tm/assent/participant"
)

// serve serves the attached participant by the client; it returns when it is attached.
func serve(t *testing.T, s *site, p participant.Participant, change ...func(*client.Config)) (c *client.Client, leave func()) {
	t.Helper()
	attached := make(chan struct{}, 100)
	c = s.client(append(change, func(config *client.Config) {
		config.OnAttached = func(string) { attached <- struct{}{} }
	})...)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- c.ServeParticipant(ctx, p) }()
	<-attached
	left := false
	leave = func() {
		if !left {
			left = true
			cancel()
			require.NoError(t, <-served)
		}
	}
	t.Cleanup(leave)
	return c, leave
}

func TestAServedParticipantTakesPart(t *testing.T) {
	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		one, two := &bank{name: attachedName}, &bank{name: attachedName}
		c, leave := serve(t, s, one, change)
		_, _ = serve(t, s, two, change)
		elsewhere := s.client(change)
		for range 10 {
			require.NoError(t, c.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
				_, err := tx.Enlist(ctx, one, []byte("here"))
				return err
			}))
		}
		require.Len(t, one.calls(), 20, "a branch goes to the instance that enlisted it")
		require.Equal(t, "prepare here", one.calls()[0])
		require.Empty(t, two.calls())
		ledger := []coordinator.Enlistment{{Participant: client.Participant(attachedName)}}
		for range 10 {
			_, err := elsewhere.Submit(t.Context(), ledger)
			require.NoError(t, err)
		}
		require.NotEmpty(t, two.calls(), "others are shared")

		s.line.cut() // both attach again
		_, err := c.Submit(t.Context(), ledger)
		require.NoError(t, err)
		before := len(one.calls())
		leave()
		for range 10 {
			_, err := elsewhere.Submit(t.Context(), ledger)
			require.NoError(t, err)
		}
		require.Len(t, one.calls(), before)
	})
}

// The adapter's view: a session that lives in this process is prepared and committed
// here, whatever is cut in between.
func TestABranchThatLivesHereComesBackHere(t *testing.T) {
	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		here := map[participant.TxID]bool{}
		one := &bank{name: attachedName, prepare: func(_ context.Context, b participant.Branch) (participant.Vote, error) {
			if !here[b.Tx] {
				return participant.VoteRefused, errors.New("no session")
			}
			return participant.VotePrepared, nil
		}}
		c, _ := serve(t, s, one, change)
		_, _ = serve(t, s, &bank{name: attachedName, prepare: refuses}, change)
		for range 10 {
			require.NoError(t, c.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
				here[tx.ID()] = true
				_, err := tx.Enlist(ctx, one, nil)
				s.line.cut()
				return err
			}))
		}
	})
}

func TestParticipantsThatCantBeServed(t *testing.T) {
	s := newSite(t)
	ledger := &bank{name: attachedName}
	c, _ := serve(t, s, ledger)
	require.ErrorContains(t, c.ServeParticipant(t.Context(), ledger), "serves it already")
	require.ErrorContains(t, c.ServeParticipant(t.Context(), &bank{name: "nobody"}), `"nobody"`)
	require.ErrorIs(t, c.ServeParticipant(t.Context(), nil), participant.ErrInvalidParticipant)
	require.ErrorIs(t, c.Enlist(t.Context(), begin(t, c), client.Participant("nobody")), client.ErrUnknownParticipant)
}

func TestAClosedClient(t *testing.T) {
	eachWay(t, func(t *testing.T, s *site, change func(*client.Config)) {
		attached := make(chan struct{}, 1)
		c := s.client(change, func(config *client.Config) { config.OnAttached = func(string) { attached <- struct{}{} } })
		id := begin(t, c)
		served := make(chan error)
		go func() { served <- c.ServeParticipant(t.Context(), &bank{name: attachedName}) }()
		<-attached
		require.NoError(t, c.Close())
		require.ErrorIs(t, <-served, coordinator.ErrClosed)
		require.ErrorIs(t, c.Commit(t.Context(), id), coordinator.ErrClosed)
		_, err := c.Begin(t.Context())
		require.ErrorIs(t, err, coordinator.ErrClosed)
		require.ErrorIs(t, c.ServeParticipant(t.Context(), &bank{name: attachedName}), coordinator.ErrClosed)
		require.NoError(t, c.Close())
	})
}

func TestInvalidConfigs(t *testing.T) {
	for url, says := range map[string]string{
		"":                        "is not https://",
		"ftp://127.0.0.1:1":       "is not https://",
		"http://":                 "is not https://",
		"http://user:pw@host":     "is not https://",
		"http://10.0.0.1:7379":    "plain http to another machine",
		"http://assent.test:7379": "plain http to another machine",
		"://":                     "missing protocol",
	} {
		_, err := client.New(client.Config{URL: url})
		require.ErrorContains(t, err, says)
	}
	for _, config := range []client.Config{
		{URL: "http://localhost:1", MaxInFlight: -1}, {URL: "http://[::1]:1", Timeout: -time.Second}, {URL: "http://127.0.0.1:1", Instance: "a b"},
	} {
		_, err := client.New(config)
		require.Error(t, err)
	}
	for _, url := range []string{"http://localhost:1", "http://[::1]:1", "https://assent.test"} {
		c, err := client.New(client.Config{URL: url})
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	c, err := client.New(client.Config{URL: "http://10.0.0.1:1", AllowInsecure: true})
	require.NoError(t, err)
	_, err = c.Begin(t.Context(), coordinator.WithOwner("me"))
	require.ErrorIs(t, err, client.ErrInvalid)
	require.NoError(t, c.Close())
}

// listing is a participant that has much to list.
type listing struct {
	bank
	holds participant.Listing
}

func (l *listing) List(context.Context, string) (participant.Listing, error) { return l.holds, nil }

func TestALongListComesThrough(t *testing.T) {
	s := newSite(t)
	p, err := s.hub.Participant("archive", true, false)
	require.NoError(t, err)
	archive := &listing{bank: bank{name: "archive"}}
	for range 40_000 {
		archive.holds.Prepared = append(archive.holds.Prepared, participant.Branch{
			Domain: "test", Tx: participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.New()}, Participant: "archive",
		})
	}
	serve(t, s, archive)
	got, err := p.(participant.Lister).List(t.Context(), "test")
	require.NoError(t, err)
	require.Equal(t, archive.holds.Prepared, got.Prepared)
}

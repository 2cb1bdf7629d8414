package server_test

import (
	"bufio"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/assent-tm/assent/coordinator"
	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/coordinator/server"
)

// telling makes a site tell of events.
func telling(size int) change {
	feed := coordinator.NewFeed(size)
	return change{
		dtm:    func(c *coordinator.Config) { c.Trace = feed.Trace() },
		server: func(c *server.Config) { c.Feed = feed },
	}
}

func watch(t *testing.T, client assentv1connect.TransactionServiceClient, r *assentv1.WatchRequest) (next func() *assentv1.Event) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := client.Watch(ctx, r)
	require.NoError(t, err)
	t.Cleanup(func() {
		cancel()
		_ = stream.Close()
	})
	return func() *assentv1.Event {
		message, err := stream.Receive()
		require.NoError(t, err)
		return message.GetEvent()
	}
}

// subscribed begins and watches until it sees that: what comes later is missed by
// nobody.
func subscribed(t *testing.T, s *site, client assentv1connect.TransactionServiceClient, next func() *assentv1.Event) {
	t.Helper()
	seen := make(chan struct{})
	go func() {
		defer close(seen)
		for next().GetKind() != assentv1.EventKind_EVENT_KIND_BEGUN {
		}
	}()
	for {
		begun, err := client.Begin(t.Context(), &assentv1.BeginRequest{})
		require.NoError(t, err)
		_, err = client.Rollback(t.Context(), &assentv1.RollbackRequest{TransactionId: begun.GetTransactionId()})
		require.NoError(t, err)
		select {
		case <-seen:
			return
		default:
		}
	}
}

func TestWatchTellsATransactionsLife(t *testing.T) {
	s := newSite(t, telling(0))
	next := watch(t, s.client, &assentv1.WatchRequest{})
	subscribed(t, s, s.client, next)
	done, err := s.client.Submit(t.Context(), &assentv1.SubmitRequest{Enlistments: both()})
	require.NoError(t, err)
	var kinds []string
	for kind := assentv1.EventKind(0); kind != assentv1.EventKind_EVENT_KIND_FINISHED; {
		e := next()
		if e.GetTransactionId() != done.GetTransactionId() {
			continue
		}
		kind = e.GetKind()
		kinds = append(kinds, strings.TrimPrefix(kind.String(), "EVENT_KIND_"))
	}
	require.Equal(t, []string{"BEGUN", "ENLISTED", "ENLISTED", "VOTED", "VOTED", "DECIDED", "TOLD", "TOLD", "FINISHED"}, kinds)
}

func TestClientsWatchOnlyTheirOwn(t *testing.T) {
	p := newPeople(t)
	s := newSite(t, telling(0), p.authenticated(t))
	alice, bob := p.as(s, "alice"), p.as(s, "bob")
	next, all := watch(t, bob, &assentv1.WatchRequest{}), watch(t, p.as(s, "vera"), &assentv1.WatchRequest{})
	subscribed(t, s, bob, next)
	subscribed(t, s, bob, all)
	const secret = "swordfish"
	s.a.refuses("insufficient funds")
	_, err := alice.Submit(t.Context(), &assentv1.SubmitRequest{Name: secret, Enlistments: both()})
	hers := refused(t, err).info.GetTransactionId()
	_, err = bob.Submit(t.Context(), &assentv1.SubmitRequest{Enlistments: both()})
	his := refused(t, err).info.GetTransactionId()
	for told := ""; ; {
		e := next()
		require.NotEqual(t, hers, e.GetTransactionId())
		if e.GetTransactionId() == his && e.GetVote() == assentv1.Vote_VOTE_REFUSED {
			told = e.GetError()
		}
		if e.GetTransactionId() == his && e.GetKind() == assentv1.EventKind_EVENT_KIND_FINISHED {
			require.Contains(t, told, "insufficient funds")
			break
		}
	}
	for seen := map[string]bool{}; !seen[hers] || !seen[his]; {
		seen[all().GetTransactionId()] = true
	}
	stream, err := bob.Watch(t.Context(), &assentv1.WatchRequest{TransactionId: hers})
	require.NoError(t, err)
	_, err = stream.Receive()
	require.Equal(t, connect.CodeNotFound, refused(t, err).code)
}

// eventStream reads Server-Sent Events.
type eventStream struct {
	lines *bufio.Scanner
	close func()
}

// message is one event, or a comment as data.
type message struct{ id, event, data string }

func (s *site) events(t *testing.T, query, last string) (*eventStream, int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/v1/events"+query, http.NoBody)
	require.NoError(t, err)
	if last != "" {
		request.Header.Set("Last-Event-ID", last)
	}
	response, err := s.web.Do(request)
	require.NoError(t, err)
	stream := &eventStream{lines: bufio.NewScanner(response.Body), close: func() {
		cancel()
		_ = response.Body.Close()
	}}
	t.Cleanup(stream.close)
	return stream, response.StatusCode
}

func (e *eventStream) next(t *testing.T) message {
	t.Helper()
	var m message
	for e.lines.Scan() {
		line := e.lines.Text()
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			m.id = value
		case "event":
			m.event = value
		case "data":
			m.data = value
		case "retry":
			m.event = "retry"
		case "":
			if line == ":" {
				m.event = "heartbeat"
				continue
			}
			return m
		}
	}
	require.NoError(t, e.lines.Err())
	require.Fail(t, "the stream has ended")
	return m
}

func TestEventsGoOnWhereTheyWereLeft(t *testing.T) {
	s := newSite(t, telling(0))
	stream, status := s.events(t, "", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "retry", stream.next(t).event) // it is subscribed
	begin := func() string {
		begun, err := s.client.Begin(t.Context(), &assentv1.BeginRequest{})
		require.NoError(t, err)
		return begun.GetTransactionId()
	}
	first := begin()
	m := stream.next(t)
	require.Equal(t, "begun", m.event)
	require.Contains(t, m.data, first)
	var e assentv1.Event
	require.NoError(t, protojson.Unmarshal([]byte(m.data), &e))
	require.Equal(t, m.id, e.GetId())
	stream.close()
	missed := []string{begin(), begin()}
	for _, again := range []func() (*eventStream, int){
		func() (*eventStream, int) { return s.events(t, "", m.id) },
		func() (*eventStream, int) { return s.events(t, "?after="+m.id, "") },
	} {
		stream, _ = again()
		require.Equal(t, "retry", stream.next(t).event)
		for _, id := range missed {
			require.Contains(t, stream.next(t).data, id)
		}
	}
	only, _ := s.events(t, "?transaction_id="+missed[1], m.id)
	require.Equal(t, "retry", only.next(t).event)
	require.Contains(t, only.next(t).data, missed[1])
	old, _ := s.events(t, "", "1")
	require.Equal(t, "retry", old.next(t).event)
	require.Equal(t, "gap", old.next(t).event)
}

func TestEventsRefuseWhatTheyCanNotRead(t *testing.T) {
	p := newPeople(t)
	s := newSite(t, telling(0))
	_, status := s.events(t, "?after=x", "")
	require.Equal(t, http.StatusBadRequest, status)
	_, status = s.events(t, "?transaction_id=x", "")
	require.Equal(t, http.StatusBadRequest, status)
	_, status = newSite(t).events(t, "", "")
	require.Equal(t, http.StatusNotImplemented, status)
	_, status = newSite(t, telling(0), p.authenticated(t)).events(t, "", "")
	require.Equal(t, http.StatusUnauthorized, status)
	_, status = newSite(t, telling(0), change{server: func(c *server.Config) { c.MaxStreams = 1 }}).events(t, "", "")
	require.Equal(t, http.StatusOK, status)
}

func TestR12MoreStreamsThanMayBeAreRefused(t *testing.T) {
	s := newSite(t, telling(0), change{server: func(c *server.Config) { c.MaxStreams = 1 }})
	stream, _ := s.events(t, "", "")
	require.Equal(t, "retry", stream.next(t).event)
	_, status := s.events(t, "", "")
	require.Equal(t, http.StatusTooManyRequests, status)
	session, err := s.client.Session(t.Context())
	require.NoError(t, err)
	defer func() { require.NoError(t, session.Close()) }()
	require.NoError(t, session.SendHeaders())
	_, err = session.Receive()
	require.Equal(t, connect.CodeResourceExhausted, refused(t, err).code)
}

// R12: however many streams clients have, participants can attach.
func TestR12ClientsDoNotKeepParticipantsOut(t *testing.T) {
	s := newSite(t, telling(0), attaching(t), change{server: func(c *server.Config) { c.MaxStreams = 1 }})
	stream, _ := s.events(t, "", "")
	require.Equal(t, "retry", stream.next(t).event)
	welcome, err := s.attach(t, "")
	require.NoError(t, err)
	require.Equal(t, "test", welcome.GetWelcome().GetDomain())
}

func TestEventsBeatWhileNothingHappens(t *testing.T) {
	s := newSite(t, telling(0))
	s.server.SetHeartbeat(10 * time.Millisecond)
	stream, _ := s.events(t, "", "")
	require.Equal(t, "retry", stream.next(t).event)
	require.Equal(t, "heartbeat", stream.next(t).event)
	require.Equal(t, "heartbeat", stream.next(t).event)
}

// Streams end with the server, and are told so.
func TestStreamsEndWithTheServer(t *testing.T) {
	s := newSite(t, telling(0))
	watching, err := s.client.Watch(t.Context(), &assentv1.WatchRequest{})
	require.NoError(t, err)
	session, err := s.client.Session(t.Context())
	require.NoError(t, err)
	require.NoError(t, session.Send(&assentv1.SessionRequest{Requests: []*assentv1.Request{{Id: 1}}}))
	_, err = session.Receive()
	require.NoError(t, err)
	stream, _ := s.events(t, "", "")
	require.Equal(t, "retry", stream.next(t).event)
	s.server.Close()
	_, err = session.Receive()
	require.Equal(t, assentv1.ErrorReason_ERROR_REASON_CLOSED, refused(t, err).reason)
	for err = nil; err == nil; {
		_, err = watching.Receive()
	}
	require.Equal(t, connect.CodeUnavailable, refused(t, err).code)
	require.False(t, stream.lines.Scan())
	require.False(t, errors.Is(stream.lines.Err(), context.Canceled))
}

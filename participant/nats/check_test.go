package nats_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/nats"
)

func TestCheckPassesAServerThatKeepsItsWord(t *testing.T) {
	s := newService(t, func(c *nats.Config) { c.MonitorURLs = []string{shared.monitor, shared.monitor + "/"} })
	require.NoError(t, s.Check(t.Context()))
	require.Empty(t, s.warned.String())
	require.NoError(t, s.Check(t.Context())) // the staging stream is there by now
	require.Empty(t, s.published(stream, ">"))
	require.Empty(t, s.published(staging, ">"))
}

// Every reason for which a stream is refused, on a real stream where the server makes
// such a one.
func TestCheckNamesTheSetting(t *testing.T) {
	for says, change := range map[string]func(*jetstream.StreamConfig){
		"it is a mirror": func(c *jetstream.StreamConfig) {
			*c = jetstream.StreamConfig{Name: c.Name, Mirror: &jetstream.StreamSource{Name: "ORIGIN"}}
		},
		"create it anew with storage file": func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"set allow_atomic":                 func(c *jetstream.StreamConfig) { c.AllowAtomicPublish = false },
		"set allow_msg_ttl":                func(c *jetstream.StreamConfig) { c.AllowMsgTTL = false },
		"set allow_rollup_hdrs, and not":   func(c *jetstream.StreamConfig) { c.AllowRollup = false },
		"and not deny_purge":               func(c *jetstream.StreamConfig) { c.DenyPurge, c.AllowRollup = true, false },
		"unset no_ack":                     func(c *jetstream.StreamConfig) { c.NoAck = true },
		"it is for counters":               func(c *jetstream.StreamConfig) { c.AllowMsgCounter, c.AllowMsgTTL = true, false },
		"create it anew with persist_mode": func(c *jetstream.StreamConfig) {
			c.AllowAtomicPublish, c.PersistMode = false, jetstream.AsyncPersistMode
		},
		"remove its subject_transform": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "assent.>", Destination: "orders.>"}
		},
		`add the subject "assent.outbox.branch.>`: func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] },
		"(retention WorkQueue)":                   func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"(retention Interest)":                    func(c *jetstream.StreamConfig) { c.Retention = jetstream.InterestPolicy },
		"set max_msgs to -1":                      func(c *jetstream.StreamConfig) { c.MaxMsgs = 1000 },
		"set max_bytes to -1":                     func(c *jetstream.StreamConfig) { c.MaxBytes = 1 << 30 },
		"unset discard_new_per_subject": func(c *jetstream.StreamConfig) {
			c.Discard, c.DiscardNewPerSubject, c.MaxMsgsPerSubject = jetstream.DiscardNew, true, 1
		},
		"raise max_age to 720h0m0s":          func(c *jetstream.StreamConfig) { c.MaxAge = 719 * time.Hour },
		"set subject_delete_marker_ttl to 0": func(c *jetstream.StreamConfig) { c.SubjectDeleteMarkerTTL = time.Hour },
	} {
		t.Run(says, func(t *testing.T) {
			s := newService(t)
			s.empty()
			s.create(jetstream.StreamConfig{Name: "ORIGIN", Subjects: []string{"origin"}})
			config := streamConfig()
			change(&config)
			s.create(config)
			err := s.Check(t.Context())
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, `stream "ORDERS": `)
			require.ErrorContains(t, err, says)
			require.ErrorContains(t, err, `"outbox"`)
		})
	}
	t.Run("sealed", func(t *testing.T) {
		s := newService(t)
		s.change(func(c *jetstream.StreamConfig) { c.Sealed = true })
		require.ErrorContains(t, s.Check(t.Context()), "it is sealed")
	})
	t.Run("none", func(t *testing.T) {
		s := newService(t)
		s.empty()
		err := s.Check(t.Context())
		require.ErrorIs(t, err, participant.ErrConfig)
		require.ErrorContains(t, err, "create the stream, or correct Config.Stream")
	})
}

func TestCheckOfTheStagingStream(t *testing.T) {
	for says, change := range map[string]func(*jetstream.StreamConfig){
		"create it anew with storage file": func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage },
		"give it the subjects":             func(c *jetstream.StreamConfig) { c.Subjects = c.Subjects[:1] },
		"set max_age to 0":                 func(c *jetstream.StreamConfig) { c.MaxAge = time.Hour },
		"set discard to new":               func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardOld, 10 },
		"it must not be a mirror":          func(c *jetstream.StreamConfig) { c.NoAck = true },
		"unset deny_delete":                func(c *jetstream.StreamConfig) { c.DenyDelete = true },
		"create it anew with persist_mode": func(c *jetstream.StreamConfig) { c.PersistMode = jetstream.AsyncPersistMode },
		"create it anew with limits":       func(c *jetstream.StreamConfig) { c.Retention = jetstream.WorkQueuePolicy },
		"remove its subject_transform": func(c *jetstream.StreamConfig) {
			c.SubjectTransform = &jetstream.SubjectTransformConfig{Source: "a", Destination: "b"}
		},
	} {
		t.Run(says, func(t *testing.T) {
			s := newService(t)
			config := jetstream.StreamConfig{Name: staging, Subjects: []string{"assent.outbox.staged.>", "assent.outbox.term.>"}}
			change(&config)
			s.create(config)
			err := s.Check(t.Context())
			require.ErrorIs(t, err, participant.ErrConfig)
			require.ErrorContains(t, err, `stream "ASSENT_outbox": `)
			require.ErrorContains(t, err, says)
		})
	}
}

func TestCheckWarns(t *testing.T) {
	t.Run("of a stream that may be full", func(t *testing.T) {
		s := newService(t)
		s.change(func(c *jetstream.StreamConfig) { c.Discard, c.MaxMsgs = jetstream.DiscardNew, 1000 })
		require.NoError(t, s.Check(t.Context()))
		require.Contains(t, s.warned.String(), "refuses messages when it is full")
		require.Contains(t, s.warned.String(), "level=WARN")
		require.Contains(t, s.warned.String(), "participant=outbox")
	})
	t.Run("of what it can't see", func(t *testing.T) {
		s := newService(t)
		require.NoError(t, s.Check(t.Context()))
		require.Contains(t, s.warned.String(), "give Config.MonitorURLs")
	})
	t.Run("of a monitor that is not there", func(t *testing.T) {
		s := newService(t, func(c *nats.Config) { c.MonitorURLs = []string{"http://127.0.0.1:1"} })
		require.NoError(t, s.Check(t.Context()))
		require.Contains(t, s.warned.String(), "could not be asked (Config.MonitorURLs)")
		require.Contains(t, s.warned.String(), "127.0.0.1:1")
	})
	t.Run("of a server that does not sync", func(t *testing.T) {
		monitor := freeAddr(t)
		js := connect(t, start(t, "jetstream { sync_interval: 2m }", "http: "+monitor).URL())
		s := serviceAt(t, js, func(c *nats.Config) { c.MonitorURLs = []string{"http://" + monitor} })
		require.NoError(t, s.Check(t.Context()))
		require.Contains(t, s.warned.String(), "Set sync_interval: always in its jetstream block")
		require.Contains(t, s.warned.String(), monitor)
	})
}

func TestServerWithoutJetStream(t *testing.T) {
	s := start(t, "jetstream: false")
	p, err := nats.New(nats.Config{Name: "outbox", JetStream: connect(t, s.URL()), Stream: stream})
	require.NoError(t, err)
	require.ErrorContains(t, p.Check(t.Context()), "JetStream is down")
}

// users are ann, who may all, and others who may not; the one who gives no name is ann.
const users = `accounts {
	with: { jetstream: true, users: [
		{user: ann, password: secret},
		{user: bob, password: secret, permissions: {publish: {deny: ["orders.secret", "assent.outbox.staged.>"]}}},
		{user: jim, password: secret, permissions: {publish: {deny: ["$JS.>"]}}}
	] }
	without: { users: [ {user: eve, password: secret} ] }
}
no_auth_user: ann`

func TestUsersWithoutRights(t *testing.T) {
	url := start(t, users).URL()
	s := serviceAt(t, connect(t, url))
	s.cfg.JetStream = connect(t, url, natsgo.UserInfo("eve", "secret"))
	err := s.fresh().Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "enable JetStream for the account")

	soon := func() context.Context {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		t.Cleanup(cancel)
		return ctx
	}
	s.cfg.JetStream = connect(t, url, natsgo.UserInfo("jim", "secret"))
	err = s.fresh().Check(soon())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, `may not publish to "$JS.API.STREAM.INFO.ORDERS": permit it`)

	s.cfg.JetStream = connect(t, url, natsgo.UserInfo("bob", "secret"))
	s.Participant = s.fresh()
	b := s.staged("orders.1")
	vote, err := s.Prepare(soon(), b)
	require.False(t, vote.Valid())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, `may not publish to "assent.outbox.staged.`)
	require.NoError(t, s.Rollback(t.Context(), b))

	// A message in the middle of a batch gets no answer.
	session := s.join()
	for _, subject := range []string{"orders.1", "orders.secret", "orders.2"} {
		require.NoError(t, session.Publish(subject, nil, nil))
	}
	err = s.CommitOnePhase(t.Context(), session.Branch())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, `may not publish to "orders.secret"`)
}

// A server that is not there is no misconfiguration: the coordinator starts, and
// asks again.
func TestUnreachableServer(t *testing.T) {
	s := serviceAt(t, connect(t, start(t).URL()))
	require.NoError(t, s.Check(t.Context()))
	s.js.Conn().Close()
	_, joined := s.Join(t.Context(), s.begin())
	vote, prepared := s.Prepare(t.Context(), s.begin().branch)
	require.False(t, vote.Valid())
	_, listed := s.List(t.Context(), "shop")
	for _, err := range []error{s.Check(t.Context()), joined, prepared, listed, s.Commit(t.Context(), s.begin().branch), s.Rollback(t.Context(), s.begin().branch)} {
		require.ErrorContains(t, err, "not connected to NATS")
		require.ErrorContains(t, err, `"outbox"`)
		require.NotErrorIs(t, err, participant.ErrConfig)
	}
}

func TestWrongPassword(t *testing.T) {
	url := start(t, users).URL()
	closed := make(chan struct{})
	js := connect(t, url, natsgo.UserInfo("ann", "wrong"), natsgo.RetryOnFailedConnect(true), natsgo.ClosedHandler(func(*natsgo.Conn) { close(closed) }))
	<-closed // after the second refusal
	p, err := nats.New(nats.Config{Name: "outbox", JetStream: js, Stream: stream})
	require.NoError(t, err)
	err = p.Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "does not accept the client's credentials")
}

// An older server has no atomic batches. None is at hand: this one only says that it
// is old.
func TestOldServer(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer func() { served <- conn.Close() }()
		_, _ = fmt.Fprint(conn, `INFO {"server_id":"old","version":"2.11.9","proto":1,"headers":true,"max_payload":1048576}`+"\r\n")
		for lines := bufio.NewScanner(conn); lines.Scan(); {
			if lines.Text() == "PING" {
				_, _ = fmt.Fprint(conn, "PONG\r\n")
			}
		}
	}()
	js := connect(t, "nats://"+listener.Addr().String(), natsgo.NoReconnect())
	p, err := nats.New(nats.Config{Name: "outbox", JetStream: js, Stream: stream})
	require.NoError(t, err)
	err = p.Check(t.Context())
	require.ErrorIs(t, err, participant.ErrConfig)
	require.ErrorContains(t, err, "the server has version 2.11.9: 2.12 or later is needed")
	js.Conn().Close()
	require.NoError(t, <-served)
	require.NoError(t, listener.Close())
}

func TestAtLeast(t *testing.T) {
	for version, want := range map[string]bool{
		"2.12.0": true, "2.12": true, "2.15.2": true, "2.100.1": true, "3.0.0-beta.1": true, "2.12.0-RC.1": true,
		"2.11.9": false, "1.99": false, "2": false, "": false, "x.y": false,
	} {
		require.Equal(t, want, nats.AtLeast(version, 2, 12), version)
	}
}

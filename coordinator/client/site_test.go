package client_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/client"
	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
	"github.com/assent-tm/assent/wal/waltest"
)

// site is a served coordinator, on real sockets behind a line that can be cut.
type site struct {
	t    *testing.T
	log  *waltest.Memory
	a, b *bank
	line *line

	dtm  *coordinator.DTM
	hub  *remote.Hub
	stop func()
}

// attachedName is the participant that instances of attach for.
const attachedName = "ledger"

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, log: waltest.NewMemory(), a: &bank{name: "bank_a"}, b: &bank{name: "bank_b"}, line: newLine(t)}
	s.start()
	t.Cleanup(func() {
		if s.stop != nil {
			s.stop()
		}
	})
	return s
}

// start starts a server process.
func (s *site) start() {
	s.t.Helper()
	hub, err := remote.NewHub(remote.HubConfig{Domain: "test"})
	require.NoError(s.t, err)
	ledger, err := hub.Participant(attachedName, false, false)
	require.NoError(s.t, err)
	store := s.log.Open()
	s.hub = hub
	s.dtm, err = coordinator.Open(s.t.Context(), coordinator.Config{
		Domain: "test", Store: store, Participants: []participant.Participant{s.a, s.b, ledger},
		CommitWait: 50 * time.Millisecond, RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond,
	})
	require.NoError(s.t, err)
	served, err := server.New(server.Config{DTM: s.dtm, Hub: hub})
	require.NoError(s.t, err)
	api, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(s.t, err)
	s.line.to(api.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- served.Serve(ctx, server.Listener{Net: api, Handler: served.API()}) }()
	end := context.WithoutCancel(ctx)
	s.stop = func() {
		s.stop = nil
		s.line.to("")
		cancel()
		err := errors.Join(<-done, hub.Close(ctx), s.dtm.Close(end), store.Close())
		if !errors.Is(err, context.Canceled) { // the hub's streams were ended
			require.NoError(s.t, err)
		}
	}
}

func (s *site) client(change ...func(*client.Config)) *client.Client {
	s.t.Helper()
	config := client.Config{URL: s.line.url()}
	for _, f := range change {
		f(&config)
	}
	c, err := client.New(config)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { require.NoError(s.t, c.Close()) })
	return c
}

func withSession(c *client.Config) { c.Session = true }

// bank is a participant in memory that does as it is told.
type bank struct {
	name string

	mu      sync.Mutex
	prepare func(context.Context, participant.Branch) (participant.Vote, error)
	commit  func(context.Context, participant.Branch) error
	seen    []string
}

func (b *bank) Name() string { return b.name }

// does sets what the next calls do, and forgets those before.
func (b *bank) does(prepare func(context.Context, participant.Branch) (participant.Vote, error), commit func(context.Context, participant.Branch) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.prepare, b.commit, b.seen = prepare, commit, nil
}

func (b *bank) note(verb string, branch participant.Branch) {
	b.seen = append(b.seen, verb+" "+string(branch.Data))
}

func (b *bank) calls() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.seen...)
}

func (b *bank) Prepare(ctx context.Context, branch participant.Branch) (participant.Vote, error) {
	b.mu.Lock()
	b.note("prepare", branch)
	f := b.prepare
	b.mu.Unlock()
	if f != nil {
		return f(ctx, branch)
	}
	return participant.VotePrepared, nil
}

func (b *bank) Commit(ctx context.Context, branch participant.Branch) error {
	b.mu.Lock()
	b.note("commit", branch)
	f := b.commit
	b.mu.Unlock()
	if f != nil {
		return f(ctx, branch)
	}
	return nil
}

func (b *bank) Rollback(_ context.Context, branch participant.Branch) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note("rollback", branch)
	return nil
}

// line is the network between clients and the server.
type line struct {
	listener net.Listener
	all      sync.WaitGroup

	mu     sync.Mutex
	server string // "" if nobody answers
	conns  map[net.Conn]bool
	// deaf: what the server sends is lost from now on, until the line is cut.
	deaf bool
}

func newLine(t *testing.T) *line {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &line{listener: listener, conns: map[net.Conn]bool{}}
	l.all.Go(l.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		l.cut()
		l.all.Wait()
	})
	return l
}

func (l *line) url() string { return "http://" + l.listener.Addr().String() }

// to lets new connections go to another server, and cuts those that are.
func (l *line) to(server string) {
	l.mu.Lock()
	l.server = server
	l.mu.Unlock()
	l.cut()
}

// cut cuts all connections.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = false
	for conn := range l.conns {
		_ = conn.Close()
		delete(l.conns, conn)
	}
}

// loseAnswers lets requests through, and no answers, until the line is cut.
func (l *line) loseAnswers() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deaf = true
}

func (l *line) accept() {
	for {
		conn, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.mu.Lock()
		server := l.server
		l.mu.Unlock()
		if server == "" {
			_ = conn.Close()
			continue
		}
		far, err := net.Dial("tcp", server)
		if err != nil {
			_ = conn.Close()
			continue
		}
		l.mu.Lock()
		l.conns[conn], l.conns[far] = true, true
		l.mu.Unlock()
		l.all.Go(func() { l.pass(far, conn, false) })
		l.all.Go(func() { l.pass(conn, far, true) })
	}
}

func (l *line) pass(to, from net.Conn, answers bool) {
	defer func() {
		_ = to.Close()
		_ = from.Close()
	}()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		l.mu.Lock()
		lost := answers && l.deaf
		l.mu.Unlock()
		if n > 0 && !lost {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			_ = errors.Is(err, io.EOF)
			return
		}
	}
}

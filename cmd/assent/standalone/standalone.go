// Package standalone runs a coordinator as a server of its own, as a configuration
// says: log, participants, listeners, and what signals do to them.
package standalone

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/cmd/assent/config"
	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant/remote"
	"github.com/assent-tm/assent/wal/bolt"
)

// Options say what is run.
type Options struct {
	Config *config.Loaded
	// Version is that of the program.
	Version string
	// Reload reads the configuration again, at a value from Hangup. Both may be nil.
	Reload func() (*config.Loaded, error)
	Hangup <-chan os.Signal
	// Stderr gets the log, and a line for each listener.
	Stderr io.Writer
	// Ready is called once everything is served; nil for nothing.
	Ready func(Addresses)
}

// Addresses are where the listeners are, as URLs.
type Addresses struct{ API, Admin string }

// site is what runs, in the order in which it is opened.
type site struct {
	config    *config.Loaded
	version   string
	logger    *zap.Logger
	level     zap.AtomicLevel
	listeners []server.Listener
	addresses Addresses
	store     *bolt.Store
	hub       *remote.Hub
	dtm       *coordinator.DTM
	server    *server.Server
}

// Run serves until ctx ends. Then it drains: nothing new begins, and what runs may
// finish, for as long as timeouts.drain says; what is undecided then is rolled back, and
// what is decided is told after the next start. It returns nil if that was in order. If
// the log fails, it stops at once and says so: a new start recovers.
func Run(ctx context.Context, o Options) (err error) {
	s := &site{config: o.Config, version: o.Version}
	s.logger, s.level = newLogger(o.Config.Logging, o.Stderr)
	defer func() { err = errors.Join(err, s.close(ctx)) }()
	if err := s.open(ctx); err != nil {
		return err
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	served := make(chan error, 1)
	listeners := s.listeners
	s.listeners = nil // Serve closes them
	go func() { served <- s.server.Serve(serving, listeners...) }()
	fmt.Fprintf(o.Stderr, "api    %s  gRPC, gRPC-Web and JSON for clients and participants\n", s.addresses.API)
	fmt.Fprintf(o.Stderr, "admin  %s  for operators\n", s.addresses.Admin)
	if o.Ready != nil {
		o.Ready(s.addresses)
	}
	err = s.untilEnd(ctx, o, served)
	if err == nil {
		err = s.drain(ctx)
	}
	err = errors.Join(err, s.end(ctx))
	stop()
	if e := <-served; !errors.Is(err, e) {
		err = errors.Join(err, e)
	}
	return err
}

// open makes everything ready. Addresses come first: who starts it twice finds that out
// before the log is touched.
func (s *site) open(ctx context.Context) (err error) {
	c := s.config
	if err := s.listen(ctx); err != nil {
		return err
	}
	if s.hub, err = remote.NewHub(remote.HubConfig{Domain: c.Domain, MaxStreams: c.Limits.Streams}); err != nil {
		return err
	}
	participants, err := s.participants()
	if err != nil {
		return err
	}
	var auth *server.Auth
	if c.Auth.TokensFile != "" {
		if auth, err = server.OpenAuth(c.Auth.TokensFile, s.logger); err != nil {
			return err
		}
	}
	feed := coordinator.NewFeed(c.Limits.Events)
	if s.store, err = bolt.Open(c.Log.Path, &bolt.Options{Logger: s.logger}); err != nil {
		return err
	}
	s.dtm, err = coordinator.Open(ctx, coordinator.Config{
		Domain: c.Domain, Store: s.store, Participants: participants, Logger: s.logger, Trace: feed.Trace(),
		Timeout: c.Timeouts.Transaction, CallTimeout: c.Timeouts.Call, CommitWait: orNever(c.Timeouts.CommitWait),
		RetryMin: c.Timeouts.RetryMin, RetryMax: c.Timeouts.RetryMax, SweepInterval: c.Timeouts.Sweep,
		Retention: c.Timeouts.Retention, RetainBytes: int64(c.Limits.RetainedMB) << 20,
		MaxOpen: c.Limits.Open, MaxOpenPerOwner: c.Limits.OpenPerOwner, MaxParticipants: c.Limits.Participants, MaxUndelivered: c.Limits.Undelivered, MaxInFlight: c.Limits.InFlight,
	})
	if err != nil {
		return err
	}
	s.server, err = server.New(server.Config{
		DTM: s.dtm, Feed: feed, Version: s.version, LogPath: c.Log.Path, Kinds: s.kinds(), Hub: s.hub, Logger: s.logger, Auth: auth, AllowInsecure: c.API.AllowInsecure,
		MaxConnections: c.Limits.Connections, MaxCalls: c.Limits.Calls, MaxStreams: c.Limits.Streams,
		PeerTimeout: c.Timeouts.Peer, MaxTimeout: c.Timeouts.MaxTransaction,
	})
	if err != nil {
		return err
	}
	s.listeners[0].Handler, s.listeners[1].Handler = s.server.API(), s.server.Admin()
	return nil
}

// orNever is what coordinator.Config calls no time at all.
func orNever(d time.Duration) time.Duration {
	if d == 0 {
		return -1
	}
	return d
}

func (s *site) listen(ctx context.Context) error {
	for _, l := range []struct {
		key, address string
		tls          config.TLS
		url          *string
	}{
		{"api.listen", s.config.API.Listen, s.config.API.TLS, &s.addresses.API},
		{"admin.listen", s.config.Admin.Listen, s.config.Admin.TLS, &s.addresses.Admin},
	} {
		var listener server.Listener
		var err error
		scheme := "http://"
		if l.tls.Given() {
			scheme = "https://"
			if listener.TLS, err = server.OpenTLS(l.tls.Files(), s.logger); err != nil {
				return fmt.Errorf("%s: %w", l.key, err)
			}
		}
		if listener.Net, err = new(net.ListenConfig).Listen(ctx, "tcp", l.address); err != nil {
			return fmt.Errorf("%s: %w; is another server running there? give another address with --%s", l.key, err, config.Flag(l.key))
		}
		s.listeners = append(s.listeners, listener)
		*l.url = scheme + listener.Net.Addr().String()
	}
	return nil
}

// untilEnd returns nil when the server is to drain.
func (s *site) untilEnd(ctx context.Context, o Options, served chan error) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-served:
			served <- err
			return fmt.Errorf("a listener failed: %w", err)
		case <-s.dtm.Failed():
			return fmt.Errorf("the log failed: start the server again, which recovers: %w", s.dtm.Err())
		case <-o.Hangup:
			s.reload(o.Reload)
		}
	}
}

// drain lets what runs finish.
func (s *site) drain(ctx context.Context) error {
	s.logger.Info("draining: nothing new begins; a second signal stops at once, which is safe", zap.Duration("at_most", s.config.Timeouts.Drain))
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Timeouts.Drain)
	defer cancel()
	if err := s.server.Drain(limit); err != nil {
		s.logger.Warn("drained in part: what is undecided is rolled back", zap.Error(err))
	}
	return nil
}

// closeLimit is when participants have answered the calls that are under way when
// everything has been drained, or will not. What they do not answer is told after the
// restart.
func (s *site) closeLimit(ctx context.Context) (context.Context, context.CancelFunc) {
	const margin = 5 * time.Second
	return context.WithTimeout(context.WithoutCancel(ctx), s.config.Timeouts.Call+margin)
}

// end closes the coordinator and what needs its listeners to say goodbye.
func (s *site) end(ctx context.Context) error {
	limit, cancel := s.closeLimit(ctx)
	defer cancel()
	err := s.dtm.Close(limit)
	s.dtm = nil
	if hubErr := s.hub.Close(limit); hubErr != nil {
		s.logger.Warn("participants that are attached were cut off", zap.Error(hubErr))
	}
	s.hub = nil
	return err
}

// close undoes what of open has not been undone.
func (s *site) close(ctx context.Context) (err error) {
	for _, l := range s.listeners {
		err = errors.Join(err, l.Net.Close())
	}
	limit, cancel := s.closeLimit(ctx)
	defer cancel()
	if s.dtm != nil {
		err = errors.Join(err, s.dtm.Close(limit))
	}
	if s.hub != nil {
		err = errors.Join(err, s.hub.Close(limit))
	}
	if s.store != nil {
		err = errors.Join(err, s.store.Close())
	}
	return err
}

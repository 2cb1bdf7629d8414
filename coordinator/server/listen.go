package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// How long and how much of everything a peer may take (R12).
const (
	headerTimeout  = 10 * time.Second
	idleTimeout    = 2 * time.Minute
	pingInterval   = 30 * time.Second
	pingTimeout    = 15 * time.Second
	maxHeaderBytes = 64 << 10
	maxConnStreams = 10_000
	// maxFrame is the smallest there is in HTTP/2: clients keep a buffer as large for
	// each stream.
	maxFrame = 16 << 10
	// shutdownTimeout is how long answers that are ready may take to get through.
	shutdownTimeout = 5 * time.Second
)

// Listener is a place where a handler is served.
type Listener struct {
	// Net is listened on, and closed by Serve.
	Net net.Listener
	// TLS is how; nil for plain text, see Config.AllowInsecure.
	TLS *tls.Config
	// Handler is API or Admin, or what holds them.
	Handler http.Handler
}

// Serve serves the listeners until ctx ends, and closes them. Then streams are ended
// and answers that are ready get a few seconds: to let transactions finish first, call
// Drain before. It returns nil when ctx ended, and an error when a listener failed or
// is not safe.
func (s *Server) Serve(ctx context.Context, listeners ...Listener) error {
	for _, l := range listeners {
		if err := s.safe(l); err != nil {
			closeAll(listeners)
			return fmt.Errorf("serve: %w", err)
		}
	}
	var serving sync.WaitGroup
	failed := make(chan error, len(listeners))
	servers := make([]*http.Server, 0, len(listeners))
	for _, l := range listeners {
		server := s.httpServer(l)
		servers = append(servers, server)
		serving.Go(func() {
			err := serveOne(server, l)
			if !errors.Is(err, http.ErrServerClosed) {
				failed <- fmt.Errorf("serve %s: %w", l.Net.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.Close()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	for _, server := range servers {
		if server.Shutdown(stop) != nil {
			_ = server.Close()
		}
	}
	serving.Wait()
	select { // nobody waits for these any more, but they are ours
	case <-s.calls.none():
	case <-stop.Done():
	}
	return err
}

func closeAll(listeners []Listener) {
	for _, l := range listeners {
		_ = l.Net.Close()
	}
}

func serveOne(server *http.Server, l Listener) error {
	if l.TLS != nil {
		return server.ServeTLS(l.Net, "", "")
	}
	return server.Serve(l.Net)
}

func (s *Server) httpServer(l Listener) *http.Server {
	var open atomic.Int64 // of this listener: clients can't keep operators out
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true) // gRPC without TLS, on loopback
	return &http.Server{
		Handler:           l.Handler,
		TLSConfig:         l.TLS,
		Protocols:         protocols,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxConnStreams,
			MaxReadFrameSize:     maxFrame,
			SendPingTimeout:      pingInterval,
			PingTimeout:          pingTimeout,
			WriteByteTimeout:     pingInterval,
		},
		ErrorLog: s.stdLog(),
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				if open.Add(1) > int64(s.config.MaxConnections) {
					_ = c.Close()
				}
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			case http.StateActive, http.StateIdle:
			}
		},
	}
}

// stdLog gets what net/http complains of.
func (s *Server) stdLog() *log.Logger {
	logger, err := zap.NewStdLogAt(s.logger, zap.WarnLevel)
	if err != nil { // of a level that zap does not have
		panic(err)
	}
	return logger
}

// safe refuses what would let anybody in the network decide transactions.
func (s *Server) safe(l Listener) error {
	address := l.Net.Addr()
	switch {
	case s.config.AllowInsecure, onlyHere(address):
		return nil
	case l.TLS == nil:
		return fmt.Errorf("%s is not a loopback address and has no TLS: give Listener.TLS, or listen on 127.0.0.1", address)
	case s.config.Auth == nil:
		return fmt.Errorf("%s is not a loopback address and nobody is asked who he is: give Config.Auth, or listen on 127.0.0.1", address)
	default:
		return nil
	}
}

// onlyHere reports whether an address is reached from this machine alone.
func onlyHere(address net.Addr) bool {
	switch a := address.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	default:
		return false
	}
}

package bench

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/client"
	"github.com/assent-tm/assent/coordinator/server"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/remote"
)

// The parts of a measurement of the server.
const (
	roleServer   = "server"
	roleServices = "services"
)

// Participants that do nothing: two that the server calls over HTTP, and two that
// attach to it.
var (
	calledNames   = []string{"http_a", "http_b"}
	attachedNames = []string{"stream_a", "stream_b"}
)

// serverRole is the standalone server: a coordinator with its log, listening on
// loopback.
type serverRole struct {
	assent *assent
	hub    *remote.Hub
	stop   context.CancelFunc
	served chan error
	url    string
}

func (r *serverRole) do(ctx context.Context, o order) (report, error) {
	if r.assent == nil {
		if err := r.open(ctx, o); err != nil {
			return report{}, err
		}
	}
	fdatasyncs, err := r.assent.fdatasyncs()
	return report{URL: r.url, Fdatasyncs: fdatasyncs}, err
}

func (r *serverRole) open(ctx context.Context, o order) (err error) {
	if r.hub, err = remote.NewHub(remote.HubConfig{Domain: "bench"}); err != nil {
		return err
	}
	var all []participant.Participant
	for _, name := range calledNames {
		p, err := remote.NewHTTP(remote.HTTPConfig{Name: name, URL: o.Services + "/" + name})
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	for _, name := range attachedNames {
		p, err := r.hub.Participant(name, false, false)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	r.assent, err = openAssent(ctx, o.Dir, func(c *coordinator.Config) {
		// A transaction has ended when all have acknowledged, however busy the machine is.
		c.Participants, c.CommitWait = all, time.Minute
	})
	if err != nil {
		return err
	}
	s, err := server.New(server.Config{DTM: r.assent.dtm, Hub: r.hub, Logger: warnings()})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.url = "http://" + listener.Addr().String()
	ctx, r.stop = context.WithCancel(ctx)
	r.served = make(chan error, 1)
	go func() { r.served <- s.Serve(ctx, server.Listener{Net: listener, Handler: s.API()}) }()
	return nil
}

func (r *serverRole) close(ctx context.Context) (err error) {
	if r.assent != nil {
		err = r.assent.close(ctx)
	}
	if r.hub != nil {
		err = errors.Join(err, r.hub.Close(ctx))
	}
	if r.stop != nil {
		r.stop()
		err = errors.Join(err, <-r.served)
	}
	return err
}

// servicesRole is the services that take part.
type servicesRole struct {
	http     *http.Server
	served   chan error
	url      string
	client   *client.Client
	detach   context.CancelFunc
	attached sync.WaitGroup
}

func (r *servicesRole) do(ctx context.Context, o order) (report, error) {
	if r.http == nil {
		if err := r.listen(); err != nil {
			return report{}, err
		}
	}
	if o.Attach != "" {
		if err := r.attach(ctx, o.Attach); err != nil {
			return report{}, err
		}
	}
	return report{URL: r.url}, nil
}

func (r *servicesRole) listen() error {
	mux := http.NewServeMux()
	for _, name := range calledNames {
		handler, err := remote.Handler(idle(name), remote.HandlerConfig{Unsigned: true})
		if err != nil {
			return err
		}
		mux.Handle("/"+name+"/", http.StripPrefix("/"+name, handler))
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	r.url = "http://" + listener.Addr().String()
	r.http, r.served = &http.Server{Handler: mux}, make(chan error, 1) //nolint:gosec // its only client is ours
	go func() { r.served <- r.http.Serve(listener) }()
	return nil
}

// attach returns when both participants are attached.
func (r *servicesRole) attach(ctx context.Context, url string) (err error) {
	there := make(chan error, 2*len(attachedNames))
	r.client, err = client.New(client.Config{URL: url, OnAttached: func(string) {
		select {
		case there <- nil:
		default: // once more
		}
	}})
	if err != nil {
		return err
	}
	ctx, r.detach = context.WithCancel(ctx)
	for _, name := range attachedNames {
		r.attached.Go(func() {
			if err := r.client.ServeParticipant(ctx, idle(name)); err != nil {
				there <- err
			}
		})
	}
	for range attachedNames {
		if err := <-there; err != nil {
			return err
		}
	}
	return nil
}

func (r *servicesRole) close(ctx context.Context) (err error) {
	if r.client != nil {
		r.detach()
		r.attached.Wait()
		err = r.client.Close()
	}
	if r.http != nil {
		err = errors.Join(err, r.http.Shutdown(ctx))
		if served := <-r.served; !errors.Is(served, http.ErrServerClosed) {
			err = errors.Join(err, served)
		}
	}
	return err
}

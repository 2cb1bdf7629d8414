package server

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect/v2"

	healthv1 "github.com/assent-tm/assent/coordinator/api/grpc/health/v1"
	"github.com/assent-tm/assent/coordinator/api/grpc/health/v1/healthv1connect"
)

// unready says why the server is not to be sent new work; "" if it is. What is said is
// for everybody. That participants are down does not count: others are up.
func (s *Server) unready() string {
	if s.draining.Load() || s.life.Err() != nil {
		return "draining"
	}
	if s.dtm.Err() != nil {
		return "the log failed, or the coordinator is closed"
	}
	return ""
}

func (s *Server) mountHealth(mux *http.ServeMux) {
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if why := s.unready(); why != "" {
			say(w, http.StatusServiceUnavailable, why)
			return
		}
		say(w, http.StatusOK, "ok")
	})
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = fmt.Fprintln(w, text) // to a reader who may have left
}

// health is grpc.health.v1.Health. The server has one state; services are not told
// apart.
type health struct{ s *Server }

var _ healthv1connect.HealthHandler = health{}

func (h health) Check(_ context.Context, _ *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	return h.state(), nil
}

func (h health) state() *healthv1.HealthCheckResponse {
	if h.s.unready() != "" {
		return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}
}

// Watch sends the state, and again when it changes: that is once.
func (h health) Watch(ctx context.Context, _ *healthv1.HealthCheckRequest, stream healthv1connect.HealthWatchServerStream) error {
	for {
		state := h.state()
		if err := stream.Send(state); err != nil {
			return err
		}
		if state.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			return connect.NewError(connect.CodeUnavailable, "the server drains")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-h.s.life.Done():
		case <-h.s.drained:
		case <-h.s.dtm.Failed():
		}
	}
}

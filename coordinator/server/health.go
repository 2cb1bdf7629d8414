package server

import (
	"context"
	"fmt"
	"net/http"

	"connectrpc.com/connect/v2"

	"github.com/assent-tm/assent/coordinator"
	healthv1 "github.com/assent-tm/assent/coordinator/api/assent/health/v1"
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

// The procedures of grpc.health.v1.Health.
const (
	healthCheck = "/grpc.health.v1.Health/Check"
	healthWatch = "/grpc.health.v1.Health/Watch"
)

// registerHealth adds grpc.health.v1.Health. The server has one state; services are not
// told apart.
func (s *Server) registerHealth(rpc *connect.Server) {
	rpc.Register(
		connect.Method{Spec: connect.Spec{StreamType: connect.StreamTypeUnary, Procedure: healthCheck}, Handler: s.checkHealth},
		connect.Method{Spec: connect.Spec{StreamType: connect.StreamTypeServer, Procedure: healthWatch}, Handler: s.watchHealth},
	)
}

func (s *Server) checkHealth(_ context.Context, _ connect.Spec, stream connect.ServerStream) error {
	var request healthv1.HealthCheckRequest
	if err := stream.Receive(&request); err != nil {
		return err
	}
	return stream.Send(s.health())
}

func (s *Server) health() *healthv1.HealthCheckResponse {
	if s.unready() != "" {
		return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}
}

// watchHealth sends the state, and again when it changes: that is once.
func (s *Server) watchHealth(ctx context.Context, _ connect.Spec, stream connect.ServerStream) error {
	var request healthv1.HealthCheckRequest
	if err := stream.Receive(&request); err != nil {
		return err
	}
	for {
		state := s.health()
		if err := stream.Send(state); err != nil {
			return err
		}
		if state.GetStatus() != healthv1.HealthCheckResponse_SERVING {
			return failed("", coordinator.ErrClosed).status()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.life.Done():
		case <-s.drained:
		case <-s.dtm.Failed():
		}
	}
}

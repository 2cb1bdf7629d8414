package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	"connectrpc.com/grpcreflect/v2"
	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant/remote"
)

// Defaults of Config.
const (
	DefaultMaxTimeout     = time.Hour
	DefaultPeerTimeout    = 10 * time.Second
	DefaultMaxConnections = 20_000
	DefaultMaxCalls       = 20_000
	DefaultMaxStreams     = 20_000
	DefaultMaxInFlight    = 1024
)

// Config says what is served, and to whom. The zero value of an optional field means
// its default.
type Config struct {
	// DTM does the work. The caller closes it, after Server.Drain.
	DTM *coordinator.DTM
	// Feed is what Watch and the events tell of: its Trace has to be in the DTM's
	// Config. nil: they are not served.
	Feed *coordinator.Feed
	// Hub has the participants that instances attach to; nil for none. The caller
	// closes it once the DTM is closed, and before Serve ends.
	Hub *remote.Hub
	// Version, LogPath and the Kinds of participants by name (http, grpc or stream; go
	// for those without) are what Status tells.
	Version, LogPath string
	Kinds            map[string]string
	// Logger gets what an operator wants to know; nil for silence.
	Logger *zap.Logger

	// Auth says who may call; nil for everybody, as an admin, on loopback only.
	Auth *Auth
	// AllowInsecure lets Serve listen on any address without TLS and Auth: for
	// networks in which somebody else sees to it who may reach the server.
	AllowInsecure bool

	// MaxConnections is the number of connections of a listener at a time; one more is
	// closed at once (R12). Default 20,000.
	MaxConnections int
	// MaxCalls is the number of calls under way at a time, besides streams, and that of
	// calls which only viewers and operators may make (R12). Default 20,000.
	MaxCalls int
	// MaxStreams is the number of streams at a time, and that of participants' streams
	// (R12). Default 20,000.
	MaxStreams int
	// PeerTimeout is how long a caller may take to send a request, and to take each
	// part of the answer. Default 10 s.
	PeerTimeout time.Duration
	// MaxInFlight is the number of unanswered requests of one Session; it reads no
	// more until some are answered (R12). Default 1024.
	MaxInFlight int
	// MaxTimeout bounds the timeout that a caller may ask for. Default 1 h.
	MaxTimeout time.Duration
}

func (c *Config) validate() error {
	if c.DTM == nil {
		return errors.New("Config.DTM: nil: open one with coordinator.Open")
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return errors.Join(
		positive(&c.PeerTimeout, DefaultPeerTimeout, "Config.PeerTimeout"),
		positive(&c.MaxTimeout, DefaultMaxTimeout, "Config.MaxTimeout"),
		positive(&c.MaxConnections, DefaultMaxConnections, "Config.MaxConnections"),
		positive(&c.MaxCalls, DefaultMaxCalls, "Config.MaxCalls"),
		positive(&c.MaxStreams, DefaultMaxStreams, "Config.MaxStreams"),
		positive(&c.MaxInFlight, DefaultMaxInFlight, "Config.MaxInFlight"),
	)
}

// positive sets a field's default and refuses a negative value.
func positive[T int | time.Duration](field *T, byDefault T, name string) error {
	if *field == 0 {
		*field = byDefault
	}
	if *field < 0 {
		return fmt.Errorf("%s: %v is negative", name, *field)
	}
	return nil
}

// Server serves a coordinator. Make one with New. Safe for concurrent use.
type Server struct {
	config Config
	dtm    *coordinator.DTM
	logger *zap.Logger

	heartbeat time.Duration

	life     context.Context // of streams
	end      context.CancelFunc
	draining atomic.Bool
	stopNew  sync.Once
	drained  chan struct{} // closed when draining begins
	calls    calls         // methods that return when they have an answer
	streams  calls         // methods that last
	attached calls         // streams of participants: clients can't keep them out
	operate  calls         // methods of viewers and operators: clients can't keep them out
}

// New returns a server for an open coordinator. It listens nowhere yet; see Serve, or
// mount API and Admin elsewhere.
func New(config Config) (*Server, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("make server: %w", err)
	}
	s := &Server{config: config, dtm: config.DTM, logger: config.Logger, heartbeat: heartbeat, drained: make(chan struct{})}
	s.life, s.end = context.WithCancel(context.Background())
	s.calls.max, s.calls.bound = config.MaxCalls, "Config.MaxCalls"
	s.attached.max, s.attached.bound = config.MaxStreams, "Config.MaxStreams"
	s.operate.max, s.operate.bound = config.MaxCalls, "Config.MaxCalls"
	s.streams.max, s.streams.bound = config.MaxStreams, "Config.MaxStreams"
	return s, nil
}

// API returns what clients and participants call: TransactionService and
// AttachmentService as gRPC, gRPC-Web and JSON, grpc.health.v1 and reflection, /livez
// and /readyz. It is for a server that speaks HTTP/1.1 and HTTP/2.
func (s *Server) API() http.Handler { return s.handler(s.rpcs()) }

// Admin returns what operators call, and all of API. It is best served on loopback.
func (s *Server) Admin() http.Handler { return s.handler(s.adminRPCs()) }

func (s *Server) rpcs() *connect.Server {
	rpc := connect.NewServer(s.intercept)
	s.register(rpc)
	reflect(rpc, assentv1connect.TransactionServiceName, assentv1connect.AttachmentServiceName)
	return rpc
}

func (s *Server) adminRPCs() *connect.Server {
	rpc := connect.NewServer(s.intercept)
	s.register(rpc)
	assentv1connect.RegisterAdminServiceHandler(rpc, admin{s: s})
	reflect(rpc, assentv1connect.TransactionServiceName, assentv1connect.AttachmentServiceName, assentv1connect.AdminServiceName)
	return rpc
}

// reflect lets tools ask what these services are like.
func reflect(rpc *connect.Server, services ...string) {
	grpcreflect.Register(rpc, grpcreflect.WithNamer(grpcreflect.NamerFunc(func() []string { return services })))
}

func (s *Server) register(rpc *connect.Server) {
	assentv1connect.RegisterTransactionServiceHandler(rpc, transactions{s: s})
	assentv1connect.RegisterAttachmentServiceHandler(rpc, attachments{s: s})
	s.registerHealth(rpc)
}

// handler serves methods and what else there is, with the guards in front.
func (s *Server) handler(rpc *connect.Server) http.Handler {
	mux := http.NewServeMux()
	s.mountHealth(mux)
	mux.HandleFunc(eventsPattern, s.events)
	connecthttp.Mount(mux, rpc, wire()...)
	streams := map[string]bool{}
	for spec := range rpc.Specs() {
		if spec.StreamType&connect.StreamTypeClient != 0 {
			streams[spec.Procedure] = true
		}
	}
	return s.guarded(s.patient(typed(mux), streams))
}

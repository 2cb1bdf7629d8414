package client

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/api/assent/v1/assentv1connect"
	"github.com/assent-tm/assent/participant"
)

// Config says which server a Client asks, and how. Zero values mean the defaults.
type Config struct {
	// URL is the server's, https://host:port or http://host:port. Required. Plain http
	// goes to loopback only, unless AllowInsecure is true.
	URL           string
	AllowInsecure bool
	// Token is what the server knows the client by, if not by a certificate.
	Token string
	// TLS is used for https: its certificates, and whom it trusts. Nil for the system's.
	TLS *tls.Config
	// HTTPClient makes the requests in place of the Client's own, TLS aside; it has to
	// speak HTTP/2.
	HTTPClient *http.Client

	// Session sends what belongs to transactions over one stream, many requests in a
	// message. It is far cheaper when many transactions run at a time.
	Session bool
	// MaxInFlight is the number of unanswered requests of a session; one more is
	// coordinator.ErrLimit. DefaultMaxInFlight.
	MaxInFlight int

	// Timeout is how long a transaction may stay undecided, unless WithTimeout says
	// otherwise. coordinator.DefaultTimeout.
	Timeout time.Duration
	// Patience is how long a call is repeated when the server can't be reached, for
	// calls other than Commit, which is repeated until its context ends, and Submit.
	// DefaultPatience; negative for not at all.
	Patience time.Duration

	// Instance tells this process from others that serve the same participants; it is
	// the same on each connection. Random if empty.
	Instance string
	// OnAttached, if set, is called each time a participant's stream is attached, OnLost
	// each time it is lost or can't be opened. For one participant they are not called
	// concurrently.
	OnAttached func(participant string)
	OnLost     func(participant string, err error)
}

// Defaults of Config.
const (
	DefaultMaxInFlight = 16_384
	DefaultPatience    = 5 * time.Second
)

func (c *Config) validate() error {
	if c.MaxInFlight < 0 || c.Timeout < 0 {
		return fmt.Errorf("Config: MaxInFlight %d and Timeout %s must not be negative", c.MaxInFlight, c.Timeout)
	}
	if c.MaxInFlight == 0 {
		c.MaxInFlight = DefaultMaxInFlight
	}
	if c.Timeout == 0 {
		c.Timeout = coordinator.DefaultTimeout
	}
	if c.Patience == 0 {
		c.Patience = DefaultPatience
	}
	if c.Instance == "" {
		c.Instance = rand.Text()
	}
	if participant.ValidName(c.Instance) != nil {
		return fmt.Errorf("Config.Instance: %q is not 1 to %d characters of A-Z, a-z, 0-9, '.', '_' and '-'", c.Instance, participant.MaxName)
	}
	return nil
}

// maxAnswer bounds what the server may answer in one message (R12): a list may be long.
const maxAnswer = 64 << 20

// Client asks a server for what an embedded coordinator would do. Make one with New.
// Safe for concurrent use.
type Client struct {
	config      Config
	http        *http.Client
	ownHTTP     bool
	server      assentv1connect.TransactionServiceClient
	attachments assentv1connect.AttachmentServiceClient
	// calls are those of transactions: the server's, or a session's.
	calls   transactionCalls
	session *session // nil without Config.Session

	life context.Context // of everything that the client runs
	end  context.CancelFunc
	all  sync.WaitGroup

	mu     sync.Mutex
	closed bool
	serves map[string]bool // participants
}

var _ coordinator.Manager = (*Client)(nil)

// New returns a client. It connects when it is first used. Close it when it is not
// needed any more.
func New(config Config) (*Client, error) {
	if err := config.validate(); err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	if err := checkURL(config.URL, config.AllowInsecure); err != nil {
		return nil, fmt.Errorf("make client: Config.URL: %w", err)
	}
	c := &Client{config: config, http: config.HTTPClient, serves: make(map[string]bool)}
	if c.http == nil {
		c.http, c.ownHTTP = newHTTPClient(config.TLS), true
	}
	c.life, c.end = context.WithCancel(context.Background())
	// Compression costs more than it saves: messages are small, or made of random ids.
	rpc := connect.NewClient(connecthttp.NewTransport(c.http, config.URL,
		connecthttp.WithGRPC(), connecthttp.WithCompressors(), connecthttp.WithReadMaxBytes(maxAnswer)), c.introduce)
	c.server = assentv1connect.NewTransactionServiceClient(rpc)
	c.attachments = assentv1connect.NewAttachmentServiceClient(rpc)
	c.calls = c.server
	if config.Session {
		c.session = newSession(c)
		c.calls = c.session
	}
	return c, nil
}

// Close ends what the client runs, its session and the streams of its participants
// included, and waits for that. Calls that were made by the session, and later ones,
// return coordinator.ErrClosed, or coordinator.ErrOutcomeUnknown; others go on until
// their contexts end. Transactions are not ended.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.all.Wait()
	if c.ownHTTP {
		c.http.CloseIdleConnections()
	}
	return nil
}

// enter lets a goroutine of the client's, or one that it has to wait for, begin.
func (c *Client) enter() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return errClientClosed
	}
	c.all.Add(1)
	return nil
}

var errClientClosed = fmt.Errorf("%w: the client was", coordinator.ErrClosed)

// ErrUnreachable says that the server could not be reached, or lost the connection
// before it answered.
var ErrUnreachable = errors.New("the server can't be reached")

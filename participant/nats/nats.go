package nats

import (
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/staging"
)

// Defaults of Config.
const (
	DefaultMaxMessages = maxMessages
	DefaultMaxBytes    = staging.DefaultBytes
	DefaultMaxStaged   = staging.DefaultTotal
	// DefaultRetention is as long as a coordinator keeps outcomes, and many times
	// longer than any call lives.
	DefaultRetention    = time.Hour
	DefaultMaxRetention = 30 * 24 * time.Hour
)

const (
	// maxMessages leaves room for the marker: a server takes batches of 1000.
	maxMessages = 999
	// maxBatches are fewer than the 50 that a stream takes: it may have other
	// publishers, and batches that were cut off count for 10 s.
	maxBatches = 32
)

// Config is what New needs. Name, JetStream and Stream are required.
type Config struct {
	// Name is the participant's name, as Participant.Name wants it. Processes with the
	// same Name, Stream and Subject share branches.
	Name string
	// JetStream is the context of the stream's account and domain. Its connection
	// stays the caller's to close, after the coordinator.
	JetStream jetstream.JetStream
	// Stream is where messages are published to.
	Stream string
	// Subject is what the participant's own subjects begin with, "assent." and Name by
	// default. Stream needs the subject Subject + ".branch.>".
	Subject string
	// Staging is the name of the staging stream, "ASSENT_" and Name by default. It
	// belongs to this participant alone.
	Staging string
	// MonitorURLs are the monitoring endpoints of the servers that keep the streams,
	// like "http://10.0.0.1:8222". Check asks them whether they sync always.
	MonitorURLs []string
	// Logger gets what Check warns of. slog.Default() if nil.
	Logger *slog.Logger

	// MaxMessages and MaxBytes bound what one branch may publish, by default 999
	// messages, which is the most, and 1 MiB; the server's max_payload is a bound, too.
	MaxMessages, MaxBytes int
	// MaxStaged bounds the bytes of all sessions of this process that are not
	// prepared yet, by default 256 MiB.
	MaxStaged int

	// Retention is how long a finished branch's marker is kept after Forget. It must be at
	// least the coordinator's Config.Retention: a Prepare that comes after it is
	// taken for a new one, and would be told an outcome that the coordinator still keeps.
	Retention time.Duration
	// MaxRetention is how long the markers of a term are kept after its last one, if
	// Forget is not called for them. A Commit repeated after it is answered with
	// ErrUnknownBranch, so it should be longer than any outage of the coordinator. At
	// least Retention.
	MaxRetention time.Duration
}

// Participant implements participant.Participant, Lister, OnePhaser, Forgetter and
// Checker on a JetStream stream. What a call did is as durable as the server makes an
// acknowledged message. Safe for concurrent use, also by several processes on one
// server.
type Participant struct {
	cfg      Config
	conn     *natsgo.Conn
	sessions *staging.Sessions[message]
	terms    terms
	// batches are the places of batches under way.
	batches chan struct{}
}

var (
	_ participant.Participant = (*Participant)(nil)
	_ participant.Lister      = (*Participant)(nil)
	_ participant.OnePhaser   = (*Participant)(nil)
	_ participant.Forgetter   = (*Participant)(nil)
	_ participant.Checker     = (*Participant)(nil)
)

// New returns the participant that cfg describes. It does not ask the server
// anything: Check does. An error Is participant.ErrInvalidParticipant and says what is
// wrong with cfg.
func New(cfg Config) (*Participant, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	return &Participant{
		cfg:      cfg,
		conn:     cfg.JetStream.Conn(),
		sessions: staging.New[message](cfg.limits()),
		terms:    newTerms(),
		batches:  make(chan struct{}, maxBatches),
	}, nil
}

// Name returns Config.Name.
func (p *Participant) Name() string { return p.cfg.Name }

func (c Config) withDefaults() Config {
	if c.Subject == "" {
		c.Subject = "assent." + c.Name
	}
	if c.Staging == "" {
		c.Staging = "ASSENT_" + c.Name
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.MaxRetention == 0 {
		c.MaxRetention = max(DefaultMaxRetention, c.Retention)
	}
	return c
}

func (c Config) limits() staging.Limits {
	return staging.Limits{
		Items: c.MaxMessages, Bytes: c.MaxBytes, Total: c.MaxStaged, What: "messages", Name: "Config.MaxMessages",
	}.WithDefaults(DefaultMaxMessages)
}

func (c Config) validate() error {
	if err := participant.ValidName(c.Name); err != nil {
		return err
	}
	wrong := c.limits().Wrong(maxMessages, math.MaxInt)
	switch {
	case wrong != "":
	case c.JetStream == nil:
		wrong = "JetStream is nil"
	case !validStreamName(c.Stream):
		wrong = fmt.Sprintf("Stream %q is no name of a stream", c.Stream)
	case !validStreamName(c.Staging):
		wrong = fmt.Sprintf("Staging %q is no name of a stream: give one without '.'", c.Staging)
	case c.Staging == c.Stream:
		wrong = "Staging is Stream: it needs one of its own"
	case wrongSubject(c.Subject) != nil:
		wrong = fmt.Sprintf("Subject: %v", wrongSubject(c.Subject))
	case c.Retention < time.Second || c.MaxRetention < c.Retention:
		wrong = fmt.Sprintf("Retention %s must be at least 1 s and MaxRetention %s at least Retention", c.Retention, c.MaxRetention)
	}
	if wrong != "" {
		return fmt.Errorf("%w: nats %q: %s", participant.ErrInvalidParticipant, c.Name, wrong)
	}
	return nil
}

func validStreamName(name string) bool {
	return name != "" && len(name) <= 255 && !strings.ContainsAny(name, " \t\r\n.*>/\\")
}

// explain says what was being done to which branch.
func (p *Participant) explain(what string, b participant.Branch, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s branch %s of participant %q: %w", what, b.XID(), p.cfg.Name, err)
}

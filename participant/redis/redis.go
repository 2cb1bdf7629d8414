package redis

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/staging"
)

// Defaults of Config.
const (
	DefaultMaxOperations = 1000
	DefaultMaxBytes      = staging.DefaultBytes
	DefaultMaxStaged     = staging.DefaultTotal
	// DefaultRetention is as long as a coordinator keeps outcomes, and many times
	// longer than any call lives.
	DefaultRetention    = time.Hour
	DefaultMaxRetention = 30 * 24 * time.Hour
)

// maxBytes keeps every script and reply far below what Redis and its Lua take.
const maxBytes = 64 << 20

// Config is what New needs. Name and Client are required.
type Config struct {
	// Name is the participant's name, as Participant.Name wants it. It is part of
	// the participant's keys: processes with the same name share branches.
	Name string
	// Client is a *redis.Client or a *redis.ClusterClient with the option
	// ContextTimeoutEnabled, without which calls would outlast their contexts. A call
	// whose context is cancelled before its deadline may take until the client's
	// ReadTimeout. The client stays the caller's to close, after the coordinator.
	Client goredis.UniversalClient
	// HashTag is between the braces of the participant's keys, by default Name. On a
	// cluster the keys of all operations must have it, too.
	HashTag string

	// AllowDataLoss lets Check pass a server that may lose what it acknowledged: one
	// without an append-only file that is fsynced always, or that evicts keys. A
	// transaction may then end half done.
	AllowDataLoss bool
	// Logger gets what Check warns of. slog.Default() if nil.
	Logger *slog.Logger

	// MaxOperations and MaxBytes bound what one branch may stage, by default 1000
	// operations and 1 MiB; MaxBytes at most 64 MiB.
	MaxOperations, MaxBytes int
	// MaxStaged bounds the bytes of all sessions of this process that are not
	// prepared yet, by default 256 MiB.
	MaxStaged int

	// Retention is how long a finished branch is kept after Forget. It must be at least
	// the coordinator's Config.Retention: a Prepare that comes after it is taken
	// for a new one, and would be told an outcome that the coordinator still keeps.
	Retention time.Duration
	// MaxRetention is how long a finished branch is kept if Forget is not called for
	// it. A Commit repeated after it is answered with ErrUnknownBranch, so it should
	// be longer than any outage of the coordinator. At least Retention.
	MaxRetention time.Duration
}

// Participant implements participant.Participant, Lister, OnePhaser, Forgetter and
// Checker on a Redis server. What a call did is as durable as the server makes an
// acknowledged write; Check tells whether that is durable at all. Safe for
// concurrent use, also by several processes on one server.
type Participant struct {
	cfg      Config
	keys     keys
	sessions *staging.Sessions[operation]
	database atomic.Pointer[string]
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
		keys:     newKeys(cfg.HashTag, cfg.Name),
		sessions: staging.New[operation](cfg.limits()),
	}, nil
}

// Name returns Config.Name.
func (p *Participant) Name() string { return p.cfg.Name }

func (c Config) withDefaults() Config {
	if c.HashTag == "" {
		c.HashTag = c.Name
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
		Items: c.MaxOperations, Bytes: c.MaxBytes, Total: c.MaxStaged, What: "operations", Name: "Config.MaxOperations",
	}.WithDefaults(DefaultMaxOperations)
}

func (c Config) validate() error {
	if err := participant.ValidName(c.Name); err != nil {
		return err
	}
	wrong := cmp.Or(wrongClient(c.Client), c.limits().Wrong(maxBytes/operationOverhead, maxBytes))
	switch {
	case wrong != "":
	case strings.ContainsAny(c.HashTag, "{}") || len(c.HashTag) > participant.MaxName:
		wrong = fmt.Sprintf("HashTag %q is longer than %d bytes or has a brace", c.HashTag, participant.MaxName)
	case c.Retention < time.Second || c.MaxRetention < c.Retention:
		wrong = fmt.Sprintf("Retention %s must be at least 1 s and MaxRetention %s at least Retention", c.Retention, c.MaxRetention)
	}
	if wrong != "" {
		return fmt.Errorf("%w: redis %q: %s", participant.ErrInvalidParticipant, c.Name, wrong)
	}
	return nil
}

func wrongClient(client goredis.UniversalClient) string {
	var timeouts bool
	var read time.Duration
	switch client := client.(type) {
	case *goredis.Client:
		if client != nil {
			timeouts, read = client.Options().ContextTimeoutEnabled, client.Options().ReadTimeout
		}
	case *goredis.ClusterClient:
		if client != nil {
			timeouts, read = client.Options().ContextTimeoutEnabled, client.Options().ReadTimeout
		}
	default:
		// A Ring moves keys to other servers when one is down: what is prepared would
		// be looked for where it never was.
		return fmt.Sprintf("Client is a %T: give a *redis.Client or a *redis.ClusterClient", client)
	}
	switch {
	case !timeouts:
		return "Client is nil or lacks the option ContextTimeoutEnabled: set it to true, without it calls outlast their contexts"
	case read <= 0:
		return "Client has no ReadTimeout: set one, without it a call that is cancelled never ends"
	}
	return ""
}

package coordinator

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
)

// Defaults of Config.
const (
	DefaultTimeout         = 30 * time.Second
	DefaultCallTimeout     = 10 * time.Second
	DefaultCommitWait      = time.Second
	DefaultRetryMin        = 50 * time.Millisecond
	DefaultRetryMax        = 30 * time.Second
	DefaultSweepInterval   = 30 * time.Second
	DefaultRetention       = time.Hour
	DefaultRetainBytes     = 64 << 20
	DefaultMaxOpen         = 100_000
	DefaultMaxParticipants = 1000
	DefaultMaxUndelivered  = 100_000
	DefaultMaxInFlight     = 256

	// minRetentions is how many call timeouts an outcome is kept at least.
	minRetentions = 10
)

// Config says how a coordinator works. The zero value of an optional field means
// its default.
type Config struct {
	// Domain names this installation: 1 to 16 characters of a-z, 0-9 and '-'. It
	// is part of every XID; two coordinators with the same domain and different
	// logs must not share a participant.
	Domain string
	// Store holds the log. The caller closes it, after DTM.Close.
	Store wal.Store
	// Participants are registered before recovery begins. A participant that
	// recovery needs and that is missing leaves its branches in doubt until it is
	// registered.
	Participants []participant.Participant
	// Owner says in the log whose it is; by default host and process id.
	Owner string

	// Logger gets what an operator wants to know; nil for silence.
	Logger *zap.Logger
	// Trace gets what happens to transactions; nil for nothing.
	Trace *Trace

	// Timeout is how long a transaction may stay undecided, unless Begin says
	// otherwise. Default 30 s.
	Timeout time.Duration
	// CallTimeout is how long one call of a participant may take. Default 10 s.
	CallTimeout time.Duration
	// CommitWait is how long Commit waits for acknowledgements after the
	// decision. Default 1 s; negative: not at all.
	CommitWait time.Duration
	// RetryMin and RetryMax bound the pause before a call is repeated; in between
	// it is random and doubles on average (R6). Default 50 ms and 30 s.
	RetryMin, RetryMax time.Duration
	// SweepInterval is the pause between two sweeps for orphans. Default 30 s;
	// negative: only the one after Open.
	SweepInterval time.Duration
	// Retention is how long an outcome is kept after every branch has
	// acknowledged (R13): at least 10 CallTimeouts, default 1 h; negative: not at
	// all. RetainBytes bounds the log's bytes kept for it, default 64 MiB, some
	// 300,000 outcomes; beyond it the oldest are forgotten early, but never before
	// 10 CallTimeouts.
	Retention   time.Duration
	RetainBytes int64
	// ForceEveryTransition makes each call return after an fsync of its own
	// record, instead of letting begun and enlisted ride with the next forced write
	// and completed with a later one: Begin, each Enlist and the completion then
	// cost a commit of the log each, two fdatasyncs. A transaction with two branches
	// takes 6 commits in place of 2, all of them on the caller's path; clients that
	// wait at the same time share them as ever. For the completion Commit waits as for
	// acknowledgements, at most CommitWait.
	ForceEveryTransition bool

	// MaxOpen is the number of undecided transactions (R12). Default 100,000.
	MaxOpen int
	// MaxOpenPerOwner is the number of those with the same owner; see WithOwner. 0: as
	// many as MaxOpen.
	MaxOpenPerOwner int
	// MaxParticipants is the number of participants that may be registered (R12).
	// Default 1000.
	MaxParticipants int
	// MaxUndelivered is the number of decided branches a participant may have
	// that did not acknowledge; beyond it the participant can't be enlisted
	// (R12). Default 100,000.
	MaxUndelivered int
	// MaxInFlight is the number of calls that one participant gets at a time; the
	// others queue. Default 256.
	MaxInFlight int
}

// validate sets the defaults and checks the rest.
func (c *Config) validate() error {
	if err := participant.ValidDomain(c.Domain); err != nil {
		return fmt.Errorf("Config.Domain: %w", err)
	}
	if c.Store == nil {
		return errors.New("Config.Store: nil: open one, for example with wal/bolt")
	}
	if err := errors.Join(
		positive(&c.Timeout, DefaultTimeout, "Config.Timeout"),
		positive(&c.CallTimeout, DefaultCallTimeout, "Config.CallTimeout"),
		positive(&c.RetryMin, DefaultRetryMin, "Config.RetryMin"),
		positive(&c.RetryMax, max(DefaultRetryMax, c.RetryMin), "Config.RetryMax"),
		positive(&c.RetainBytes, DefaultRetainBytes, "Config.RetainBytes"),
		positive(&c.MaxOpen, DefaultMaxOpen, "Config.MaxOpen"),
		positive(&c.MaxParticipants, DefaultMaxParticipants, "Config.MaxParticipants"),
		positive(&c.MaxUndelivered, DefaultMaxUndelivered, "Config.MaxUndelivered"),
		positive(&c.MaxInFlight, DefaultMaxInFlight, "Config.MaxInFlight"),
	); err != nil {
		return err
	}
	if c.MaxOpenPerOwner < 0 {
		return fmt.Errorf("Config.MaxOpenPerOwner: %d is negative", c.MaxOpenPerOwner)
	}
	if c.RetryMax < c.RetryMin {
		return fmt.Errorf("Config.RetryMax: %s is below RetryMin, %s", c.RetryMax, c.RetryMin)
	}
	if c.CallTimeout > math.MaxInt64/minRetentions {
		return fmt.Errorf("Config.CallTimeout: %s is above %s: outcomes are kept for %d times as long", c.CallTimeout, time.Duration(math.MaxInt64/minRetentions), minRetentions)
	}
	if c.Retention == 0 {
		c.Retention = max(DefaultRetention, minRetentions*c.CallTimeout)
	}
	if c.Retention > 0 && c.Retention < minRetentions*c.CallTimeout {
		return fmt.Errorf("Config.Retention: %s is below %d call timeouts of %s: a late answer could meet a forgotten outcome", c.Retention, minRetentions, c.CallTimeout)
	}
	c.fill()
	return nil
}

// positive sets a field's default and refuses a negative value.
func positive[T int | int64 | time.Duration](field *T, byDefault T, name string) error {
	if *field == 0 {
		*field = byDefault
	}
	if *field < 0 {
		return fmt.Errorf("%s: %v is negative", name, *field)
	}
	return nil
}

// fill sets the defaults of the fields that may have any value.
func (c *Config) fill() {
	if c.CommitWait == 0 {
		c.CommitWait = DefaultCommitWait
	}
	if c.SweepInterval == 0 {
		c.SweepInterval = DefaultSweepInterval
	}
	if c.SweepInterval < 0 {
		c.SweepInterval = math.MaxInt64
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Trace == nil {
		c.Trace = &Trace{}
	}
	if c.Owner == "" {
		host, _ := os.Hostname()
		c.Owner = fmt.Sprintf("%s:%d", host, os.Getpid())
	}
}

package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"github.com/assent-tm/assent/participant"
)

const (
	// DefaultTable is the name of the witness table if Config gives none.
	DefaultTable = "assent_witness"
	// DefaultMaxSessions is Config.MaxSessions if it is zero.
	DefaultMaxSessions = 64
	// DefaultRetention is Config.Retention if it is zero. It is as long as a
	// coordinator keeps outcomes, and many times longer than any call lives.
	DefaultRetention = time.Hour
	// DefaultMaxRetention is Config.MaxRetention if it is zero.
	DefaultMaxRetention = 30 * 24 * time.Hour

	// ownConns is few: what runs on them is one statement that waits for one fsync.
	// A second one is there so that none waits for a connection that is being made.
	ownConns = 2
	// idleTime is after how long a connection that nobody uses is closed: long
	// before the server's wait_timeout.
	idleTime = 5 * time.Minute
	// ownTime is how long a task without a caller may take.
	ownTime = 10 * time.Second
)

// Config is what New needs. Name and DSN are required.
type Config struct {
	// Name is the participant's name, as Participant.Name wants it.
	Name string
	// DSN is the driver's data source name, with a database. The witness table is
	// in it. The server must be reached directly, or through a proxy that keeps a
	// session on one server connection. What TLS and dialing need beyond it is
	// registered with the driver under a name.
	DSN string

	// Table is the name of the witness table, up to 48 characters of A-Z, a-z, 0-9
	// and '_'. Several participants may share it, and so may several processes of
	// one.
	Table string
	// MaxSessions is the number of branches that have a connection at a time: from
	// Join until their outcome. Join waits for one. Two connections more are for
	// phase two, so that statements which wait for locked rows can't keep it from
	// unlocking them.
	MaxSessions int
	// Retention is how long the row of a finished branch is kept after Forget. It must
	// be longer than any call may be under way: a Prepare that comes after it is not
	// refused any more.
	Retention time.Duration
	// MaxRetention is how long the row is kept if Forget is not called for it. A
	// Commit repeated after it is answered with ErrUnknownBranch, so it should be
	// longer than any outage of the coordinator. At least Retention.
	MaxRetention time.Duration
	// Logger gets what Check warns of, and failures to clean the table up.
	// slog.Default() if nil.
	Logger *slog.Logger
}

// Participant implements participant.Participant, Lister, OnePhaser, Forgetter, Checker
// and Explainer on a MariaDB or MySQL database. Make one with New. Safe for concurrent
// use, also by several processes on one database.
type Participant struct {
	cfg    Config
	driver *driver.Config
	// table is the witness table with its database: a branch may change the current one.
	table string
	work  *sql.DB // the branches' connections
	own   *sql.DB // for phase two of branches without a session here, and all else

	mu       sync.Mutex
	sessions map[participant.TxID]*Session
	// severed are branches whose connection was given up while it was at work, and whose
	// session the server may have yet; each until a rollback has ended that.
	severed map[participant.TxID]struct{}
	closed  bool
	// tasks are the goroutines of the participant; none is added once closed.
	tasks sync.WaitGroup

	pruning pruning
}

var (
	_ participant.Participant = (*Participant)(nil)
	_ participant.Lister      = (*Participant)(nil)
	_ participant.OnePhaser   = (*Participant)(nil)
	_ participant.Forgetter   = (*Participant)(nil)
	_ participant.Checker     = (*Participant)(nil)
	_ participant.Explainer   = (*Participant)(nil)
)

// New returns the participant that cfg describes. It does not connect: a server
// that is down keeps nobody from starting. Check tells whether it is there and
// fit, CreateTable creates the witness table, Close ends the participant.
//
// The error Is participant.ErrInvalidParticipant and says what is wrong with cfg.
func New(cfg Config) (*Participant, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	parsed, err := driver.ParseDSN(cfg.DSN)
	if err == nil && parsed.DBName == "" {
		err = errors.New("it names no database")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: MySQL %q: Config.DSN: %w", participant.ErrInvalidParticipant, cfg.Name, err)
	}
	p := &Participant{cfg: cfg, driver: parsed, table: qualified(parsed.DBName, cfg.Table), sessions: make(map[participant.TxID]*Session), severed: make(map[participant.TxID]struct{})}
	// Inside a branch autocommit has no meaning; what reads the identity outside of
	// one would begin a transaction without it, and XA START be refused.
	if p.work, err = p.open(cfg.MaxSessions, map[string]string{"autocommit": "1"}); err != nil {
		return nil, err
	}
	// A statement waits for a branch's row for a moment only, and then looks who
	// holds it; and a finish that a backup holds up does not pile up in the server.
	p.own, err = p.open(ownConns, map[string]string{"autocommit": "1", "innodb_lock_wait_timeout": "1", "lock_wait_timeout": "5"})
	return p, err
}

// open makes a pool of at most n connections with these settings.
func (p *Participant) open(n int, settings map[string]string) (*sql.DB, error) {
	cfg := p.driver.Clone()
	if cfg.Params == nil {
		cfg.Params = make(map[string]string)
	}
	maps.Copy(cfg.Params, settings)
	cfg.RejectReadOnly = false // it would hide why, and break the connection of a prepared branch
	base, err := driver.NewConnector(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: MySQL %q: Config.DSN: %w", participant.ErrInvalidParticipant, p.cfg.Name, err)
	}
	db := sql.OpenDB(&connector{Connector: base, table: p.table})
	db.SetMaxOpenConns(n)
	db.SetMaxIdleConns(n)
	db.SetConnMaxIdleTime(idleTime)
	return db, nil
}

// Name returns Config.Name.
func (p *Participant) Name() string { return p.cfg.Name }

// Close rolls back what was never prepared, ends the sessions, and waits for what
// is under way. Branches in doubt stay prepared. It is for the time after the
// coordinator was closed.
func (p *Participant) Close() error {
	p.mu.Lock()
	p.closed = true
	var open []*Session
	for _, s := range p.sessions {
		open = append(open, s)
	}
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), ownTime)
	defer cancel()
	for _, s := range open {
		s.end(ctx)
	}
	p.tasks.Wait()
	return errors.Join(p.work.Close(), p.own.Close())
}

// enter counts the caller's goroutine among those that Close waits for; false once
// that has begun. Every true is followed by one tasks.Done.
func (p *Participant) enter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.tasks.Add(1)
	return true
}

func (c Config) withDefaults() Config {
	if c.Table == "" {
		c.Table = DefaultTable
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = DefaultMaxSessions
	}
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.MaxRetention == 0 {
		c.MaxRetention = max(DefaultMaxRetention, c.Retention)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

func (c Config) validate() error {
	if err := participant.ValidName(c.Name); err != nil {
		return err
	}
	wrong := ""
	switch {
	case !validTable(c.Table):
		wrong = fmt.Sprintf("Table %q is not 1 to %d characters of A-Z, a-z, 0-9 and '_', the first no digit", c.Table, maxTableName)
	case c.MaxSessions < 0:
		wrong = fmt.Sprintf("MaxSessions %d is negative", c.MaxSessions)
	case c.Retention < time.Second || c.MaxRetention < c.Retention:
		wrong = fmt.Sprintf("Retention %s must be at least 1 s and MaxRetention %s at least Retention", c.Retention, c.MaxRetention)
	}
	if wrong != "" {
		return fmt.Errorf("%w: MySQL %q: %s", participant.ErrInvalidParticipant, c.Name, wrong)
	}
	return nil
}

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/assent-tm/assent/participant"
)

const (
	// DefaultTable is the name of the witness table if Config gives none.
	DefaultTable = "assent_witness"
	// DefaultRetention is Config.Retention if it is zero. It is as long as a
	// coordinator keeps outcomes, and many times longer than any call lives.
	DefaultRetention = time.Hour
	// DefaultMaxRetention is Config.MaxRetention if it is zero.
	DefaultMaxRetention = 30 * 24 * time.Hour

	maxTableName = 48
	// ownConns is few: what runs on them is one statement that waits for one fsync.
	// A second one is there so that none waits for a connection that is being made.
	ownConns = 2
)

// Config is what New needs. Name and Pool are required.
type Config struct {
	// Name is the participant's name, as Participant.Name wants it.
	Name string
	// Pool is where branches get their connections from. It stays the caller's to
	// close, after Participant.Close. A pool of two connections more is made with
	// its configuration, for all that is not a branch's own work.
	//
	// It connects to a server, or through a proxy that keeps a session on one
	// server connection.
	Pool *pgxpool.Pool

	// Table is the name of the witness table, perhaps with its schema and a '.' in
	// front; "public" otherwise. Both are up to 48 characters of a-z, 0-9 and '_'.
	// Several participants may share it, and so may several processes of one.
	Table string
	// Retention is how long the row of a finished branch is kept after Forget. It must
	// be longer than any call may be under way: a Prepare that comes after it is not
	// refused any more.
	Retention time.Duration
	// MaxRetention is how long the row is kept if Forget is not called for it. A
	// Commit repeated after it is answered with ErrUnknownBranch, so it should be
	// longer than any outage of the coordinator. At least Retention.
	MaxRetention time.Duration
}

// Participant implements participant.Participant, Lister, OnePhaser, Forgetter,
// Checker and Explainer on a PostgreSQL database. Make one with New. Safe for concurrent
// use, also by several processes on one database.
type Participant struct {
	cfg   Config
	table string
	sql   statements
	// witnessName is how connections know the statement for the witness row; "" if
	// they are to have no prepared statements. Others may use the pool with other
	// tables.
	witnessName string

	keepTime time.Duration // the constant, but in tests

	db  *sql.DB       // hands out connections of cfg.Pool
	own *pgxpool.Pool // for phase two and all else that is not a branch's own work
	// role is what the own connections run as, "" if that is a superuser; nil until
	// there was one.
	role atomic.Pointer[string]

	mu       sync.Mutex
	sessions map[participant.TxID]*session
	kept     map[participant.TxID]lease // of branches in doubt
	waiting  int                        // calls of Join that have no connection yet
	closing  bool                       // no session begins any more
	closed   bool                       // no task either
	// tasks are the goroutines of the participant.
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
// fit, CreateTable creates the witness table, Close ends the participant. Of ctx only
// the values are used, as pgxpool.New does.
//
// The error Is participant.ErrInvalidParticipant and says what is wrong with cfg.
func New(ctx context.Context, cfg Config) (*Participant, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	table := qualified(cfg.Table)
	p := &Participant{
		cfg: cfg, table: table, sql: newStatements(table), keepTime: keepTime,
		sessions: make(map[participant.TxID]*session), kept: make(map[participant.TxID]lease),
	}
	if cfg.Pool.Config().ConnConfig.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
		p.witnessName = "assent: witness in " + table
	}
	var err error
	if p.own, err = pgxpool.NewWithConfig(ctx, p.ownConfig()); err != nil {
		return nil, fmt.Errorf("%w: make the own pool of participant %q: %w", participant.ErrInvalidParticipant, cfg.Name, err)
	}
	p.db = stdlib.OpenDBFromPool(cfg.Pool)
	return p, nil
}

// ownSettings hold on the participant's own connections. A statement waits for a
// branch's row for a moment only, and then looks who holds it. READ COMMITTED sees
// what was committed before the latest wait, and leaves no trace that could fail a
// branch that is SERIALIZABLE. A tombstone that a crash may lose is none.
const ownSettings = `SET lock_timeout = '50ms'; SET statement_timeout = 0;
	SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = off;
	SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'`

// ownConfig is for a pool whose connections live as long as they work: when the
// server has none left to give, phase two has its own. What the user's pool does to a
// connection that comes back, as DISCARD ALL, would undo their settings.
func (p *Participant) ownConfig() *pgxpool.Config {
	const forEver = 100 * 365 * 24 * time.Hour
	config := p.cfg.Pool.Config()
	config.AfterRelease = nil
	config.MaxConns, config.MinConns, config.MinIdleConns = ownConns, 0, 0
	config.MaxConnLifetime, config.MaxConnLifetimeJitter, config.MaxConnIdleTime = forEver, 0, forEver
	prepare := config.AfterConnect
	config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
		if prepare != nil {
			if err := prepare(ctx, conn); err != nil {
				return err
			}
		}
		if _, err := conn.Exec(ctx, ownSettings); err != nil {
			return err
		}
		var role string
		err := conn.QueryRow(ctx, "SELECT CASE WHEN rolsuper THEN '' ELSE rolname::text END FROM pg_roles WHERE rolname = current_user").Scan(&role)
		if err == nil {
			p.role.Store(&role)
		}
		return err
	}
	return config
}

// finisher returns the role that finishes branches, "" if it may finish those of all.
func (p *Participant) finisher() string {
	if role := p.role.Load(); role != nil {
		return *role
	}
	return ""
}

// meetFinisher sees to it that finisher knows: a branch is not begun where nothing could
// finish it.
func (p *Participant) meetFinisher(ctx context.Context) error {
	if p.role.Load() != nil {
		return nil
	}
	_, err := onOwnPool(ctx, p, func(context.Context, *pgx.Conn) (struct{}, error) { return struct{}{}, nil })
	return err
}

// Name returns Config.Name.
func (p *Participant) Name() string { return p.cfg.Name }

// Close rolls back what was never prepared, ends the sessions, and waits for
// what is under way. Branches in doubt stay prepared. It is for the time after the
// coordinator was closed.
func (p *Participant) Close() error {
	p.mu.Lock()
	p.closing = true
	open, kept := slices.Collect(maps.Values(p.sessions)), maps.Clone(p.kept)
	p.mu.Unlock()
	for tx, l := range kept {
		p.letGo(tx, l)
	}
	ctx, cancel := context.WithTimeout(context.Background(), ownTime)
	defer cancel()
	for _, s := range open {
		// What can't be told to the server it finds out by itself.
		_ = s.end(ctx, ErrFinished)
	}
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.tasks.Wait()
	p.own.Close()
	return p.db.Close()
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

// ownTime is how long one task on the participant's own pool may take. It is
// longer than the callers wait, and ends what would hold a connection for ever.
const ownTime = 30 * time.Second

// errClosed is not a session's error, and final for none of the callers.
var errClosed = errors.New("the participant is closed")

// onOwnPool runs f on one of the participant's own connections. When ctx ends it
// returns, while f goes on: to break off a statement closes its connection, which
// others wait for, and leaves unknown what became of it. There are never more such
// tasks than connections.
func onOwnPool[T any](ctx context.Context, p *Participant, f func(context.Context, *pgx.Conn) (T, error)) (none T, err error) {
	if !p.enter() {
		return none, errClosed
	}
	conn, err := p.own.Acquire(ctx)
	if err != nil {
		p.tasks.Done()
		return none, err
	}
	type result struct {
		value T
		err   error
	}
	results := make(chan result, 1)
	go func() {
		defer p.tasks.Done()
		own, cancel := context.WithTimeout(context.WithoutCancel(ctx), ownTime)
		defer cancel()
		value, err := f(own, conn.Conn())
		conn.Release()
		results <- result{value, err}
	}()
	select {
	case r := <-results:
		return r.value, r.err
	case <-ctx.Done():
		return none, context.Cause(ctx)
	}
}

func (c Config) withDefaults() Config {
	if c.Table == "" {
		c.Table = DefaultTable
	}
	if c.Retention == 0 {
		c.Retention = DefaultRetention
	}
	if c.MaxRetention == 0 {
		c.MaxRetention = max(DefaultMaxRetention, c.Retention)
	}
	return c
}

func (c Config) validate() error {
	if err := participant.ValidName(c.Name); err != nil {
		return err
	}
	wrong := ""
	switch {
	case c.Pool == nil:
		wrong = "Pool is nil"
	case !validTable(c.Table):
		wrong = fmt.Sprintf("Table %q is not 1 to %d characters of a-z, 0-9 and '_', the first no digit, or two such names and a '.'", c.Table, maxTableName)
	case c.Retention < time.Second || c.MaxRetention < c.Retention:
		wrong = fmt.Sprintf("Retention %s must be at least 1 s and MaxRetention %s at least Retention", c.Retention, c.MaxRetention)
	}
	if wrong != "" {
		return fmt.Errorf("%w: PostgreSQL %q: %s", participant.ErrInvalidParticipant, c.Name, wrong)
	}
	return nil
}

// validTable guards the one part of the statements that is not a parameter.
func validTable(name string) bool {
	schema, table, dotted := strings.Cut(name, ".")
	return validIdentifier(schema) && (!dotted || validIdentifier(table))
}

func validIdentifier(name string) bool {
	valid := name != "" && len(name) <= maxTableName && (name[0] < '0' || name[0] > '9')
	for _, c := range []byte(name) {
		valid = valid && (c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z')
	}
	return valid
}

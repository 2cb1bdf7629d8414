package barrier

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	// DefaultTable is the name of the branch table if Config gives none.
	DefaultTable = "assent_branch"
	// DefaultRetention is Config.Retention if it is zero. It is as long as a
	// coordinator keeps outcomes, and many times longer than any call lives.
	DefaultRetention = time.Hour
	// DefaultMaxRetention is Config.MaxRetention if it is zero.
	DefaultMaxRetention = 30 * 24 * time.Hour

	maxTableName = 48
)

// Func is one of the service's three functions. It works in tx, the local
// transaction of the barrier, with b.Data as given at Enlist. SQLite has one of
// them at a time; in the others it is READ COMMITTED.
//
// All its effects belong in tx: the function may run again after the local
// transaction failed and was rolled back. It returns every error that tx gives,
// wrapped or as it is, since some databases have then ended the transaction
// already, and does not commit or roll back tx itself: the row is looked at after it,
// and the call fails if it is not as it was.
type Func func(ctx context.Context, tx *sql.Tx, b participant.Branch) error

// Config is what New needs. Name, DB, Dialect and the three functions are
// required.
type Config struct {
	// Name is the participant's name, as Participant.Name wants it.
	Name string
	// DB is the service's database; the barrier's tables are in it. It stays the
	// caller's to close, after the coordinator. A function that uses DB instead
	// of its tx may wait for itself.
	DB *sql.DB
	// Dialect is the kind of database behind DB.
	Dialect Dialect

	// Reserve refuses with an error that Is participant.ErrRefused, see Refuse:
	// its effects are undone and the branch is rolled back for good. With any
	// other error the vote is unknown and nothing remains.
	Reserve Func
	// Confirm and Cancel can't refuse, nor decide otherwise. With an error,
	// whatever it Is, their effects are undone and the coordinator calls again,
	// for ever (R6).
	Confirm, Cancel Func

	// Table is the name of the branch table, up to 48 characters of A-Z, a-z, 0-9
	// and '_'; the term table is named Table + "_term". Several participants may
	// share the tables, and so may several processes of one participant.
	Table string
	// SkipSchema keeps New from creating the tables: they were created with the
	// statements of Schema.
	SkipSchema bool
	// Retention is how long a finished branch is kept after Forget. It must be
	// longer than any call may be under way: a Prepare that comes after it is
	// taken for a new one.
	Retention time.Duration
	// MaxRetention is how long a finished branch is kept if Forget is not called
	// for it. A Commit repeated after it is answered with ErrUnknownBranch, so
	// it should be longer than any outage of the coordinator. At least Retention.
	MaxRetention time.Duration
}

// Participant implements participant.Participant, Lister, OnePhaser, Forgetter
// and Checker on a SQL database. What a call did is as durable as the database
// makes a commit; Check tells whether that is durable at all. Safe for
// concurrent use, also by several processes on one database.
type Participant struct {
	cfg   Config
	sql   statements
	calls atomic.Uint64
}

var (
	_ participant.Participant = (*Participant)(nil)
	_ participant.Lister      = (*Participant)(nil)
	_ participant.OnePhaser   = (*Participant)(nil)
	_ participant.Forgetter   = (*Participant)(nil)
	_ participant.Checker     = (*Participant)(nil)
)

// New returns the participant that cfg describes, and creates its tables unless
// they exist. An error that Is participant.ErrInvalidParticipant says what is
// wrong with cfg, one that Is participant.ErrConfig what is wrong with the
// database; any other is the database's. With SkipSchema New asks the database
// nothing, so a program can start while its database is down.
func New(ctx context.Context, cfg Config) (*Participant, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	p := &Participant{cfg: cfg, sql: cfg.Dialect.statements(cfg.Table)}
	if cfg.SkipSchema {
		return p, nil
	}
	err := p.transact(ctx, func(tx *sql.Tx) error {
		if p.sql.lockSchema != "" {
			if _, err := tx.ExecContext(ctx, p.sql.lockSchema); err != nil {
				return err
			}
		}
		for _, statement := range cfg.Dialect.schema(cfg.Table) {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("create the tables of participant %q (SkipSchema if they are there): %w", cfg.Name, err)
	}
	return p, nil
}

// Schema returns the statements that create the tables unless they exist, each
// ended by a semicolon, for those who create tables themselves. In the tables
// since, expires and used are seconds since 1970; a branch in doubt, and only
// that, has expires = 0.
func Schema(d Dialect, table string) string {
	return strings.Join(d.schema(table), ";\n\n") + ";\n"
}

// Refuse returns the error with which Reserve refuses; reason is for the caller
// of Commit to read.
func Refuse(reason string) error {
	return fmt.Errorf("%w: %s", participant.ErrRefused, reason)
}

// Name returns Config.Name.
func (p *Participant) Name() string { return p.cfg.Name }

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
	case c.DB == nil:
		wrong = "DB is nil"
	case c.Dialect == nil:
		wrong = "Dialect is nil"
	case c.Reserve == nil || c.Confirm == nil || c.Cancel == nil:
		wrong = "Reserve, Confirm or Cancel is nil"
	case !validTable(c.Table):
		wrong = fmt.Sprintf("Table %q is not 1 to %d characters of A-Z, a-z, 0-9 and '_', the first no digit", c.Table, maxTableName)
	case c.Retention < time.Second || c.MaxRetention < c.Retention:
		wrong = fmt.Sprintf("Retention %s must be at least 1 s and MaxRetention %s at least Retention", c.Retention, c.MaxRetention)
	}
	if wrong != "" {
		return fmt.Errorf("%w: barrier %q: %s", participant.ErrInvalidParticipant, c.Name, wrong)
	}
	return nil
}

// validTable guards the one part of the statements that is not a parameter.
func validTable(name string) bool {
	valid := name != "" && len(name) <= maxTableName && (name[0] < '0' || name[0] > '9')
	for _, c := range []byte(name) {
		valid = valid && (c == '_' || '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z')
	}
	return valid
}

// explain says what was being done to which branch.
func (p *Participant) explain(what string, b participant.Branch, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s branch %s of participant %q: %w", what, b.XID(), p.cfg.Name, err)
}

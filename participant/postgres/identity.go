package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tm/assent/participant"
)

// identity is of a database: the server's system identifier, which its physical
// copies share, and the oid, which no other database of the server gets.
type identity struct {
	system, database int64
	name             string // for people
}

func (id identity) same(other identity) bool {
	return id.system == other.system && id.database == other.database
}

func (id identity) String() string {
	return fmt.Sprintf("database %q (oid %d, system identifier %d)", id.name, id.database, id.system)
}

// origin is the Data of a branch: where its session is. The process id and start
// of the backend are there for a second process that joins the same transaction:
// its data is another, so the coordinator refuses to take both for one branch.
type origin struct {
	identity
	pid     uint32
	started int64 // µs since 1970
}

const originFields = 5

func (o origin) data() []byte {
	return fmt.Appendf(nil, "%d %d %d %d %s", o.system, o.database, o.pid, o.started, o.name)
}

func parseOrigin(data []byte) (o origin, err error) {
	fields := strings.SplitN(string(data), " ", originFields)
	if len(fields) != originFields {
		return origin{}, fmt.Errorf("%w: data %q is not that of a branch at PostgreSQL", participant.ErrConfig, data)
	}
	var pid int64
	for i, field := range []*int64{&o.system, &o.database, &pid, &o.started} {
		if *field, err = strconv.ParseInt(fields[i], 10, 64); err != nil {
			return origin{}, fmt.Errorf("%w: data %q is not that of a branch at PostgreSQL: %w", participant.ErrConfig, data, err)
		}
	}
	o.pid, o.name = uint32(pid), fields[originFields-1]
	return o, nil
}

// expected returns where the branch is; the zero value if it does not say, as when
// a sweep found it.
func expected(b participant.Branch) (identity, error) {
	if len(b.Data) == 0 {
		return identity{}, nil
	}
	o, err := parseOrigin(b.Data)
	return o.identity, err
}

// mismatch returns an error if what was expected is not what is there: R7's
// "unknown branch" would be said of a database that never had it.
func mismatch(want, got identity) error {
	if want == (identity{}) || want.same(got) {
		return nil
	}
	return fmt.Errorf("%w: the branch is in %s, but the pool connects to %s: point it back, or settle the branch by hand", participant.ErrConfig, want, got)
}

// originKey is where a connection keeps its origin, which is read once for each:
// a connection is to one database for life.
const originKey = "github.com/assent-tm/assent/participant/postgres"

// introduce returns the origin of a connection. The first time it asks the server, and
// has it prepare the statement that ends every branch.
func (p *Participant) introduce(ctx context.Context, conn *pgx.Conn) (origin, error) {
	if p.witnessName != "" {
		// A name that is known already costs nothing.
		if _, err := conn.Prepare(ctx, p.witnessName, p.sql.witness); err != nil {
			return origin{}, fmt.Errorf("prepare the statement for the witness row: %w", err)
		}
	}
	kept := conn.PgConn().CustomData()
	if o, ok := kept[originKey].(origin); ok {
		return o, nil
	}
	if err := p.meetFinisher(ctx); err != nil {
		return origin{}, fmt.Errorf("connect for phase two: %w", err)
	}
	var o origin
	var started *int64
	var role string
	err := conn.QueryRow(ctx, `SELECT `+server+`, current_database()::text, pid, (extract(epoch FROM backend_start) * 1000000)::bigint, current_user::text
		FROM pg_stat_activity WHERE pid = pg_backend_pid()`).Scan(&o.system, &o.database, &o.name, &o.pid, &started, &role)
	if err != nil {
		return origin{}, fmt.Errorf("identify the server: %w", err)
	}
	if started == nil {
		return origin{}, fmt.Errorf("%w: %s", participant.ErrConfig, blindRemedy(role))
	}
	o.started = *started
	kept[originKey] = o
	return o, nil
}

// blindRemedy is for a role that the pool has set, and that does not see nor may end the
// sessions of the one that logs in.
func blindRemedy(role string) string {
	return "the pool's connections SET ROLE to one that may not end their sessions: GRANT pg_read_all_stats, pg_signal_backend TO " +
		pgx.Identifier{role}.Sanitize()
}

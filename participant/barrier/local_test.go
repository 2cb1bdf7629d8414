package barrier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/assent-tm/assent/participant"
)

// releasing is SQLite that lets go of a lock when it was met for the third time.
type releasing struct {
	sqlite
	met     int
	release func()
}

func (r *releasing) retryable(err error) bool {
	retry := r.sqlite.retryable(err)
	if retry {
		if r.met++; r.met == 3 {
			r.release()
		}
	}
	return retry
}

func TestBusyDatabaseRepeatsTheWholeLocalTransaction(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service.db")
	// The later _busy_timeout wins: SQLITE_BUSY comes at once.
	db, err := sql.Open("sqlite", SQLiteDSN(path)+"&_timeout=0")
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	dialect := &releasing{}
	p, err := New(t.Context(), Config{Name: "service", DB: db, Dialect: dialect, Reserve: none, Confirm: none, Cancel: none})
	require.NoError(t, err)
	require.Zero(t, dialect.met)

	other, err := db.Begin() // immediate: the one writer
	require.NoError(t, err)
	dialect.release = func() { require.NoError(t, other.Rollback()) }
	vote, err := p.Prepare(t.Context(), participant.Branch{Domain: "orders", Tx: participant.TxID{Term: participant.NewTerm(1, 1)}})
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	require.Equal(t, 3, dialect.met)
}

// counting is SQLite that counts the local transactions to repeat.
type counting struct {
	sqlite
	met atomic.Int64
}

func (c *counting) retryable(err error) bool {
	retry := c.sqlite.retryable(err)
	if retry {
		c.met.Add(1)
	}
	return retry
}

func TestWritersWaitInTurnWithoutTheSettingToo(t *testing.T) {
	dsn := strings.Replace(SQLiteDSN(filepath.Join(t.TempDir(), "service.db")), "_txlock=immediate", "_txlock=deferred", 1)
	db, err := sql.Open("sqlite", dsn)
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	db.SetMaxIdleConns(4)
	dialect := &counting{}
	p, err := New(t.Context(), Config{Name: "service", DB: db, Dialect: dialect, Reserve: none, Confirm: none, Cancel: none})
	require.NoError(t, err)

	var wg sync.WaitGroup
	for number := range 4 {
		wg.Go(func() {
			for term := range uint32(50) {
				b := participant.Branch{Domain: "orders", Tx: participant.TxID{Term: participant.NewTerm(term+1, 1)}, Number: number}
				if err := p.CommitOnePhase(t.Context(), b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	require.Zero(t, dialect.met.Load())
}

func none(context.Context, *sql.Tx, participant.Branch) error { return nil }

type codeError int

func (e codeError) Error() string { return fmt.Sprintf("code %d", int(e)) }
func (e codeError) Code() int     { return int(e) }

func TestRetryableErrors(t *testing.T) {
	pg := func(code string) error { return &pgconn.PgError{Code: code} }
	maria := func(number uint16) error { return &mysql.MySQLError{Number: number} }
	for _, test := range []struct {
		dialect Dialect
		err     error
		want    bool
	}{
		{SQLite, codeError(5), true},                          // SQLITE_BUSY
		{SQLite, codeError(517), true},                        // SQLITE_BUSY_SNAPSHOT
		{SQLite, codeError(262), true},                        // SQLITE_LOCKED_SHAREDCACHE
		{SQLite, codeError(19), false},                        // SQLITE_CONSTRAINT
		{SQLite, codeError(13), false},                        // SQLITE_FULL
		{SQLite, errors.New("database is locked (5)"), false}, // nobody's word
		{Postgres, pg("40001"), true},                         // serialization_failure
		{Postgres, pg("40P01"), true},                         // deadlock_detected
		{Postgres, pg("23505"), false},                        // unique_violation
		{Postgres, errors.New("ERROR (SQLSTATE 40001)"), false},
		{MariaDB, maria(1020), true},  // ER_CHECKREAD
		{MariaDB, maria(1205), true},  // ER_LOCK_WAIT_TIMEOUT
		{MariaDB, maria(1213), true},  // ER_LOCK_DEADLOCK
		{MariaDB, maria(1062), false}, // ER_DUP_ENTRY
		{MariaDB, mysql.ErrInvalidConn, false},
		{MariaDB, errors.New("Error 1213 (40001)"), false},
	} {
		for _, err := range []error{
			test.err,
			fmt.Errorf("reserve: %w", test.err),
			errors.Join(errNothing, test.err),
			fmt.Errorf("%w: %w", errNothing, test.err),
			&functionError{"reserve", fmt.Errorf("take: %w", test.err)},
			fmt.Errorf("call: %w", &functionError{"reserve", errors.Join(errNothing, test.err)}),
		} {
			require.Equal(t, test.want, test.dialect.retryable(err), "%T: %#v", test.dialect, err)
		}
		require.False(t, test.dialect.retryable(nil))
		require.False(t, test.dialect.retryable(errNothing))
	}
}

var errNothing = errors.New("nothing to repeat")

// numbered has a field of the name, but is not the server's.
type numbered struct{ Number int }

func (numbered) Error() string { return "numbered" }

func TestMariaDBNumberIsTheDrivers(t *testing.T) {
	require.Zero(t, mariadbNumber(nil))
	require.Zero(t, mariadbNumber((*mysql.MySQLError)(nil)))
	require.Zero(t, mariadbNumber(numbered{1213}))
	require.Equal(t, uint16(1146), mariadbNumber(&mysql.MySQLError{Number: 1146}))
}

// What a function of the service ran into is not the barrier's to explain.
func TestOnlyTheBarriersOwnErrorsAreDiagnosed(t *testing.T) {
	missing := &pgconn.PgError{Code: "42P01"}
	p := &Participant{cfg: Config{Dialect: Postgres}}
	require.ErrorIs(t, p.diagnose(missing), participant.ErrConfig)
	require.ErrorIs(t, p.diagnose(missing), error(missing))
	require.NotErrorIs(t, p.diagnose(&functionError{"reserve", missing}), participant.ErrConfig)
	require.NotErrorIs(t, p.diagnose(errNothing), participant.ErrConfig)
	require.NoError(t, p.diagnose(nil))
}

func TestRepeatIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, calls, start := &Participant{cfg: Config{Dialect: SQLite}}, 0, time.Now()
		err := p.repeat(t.Context(), func() error { calls++; return codeError(5) })
		require.Equal(t, codeError(5), err)
		require.Equal(t, attempts, calls)
		require.Less(t, time.Since(start), attempts*maxPause)
	})
}

func TestRepeatEndsWithTheContext(t *testing.T) {
	p := &Participant{cfg: Config{Dialect: SQLite}}
	ctx, end := context.WithCancel(t.Context())
	calls := 0
	err := p.repeat(ctx, func() error {
		calls++
		end()
		return codeError(5)
	})
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, err, codeError(5))
	require.LessOrEqual(t, calls, attempts)
}

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

func TestRetryableCodes(t *testing.T) {
	for err, want := range map[error]bool{
		codeError(5):                         true,  // SQLITE_BUSY
		codeError(517):                       true,  // SQLITE_BUSY_SNAPSHOT
		codeError(262):                       true,  // SQLITE_LOCKED_SHAREDCACHE
		codeError(19):                        false, // SQLITE_CONSTRAINT
		codeError(13):                        false, // SQLITE_FULL
		errors.New("database is locked (5)"): false,
		nil:                                  false,
	} {
		require.Equal(t, want, SQLite.retryable(err), "%v", err)
	}
	require.True(t, SQLite.retryable(&functionError{"reserve", fmt.Errorf("take: %w", codeError(5))}))
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

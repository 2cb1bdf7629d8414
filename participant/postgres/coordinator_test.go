package postgres_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/postgres"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/waltest"
)

// bank is a coordinator that moves money between two databases of one server.
type bank struct {
	*coordinator.DTM
	t          *testing.T
	west, east *postgres.Participant
	close      func()
}

// openBank opens the log at path, with participants that are as new. fault is asked,
// before the log's first append that follows both votes, what becomes of it; and only
// then.
func openBank(t *testing.T, path string, urls [2]string, fault func() waltest.Fault) *bank {
	t.Helper()
	b := &bank{t: t}
	var votes atomic.Int32
	store, err := bolt.Open(path, nil)
	require.NoError(t, err)
	west, east := branchOffice(t, "west", urls[0]), branchOffice(t, "east", urls[1])
	b.west, b.east = west.Participant, east.Participant
	b.DTM, err = coordinator.Open(t.Context(), coordinator.Config{
		Domain: "bank", Participants: []participant.Participant{b.west, b.east}, RetryMin: time.Millisecond, RetryMax: 10 * time.Millisecond,
		Store: waltest.Faulty(store, func(c waltest.Call) waltest.Fault {
			if c.Op == waltest.OpAppend && fault != nil && votes.CompareAndSwap(2, 0) {
				return fault()
			}
			return waltest.Fault{}
		}),
		Trace: &coordinator.Trace{Voted: func(participant.Branch, participant.Vote, error, time.Duration) { votes.Add(1) }},
	})
	require.NoError(t, err)
	b.close = func() {
		_ = b.Close(context.Background()) // a log that failed says so
		require.NoError(t, errors.Join(store.Close(), west.Close(), east.Close()))
	}
	return b
}

func branchOffice(t *testing.T, name, url string) *process {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	p, err := postgres.New(t.Context(), postgres.Config{Name: name, Pool: pool})
	require.NoError(t, err)
	return &process{p, pool}
}

const move = "UPDATE account SET cents = cents + $1 WHERE name = 'ann'"

// transfer moves cents from west to east.
func (b *bank) transfer(cents int) error {
	return b.Run(b.t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		west, err := b.west.Join(ctx, tx)
		if err != nil {
			return err
		}
		east, err := b.east.Join(ctx, tx)
		if err != nil {
			return err
		}
		_, err = west.Exec(ctx, move, -cents)
		if err == nil {
			_, err = east.Exec(ctx, move, cents)
		}
		return err
	})
}

// twoDatabases returns their URLs, and what ann has in each.
func twoDatabases(t *testing.T) (urls [2]string, cents func() [2]int) {
	west, east := newFixture(t), newFixture(t)
	for _, f := range []*fixture{west, east} {
		execute(t, f.url, "ALTER TABLE account ADD CHECK (cents >= 0)")
	}
	const query = "SELECT cents FROM account WHERE name = 'ann'"
	return [2]string{west.url, east.url}, func() [2]int {
		west.look.Reset()
		east.look.Reset()
		require.Zero(t, west.inDoubt())
		require.Zero(t, east.inDoubt())
		west.writableAtOnce("ann")
		east.writableAtOnce("ann")
		return [2]int{west.number(query), east.number(query)}
	}
}

func TestTransferBetweenTwoDatabases(t *testing.T) {
	urls, cents := twoDatabases(t)
	b := openBank(t, filepath.Join(t.TempDir(), "bank.db"), urls, nil)
	defer b.close()
	require.NoError(t, b.transfer(30))
	require.Equal(t, [2]int{70, 130}, cents())

	// A statement that fails rolls both back, and says why.
	require.ErrorContains(t, b.transfer(71), "account_cents_check")
	require.Equal(t, [2]int{70, 130}, cents())

	// So does one that fails at the vote.
	var refused *coordinator.RolledBackError
	err := b.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		west, err := b.west.Join(ctx, tx)
		require.NoError(t, err)
		_, err = west.Exec(ctx, move, 1)
		require.NoError(t, err)
		east, err := b.east.JoinSQL(ctx, tx)
		require.NoError(t, err)
		_, err = east.ExecContext(ctx, "INSERT INTO child VALUES (4711)")
		return err
	})
	require.ErrorAs(t, err, &refused)
	require.ErrorContains(t, err, "child_id_fkey")
	require.Equal(t, [2]int{70, 130}, cents())

	// A single branch commits in one phase.
	require.NoError(t, b.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
		west, err := b.west.Join(ctx, tx)
		require.NoError(t, err)
		_, err = west.Exec(ctx, move, 5)
		return err
	}))
	require.Equal(t, [2]int{75, 130}, cents())
}

// A timeout rolls back what still works, and breaks off what runs.
func TestTimeoutBreaksOffAStatement(t *testing.T) {
	urls, cents := twoDatabases(t)
	b := openBank(t, filepath.Join(t.TempDir(), "bank.db"), urls, nil)
	defer b.close()
	id, err := b.Begin(t.Context(), coordinator.WithTimeout(2*time.Second))
	require.NoError(t, err)
	west, err := b.west.Join(t.Context(), b.Tx(id))
	require.NoError(t, err)
	east, err := b.east.Join(t.Context(), b.Tx(id))
	require.NoError(t, err)
	_, err = west.Exec(t.Context(), move, -1)
	require.NoError(t, err)
	_, err = east.Exec(t.Context(), "SELECT pg_sleep(3600)")
	require.ErrorIs(t, err, postgres.ErrRolledBack)
	require.ErrorIs(t, b.Commit(t.Context(), id), coordinator.ErrRolledBack)
	_, err = west.Exec(t.Context(), move, -1)
	require.ErrorIs(t, err, postgres.ErrRolledBack)
	require.Equal(t, [2]int{100, 100}, cents())
}

// The coordinator's log fails while both branches are in doubt. Its next start finishes
// them as the log says: committed if the decision is there, else rolled back (R3, R5).
func TestR3BranchesInDoubtAreFinishedAfterARestart(t *testing.T) {
	for _, decided := range []bool{true, false} {
		urls, cents := twoDatabases(t)
		path := filepath.Join(t.TempDir(), "bank.db")
		b := openBank(t, path, urls, func() waltest.Fault {
			return waltest.Fault{Err: errors.New("the disk is gone"), Applied: decided}
		})
		require.ErrorIs(t, b.transfer(30), coordinator.ErrOutcomeUnknown)
		b.close()

		b = openBank(t, path, urls, nil)
		require.NoError(t, b.WaitRecovered(t.Context()))
		if decided {
			require.Equal(t, [2]int{70, 130}, cents())
		} else {
			require.Equal(t, [2]int{100, 100}, cents())
		}
		require.NoError(t, b.transfer(10))
		b.close()
	}
}

// The server dies between the votes and the decision, and comes back.
func TestR6TransferGoesOnAfterTheServerDied(t *testing.T) {
	urls, cents := twoDatabases(t)
	b := openBank(t, filepath.Join(t.TempDir(), "bank.db"), urls, func() waltest.Fault {
		require.NoError(t, theServer(t).Kill(t.Context()))
		return waltest.Fault{}
	})
	defer b.close()
	require.ErrorIs(t, b.transfer(30), coordinator.ErrCommitPending)
	require.NoError(t, theServer(t).Start(t.Context()))
	for pending := true; pending; {
		list, err := b.List(t.Context(), coordinator.Filter{InDoubt: true})
		require.NoError(t, err)
		pending = len(list) > 0
	}
	require.Equal(t, [2]int{70, 130}, cents())
}

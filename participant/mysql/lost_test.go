package mysql_test

import (
	"context"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
)

const (
	// naiveRounds is after how many rounds without a loss the naive form is let off.
	naiveRounds = 10_000
	// safeRounds is how many rounds ours has to do at least, and at most safeTime.
	safeRounds = 500
	safeTime   = 30 * time.Second
)

// One connection has prepared a branch and ends; another commits the branch by its
// XID as soon as the server takes that. The server says OK, and the commit may be
// lost. Ours loses none.
func TestCommitThatMeetsTheEndOfTheSession(t *testing.T) {
	d := newDatabase(t)
	rounds, lost, found := loseCommit(t, d)
	if found {
		t.Logf("the naive form lost a commit in round %d", rounds)
		requireHidden(t, d, lost)
	} else {
		t.Logf("the naive form lost no commit in %d rounds", rounds)
	}

	want, deadline := max(rounds, safeRounds), time.Now().Add(safeTime)
	p, q := d.open(t), d.open(t)
	var done atomic.Int64
	var lanes sync.WaitGroup
	for range 4 {
		lanes.Go(func() {
			for done.Add(1) <= int64(want) && time.Now().Before(deadline) && !t.Failed() {
				b := prepared(t, p)
				var wg sync.WaitGroup
				wg.Go(func() { _ = d.kill(t, b) }) // q may have been first
				// The end of the session takes a fraction of this.
				time.Sleep(rand.N(500 * time.Microsecond))
				assert.NoError(t, commit(t.Context(), q, b))
				wg.Wait()
				n, err := d.effects(t.Context(), b.Tx)
				assert.NoError(t, err)
				assert.Equal(t, 1, n)
				assert.NoError(t, p.Commit(t.Context(), b)) // it has the session still
			}
		})
	}
	lanes.Wait()
	t.Logf("ours lost none of %d commits", min(done.Load(), int64(want)))
	require.Empty(t, d.prepared(t))
}

// commit tells the branch until it acknowledges, as a coordinator does (R6), though
// not for ever.
func commit(ctx context.Context, p *mysql.Participant, b participant.Branch) (err error) {
	for range 10 {
		if err = p.Commit(ctx, b); err == nil {
			return nil
		}
	}
	return err
}

// loseCommit commits branches the naive way until a commit that was answered OK is
// not there.
func loseCommit(t *testing.T, d *database) (rounds int, lost participant.Branch, found bool) {
	t.Helper()
	ctx := t.Context()
	other, err := d.admin.Conn(ctx)
	require.NoError(t, err)
	defer func() { _ = other.Close() }()
	for rounds = 1; rounds <= naiveRounds; rounds++ {
		p := d.open(t)
		b := prepared(t, p)
		literal := d.literal(t)
		var wg sync.WaitGroup
		wg.Go(func() { _ = p.Close() })
		for {
			if _, err := other.ExecContext(ctx, "XA COMMIT "+literal); err == nil {
				break
			}
		}
		wg.Wait()
		if n, err := d.effects(ctx, b.Tx); err != nil || n == 0 {
			require.NoError(t, err)
			return rounds, b, true
		}
	}
	return naiveRounds, lost, false
}

// requireHidden says what is left of a lost commit: the server does not list the
// branch, and keeps its locks. That is no success and no absence (R7), and the restart
// that is asked for brings the branch back.
func requireHidden(t *testing.T, d *database, b participant.Branch) {
	t.Helper()
	p := d.open(t)
	require.Empty(t, d.prepared(t))
	for what, tell := range map[string]func(context.Context, participant.Branch) error{"commit": p.Commit, "rollback": p.Rollback, "one phase": p.CommitOnePhase} {
		err := tell(t.Context(), b)
		require.ErrorIs(t, err, participant.ErrConfig, what)
		require.ErrorContains(t, err, "restart the server", what)
		require.NotErrorIs(t, err, participant.ErrRefused, what)
		require.NotErrorIs(t, err, participant.ErrUnknownBranch, what)
	}
	vote, err := p.Prepare(t.Context(), b)
	require.Error(t, err)
	require.False(t, vote.Valid())

	require.NoError(t, d.Restart(t.Context()))
	require.Len(t, d.prepared(t), 1)
	require.NoError(t, p.Commit(t.Context(), b))
	d.requireEffects(t, b, 1)
}

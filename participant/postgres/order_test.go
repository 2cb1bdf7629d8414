package postgres_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// told is what a transaction's calls in the fuzz say of its outcome.
type told int

const (
	toCommit told = iota
	toRollBack
	// toBoth is no coordinator's doing: row and server alone have to keep it apart.
	toBoth
)

// In whatever order the calls for a branch come, doubled and at once, from two
// processes: it is applied exactly once, or nothing is left, and never both.
func TestAnyOrderAppliesOnceOrLeavesNothing(t *testing.T) {
	const atOnce = 8
	transactions := 200
	if testing.Short() {
		transactions = 50
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	f := newFixture(t, func(c *pgxpool.Config) { c.MaxConns = atOnce })
	other := f.start()
	var wg sync.WaitGroup
	for w := range atOnce {
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		wg.Go(func() {
			for n := w; n < transactions; n += atOnce {
				fuzzBranch(t, f, other, told(random.IntN(3)), random)
			}
		})
	}
	wg.Wait()
	require.Zero(t, f.inDoubt())
	f.poolIsClean()
}

func fuzzBranch(t *testing.T, f *fixture, other *process, outcome told, random *rand.Rand) {
	tx, _ := f.begun()
	var calls []func(*process)
	for range 2 + random.IntN(2) {
		calls = append(calls, func(*process) {
			vote, err := f.Prepare(t.Context(), tx.Branch)
			if !vote.Valid() && outcome == toCommit {
				t.Errorf("prepare %s, which no rollback can break off: %v", tx.XID(), err)
			}
		})
	}
	for range 3 {
		if outcome != toRollBack {
			calls = append(calls, func(p *process) { mayFail(t, outcome, p.Commit(t.Context(), tx.Branch)) })
		}
		if outcome != toCommit {
			calls = append(calls, func(p *process) { mayFail(t, outcome, p.Rollback(t.Context(), tx.Branch)) })
		}
	}
	random.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() { call([]*process{f.process, other}[i%2]) })
	}
	wg.Wait()
	settle(t, f, tx, outcome)
}

// mayFail fails the test on an answer that is final and wrong.
func mayFail(t *testing.T, outcome told, err error) {
	var ended *participant.HeuristicError
	if errors.As(err, &ended) && outcome != toBoth {
		t.Error(err)
	}
}

// settle repeats the outcome, as a coordinator does, and looks at what was left.
func settle(t *testing.T, f *fixture, tx *transaction, outcome told) {
	var commit error
	if outcome == toRollBack {
		require.NoError(t, f.Rollback(t.Context(), tx.Branch))
	} else {
		commit = f.Commit(t.Context(), tx.Branch)
	}
	var ended *participant.HeuristicError
	left, ok := f.effects(tx), false
	switch outcome {
	case toCommit:
		ok = commit == nil && left == 1
	case toRollBack:
		ok = left == 0
	case toBoth:
		ok = commit == nil && left == 1 || errors.As(commit, &ended) && left == 0
	}
	if !ok {
		t.Errorf("%s: commit says %v, %d effects are left", tx.XID(), commit, left)
	}
}

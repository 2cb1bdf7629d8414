package barrier_test

import (
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
	"github.com/assent-tm/assent/participant/participanttest/capability"
)

// told is what a transaction's calls in the fuzz say of its outcome.
type told int

const (
	toCommit told = iota
	toRollBack
	// toBoth is no coordinator's doing: the row alone has to keep it apart.
	toBoth
)

// In whatever order the calls for a branch come, doubled and at once, from two
// processes: it is applied exactly once, or nothing is left, and never both.
func TestAnyOrderAppliesOnceOrLeavesNothing(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		const atOnce = 8
		transactions := 1000
		if testing.Short() {
			transactions = 100
		}
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		first := on.newFast(t)
		services := []*service{first, first.another()}

		var wg sync.WaitGroup
		for w := range atOnce {
			random := rand.New(rand.NewPCG(seed, uint64(w)))
			wg.Go(func() {
				for n := w; n < transactions; n += atOnce {
					fuzzBranch(t, services, branch(n+1), told(random.IntN(3)), random)
				}
			})
		}
		wg.Wait()

		listing, err := services[0].List(t.Context(), "orders")
		require.NoError(t, err)
		require.Empty(t, listing.Prepared)
		require.Equal(t, []participant.TxID{tx(1, transactions)}, listing.Highest)
	})
}

func fuzzBranch(t *testing.T, services []*service, b participant.Branch, outcome told, random *rand.Rand) {
	var calls []func(*service)
	add := func(n int, call func(*service)) {
		for range n {
			calls = append(calls, call)
		}
	}
	add(2+random.IntN(2), func(s *service) {
		if vote, err := s.Prepare(t.Context(), b); !vote.Valid() {
			t.Errorf("prepare %s: %v", b.XID(), err)
		}
	})
	if outcome != toRollBack {
		add(3, func(s *service) {
			err := s.Commit(t.Context(), b)
			if known := err == nil || errors.Is(err, participant.ErrUnknownBranch) || outcome == toBoth && isHeuristic(err); !known {
				t.Errorf("commit %s: %v", b.XID(), err)
			}
		})
	}
	if outcome != toCommit {
		add(3, func(s *service) {
			if err := s.Rollback(t.Context(), b); err != nil && (outcome != toBoth || !isHeuristic(err)) {
				t.Errorf("roll back %s: %v", b.XID(), err)
			}
		})
	}
	random.Shuffle(len(calls), func(i, j int) { calls[i], calls[j] = calls[j], calls[i] })
	var wg sync.WaitGroup
	for i, call := range calls {
		wg.Go(func() { call(services[i%len(services)]) })
	}
	wg.Wait()
	settle(t, services[0], b, outcome)
}

// settle repeats the outcome, as a coordinator does, and looks at what was left.
func settle(t *testing.T, s *service, b participant.Branch, outcome told) {
	var commit error
	if outcome != toRollBack {
		commit = s.Commit(t.Context(), b)
	} else if err := s.Rollback(t.Context(), b); err != nil {
		t.Errorf("roll back %s: %v", b.XID(), err)
	}
	left := s.effects(b)
	undone := left == nothing || left == cancelled
	ok := false
	switch outcome {
	case toCommit:
		ok = commit == nil && left == confirmed
	case toRollBack:
		ok = undone
	case toBoth:
		ok = commit == nil && left == confirmed || isHeuristic(commit) && undone
	}
	if !ok {
		t.Errorf("%s: commit says %v, left is %+v", b.XID(), commit, left)
	}
}

func isHeuristic(err error) bool {
	var heuristic *participant.HeuristicError
	return errors.As(err, &heuristic)
}

// model is what the package's table says of one branch, and of its term.
type model struct {
	state   string // "" for no row
	effects effects
}

// Every answer, in any order of calls, is the one of the table in the package's
// documentation, under the epoch's rule (R9).
func TestEveryAnswerIsTheTables(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s := on.newFast(t)
		rapid.Check(t, func(rt *rapid.T) {
			var epoch uint64
			b := freshBranch()
			b.Tx.Term = participant.NewTerm(1+uint32(s.number(`SELECT count(*) FROM assent_branch_term`)), 0)
			branches := []*model{{}, {}, {}}

			call := func(rt *rapid.T) (m *model, at participant.Branch, stale bool) {
				number := rapid.IntRange(0, len(branches)-1).Draw(rt, "branch")
				at = b
				at.Number, at.Epoch = number, rapid.Uint64Range(1, 4).Draw(rt, "epoch")
				stale = at.Epoch < epoch
				return branches[number], at, stale
			}
			// A call whose local transaction fails leaves no trace, of its epoch neither.
			landed := func(at participant.Branch) { epoch = max(epoch, at.Epoch) }

			rt.Repeat(map[string]func(*rapid.T){
				"prepare": func(rt *rapid.T) {
					m, at, stale := call(rt)
					data := rapid.SampledFrom([]string{"", refuseData, failData}).Draw(rt, "data")
					at.Data = []byte(data)
					vote, err := s.Prepare(rt.Context(), at)
					switch {
					case stale:
						require.Equal(rt, participant.VoteRefused, vote)
						require.ErrorIs(rt, err, participant.ErrStaleEpoch)
						return
					case m.state == "" && data == failData:
						require.Zero(rt, vote)
						require.ErrorIs(rt, err, errNotToday)
						return
					case m.state == "" && data == refuseData:
						m.state = "rolled back"
					case m.state == "":
						*m = model{"prepared", reserved}
					}
					landed(at)
					if m.state == "prepared" {
						require.Equal(rt, participant.VotePrepared, vote)
						require.NoError(rt, err)
					} else {
						require.Equal(rt, participant.VoteRefused, vote)
						require.ErrorIs(rt, err, participant.ErrRefused)
					}
				},
				"commit": func(rt *rapid.T) {
					m, at, stale := call(rt)
					err := s.Commit(rt.Context(), at)
					if stale {
						require.ErrorIs(rt, err, participant.ErrStaleEpoch)
						return
					}
					landed(at)
					switch m.state {
					case "":
						require.ErrorIs(rt, err, participant.ErrUnknownBranch)
					case "rolled back":
						endedAs(t, participant.OutcomeRolledBack, err)
					case "prepared":
						*m = model{"committed", confirmed}
						fallthrough
					default:
						require.NoError(rt, err)
					}
				},
				"rollback": func(rt *rapid.T) {
					m, at, stale := call(rt)
					err := s.Rollback(rt.Context(), at)
					if stale {
						require.ErrorIs(rt, err, participant.ErrStaleEpoch)
						return
					}
					landed(at)
					switch m.state {
					case "committed":
						endedAs(t, participant.OutcomeCommitted, err)
						return
					case "prepared":
						m.effects = cancelled
					}
					m.state = "rolled back"
					require.NoError(rt, err)
				},
				"one phase": func(rt *rapid.T) {
					m, at, stale := call(rt)
					err := s.CommitOnePhase(rt.Context(), at)
					if stale {
						require.ErrorIs(rt, err, participant.ErrStaleEpoch)
						return
					}
					landed(at)
					if m.state == "rolled back" {
						require.ErrorIs(rt, err, participant.ErrRefused)
						return
					}
					require.NoError(rt, err)
					*m = model{"committed", confirmed}
				},
				"forget": func(rt *rapid.T) {
					_, at, _ := call(rt)
					require.NoError(rt, s.Forget(rt.Context(), []participant.Branch{at}))
				},
				"": func(rt *rapid.T) {
					for number, m := range branches {
						at := with(b, func(b *participant.Branch) { b.Number = number })
						require.Equal(rt, m.effects, s.effects(at))
					}
				},
			})
		})
	})
}

func BenchmarkPrepareCommit(b *testing.B) {
	for _, on := range kinds {
		b.Run(on.name, func(b *testing.B) {
			capability.Need(b, on.needs...)
			s, n := on.newService(b), 0
			for b.Loop() {
				n++
				s.prepare(branch(n))
				if err := s.Commit(b.Context(), branch(n)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "transactions/s")
		})
	}
}

// The same work without the barrier: what the database itself takes.
func BenchmarkBareTransactions(b *testing.B) {
	for _, on := range kinds {
		b.Run(on.name, func(b *testing.B) {
			capability.Need(b, on.needs...)
			s, n := on.newService(b), 0
			bare := func(f barrier.Func, at participant.Branch) {
				tx, err := s.db.BeginTx(b.Context(), nil)
				require.NoError(b, err)
				require.NoError(b, f(b.Context(), tx, at))
				require.NoError(b, tx.Commit())
			}
			for b.Loop() {
				n++
				bare(on.count("reserved"), branch(n))
				bare(on.count("confirmed"), branch(n))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "transactions/s")
		})
	}
}

package coordinator_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/wal/record"
	"github.com/assent-tm/assent/wal/waltest"
)

// verdict is what an answer says of the decision: commit, rollback, or nothing.
func verdict(err error, asked record.Decision) (d record.Decision) {
	switch {
	case errors.Is(err, coordinator.ErrRolledBack):
		return record.DecisionRollback
	case errors.Is(err, coordinator.ErrCommitted), errors.Is(err, coordinator.ErrCommitPending):
		return record.DecisionCommit
	case err == nil:
		return asked
	default:
		return 0
	}
}

// R2: commits, rollbacks, a timeout, a refusal and an ending context compete for
// one transaction; there is one winner, and everybody is told the same, also the
// participants. In real time, so that the race detector sees all of it.
func TestDecisionsCompete(t *testing.T) {
	banks := participanttest.NewStore()
	a, b := banks.Participant("a"), banks.Participant("b")
	store := waltest.NewMemory().Open()
	dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store, CommitWait: time.Minute})
	require.NoError(t, err)
	var wg sync.WaitGroup
	seen := map[record.Decision]int{}
	var mu sync.Mutex
	for range 4 {
		wg.Go(func() {
			for range 100 {
				d := compete(t, dtm, a, b)
				mu.Lock()
				seen[d]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.NoError(t, dtm.Close(t.Context()))
	require.NoError(t, store.Close())
	require.Greater(t, seen[record.DecisionCommit], 10, "%v", seen)
	require.Greater(t, seen[record.DecisionRollback], 10, "%v", seen)
}

func compete(t *testing.T, dtm *coordinator.DTM, a, b *participanttest.Memory) record.Decision {
	timeout := time.Minute
	if rand.N(3) == 0 {
		timeout = time.Duration(1 + rand.N(400*time.Microsecond))
	}
	id, err := dtm.Begin(t.Context(), coordinator.WithTimeout(timeout))
	require.NoError(t, err)
	data := "work"
	if rand.N(8) == 0 {
		data = participanttest.DataRefuse
	}
	tx := dtm.Tx(id)
	branchA, errA := tx.Enlist(t.Context(), a, []byte("work"))
	branchB, errB := tx.Enlist(t.Context(), b, []byte(data))
	for _, err := range []error{errA, errB} {
		require.NoError(t, errorUnless(errorUnless(err, coordinator.ErrRolledBack), coordinator.ErrSealed), "it may have timed out")
	}
	hostile := rand.N(3) == 0
	verdicts := make([]record.Decision, 6)
	var wg sync.WaitGroup
	for i := range verdicts {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			if hostile && rand.N(4) == 0 {
				go cancel()
			}
			if hostile && i%3 == 2 && rand.N(2) == 0 {
				verdicts[i] = verdict(dtm.Rollback(ctx, id), record.DecisionRollback)
				return
			}
			verdicts[i] = verdict(dtm.Commit(ctx, id), record.DecisionCommit)
		})
	}
	wg.Wait()
	for _, v := range verdicts {
		require.True(t, v.Valid(), "the log is well")
		require.Equal(t, verdicts[0], v, "%v", verdicts)
	}
	// An uncancelled Commit waits for what is still on its way.
	require.Equal(t, verdicts[0], verdict(dtm.Commit(t.Context(), id), record.DecisionCommit))
	want := participanttest.StateCommitted
	if verdicts[0] == record.DecisionRollback {
		want = participanttest.StateRolledBack
	}
	if errA == nil {
		require.Contains(t, []participanttest.State{want, participanttest.StateUnknown}, a.State(branchA), "unknown: forgotten")
		require.Equal(t, want == participanttest.StateCommitted, a.Effects(branchA) == 1)
	}
	if errB == nil {
		require.Equal(t, want == participanttest.StateCommitted, b.Effects(branchB) == 1)
	}
	return verdicts[0]
}

// The API against a map: random calls with random ids answer what the model says.
func TestRandomCallsAnswerAsTheModelSays(t *testing.T) {
	memory := participanttest.NewStore()
	store := waltest.NewMemory().Open()
	dtm, err := coordinator.Open(t.Context(), coordinator.Config{Domain: "test", Store: store, CommitWait: time.Minute})
	require.NoError(t, err)
	names := []string{"a", "b", "c"}
	banks := map[string]*participanttest.Memory{}
	for _, name := range names {
		banks[name] = memory.Participant(name)
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{dtm: dtm, banks: banks, names: names, byID: map[participant.TxID]*modelled{}}
		rt.Repeat(map[string]func(*rapid.T){
			"begin": m.begin, "enlist": m.enlist, "commit": m.commit, "rollback": m.rollback, "": m.check,
		})
	})
	require.NoError(t, dtm.Close(t.Context()))
	require.NoError(t, store.Close())
}

type model struct {
	dtm   *coordinator.DTM
	banks map[string]*participanttest.Memory
	names []string
	ids   []participant.TxID
	byID  map[participant.TxID]*modelled
}

// modelled is what the model holds of a transaction.
type modelled struct {
	name     string
	data     map[string]string // by participant
	branches []participant.Branch
	decision record.Decision
}

func (m *model) begin(rt *rapid.T) {
	name := rapid.StringMatching(`[a-z]{0,5}`).Draw(rt, "name")
	id, err := m.dtm.Begin(rt.Context(), coordinator.WithName(name))
	require.NoError(rt, err)
	require.NotContains(rt, m.byID, id)
	m.ids = append(m.ids, id)
	m.byID[id] = &modelled{name: name, data: map[string]string{}}
}

// any returns a transaction, or none under an id that does not exist.
func (m *model) any(rt *rapid.T) (participant.TxID, *modelled) {
	if len(m.ids) == 0 || rapid.IntRange(0, 20).Draw(rt, "unknown") == 0 {
		return participant.TxID{Term: 1}, nil
	}
	id := rapid.SampledFrom(m.ids).Draw(rt, "id")
	return id, m.byID[id]
}

func (m *model) enlist(rt *rapid.T) {
	id, tx := m.any(rt)
	name := rapid.SampledFrom(m.names).Draw(rt, "participant")
	data := rapid.SampledFrom([]string{"work", "more work", participanttest.DataRefuse, participanttest.DataReadOnly}).Draw(rt, "data")
	b, err := m.dtm.Tx(id).Enlist(rt.Context(), m.banks[name], []byte(data))
	switch {
	case tx == nil:
		require.ErrorIs(rt, err, coordinator.ErrNotFound)
	case tx.decision == record.DecisionRollback:
		require.ErrorIs(rt, err, coordinator.ErrRolledBack)
	case tx.decision == record.DecisionCommit:
		require.ErrorIs(rt, err, coordinator.ErrSealed)
	case tx.data[name] != "" && tx.data[name] != data:
		require.ErrorIs(rt, err, coordinator.ErrConflict)
	default:
		require.NoError(rt, err)
		if tx.data[name] == "" {
			require.Equal(rt, len(tx.branches), b.Number)
			tx.branches, tx.data[name] = append(tx.branches, b), data
		}
		require.Equal(rt, tx.branches[b.Number], b)
	}
}

func (m *model) commit(rt *rapid.T) {
	id, tx := m.any(rt)
	err := m.dtm.Commit(rt.Context(), id)
	if tx == nil {
		require.ErrorIs(rt, err, coordinator.ErrNotFound)
		return
	}
	if !tx.decision.Valid() {
		tx.decision = record.DecisionCommit
		for _, data := range tx.data {
			if data == participanttest.DataRefuse {
				tx.decision = record.DecisionRollback
			}
		}
	}
	require.Equal(rt, tx.decision == record.DecisionCommit, err == nil, "%v", err)
	require.Equal(rt, tx.decision == record.DecisionRollback, errors.Is(err, coordinator.ErrRolledBack), "%v", err)
	for _, b := range tx.branches { // Commit waited for all of them
		effects := 0
		if tx.decision == record.DecisionCommit && string(b.Data) != participanttest.DataReadOnly {
			effects = 1
		}
		require.Equal(rt, effects, m.banks[b.Participant].Effects(b))
	}
}

func (m *model) rollback(rt *rapid.T) {
	id, tx := m.any(rt)
	err := m.dtm.Rollback(rt.Context(), id)
	switch {
	case tx == nil:
		require.ErrorIs(rt, err, coordinator.ErrNotFound)
	case tx.decision == record.DecisionCommit:
		require.ErrorIs(rt, err, coordinator.ErrCommitted)
	default:
		require.NoError(rt, err)
		tx.decision = record.DecisionRollback
	}
}

func (m *model) check(rt *rapid.T) {
	for id, tx := range m.byID {
		info, err := m.dtm.Get(rt.Context(), id)
		require.NoError(rt, err)
		require.Equal(rt, fmt.Sprint(id, tx.name, tx.decision, len(tx.branches)), fmt.Sprint(info.ID, info.Name, info.Decision, len(info.Branches)))
		for i, b := range info.Branches {
			require.Equal(rt, tx.branches[i].Participant, b.Participant)
		}
	}
}

package coordinator_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/bolt"
)

// house is a coordinator with a log in a real file, and two banks that outlive it.
type house struct {
	t     *testing.T
	path  string
	banks *participanttest.Store
	store *bolt.Store
	dtm   *coordinator.DTM
	both  []participant.Participant // of this process
	// deaf: no decision gets through to bank_b. held, if set, is told that bank_b is
	// asked to prepare, and has it wait.
	deaf atomic.Bool
	held atomic.Pointer[chan struct{}]
	// epoch is that of the last decision bank_b was told: it refuses a lower one.
	epoch atomic.Uint64
}

var smallFile = &bolt.Options{MapSize: 1 << 20}

func (h *house) open() {
	h.t.Helper()
	var err error
	h.store, err = bolt.Open(h.path, smallFile)
	require.NoError(h.t, err)
	h.both = []participant.Participant{h.banks.Participant("bank_a"), h.bankB()}
	h.dtm, err = coordinator.Open(h.t.Context(), coordinator.Config{
		Domain: "test", Store: h.store, CommitWait: time.Millisecond, Participants: h.both,
	})
	require.NoError(h.t, err)
	synctest.Wait() // the lists were read
}

func (h *house) bankB() participant.Participant {
	unreachable := func(b participant.Branch) error {
		h.epoch.Store(b.Epoch)
		if h.deaf.Load() {
			return errUnreachable
		}
		return nil
	}
	return &hooked{Memory: h.banks.Participant("bank_b"), commit: unreachable, rollback: unreachable, prepare: func(participant.Branch) error {
		if held := h.held.Load(); held != nil {
			<-*held
		}
		return nil
	}}
}

func (h *house) close() {
	h.t.Helper()
	require.NoError(h.t, errors.Join(h.dtm.Close(context.Background()), h.store.Close()))
}

// transfer commits a transaction of both banks and returns its id. The answer comes
// from the channel.
func (h *house) transfer() (participant.TxID, <-chan error) {
	h.t.Helper()
	id, err := h.dtm.Begin(h.t.Context())
	require.NoError(h.t, err)
	for _, p := range h.both {
		require.NoError(h.t, h.dtm.Enlist(h.t.Context(), id, p))
	}
	answer := make(chan error, 1)
	go func() { answer <- h.dtm.Commit(context.Background(), id) }()
	return id, answer
}

func (h *house) states(id participant.TxID) [2]participanttest.State {
	branch := participant.Branch{Domain: "test", Tx: id}
	a := h.banks.Participant("bank_a").State(branch)
	branch.Number = 1
	return [2]participanttest.State{a, h.banks.Participant("bank_b").State(branch)}
}

const (
	none      = participanttest.StateUnknown
	prepared  = participanttest.StatePrepared
	committed = participanttest.StateCommitted
	rolled    = participanttest.StateRolledBack
)

type both = [2]participanttest.State

// copyByHand copies the file while nobody writes it: what a file system's snapshot
// has.
func (h *house) copyByHand() (putBack func()) {
	content, err := os.ReadFile(h.path)
	require.NoError(h.t, err)
	return func() { require.NoError(h.t, os.WriteFile(h.path, content, 0o600)) }
}

func (h *house) snapshot() (putBack func()) {
	copied := filepath.Join(filepath.Dir(h.path), "snapshot")
	require.NoError(h.t, h.store.Snapshot(h.t.Context(), copied))
	return func() {
		_, err := bolt.Restore(h.t.Context(), copied, h.path, bolt.RestoreOptions{Reason: "the disk failed", Replace: true})
		require.NoError(h.t, err)
	}
}

// R10, end to end with real files: a log is put back that was copied while one
// transaction was decided and not told, and one was still voting, which then
// committed. Whichever way it was copied and put back, nothing is split: what it
// decided is told, what it does not know is left alone until an operator's word.
func TestR10ALogIsRestored(t *testing.T) {
	for name, c := range map[string]struct {
		copy func(*house) (putBack func())
		// restart: the coordinator was started again before the log was lost, so that
		// no participant can prove anything.
		restart bool
		why     string
	}{
		"copied by hand, proven by a participant": {(*house).copyByHand, false, `participant "bank_`},
		"snapshot and restore":                    {(*house).snapshot, false, "the disk failed"},
		"snapshot and restore, a restart between": {(*house).snapshot, true, "the disk failed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &house{t: t, path: filepath.Join(t.TempDir(), "log"), banks: participanttest.NewStore()}
				decided, split, lost, putBack := h.lose(c.copy, c.restart)
				putBack()
				for range 2 { // it stays so, however often it is started
					h.open()
					h.requireSafeMode(c.why, split, lost)
					require.NoError(t, h.dtm.Commit(t.Context(), decided), "a logged decision is delivered")
					require.Equal(t, committed, h.states(split)[0])
					h.close()
				}
				h.open()
				// The operator compares, and commits by hand what bank_a has committed.
				byHand := participant.Branch{Domain: "test", Tx: split, Number: 1, Epoch: h.epoch.Load()}
				require.NoError(t, h.banks.Participant("bank_b").Commit(t.Context(), byHand))
				require.NoError(t, h.dtm.Accept(t.Context(), "compared with both banks"))
				h.close()
				h.open()
				h.requireAccepted(split, lost, c.restart)
				h.close()
			})
		})
	}
}

// lose makes a copy of the log between the commits of three transactions, none of
// which bank_b hears of, and then loses the log.
func (h *house) lose(copyLog func(*house) (putBack func()), restart bool) (decided, split, lost participant.TxID, putBack func()) {
	h.open()
	h.deaf.Store(true)
	decided, answer := h.transfer()
	require.ErrorIs(h.t, <-answer, coordinator.ErrCommitPending)
	voting := make(chan struct{})
	h.held.Store(&voting)
	split, answer = h.transfer()
	synctest.Wait() // bank_b is asked
	putBack = copyLog(h)
	h.held.Store(nil)
	close(voting)
	require.ErrorIs(h.t, <-answer, coordinator.ErrCommitPending)
	if restart {
		h.close()
		h.open()
	}
	lost, answer = h.transfer()
	require.ErrorIs(h.t, <-answer, coordinator.ErrCommitPending)
	h.close()
	for _, id := range []participant.TxID{decided, split, lost} {
		require.Equal(h.t, both{committed, prepared}, h.states(id))
	}
	h.deaf.Store(false)
	return decided, split, lost, putBack
}

func (h *house) requireSafeMode(why string, undecided, lost participant.TxID) {
	h.t.Helper()
	text, on := h.dtm.SafeMode()
	require.True(h.t, on)
	require.Contains(h.t, text, why)
	_, err := h.dtm.Begin(h.t.Context())
	require.ErrorIs(h.t, err, coordinator.ErrSafeMode)
	for _, id := range []participant.TxID{undecided, lost} {
		require.ErrorIs(h.t, h.dtm.Enlist(h.t.Context(), id, h.both[0]), coordinator.ErrSafeMode)
		require.ErrorIs(h.t, h.dtm.Commit(h.t.Context(), id), coordinator.ErrSafeMode)
	}
	time.Sleep(10 * time.Minute) // fake time: many sweeps
	require.Equal(h.t, prepared, h.states(undecided)[1], "nothing is rolled back by absence")
	require.Equal(h.t, prepared, h.states(lost)[1])
}

// requireAccepted: it works on, and what the operator left is rolled back by absence,
// unless it is of a term that the log never saw.
func (h *house) requireAccepted(split, lost participant.TxID, foreign bool) {
	h.t.Helper()
	_, on := h.dtm.SafeMode()
	require.False(h.t, on)
	require.NoError(h.t, h.dtm.WaitRecovered(h.t.Context()))
	_, answer := h.transfer()
	require.NoError(h.t, <-answer)
	require.ErrorIs(h.t, h.dtm.Commit(h.t.Context(), lost), coordinator.ErrForgotten, "it may have committed: never redo")
	time.Sleep(10 * time.Minute) // fake time: many sweeps
	for i, name := range []string{"bank_a", "bank_b"} {
		branch := participant.Branch{Domain: "test", Tx: split, Number: i}
		require.Equal(h.t, 1, h.banks.Participant(name).Effects(branch), "settled by hand stays settled")
	}
	info, err := h.dtm.Get(h.t.Context(), split)
	require.NoError(h.t, err)
	require.Equal(h.t, participant.OutcomeHeuristicCommit, info.Outcome, "and is reported: the log says otherwise")
	orphans, err := h.dtm.Orphans(h.t.Context())
	require.NoError(h.t, err)
	if foreign {
		require.Equal(h.t, prepared, h.states(lost)[1])
		require.Len(h.t, orphans, 1)
		require.Equal(h.t, recovery.ForeignTerm, orphans[0].Verdict)
		return
	}
	require.Empty(h.t, orphans)
	require.Contains(h.t, []participanttest.State{none, rolled}, h.states(lost)[1])
}

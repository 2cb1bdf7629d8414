package client_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// managers are the ways to the same coordinator: a program can't tell them apart.
var managers = map[string]func(*site) coordinator.Manager{
	"embedded": func(s *site) coordinator.Manager { return s.dtm },
	"unary":    func(s *site) coordinator.Manager { return s.client() },
	"session":  func(s *site) coordinator.Manager { return s.client(withSession) },
}

func eachManager(t *testing.T, test func(t *testing.T, s *site, m coordinator.Manager)) {
	t.Helper()
	for name, open := range managers {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			test(t, s, open(s))
		})
	}
}

func begin(t *testing.T, m coordinator.Manager, options ...coordinator.BeginOption) participant.TxID {
	t.Helper()
	id, err := m.Begin(t.Context(), options...)
	require.NoError(t, err)
	return id
}

// begun returns a transaction with a branch of each bank.
func begun(t *testing.T, s *site, m coordinator.Manager) participant.TxID {
	t.Helper()
	id := begin(t, m)
	require.NoError(t, m.Enlist(t.Context(), id, s.a, coordinator.WithData([]byte("a"))))
	require.NoError(t, m.Enlist(t.Context(), id, s.b, coordinator.WithData([]byte("b"))))
	return id
}

func refuses(context.Context, participant.Branch) (participant.Vote, error) {
	return participant.VoteRefused, errors.New("insufficient funds")
}

func TestATransactionIsCommitted(t *testing.T) {
	eachManager(t, func(t *testing.T, s *site, m coordinator.Manager) {
		id := begin(t, m, coordinator.WithName("transfer"), coordinator.WithTimeout(time.Hour))
		b, err := m.Tx(id).Enlist(t.Context(), s.a, []byte("30"))
		require.NoError(t, err)
		require.Equal(t, id, b.Tx)
		require.Equal(t, "test", b.Domain)
		require.Equal(t, "bank_a", b.Participant)
		require.Equal(t, "30", string(b.Data))
		require.NotZero(t, b.Epoch)
		require.InDelta(t, time.Hour, time.Until(b.Deadline), float64(time.Minute))
		require.NoError(t, m.Enlist(t.Context(), id, s.a, coordinator.WithData([]byte("30"))), "the same again")
		require.ErrorIs(t, m.Enlist(t.Context(), id, s.a, coordinator.WithData([]byte("31"))), coordinator.ErrConflict)
		require.NoError(t, m.Enlist(t.Context(), id, s.b))

		info, err := m.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, "transfer", info.Name)
		require.Len(t, info.Branches, 2)
		listed, err := m.List(t.Context(), coordinator.Filter{Participant: "bank_b"})
		require.NoError(t, err)
		require.Len(t, listed, 1)
		require.Equal(t, id, listed[0].ID)
		inquiry, err := m.Outcome(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, coordinator.InquiryUndecided, inquiry)

		require.NoError(t, m.Commit(t.Context(), id))
		require.NoError(t, m.Commit(t.Context(), id), "it may be called again")
		require.Equal(t, []string{"prepare 30", "commit 30"}, s.a.calls())
		require.ErrorIs(t, m.Rollback(t.Context(), id), coordinator.ErrCommitted)
		info, err = m.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, participant.OutcomeCommitted, info.Outcome)
		require.Equal(t, record.DecisionCommit, info.Decision)
		require.Equal(t, participant.VotePrepared, info.Branches[0].Vote)
		inquiry, err = m.Outcome(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, coordinator.InquiryCommitted, inquiry)
	})
}

func TestATransactionIsRolledBack(t *testing.T) {
	eachManager(t, func(t *testing.T, s *site, m coordinator.Manager) {
		s.b.does(refuses, nil)
		id := begun(t, s, m)
		err := m.Commit(t.Context(), id)
		require.ErrorIs(t, err, coordinator.ErrRolledBack)
		require.NotErrorIs(t, err, coordinator.ErrOutcomeUnknown)
		var rolledBack *coordinator.RolledBackError
		require.ErrorAs(t, err, &rolledBack)
		require.Equal(t, coordinator.RolledBackError{
			Tx: id, Cause: record.CauseRefused, Participant: "bank_b", Reason: "insufficient funds",
		}, *rolledBack)
		require.Equal(t, "commit transaction "+id.String()+": rolled back: participant refused: participant bank_b: insufficient funds", text(err))
		require.NoError(t, m.Rollback(t.Context(), id), "it is so")
		require.ErrorIs(t, m.Enlist(t.Context(), id, s.a), coordinator.ErrRolledBack)

		id = begun(t, s, m)
		require.NoError(t, m.Rollback(t.Context(), id))
		require.ErrorAs(t, m.Commit(t.Context(), id), &rolledBack)
		require.Equal(t, record.CauseRequested, rolledBack.Cause)
		inquiry, err := m.Outcome(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, coordinator.InquiryRolledBack, inquiry)
	})
}

// text lets a cause be worded as the record does.
func text(err error) string {
	return strings.Replace(err.Error(), record.CauseRefused.String(), "participant refused", 1)
}

func TestACommitThatIsStillToBeTold(t *testing.T) {
	eachManager(t, func(t *testing.T, s *site, m coordinator.Manager) {
		s.b.does(nil, func(context.Context, participant.Branch) error { return errors.New("down") })
		id := begun(t, s, m)
		require.ErrorIs(t, m.Commit(t.Context(), id), coordinator.ErrCommitPending)
		word := coordinator.Word{Who: "oscar", Reason: "maintenance"}
		_, err := s.dtm.Pause(t.Context(), id, word)
		require.NoError(t, err)
		info, err := m.Get(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, protocol.Telling, info.Phase)
		require.True(t, info.Paused)
		_, err = s.dtm.Resume(t.Context(), id, word)
		require.NoError(t, err)
		s.b.does(nil, nil)
		require.Eventually(t, func() bool { return m.Commit(t.Context(), id) == nil }, time.Minute, time.Millisecond)
	})
}

func TestAHeuristicOutcome(t *testing.T) {
	eachManager(t, func(t *testing.T, s *site, m coordinator.Manager) {
		s.b.does(nil, func(context.Context, participant.Branch) error {
			return &participant.HeuristicError{Outcome: participant.OutcomeHeuristicRollback, Err: errors.New("lost patience")}
		})
		id := begun(t, s, m)
		err := m.Commit(t.Context(), id)
		var heuristic *coordinator.HeuristicError
		require.ErrorAs(t, err, &heuristic)
		require.Equal(t, id, heuristic.Tx)
		require.Equal(t, record.DecisionCommit, heuristic.Decision)
		require.Equal(t, participant.OutcomeHeuristicMixed, heuristic.Outcome)
		require.Len(t, heuristic.Branches, 1)
		require.Contains(t, heuristic.Branches[0], "bank_b")
		require.NotErrorIs(t, err, coordinator.ErrRolledBack)
	})
}

func TestWhatWasNeverAsked(t *testing.T) {
	eachManager(t, func(t *testing.T, s *site, m coordinator.Manager) {
		nobody := participant.TxID{Term: participant.NewTerm(9, 9), UUID: uuid.New()}
		require.ErrorIs(t, m.Commit(t.Context(), nobody), coordinator.ErrNotFound)
		require.ErrorIs(t, m.Rollback(t.Context(), nobody), coordinator.ErrNotFound)
		_, err := m.Get(t.Context(), nobody)
		require.ErrorIs(t, err, coordinator.ErrNotFound)
		id := begin(t, m)
		require.ErrorIs(t, m.Enlist(t.Context(), id, nil), participant.ErrInvalidParticipant)
		require.ErrorIs(t, m.Enlist(t.Context(), id, &bank{name: "a b"}), participant.ErrInvalidParticipant)
		require.Error(t, m.Enlist(t.Context(), id, s.a, coordinator.WithData(make([]byte, participant.MaxData+1))))
		require.NoError(t, m.Commit(t.Context(), id))
		require.ErrorIs(t, m.Enlist(t.Context(), id, s.a), coordinator.ErrSealed)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = m.Begin(ctx)
		require.ErrorIs(t, err, context.Canceled)
		_, err = m.Begin(t.Context(), coordinator.WithTimeout(-1))
		require.Error(t, err)
	})
}

func TestSubmit(t *testing.T) {
	eachManager(t, func(t *testing.T, s *site, m coordinator.Manager) {
		both := []coordinator.Enlistment{{Participant: s.a, Data: []byte("1")}, {Participant: s.b}}
		id, err := m.Submit(t.Context(), both, coordinator.WithRequestID("r1"))
		require.NoError(t, err)
		again, err := m.Submit(t.Context(), both, coordinator.WithRequestID("r1"))
		require.NoError(t, err)
		require.Equal(t, id, again)
		require.Equal(t, []string{"prepare 1", "commit 1"}, s.a.calls(), "it was done once")
		_, err = m.Submit(t.Context(), both[:1], coordinator.WithRequestID("r1"))
		require.ErrorIs(t, err, coordinator.ErrConflict)

		s.b.does(refuses, nil)
		id, err = m.Submit(t.Context(), both)
		var rolledBack *coordinator.RolledBackError
		require.ErrorAs(t, err, &rolledBack)
		require.Equal(t, id, rolledBack.Tx)
		require.Equal(t, "insufficient funds", rolledBack.Reason)
		s.b.does(nil, func(context.Context, participant.Branch) error { return errors.New("down") })
		id, err = m.Submit(t.Context(), both)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		s.b.does(nil, nil)
		require.Eventually(t, func() bool { return m.Commit(t.Context(), id) == nil }, time.Minute, time.Millisecond)
	})
}

func TestRequestIDs(t *testing.T) {
	eachManager(t, func(t *testing.T, s *site, m coordinator.Manager) {
		id := begin(t, m, coordinator.WithRequestID("r1"))
		require.Equal(t, id, begin(t, m, coordinator.WithRequestID("r1")))
		require.NotEqual(t, id, begin(t, m, coordinator.WithRequestID("r2")))
		require.NotEqual(t, begin(t, m), begin(t, m), "without one each is another")
	})
}

func TestRun(t *testing.T) {
	eachManager(t, func(t *testing.T, s *site, m coordinator.Manager) {
		var id participant.TxID
		enlist := func(ctx context.Context, tx *coordinator.Tx) error {
			id = tx.ID()
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.InDelta(t, time.Minute, time.Until(deadline), float64(10*time.Second))
			_, err := tx.Enlist(ctx, s.a, nil)
			return err
		}
		minute := coordinator.WithTimeout(time.Minute)
		require.NoError(t, m.Run(t.Context(), enlist, minute))
		require.Equal(t, []string{"prepare ", "commit "}, s.a.calls())

		s.a.does(nil, nil)
		failed := errors.New("no stock")
		err := m.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
			return errors.Join(enlist(ctx, tx), failed)
		}, minute)
		require.ErrorIs(t, err, failed)
		require.ErrorIs(t, m.Commit(t.Context(), id), coordinator.ErrRolledBack)

		require.PanicsWithValue(t, "boom", func() {
			_ = m.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
				require.NoError(t, enlist(ctx, tx))
				panic("boom")
			}, minute)
		})
		require.ErrorIs(t, m.Commit(t.Context(), id), coordinator.ErrRolledBack)

		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = m.Run(context.Background(), func(ctx context.Context, tx *coordinator.Tx) error {
				if err := enlist(ctx, tx); err != nil {
					return err
				}
				runtime.Goexit()
				return nil
			}, minute)
		}()
		<-ended
		require.ErrorIs(t, m.Commit(t.Context(), id), coordinator.ErrRolledBack)

		err = m.Run(t.Context(), func(ctx context.Context, tx *coordinator.Tx) error {
			id = tx.ID()
			<-ctx.Done()
			return context.Cause(ctx)
		}, coordinator.WithTimeout(10*time.Millisecond))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "transaction "+id.String()+" timed out")
	})
}

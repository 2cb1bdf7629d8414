package coordinator_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// R13: what is answered until the very end of an outcome's retention, and from then
// on: the recorded outcome, and then at and below the mark ErrForgotten, above it
// "rolled back", and of what is undecided that it is undecided.
func TestR13AnswersAtTheEdgeOfRetention(t *testing.T) {
	for name, c := range map[string]struct {
		config coordinator.Config
		edge   time.Duration
	}{
		"1 h":                                    {coordinator.Config{}, coordinator.DefaultRetention},
		"10 call timeouts where that is longer":  {coordinator.Config{CallTimeout: time.Hour}, 10 * time.Hour},
		"10 call timeouts where bytes are short": {coordinator.Config{RetainBytes: 1}, 10 * coordinator.DefaultCallTimeout},
	} {
		t.Run(name+", running", func(t *testing.T) {
			playWith(t, c.config, nil, func(t *testing.T, s *stage) {
				e := newEnded(t, s)
				time.Sleep(c.edge - bit)
				live := s.begin(e.at)
				_, err := s.commits(e.at) // an append, with which goes what is to go
				require.NoError(t, err)
				synctest.Wait()
				e.remembered(t, s)
				time.Sleep(bit)
				_, err = s.commits(e.at)
				require.NoError(t, err)
				synctest.Wait()
				e.forgotten(t, s)
				info := s.info(live)
				require.Equal(t, protocol.Active, info.Phase)
				require.Zero(t, info.Decision, "R13: an undecided one is undecided")
			})
		})
		t.Run(name+", opened", func(t *testing.T) {
			playWith(t, c.config, nil, func(t *testing.T, s *stage) {
				down := s.actor("down")
				down.commit = answers(errDown)
				pending, err := s.commits(down) // below the mark that is to come
				require.ErrorIs(t, err, coordinator.ErrCommitPending)
				e := newEnded(t, s)
				time.Sleep(c.edge - bit)
				s.restart(c.config, down)
				e.remembered(t, s)
				time.Sleep(bit)
				s.restart(c.config, down)
				e.forgotten(t, s)
				info := s.info(pending)
				require.Equal(t, record.DecisionCommit, info.Decision, "R13: what is not done is not forgotten")
				require.Zero(t, info.Branches[0].Outcome)
			})
		})
	}
}

const bit = time.Millisecond // what a record tells apart

// ended are transactions that ended at the same time, as many as the log drops
// together.
type ended struct {
	at         participant.Participant
	committed  []participant.TxID
	rolledBack participant.TxID
}

func newEnded(t *testing.T, s *stage) (e ended) {
	e.at = s.actor("a")
	e.rolledBack = s.begin(e.at)
	require.NoError(t, s.Rollback(t.Context(), e.rolledBack))
	for range 40 {
		id, err := s.commits(e.at)
		require.NoError(t, err)
		e.committed = append(e.committed, id)
	}
	return e
}

func (e ended) remembered(t *testing.T, s *stage) {
	t.Helper()
	for _, id := range e.committed {
		require.NoError(t, s.Commit(t.Context(), id))
		require.ErrorIs(t, s.Rollback(t.Context(), id), coordinator.ErrCommitted)
	}
	require.ErrorIs(t, s.Commit(t.Context(), e.rolledBack), coordinator.ErrRolledBack)
	require.Equal(t, record.CauseRequested, s.info(e.rolledBack).Cause)
}

func (e ended) forgotten(t *testing.T, s *stage) {
	t.Helper()
	mark := e.committed[len(e.committed)-1]
	for _, id := range append(e.committed, e.rolledBack, preceding(mark), preceding(e.rolledBack)) {
		require.ErrorIs(t, s.Commit(t.Context(), id), coordinator.ErrForgotten)
		require.ErrorIs(t, s.Rollback(t.Context(), id), coordinator.ErrForgotten)
		_, err := s.Get(t.Context(), id)
		require.ErrorIs(t, err, coordinator.ErrForgotten)
	}
	never := following(mark)
	require.ErrorIs(t, s.Commit(t.Context(), never), coordinator.ErrRolledBack)
	require.NoError(t, s.Rollback(t.Context(), never))
	require.Equal(t, record.CausePresumed, s.info(never).Cause)
}

// restart closes the coordinator and opens its log again.
func (s *stage) restart(config coordinator.Config, participants ...participant.Participant) {
	s.t.Helper()
	require.NoError(s.t, s.Close(s.t.Context()))
	require.NoError(s.t, s.store.Close())
	s.store = s.memory.Open()
	config.Domain, config.Store, config.Participants = "test", &toldStore{s.store, s.story}, participants
	dtm, err := coordinator.Open(s.t.Context(), config)
	require.NoError(s.t, err)
	s.DTM = dtm
	s.t.Cleanup(func() { _ = dtm.Close(context.Background()) }) // of a test that failed
}

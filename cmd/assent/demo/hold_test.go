package demo

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
)

// stage is a participant whose calls are held, and what was told of that.
type stage struct {
	*holding
	memory *participanttest.Memory
	told   chan Event
	branch participant.Branch
}

func newStage(at Hold, first string) stage {
	s := stage{told: make(chan Event, 1), memory: participanttest.NewStore().Participant("shop")}
	s.holding = &holding{Participant: s.memory, holds: &holds{tell: func(e Event) { s.told <- e }, byTx: map[participant.TxID]held{}}}
	s.branch = participant.Branch{
		Domain: "demo", Tx: participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.UUID{15: 1}}, Epoch: 1, Participant: "shop",
	}
	s.holds.set(s.branch.Tx, at, 7, first)
	return s
}

// requireHeld fails unless the call is reported, goes on only when it is released, and
// does not stop a second time.
func (s stage) requireHeld(t *testing.T, call func() error, before participanttest.State) {
	t.Helper()
	done := make(chan error)
	go func() { done <- call() }()
	require.Equal(t, Event{Kind: EventHeld, Number: 7, Tx: s.branch.Tx, Participant: "shop"}, <-s.told)
	require.Equal(t, before, s.memory.State(s.branch))
	s.holds.release(7)
	require.NoError(t, <-done)
	require.NoError(t, call())
	require.Empty(t, s.told)
}

func (s stage) prepare(t *testing.T) func() error {
	return func() error {
		v, err := s.Prepare(t.Context(), s.branch)
		if v != participant.VotePrepared {
			return fmt.Errorf("%s: %w", v, err)
		}
		return err
	}
}

func TestHeldVoteIsGivenOnceReleased(t *testing.T) {
	s := newStage(HoldVotes, "")
	s.requireHeld(t, s.prepare(t), participanttest.StatePrepared)
}

func TestHeldDecisionIsDeliveredOnceReleased(t *testing.T) {
	s := newStage(HoldDecision, "")
	require.NoError(t, s.prepare(t)())
	s.requireHeld(t, func() error { return s.Commit(t.Context(), s.branch) }, participanttest.StatePrepared)
	require.Equal(t, participanttest.StateCommitted, s.memory.State(s.branch))
}

func TestHalfHeldDecisionIsDeliveredToTheFirst(t *testing.T) {
	for first, before := range map[string]participanttest.State{
		"shop": participanttest.StateCommitted, "another": participanttest.StatePrepared,
	} {
		s := newStage(HoldHalf, first)
		require.NoError(t, s.prepare(t)())
		s.requireHeld(t, func() error { return s.Commit(t.Context(), s.branch) }, before)
		require.Equal(t, 1, s.memory.Effects(s.branch))
	}
}

// A call that nobody releases, or kills, ends with its context: unknown is the answer.
func TestHeldCallEndsWithItsContext(t *testing.T) {
	s := newStage(HoldVotes, "")
	ctx, cancel := context.WithCancel(t.Context())
	type answer struct {
		vote participant.Vote
		err  error
	}
	done := make(chan answer)
	go func() {
		v, err := s.Prepare(ctx, s.branch)
		done <- answer{v, err}
	}()
	<-s.told
	cancel()
	a := <-done
	require.ErrorIs(t, a.err, context.Canceled)
	require.False(t, a.vote.Valid())
}

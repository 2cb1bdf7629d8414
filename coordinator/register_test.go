package coordinator_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Participants are found by name, and it is said how each is.
func TestParticipantsAreFoundByName(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, down := s.actor("a"), s.actor("down")
		down.commit = answers(errDown)
		_, registered := s.Participant("a")
		require.False(t, registered)
		require.NoError(t, s.Register(a))
		got, registered := s.Participant("a")
		require.True(t, registered)
		require.Same(t, a, got)

		ids := make([]participant.TxID, 3)
		for i := range ids {
			ids[i], _ = s.commits(a, down)
		}
		time.Sleep(time.Minute)
		require.Equal(t, []coordinator.ParticipantInfo{
			{Name: "a", Listed: true},
			{Name: "down", Listed: true, Down: true, Undelivered: 3, LastError: errDown.Error()},
		}, s.Participants())
		hung := make(chan struct{})
		a.recast(func() { a.prepare = hangs(hung) })
		go func() { _, _ = s.Submit(t.Context(), enlistments("", a, down)) }()
		synctest.Wait()
		require.Equal(t, 1, s.Participants()[0].InFlight)
		close(hung)
		down.recast(func() { down.commit = nil })
		time.Sleep(time.Minute)
		require.Equal(t, []coordinator.ParticipantInfo{{Name: "a", Listed: true}, {Name: "down", Listed: true}}, s.Participants())
	})
	synctest.Test(t, func(t *testing.T) {
		s := newSite()
		s.leave(t, record.DecisionCommit, "bank_a", "bank_b")
		dtm := s.open(t, coordinator.Config{Participants: []participant.Participant{s.banks.Participant("bank_a")}})
		synctest.Wait()
		require.Equal(t, []coordinator.ParticipantInfo{{Name: "bank_a", Listed: true}, {Name: "bank_b", Missing: true, Undelivered: 1}}, dtm.Participants())
		require.NoError(t, dtm.Register(s.banks.Participant("bank_b")))
		require.NoError(t, dtm.WaitRecovered(t.Context()))
	})
}

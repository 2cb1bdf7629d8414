package coordinator_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

func enlistments(data string, participants ...participant.Participant) (list []coordinator.Enlistment) {
	for _, p := range participants {
		list = append(list, coordinator.Enlistment{Participant: p, Data: []byte(data)})
	}
	return list
}

// Submit is Begin, Enlist and Commit, at their price in the log.
func TestSubmitCommits(t *testing.T) {
	var enlisted []participant.Branch
	trace := &coordinator.Trace{Enlisted: func(b participant.Branch) { enlisted = append(enlisted, b) }}
	playWith(t, coordinator.Config{Trace: trace}, nil, func(t *testing.T, s *stage) {
		a, b := s.actor("a"), s.actor("b")
		id, err := s.Submit(t.Context(), enlistments("d", a, b, a), coordinator.WithName("n"), coordinator.WithOwner("o"), coordinator.WithTimeout(time.Minute))
		require.NoError(t, err)
		time.Sleep(time.Second)
		require.Equal(t, []string{"begun enlisted enlisted preparing", "decided", "completed"}, s.story.of("log"))
		require.Len(t, enlisted, 2)
		require.Equal(t, "b", enlisted[1].Participant)
		require.Equal(t, []byte("d"), enlisted[1].Data)
		info := s.info(id)
		require.Equal(t, "n", info.Name)
		require.Equal(t, "o", info.Owner)
		require.Equal(t, participant.OutcomeCommitted, info.Outcome)

		a.prepare = says(participant.VoteRefused, nil)
		id, err = s.Submit(t.Context(), enlistments("d", a, b))
		require.ErrorIs(t, err, coordinator.ErrRolledBack)
		require.Equal(t, record.DecisionRollback, s.info(id).Decision)

		id, err = s.Submit(t.Context(), nil)
		require.NoError(t, err)
		require.Empty(t, s.info(id).Branches)
	})
}

// What can't be enlisted is refused before anything is begun.
func TestSubmitRefusesWhole(t *testing.T) {
	playWith(t, coordinator.Config{MaxUndelivered: 1}, nil, func(t *testing.T, s *stage) {
		a, down := s.actor("a"), s.actor("down")
		down.commit = answers(errDown)
		_, err := s.commits(down)
		require.ErrorIs(t, err, coordinator.ErrCommitPending)
		var many []coordinator.Enlistment
		for i := range participant.MaxBranches + 1 {
			many = append(many, enlistments("", s.actor(fmt.Sprint("p", i)))...)
		}
		time.Sleep(time.Second)
		before := len(s.story.of("log"))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		for name, c := range map[string]struct {
			ctx     context.Context
			list    []coordinator.Enlistment
			is      error
			says    string
			options []coordinator.BeginOption
		}{
			"data":        {list: enlistments(string(make([]byte, participant.MaxData+1)), a), is: coordinator.ErrLimit, says: `participant "a"`},
			"branches":    {list: many, is: coordinator.ErrLimit, says: "64 branches"},
			"undelivered": {list: enlistments("", a, down), is: coordinator.ErrLimit, says: `participant "down"`},
			"twice":       {list: append(enlistments("1", a), enlistments("2", a)...), is: coordinator.ErrConflict, says: `participant "a"`},
			"nobody":      {list: make([]coordinator.Enlistment, 1), is: participant.ErrInvalidParticipant, says: "enlistment 0"},
			"name taken":  {list: enlistments("", a, s.actor("down")), is: coordinator.ErrNameTaken, says: "enlistment 1"},
			"context":     {ctx: ended, list: enlistments("", a), is: context.Canceled},
			"timeout":     {list: enlistments("", a), says: "timeout -1s", options: []coordinator.BeginOption{coordinator.WithTimeout(-time.Second)}},
		} {
			if c.ctx == nil {
				c.ctx = t.Context()
			}
			id, err := s.Submit(c.ctx, c.list, c.options...)
			require.ErrorContains(t, err, c.says, name)
			if c.is != nil {
				require.ErrorIs(t, err, c.is, name)
			}
			require.Zero(t, id, name)
		}
		time.Sleep(time.Second)
		require.Len(t, s.story.of("log"), before)
		require.Zero(t, s.story.count("a: prepare"))
		list, err := s.List(t.Context(), coordinator.Filter{Done: true})
		require.NoError(t, err)
		require.Len(t, list, 1)
	})
}

// The same request id, owner and enlistments is the same transaction, whoever submits
// it first; other enlistments are a conflict.
func TestRequestIDMakesSubmitIdempotent(t *testing.T) {
	play(t, func(t *testing.T, s *stage) {
		a, b, c, vote := s.actor("a"), s.actor("b"), s.actor("c"), make(chan struct{})
		a.prepare = hangs(vote)
		request := func(id string) coordinator.BeginOption { return coordinator.WithRequestID(id) }
		ids := make([]participant.TxID, 10)
		var wg sync.WaitGroup
		for i := range ids {
			list := enlistments("d", a, b)
			if i%2 == 1 {
				list = enlistments("d", b, a)
			}
			wg.Go(func() {
				var err error
				ids[i], err = s.Submit(t.Context(), list, request("1"))
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		list, err := s.List(t.Context(), coordinator.Filter{})
		require.NoError(t, err)
		require.Len(t, list, 1)
		require.Equal(t, protocol.Preparing, list[0].Phase)
		close(vote)
		wg.Wait()
		for range 2 { // live, and retained
			id, err := s.Submit(t.Context(), enlistments("d", a, b), request("1"))
			require.NoError(t, err)
			require.Equal(t, list[0].ID, id)
			for _, other := range [][]coordinator.Enlistment{nil, enlistments("d", a), enlistments("e", a, b), enlistments("d", a, b, c)} {
				_, err := s.Submit(t.Context(), other, request("1"))
				require.ErrorIs(t, err, coordinator.ErrConflict)
				require.ErrorContains(t, err, id.String())
			}
			_, err = s.Begin(t.Context(), request("1"))
			require.ErrorIs(t, err, coordinator.ErrConflict)
			time.Sleep(time.Minute)
		}
		for _, id := range ids {
			require.Equal(t, list[0].ID, id)
		}
		require.Equal(t, 1, s.story.count("a: prepare"))
		s.beginWith([]coordinator.BeginOption{request("2")})
		_, err = s.Submit(t.Context(), nil, request("2"))
		require.ErrorIs(t, err, coordinator.ErrConflict)

		a.recast(func() { a.prepare = says(participant.VoteRefused, nil) })
		for range 2 {
			id, err := s.Submit(t.Context(), enlistments("d", a), request("3"))
			require.ErrorIs(t, err, coordinator.ErrRolledBack)
			require.NotZero(t, id)
		}
	})
}

// Whatever a crash leaves of a Submit, the same request again finds it or does it; it
// is never done twice.
func TestSubmitIsIdempotentAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		both, other := []string{"bank_a", "bank_b"}, []string{"bank_a"}
		submit := func(l *life, names []string) (participant.TxID, error) {
			var list []coordinator.Enlistment
			for _, name := range names {
				list = append(list, coordinator.Enlistment{Participant: l.participant(name), Data: []byte(work)})
			}
			return l.dtm.Submit(t.Context(), list, coordinator.WithRequestID("1"))
		}
		steps := 0
		for step := 1; steps == 0 || step <= steps; step++ {
			s := newSite()
			l := s.start(t, death{step: 1 << 30}, everyBank...)
			opened := len(l.steps)
			if steps == 0 {
				_, err := submit(l, both)
				require.NoError(t, err)
				steps = len(l.steps) - opened
			} else {
				l.death = death{step: opened + step, applied: step%2 == 0}
				_, _ = submit(l, both)
			}
			l.kill()

			var ids []participant.TxID
			for range 2 {
				l = s.start(t, death{}, everyBank...)
				id, err := submit(l, both)
				if err != nil {
					require.ErrorIs(t, err, coordinator.ErrRolledBack, "step %d", step)
				}
				ids = append(ids, id)
				_, err = submit(l, other)
				require.ErrorIs(t, err, coordinator.ErrConflict)
				require.NoError(t, l.dtm.WaitRecovered(t.Context()))
				all, err := l.dtm.List(t.Context(), coordinator.Filter{Done: true})
				require.NoError(t, err)
				require.Len(t, all, 1, "step %d", step)
				l.kill()
			}
			require.Equal(t, ids[0], ids[1])
		}
		require.Greater(t, steps, 4)
	})
}

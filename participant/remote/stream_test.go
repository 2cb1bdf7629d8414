package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"connectrpc.com/connect/v2"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

// newHubSite returns a site in a bubble of synctest, which ends with it.
func newHubSite(t *testing.T, change ...func(*HubConfig)) *hubSite {
	t.Helper()
	cfg := HubConfig{Domain: "orders"}
	for _, f := range change {
		f(&cfg)
	}
	hub, err := NewHub(cfg)
	require.NoError(t, err)
	s := &hubSite{hub: hub}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		require.NoError(t, hub.Close(ctx))
		s.all.Wait()
	})
	return s
}

func (s *hubSite) participant(t *testing.T, name string) participant.Participant {
	t.Helper()
	p, err := s.hub.Participant(name, false, false)
	require.NoError(t, err)
	return p
}

// serve attaches an instance; the returned function has it leave and waits for that.
func (s *hubSite) serve(t *testing.T, p participant.Participant, instance string) (leave func()) {
	t.Helper()
	attached, leave := s.serveLater(t, p, instance)
	<-attached
	return leave
}

// serveLater does not wait until the instance is attached; attached tells.
func (s *hubSite) serveLater(t *testing.T, p participant.Participant, instance string) (attached <-chan struct{}, leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	first := make(chan struct{})
	once := sync.OnceFunc(func() { close(first) })
	go func() {
		ended <- ServeStream(ctx, StreamConfig{
			Participant: p, Instance: instance, Open: s.open, OnAttached: once,
		})
	}()
	leave = sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	t.Cleanup(leave)
	return first, leave
}

// newBranch returns a branch that no other test has.
func newBranch(name string) participant.Branch {
	return participant.Branch{
		Domain: "orders", Tx: participant.TxID{Term: participant.NewTerm(1, 7), UUID: uuid.Must(uuid.NewV7())}, Epoch: 1, Participant: name,
		Data: []byte("data"),
	}
}

// recorder is a participant that remembers its calls, and does what its functions say.
type recorder struct {
	name     string
	prepare  func(ctx context.Context, b participant.Branch) (participant.Vote, error)
	commit   func(ctx context.Context, b participant.Branch) error
	rollback func(ctx context.Context, b participant.Branch) error

	mu    sync.Mutex
	calls []string
}

func (r *recorder) note(verb string, b participant.Branch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf("%s %s", verb, b.Data))
}

func (r *recorder) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.calls...)
}

func (r *recorder) Name() string { return r.name }

func (r *recorder) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	r.note("prepare", b)
	if r.prepare != nil {
		return r.prepare(ctx, b)
	}
	return participant.VotePrepared, nil
}

func (r *recorder) Commit(ctx context.Context, b participant.Branch) error {
	r.note("commit", b)
	if r.commit != nil {
		return r.commit(ctx, b)
	}
	return nil
}

func (r *recorder) Rollback(ctx context.Context, b participant.Branch) error {
	r.note("rollback", b)
	if r.rollback != nil {
		return r.rollback(ctx, b)
	}
	return nil
}

func TestAnAttachedInstanceAnswersItsParticipantsCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		var got participant.Branch
		bank := &recorder{name: "bank"}
		bank.prepare = func(ctx context.Context, b participant.Branch) (participant.Vote, error) {
			got = b
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.InDelta(t, 3*time.Second, time.Until(deadline), float64(10*time.Millisecond))
			require.Equal(t, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Traceparent(ctx))
			return participant.VotePrepared, nil
		}
		s.participant(t, "bank")
		s.serve(t, bank, "one")
		require.Equal(t, []string{"one"}, s.hub.Instances("bank"))

		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		ctx = WithTraceparent(ctx, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		b := newBranch("bank")
		b.Deadline = time.Now().Add(time.Hour).UTC()
		p := s.participant(t, "bank")
		vote, err := p.Prepare(ctx, b)
		require.NoError(t, err)
		require.Equal(t, participant.VotePrepared, vote)
		require.Equal(t, b.XID(), got.XID())
		require.True(t, b.Deadline.Equal(got.Deadline))
		require.NoError(t, p.Commit(ctx, b))
		require.NoError(t, p.Rollback(ctx, newBranch("bank")))
		require.Equal(t, []string{"prepare data", "commit data", "rollback data"}, bank.seen())
	})
}

func TestWhatAnInstanceSaysIsWhatItsParticipantReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		bank := &recorder{name: "bank"}
		p := s.participant(t, "bank")
		s.serve(t, bank, "one")
		for name, returned := range map[string]error{
			"heuristic": &participant.HeuristicError{Outcome: participant.OutcomeHeuristicRollback, Err: errors.New("lost patience")},
			"unknown":   participant.ErrUnknownBranch,
			"config":    fmt.Errorf("set it: %w", participant.ErrConfig),
			"stale":     participant.ErrStaleEpoch,
			"other":     errors.New("disk is full"),
		} {
			bank.commit = func(context.Context, participant.Branch) error { return returned }
			err := p.Commit(t.Context(), newBranch("bank"))
			require.ErrorContains(t, err, returned.Error(), name)
			for _, is := range []error{participant.ErrUnknownBranch, participant.ErrConfig, participant.ErrStaleEpoch} {
				require.Equal(t, errors.Is(returned, is), errors.Is(err, is), name)
			}
			var heuristic *participant.HeuristicError
			require.Equal(t, name == "heuristic", errors.As(err, &heuristic), name)
		}
		bank.commit = func(context.Context, participant.Branch) error { panic("boom") }
		require.ErrorContains(t, p.Commit(t.Context(), newBranch("bank")), "participant panicked: boom")
		bank.prepare = func(context.Context, participant.Branch) (participant.Vote, error) {
			return participant.VoteRefused, errors.New("no money")
		}
		vote, err := p.Prepare(t.Context(), newBranch("bank"))
		require.Equal(t, participant.VoteRefused, vote)
		require.ErrorContains(t, err, "no money")
	})
}

func TestWithoutAnInstanceACallWaitsForOneUntilItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		b := newBranch("bank")
		vote, err := p.Prepare(ctx, b)
		require.False(t, vote.Valid(), "R4: unknown")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorContains(t, err, "no instance is attached")
		require.ErrorContains(t, err, string(b.XID()))

		done := make(chan error)
		go func() { done <- p.Commit(t.Context(), b) }()
		synctest.Wait()
		bank := &recorder{name: "bank"}
		s.serve(t, bank, "one")
		require.NoError(t, <-done)
		require.Equal(t, []string{"commit data"}, bank.seen(), "the Prepare was given up")
	})
}

func TestTheHubRefusesInstancesThatItCantUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		_, err := s.hub.Participant("ledger", true, false)
		require.NoError(t, err)
		for name, code := range map[string]connect.Code{"nobody": connect.CodeNotFound, "ledger": connect.CodeFailedPrecondition} {
			err := ServeStream(t.Context(), StreamConfig{Participant: &recorder{name: name}, Open: s.open})
			require.Equal(t, code, connect.CodeOf(err), "%v", err)
			require.ErrorContains(t, err, name)
		}
	})
}

// A coordinator that another one has taken over from is refused (R9).
func TestAnInstanceRefusesALowerEpoch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		bank := &recorder{name: "bank"}
		s.serve(t, bank, "one")
		b := newBranch("bank")
		b.Epoch = 2
		require.NoError(t, p.Commit(t.Context(), b))
		b.Epoch = 1
		vote, err := p.Prepare(t.Context(), b)
		require.False(t, vote.Valid())
		require.ErrorIs(t, err, participant.ErrStaleEpoch)
		require.ErrorIs(t, p.Rollback(t.Context(), b), participant.ErrStaleEpoch)
		require.Len(t, bank.seen(), 1)
	})
}

func TestAnInstanceRefusesAnothersCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := newPipe()
		bank := &recorder{name: "bank"}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			ended <- ServeStream(ctx, StreamConfig{Participant: bank, Open: func(context.Context) (ClientStream, error) { return clientEnd{conn}, nil }})
		}()
		server := serverEnd{conn}
		_, err := server.Receive()
		require.NoError(t, err)
		require.NoError(t, server.Send(&assentv1.AttachResponse{Message: &assentv1.AttachResponse_Welcome{Welcome: &assentv1.Welcome{}}}))
		ask := func(call *assentv1.ParticipantCall) *assentv1.ParticipantFailure {
			require.NoError(t, server.Send(&assentv1.AttachResponse{Message: &assentv1.AttachResponse_Calls{
				Calls: &assentv1.ParticipantCalls{Calls: []*assentv1.ParticipantCall{call}},
			}}))
			request, err := server.Receive()
			require.NoError(t, err)
			return request.GetAnswers().GetAnswers()[0].GetFailure()
		}
		commit := func(b *assentv1.BranchRef) *assentv1.ParticipantCall_Commit {
			return &assentv1.ParticipantCall_Commit{Commit: &assentv1.ParticipantServiceCommitRequest{Branch: b}}
		}
		require.True(t, ask(&assentv1.ParticipantCall{Id: 1, Call: commit(newBranchRef(newBranch("other")))}).GetMisconfigured())
		require.Contains(t, ask(&assentv1.ParticipantCall{Id: 2, Call: commit(nil)}).GetMessage(), "can't be read")
		require.Contains(t, ask(&assentv1.ParticipantCall{Id: 3}).GetMessage(), "older than the server")
		require.Empty(t, bank.seen())
		go func() { // as a server does when its instance leaves
			for err == nil {
				_, err = server.Receive()
			}
			conn.kill(err)
		}()
		cancel()
		require.NoError(t, <-ended)
	})
}

package remote

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"connectrpc.com/connect/v2"

	assentv1 "github.com/assent-tm/assent/coordinator/api/assent/v1"
	"github.com/assent-tm/assent/participant"
)

func hello(participant, instance string) *assentv1.AttachRequest {
	return &assentv1.AttachRequest{Message: &assentv1.AttachRequest_Hello{
		Hello: &assentv1.Hello{Participant: participant, Instance: instance, Lists: true, Forgets: true},
	}}
}

// attach attaches by hand.
func (s *hubSite) attach(t *testing.T, participant, instance string) ClientStream {
	t.Helper()
	conn, err := s.open(t.Context())
	require.NoError(t, err)
	require.NoError(t, conn.Send(hello(participant, instance)))
	first, err := conn.Receive()
	require.NoError(t, err)
	require.NotNil(t, first.GetWelcome())
	return conn
}

// R12: what waits for instances is bounded, and the error says by what.
func TestCallsThatWaitAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t, func(cfg *HubConfig) { cfg.MaxCalls = 3 })
		p := s.participant(t, "bank")
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() { _ = p.Commit(ctx, newBranch("bank")) })
		}
		synctest.Wait()
		require.ErrorContains(t, p.Commit(t.Context(), newBranch("bank")), "HubConfig.MaxCalls")
		cancel()
		all.Wait()
		attached := s.hub.participant("bank")
		attached.mu.Lock()
		defer attached.mu.Unlock()
		require.Empty(t, attached.calls)
		require.Empty(t, attached.waiting.takeAll())
	})
}

// R12: an instance that never answers what was withdrawn is given up.
func TestWithdrawnCallsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t, func(cfg *HubConfig) { cfg.MaxCalls = 3 })
		p := s.participant(t, "bank")
		silent := s.attach(t, "bank", "one")
		ended := make(chan error)
		go func() { // reads all the while: what was not sent yet is not the instance's to answer
			for {
				if _, err := silent.Receive(); err != nil {
					ended <- err
					return
				}
			}
		}()
		for range 4 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			require.ErrorIs(t, p.Commit(ctx, newBranch("bank")), context.DeadlineExceeded)
			cancel()
		}
		err := <-ended
		require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err), "%v", err)
	})
}

// R12.
func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t, func(cfg *HubConfig) { cfg.MaxStreams = 2 })
		s.participant(t, "bank")
		s.attach(t, "bank", "one")
		two := s.attach(t, "bank", "two")
		three, err := s.open(t.Context())
		require.NoError(t, err)
		_ = three.Send(hello("bank", "three"))
		_, err = three.Receive()
		require.Equal(t, connect.CodeResourceExhausted, connect.CodeOf(err), "%v", err)
		require.NoError(t, two.Close())
		synctest.Wait()
		s.attach(t, "bank", "three")
		s.killAll()
	})
}

// R12.
func TestCallsThatAnInstanceMakesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		goOn := make(chan struct{})
		bank := &recorder{name: "bank", commit: func(context.Context, participant.Branch) error {
			<-goOn
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- ServeStream(ctx, StreamConfig{Participant: bank, Open: s.open, MaxCalls: 2}) }()
		answers := make(chan error)
		for range 3 {
			go func() { answers <- p.Commit(t.Context(), newBranch("bank")) }()
			synctest.Wait()
		}
		require.ErrorContains(t, <-answers, "2 calls to make, which is its limit")
		close(goOn)
		require.NoError(t, <-answers)
		require.NoError(t, <-answers)
		cancel()
		require.NoError(t, <-ended)
	})
}

func TestWhatIsNotOfTheProtocolEndsTheStream(t *testing.T) {
	answers := &assentv1.AttachRequest{Message: &assentv1.AttachRequest_Answers{}}
	for name, c := range map[string]struct {
		sent []*assentv1.AttachRequest
		code connect.Code
		says string
	}{
		"no hello":       {[]*assentv1.AttachRequest{answers}, connect.CodeInvalidArgument, "is a hello"},
		"nothing in it":  {[]*assentv1.AttachRequest{{}}, connect.CodeInvalidArgument, "is a hello"},
		"two hellos":     {[]*assentv1.AttachRequest{hello("bank", "one"), hello("bank", "one")}, connect.CodeInvalidArgument, "are answers"},
		"bad instance":   {[]*assentv1.AttachRequest{hello("bank", "a b")}, connect.CodeInvalidArgument, `instance "a b"`},
		"empty instance": {[]*assentv1.AttachRequest{hello("bank", "")}, connect.CodeInvalidArgument, `instance ""`},
		"unknown":        {[]*assentv1.AttachRequest{hello("nobody", "one")}, connect.CodeNotFound, `"nobody"`},
		"silent":         {nil, connect.CodeDeadlineExceeded, "no hello"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newHubSite(t)
				s.participant(t, "bank")
				conn, err := s.open(t.Context())
				require.NoError(t, err)
				for _, m := range c.sent {
					_ = conn.Send(m)
				}
				for err == nil {
					_, err = conn.Receive()
				}
				require.Equal(t, c.code, connect.CodeOf(err), "%v", err)
				require.ErrorContains(t, err, c.says)
				synctest.Wait()
				require.Empty(t, s.hub.Instances("bank"))
			})
		})
	}
}

// Answers to what was never asked, to another call than was asked, or without anything
// in them, are no answers.
func TestStrangeAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p := s.participant(t, "bank")
		conn := s.attach(t, "bank", "one")
		answer := func(all ...*assentv1.ParticipantAnswer) {
			require.NoError(t, conn.Send(&assentv1.AttachRequest{Message: &assentv1.AttachRequest_Answers{
				Answers: &assentv1.ParticipantAnswers{Answers: all},
			}}))
		}
		answer(&assentv1.ParticipantAnswer{Id: 99}, nil, &assentv1.ParticipantAnswer{})
		for _, strange := range []*assentv1.ParticipantAnswer{
			{},
			{Answer: &assentv1.ParticipantAnswer_Rollback{}},
			{Answer: &assentv1.ParticipantAnswer_Commit{}},
			{Answer: &assentv1.ParticipantAnswer_Failure{}},
			{Answer: &assentv1.ParticipantAnswer_Prepare{}},
		} {
			answered := make(chan error)
			go func() { answered <- p.Commit(t.Context(), newBranch("bank")) }()
			calls, err := conn.Receive()
			require.NoError(t, err)
			strange.Id = calls.GetCalls().GetCalls()[0].GetId()
			answer(strange, strange)
			err = <-answered
			require.Error(t, err)
			require.NotErrorIs(t, err, participant.ErrUnknownBranch)
		}

		// Nor are those to what another instance was asked.
		other := s.attach(t, "bank", "two")
		answered := make(chan error)
		go func() { answered <- p.Commit(t.Context(), affine(t, p, "two")) }()
		calls, err := other.Receive()
		require.NoError(t, err)
		right := &assentv1.ParticipantAnswer{
			Id: calls.GetCalls().GetCalls()[0].GetId(), Answer: &assentv1.ParticipantAnswer_Commit{Commit: &assentv1.ParticipantServiceCommitResponse{
				State: assentv1.BranchState_BRANCH_STATE_COMMITTED,
			}},
		}
		answer(right)
		synctest.Wait()
		select {
		case err := <-answered:
			t.Errorf("it was answered: %v", err)
		default:
		}
		require.NoError(t, other.Send(&assentv1.AttachRequest{Message: &assentv1.AttachRequest_Answers{
			Answers: &assentv1.ParticipantAnswers{Answers: []*assentv1.ParticipantAnswer{right}},
		}}))
		require.NoError(t, <-answered)
		require.NoError(t, conn.Close())
		require.NoError(t, other.Close())
	})
}

func TestInvalidHubsAndStreams(t *testing.T) {
	for _, cfg := range []HubConfig{{}, {Domain: "UPPER"}, {Domain: "a", MaxCalls: -1}, {Domain: "a", MaxStreams: -1}} {
		_, err := NewHub(cfg)
		require.Error(t, err)
	}
	hub, err := NewHub(HubConfig{Domain: "a"})
	require.NoError(t, err)
	_, err = hub.Participant("a b", false, false)
	require.ErrorIs(t, err, participant.ErrInvalidParticipant)
	p, err := hub.Participant("bank", true, true)
	require.NoError(t, err)
	again, err := hub.Participant("bank", true, true)
	require.NoError(t, err)
	require.True(t, p == again, "the same each time")
	_, err = hub.Participant("bank", true, false)
	require.ErrorIs(t, err, participant.ErrNameTaken)
	require.NoError(t, hub.Close(t.Context()))

	open := func(context.Context) (ClientStream, error) { return nil, errors.New("no") }
	bank := &recorder{name: "bank"}
	for _, cfg := range []StreamConfig{
		{},
		{Participant: bank},
		{Open: open},
		{Participant: bank, Open: open, Instance: "a b"},
		{Participant: bank, Open: open, MaxCalls: -1},
		{Participant: bank, Open: open, LeaveTime: -1},
	} {
		require.Error(t, ServeStream(t.Context(), cfg))
	}
}

// lister is a participant that lists and forgets.
type lister struct {
	recorder
	listing   participant.Listing
	err       error
	forgotten map[string]int // by data
}

func (l *lister) List(context.Context, string) (participant.Listing, error) { return l.listing, l.err }

func (l *lister) Forget(_ context.Context, branches []participant.Branch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range branches {
		l.forgotten[string(b.Data[:1])]++
	}
	return l.err
}

func TestListAndForget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newHubSite(t)
		p, err := s.hub.Participant("bank", true, true)
		require.NoError(t, err)
		one := &lister{recorder: recorder{name: "bank"}, forgotten: map[string]int{}}
		two := &lister{recorder: recorder{name: "bank"}, forgotten: map[string]int{}}
		s.serve(t, one, "one")
		list, forget := p.(participant.Lister).List, p.(participant.Forgetter).Forget

		b := newBranch("bank")
		one.listing = participant.Listing{
			Prepared: []participant.Branch{{Domain: "orders", Tx: b.Tx, Number: 3, Participant: "bank"}}, Highest: []participant.TxID{b.Tx},
		}
		got, err := list(t.Context(), "orders")
		require.NoError(t, err)
		require.Equal(t, one.listing, got)
		one.err = errors.New("no disk")
		_, err = list(t.Context(), "orders")
		require.ErrorContains(t, err, "no disk")
		one.err = nil
		one.listing.Prepared = make([]participant.Branch, 80_000)
		for i := range one.listing.Prepared {
			one.listing.Prepared[i] = participant.Branch{Domain: "orders", Tx: participant.TxID{Term: b.Tx.Term, UUID: uuid.New()}}
		}
		_, err = list(t.Context(), "orders")
		require.ErrorContains(t, err, "80000 prepared branches", "R10: half a list is none")

		s.serve(t, two, "two")
		var branches []participant.Branch
		for n := range 2000 { // more than one frame takes
			b := newBranch("bank")
			of := []string{"one", "two"}[n%2]
			b.Data, err = WithInstance(p, of, []byte(of[:1]+strings.Repeat("x", 2000)))
			require.NoError(t, err)
			branches = append(branches, b)
		}
		require.NoError(t, forget(t.Context(), branches))
		require.Equal(t, map[string]int{"o": 1000}, one.forgotten)
		require.Equal(t, map[string]int{"t": 1000}, two.forgotten)
		two.err = errors.New("no disk")
		require.ErrorContains(t, forget(t.Context(), branches), "no disk")
	})
}

func TestDataIsTheSameWithAnInstance(t *testing.T) {
	hub, err := NewHub(HubConfig{Domain: "a"})
	require.NoError(t, err)
	p, err := hub.Participant("bank", true, false)
	require.NoError(t, err)
	rapid.Check(t, func(t *rapid.T) {
		instance := rapid.StringMatching(`[A-Za-z0-9._-]{0,64}`).Draw(t, "instance")
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		if rapid.Bool().Draw(t, "marked") {
			data = append([]byte(instanceMark), data...)
		}
		marked, err := WithInstance(p, instance, data)
		require.NoError(t, err)
		gotInstance, got := splitInstance(marked)
		require.Equal(t, instance, gotInstance)
		require.Equal(t, string(data), string(got))
	})
	_, err = WithInstance(p, "a b", nil)
	require.ErrorContains(t, err, `instance "a b"`)
	_, err = WithInstance(&recorder{name: "here"}, "one", nil)
	require.ErrorContains(t, err, `"here" has no attached instances`)
	data, err := WithInstance(&recorder{name: "here"}, "", []byte(instanceMark))
	require.NoError(t, err)
	require.Equal(t, instanceMark, string(data))
	require.NoError(t, hub.Close(t.Context()))
}

// FuzzSplitInstance: whatever a branch's data is, it can be split, and what is split off
// fits into it.
func FuzzSplitInstance(f *testing.F) {
	for _, seed := range []string{"", "data", instanceMark, instanceMark + "\x03one", instanceMark + "\x03onedata", instanceMark + "\xffone"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, marked []byte) {
		instance, data := splitInstance(marked)
		require.LessOrEqual(t, len(instance)+len(data), len(marked))
		require.True(t, strings.HasSuffix(string(marked), string(data)))
	})
}

package participanttest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
)

func TestMain(m *testing.M) {
	Main(bankSubject)
	goleak.VerifyTestMain(m)
}

// The reference keeps every rule, and nothing is left untried.
func TestMemory(t *testing.T) {
	store := NewStore()
	Test(t, store.Subject("bank_a"))
	for _, c := range Cases() {
		if needsProcesses(c) {
			continue
		}
		require.NoError(t, c.Run(t.Context(), store.Subject("bank_b")), "%s must be applicable to the reference", c.Name)
	}
	for _, e := range store.Participant("bank_a").Entries() {
		require.NotEqual(t, StatePrepared, e.State, "%s was not cleaned up", e.Branch.XID())
	}
}

// Cases may share a participant and overlap.
func TestCasesOverlap(t *testing.T) {
	subject := NewStore().Subject("bank_a")
	for _, c := range Cases() {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			if !needsProcesses(c) {
				require.NoError(t, c.Run(t.Context(), subject))
			}
		})
	}
}

func TestCasesAreNamedAndRuled(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Cases() {
		require.Empty(t, strings.Trim(c.Name, "abcdefghijklmnopqrstuvwxyz-"), c.Name)
		require.False(t, seen[c.Name], "%s is there twice", c.Name)
		seen[c.Name] = true
		require.NotEmpty(t, c.Rule, c.Name)
	}
}

// A subject that can't tell effects passes where its answers do, and nothing more is
// claimed; a wrong answer is still found.
func TestEffectsThatNobodySees(t *testing.T) {
	subject := NewStore().Subject("bank_a")
	subject.Visible = func(context.Context, participant.Branch) (bool, error) { return false, ErrUnseen }
	unseen := 0
	for _, c := range Cases() {
		if needsProcesses(c) {
			continue
		}
		if err := c.Run(t.Context(), subject); err != nil {
			require.ErrorIs(t, err, ErrUnseen, c.Name)
			unseen++
		}
	}
	require.Greater(t, unseen, 20)

	whole := subject.New
	subject.New = func(ctx context.Context) (participant.Participant, error) {
		p, err := whole(ctx)
		return deafToPrepare{p}, err
	}
	err := caseNamed(t, "commit-shows").Run(t.Context(), subject)
	require.ErrorContains(t, err, "want prepared")
	require.NotErrorIs(t, err, ErrUnseen)
}

func caseNamed(t *testing.T, name string) Case {
	t.Helper()
	for _, c := range Cases() {
		if c.Name == name {
			return c
		}
	}
	require.Fail(t, "there is no case "+name)
	return Case{}
}

type deafToPrepare struct{ participant.Participant }

func (deafToPrepare) Prepare(context.Context, participant.Branch) (participant.Vote, error) {
	return 0, errors.New("deaf")
}

// bare is a participant of the three obligatory methods.
type bare struct{ participant.Participant }

func TestOptionalCasesAreNotApplicableToABareParticipant(t *testing.T) {
	subject := NewStore().Subject("bank_a")
	subject.Begin, subject.Refuse, subject.Restart, subject.KeepsEpoch = nil, nil, nil, false
	whole := subject.New
	subject.New = func(ctx context.Context) (participant.Participant, error) {
		p, err := whole(ctx)
		return &bare{p}, err
	}
	Test(t, subject)

	var lacking []string
	for _, c := range Cases() {
		if err := c.Run(t.Context(), subject); err != nil {
			require.ErrorIs(t, err, ErrNotApplicable, c.Name)
			lacking = append(lacking, c.Name)
		}
	}
	require.ElementsMatch(t, []string{
		"refused", "processes-overlap", "stale-epoch", "list-prepared", "list-highest",
		"one-phase", "one-phase-after-rollback", "one-phase-refused", "forget", "commit-after-forget", "check", "explain",
		"begun-after-restart", "prepare-during-restart", "commit-after-restart", "rollback-after-restart",
		"finish-during-restart", "repeat-after-restart", "one-phase-during-restart",
		"begun-after-kill", "prepare-during-kill", "commit-after-kill", "rollback-after-kill",
		"finish-during-kill", "repeat-after-kill", "one-phase-during-kill",
	}, lacking)
}

// A subject that can't be reached fails every case, and is never taken for one
// that keeps the rules.
func TestUnreachableSubjectFailsEveryCase(t *testing.T) {
	down := errors.New("connection refused")
	good := NewStore().Subject("bank_a")
	for what, change := range map[string]func(*Subject){
		"no New":     func(s *Subject) { s.New = nil },
		"no Visible": func(s *Subject) { s.Visible = nil },
		"bad domain": func(s *Subject) { s.Domain = "Bank" },
		"long domain": func(s *Subject) {
			s.Domain = strings.Repeat("a", maxSubjectDomain+1)
		},
		"New fails": func(s *Subject) {
			s.New = func(context.Context) (participant.Participant, error) { return nil, down }
		},
		"New returns nil": func(s *Subject) {
			s.New = func(context.Context) (participant.Participant, error) { return nil, nil }
		},
	} {
		subject := good
		change(&subject)
		for _, c := range Cases() {
			if needsProcesses(c) {
				continue
			}
			err := c.Run(t.Context(), subject)
			require.Error(t, err, "%s: %s", what, c.Name)
			require.NotErrorIs(t, err, ErrNotApplicable, "%s: %s", what, c.Name)
		}
	}
}

// closing counts how its instances end.
type closing struct {
	*Memory
	open *int
}

func (c closing) Close() error { *c.open--; return nil }

func TestInstancesAreClosed(t *testing.T) {
	store, open, made := NewStore(), 0, 0
	subject := store.Subject("bank_a")
	subject.New = func(context.Context) (participant.Participant, error) {
		open++
		made++
		return closing{store.Participant("bank_a"), &open}, nil
	}
	Test(t, subject)
	require.Zero(t, open)
	require.NotZero(t, made)
}

// A participant.Func over a service that knows transactions by their id alone
// keeps the contract as well as the service does.
func TestFunc(t *testing.T) {
	service := NewStore().Participant("service")
	record := func(tx participant.TxID) participant.Branch { return participant.Branch{Domain: "service", Tx: tx} }
	bank := participant.Func("bank_a",
		func(ctx context.Context, tx participant.TxID) (bool, error) {
			vote, err := service.Prepare(ctx, record(tx))
			return vote == participant.VotePrepared, err
		},
		func(ctx context.Context, tx participant.TxID) error { return service.Commit(ctx, record(tx)) },
		func(ctx context.Context, tx participant.TxID) error { return service.Rollback(ctx, record(tx)) },
	)
	Test(t, Subject{
		New: func(context.Context) (participant.Participant, error) { return bank, nil },
		Visible: func(_ context.Context, b participant.Branch) (bool, error) {
			return service.Effects(record(b.Tx)) == 1, nil
		},
	})
}

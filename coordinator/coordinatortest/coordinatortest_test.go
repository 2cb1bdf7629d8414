package coordinatortest

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestMemory(t *testing.T) { Test(t, participanttest.NewStore().Subject("shop")) }

// broken is a Memory with a defect.
type broken struct {
	*participanttest.Memory
	prepare          func(context.Context, participant.Branch) (participant.Vote, error)
	commit, onePhase func(context.Context, participant.Branch) error
	rollback         func(context.Context, participant.Branch) error
}

func (b *broken) Prepare(ctx context.Context, of participant.Branch) (participant.Vote, error) {
	if b.prepare != nil {
		return b.prepare(ctx, of)
	}
	return b.Memory.Prepare(ctx, of)
}

func (b *broken) Commit(ctx context.Context, of participant.Branch) error {
	if b.commit != nil {
		return b.commit(ctx, of)
	}
	return b.Memory.Commit(ctx, of)
}

func (b *broken) Rollback(ctx context.Context, of participant.Branch) error {
	if b.rollback != nil {
		return b.rollback(ctx, of)
	}
	return b.Memory.Rollback(ctx, of)
}

func (b *broken) CommitOnePhase(ctx context.Context, of participant.Branch) error {
	if b.onePhase != nil {
		return b.onePhase(ctx, of)
	}
	return b.Memory.CommitOnePhase(ctx, of)
}

// Every case can fail: these participants are found by it.
func TestEveryCaseFindsABrokenParticipant(t *testing.T) {
	prepareAndCommit := func(b *broken) func(context.Context, participant.Branch) error {
		return func(ctx context.Context, of participant.Branch) error {
			_, err := b.Memory.Prepare(ctx, of)
			return errors.Join(err, b.Memory.Commit(ctx, of))
		}
	}
	nothing := func(context.Context, participant.Branch) error { return nil }
	for name, spoil := range map[string]func(*broken){
		"commit":     func(b *broken) { b.commit = nothing },
		"work-fails": func(b *broken) { b.rollback = prepareAndCommit(b) },
		"refused": func(b *broken) {
			b.prepare = func(ctx context.Context, of participant.Branch) (participant.Vote, error) {
				of.Data = nil
				return b.Memory.Prepare(ctx, of)
			}
		},
		"alone":               func(b *broken) { b.onePhase = nothing },
		"R10-orphan":          func(b *broken) { b.rollback = prepareAndCommit(b) },
		"restarts-under-load": func(b *broken) { b.commit = nothing },
	} {
		t.Run(name, func(t *testing.T) {
			subject := participanttest.NewStore().Subject("shop")
			whole := subject.New
			subject.New = func(ctx context.Context) (participant.Participant, error) {
				p, err := whole(ctx)
				b := &broken{Memory: p.(*participanttest.Memory)}
				spoil(b)
				return b, err
			}
			err := atSite(t.Context(), t.TempDir(), subject, cases[name])
			require.Error(t, err)
			t.Log(err)
		})
	}
}

package devbank

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBankKeepsTheContract(t *testing.T) {
	bank := New("bank_a", 1_000_000)
	book := func(amount string) func(context.Context, participant.Participant, participant.Enlister) error {
		return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
			_, err := tx.Enlist(ctx, p, []byte(amount))
			return err
		}
	}
	participanttest.Test(t, participanttest.Subject{
		New:     func(context.Context) (participant.Participant, error) { return bank, nil },
		Visible: func(_ context.Context, b participant.Branch) (bool, error) { return bank.branches.Effects(b) > 0, nil },
		Begin:   book("1"),
		Refuse:  book("-2000000"),
	})
}

// What is set aside is not there for others, and comes back.
func TestBankBooks(t *testing.T) {
	bank := New("bank_a", 100)
	branch := func(number int, amount string) participant.Branch {
		return participant.Branch{Domain: "dev", Tx: participant.TxID{Term: 1}, Number: number, Data: []byte(amount)}
	}
	out, too := branch(0, "-70"), branch(1, "-40")
	vote, err := bank.Prepare(t.Context(), out)
	require.NoError(t, err)
	require.Equal(t, participant.VotePrepared, vote)
	vote, err = bank.Prepare(t.Context(), too)
	require.ErrorContains(t, err, "40 wanted, 30 available")
	require.Equal(t, participant.VoteRefused, vote)
	require.Equal(t, account{"bank_a", 100, 1}, bank.account())
	require.NoError(t, bank.Rollback(t.Context(), out))
	require.NoError(t, bank.Rollback(t.Context(), too))
	require.Equal(t, account{"bank_a", 100, 0}, bank.account())

	in := branch(2, " 5 ")
	_, err = bank.Prepare(t.Context(), in)
	require.NoError(t, err)
	for range 2 {
		require.NoError(t, bank.Commit(t.Context(), in))
	}
	require.Equal(t, account{"bank_a", 105, 0}, bank.account())
	for _, wrong := range []string{"", "much", "0", "99999999999"} {
		vote, err = bank.Prepare(t.Context(), branch(3, wrong))
		require.ErrorIs(t, err, participant.ErrRefused)
		require.Equal(t, participant.VoteRefused, vote)
	}
}

package participant_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

func TestFuncVotes(t *testing.T) {
	broken := errors.New("connection reset")
	refusal := fmt.Errorf("%w: insufficient funds", participant.ErrRefused)
	for _, c := range []struct {
		prepared bool
		err      error
		vote     participant.Vote
	}{
		{true, nil, participant.VotePrepared},
		{false, nil, participant.VoteRefused},
		{false, refusal, participant.VoteRefused},
		{true, refusal, participant.VoteRefused},
		{false, broken, 0},
		{true, broken, 0}, // a yes that came with an error is no promise (R4)
		{true, context.Canceled, 0},
	} {
		p := participant.Func("bank_a", func(context.Context, participant.TxID) (bool, error) { return c.prepared, c.err }, nil, nil)
		vote, err := p.Prepare(t.Context(), longest)
		require.Equal(t, c.vote, vote, "(%v, %v)", c.prepared, c.err)
		require.Equal(t, c.err, err)
	}
}

func TestFuncHandsOverTheTransaction(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "the caller's")
	unknown, notYet := participant.ErrUnknownBranch, errors.New("not yet")
	var calls []string
	called := func(ctx context.Context, what string, id participant.TxID) {
		require.Equal(t, longest.Tx, id)
		require.Equal(t, "the caller's", ctx.Value(key{}))
		calls = append(calls, what)
	}
	p := participant.Func("bank_a",
		func(ctx context.Context, id participant.TxID) (bool, error) {
			called(ctx, "prepare", id)
			return true, nil
		},
		func(ctx context.Context, id participant.TxID) error { called(ctx, "commit", id); return unknown },
		func(ctx context.Context, id participant.TxID) error { called(ctx, "rollback", id); return notYet },
	)
	require.Equal(t, "bank_a", p.Name())
	_, err := p.Prepare(ctx, longest)
	require.NoError(t, err)
	require.Equal(t, unknown, p.Commit(ctx, longest))
	require.Equal(t, notYet, p.Rollback(ctx, longest))
	require.Equal(t, []string{"prepare", "commit", "rollback"}, calls)
}

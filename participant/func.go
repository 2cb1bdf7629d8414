package participant

import (
	"context"
	"errors"
)

// Func returns a participant of three functions, for services that keep their
// own record by transaction id. They have the obligations of [Participant].
//
// prepare returns true to vote prepared, false to refuse. With an error the vote
// is unknown, unless the error Is ErrRefused: then it is the reason of a refusal.
func Func(
	name string,
	prepare func(ctx context.Context, tx TxID) (bool, error),
	commit func(ctx context.Context, tx TxID) error,
	rollback func(ctx context.Context, tx TxID) error,
) Participant {
	return &funcs{name: name, prepare: prepare, commit: commit, rollback: rollback}
}

type funcs struct {
	name     string
	prepare  func(context.Context, TxID) (bool, error)
	commit   func(context.Context, TxID) error
	rollback func(context.Context, TxID) error
}

func (f *funcs) Name() string { return f.name }

func (f *funcs) Prepare(ctx context.Context, b Branch) (Vote, error) {
	prepared, err := f.prepare(ctx, b.Tx)
	switch {
	case errors.Is(err, ErrRefused):
		return VoteRefused, err
	case err != nil:
		return 0, err
	case !prepared:
		return VoteRefused, nil
	default:
		return VotePrepared, nil
	}
}

func (f *funcs) Commit(ctx context.Context, b Branch) error   { return f.commit(ctx, b.Tx) }
func (f *funcs) Rollback(ctx context.Context, b Branch) error { return f.rollback(ctx, b.Tx) }

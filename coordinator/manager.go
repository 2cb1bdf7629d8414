package coordinator

import (
	"context"

	"github.com/assent-tm/assent/participant"
)

// Manager is what a program needs of a transaction manager, embedded or remote: a *DTM
// is one, and so is a client of the standalone server. Methods mean what those of DTM
// say, and return the same errors.
type Manager interface {
	Begin(ctx context.Context, options ...BeginOption) (participant.TxID, error)
	Enlist(ctx context.Context, id participant.TxID, p participant.Participant, options ...EnlistOption) error
	Commit(ctx context.Context, id participant.TxID) error
	Rollback(ctx context.Context, id participant.TxID) error
	Submit(ctx context.Context, enlistments []Enlistment, options ...BeginOption) (participant.TxID, error)
	Run(ctx context.Context, fn func(ctx context.Context, tx *Tx) error, options ...BeginOption) error
	Tx(id participant.TxID) *Tx
	Get(ctx context.Context, id participant.TxID) (Info, error)
	List(ctx context.Context, f Filter) ([]Info, error)
	Outcome(ctx context.Context, id participant.TxID) (Inquiry, error)
}

var _ Manager = (*DTM)(nil)

package coordinator

import (
	"context"
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
)

// Tx is a running transaction in the hands of the function given to Run. It is a
// participant.Enlister, which is all that adapters need.
type Tx struct {
	id     participant.TxID
	d      *DTM // nil if enlist is set
	enlist EnlistFunc
}

// EnlistFunc adds a branch for p with data to a transaction and returns it; see
// DTM.Enlist.
type EnlistFunc func(ctx context.Context, p participant.Participant, data []byte) (participant.Branch, error)

// NewTx returns the handle of a transaction that is not an embedded coordinator's:
// its branches are enlisted by enlist.
func NewTx(id participant.TxID, enlist EnlistFunc) *Tx { return &Tx{id: id, enlist: enlist} }

// ID returns the transaction's id.
func (tx *Tx) ID() participant.TxID { return tx.id }

// Enlist adds a branch for p with data and returns it; see DTM.Enlist.
func (tx *Tx) Enlist(ctx context.Context, p participant.Participant, data []byte) (participant.Branch, error) {
	if tx.enlist != nil {
		return tx.enlist(ctx, p, data)
	}
	return tx.d.enlist(ctx, tx.id, p, data)
}

// Tx returns the handle of a transaction that Begin began, for adapters.
func (d *DTM) Tx(id participant.TxID) *Tx { return &Tx{d: d, id: id} }

// Run begins a transaction, calls fn with it, and commits. If fn returns an error
// or panics the transaction is rolled back, and Run returns that error or panics
// on. fn's context ends when the transaction times out. Otherwise Run returns what
// Commit returns. It never calls fn twice.
func (d *DTM) Run(ctx context.Context, fn func(ctx context.Context, tx *Tx) error, options ...BeginOption) error {
	id, err := d.Begin(ctx, options...)
	if err != nil {
		return err
	}
	t, err := d.find(ctx, id)
	if err != nil {
		return fmt.Errorf("run transaction %s: %w", id, err)
	}
	returned := false
	defer func() {
		if !returned { // fn panicked, or called runtime.Goexit
			_ = d.rollback(context.WithoutCancel(ctx), id, "the function panicked")
		}
	}()
	err = d.runFunc(ctx, t, fn)
	returned = true
	if err == nil {
		return d.Commit(ctx, id)
	}
	if rollbackErr := d.rollback(context.WithoutCancel(ctx), id, err.Error()); rollbackErr != nil {
		return errors.Join(err, rollbackErr)
	}
	return err
}

func (d *DTM) runFunc(ctx context.Context, t *transaction, fn func(ctx context.Context, tx *Tx) error) error {
	ctx, cancel := context.WithDeadlineCause(ctx, t.deadline, fmt.Errorf("transaction %s timed out: %w", t.id, context.DeadlineExceeded))
	defer cancel()
	return fn(ctx, &Tx{d: d, id: t.id})
}

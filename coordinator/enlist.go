package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal"
	"github.com/assent-tm/assent/wal/record"
)

// EnlistOption says something about a branch.
type EnlistOption func(*EnlistOptions)

// EnlistOptions is what options make of a branch: for those who take options, as
// Enlist does, and send them elsewhere.
type EnlistOptions struct {
	// Data is what the participant gets with each call about the branch; see WithData.
	Data []byte
}

// with returns the options changed. It stands alone because what options change goes
// to the heap.
func (o EnlistOptions) with(options []EnlistOption) EnlistOptions {
	for _, option := range options {
		option(&o)
	}
	return o
}

// WithData gives the branch data, at most participant.MaxData bytes: what the
// participant needs to find the branch again from a fresh process.
func WithData(data []byte) EnlistOption { return func(o *EnlistOptions) { o.Data = data } }

// Enlist adds a branch for p to the transaction. A participant is registered when
// it is first enlisted. Enlisting it again with the same data changes nothing.
// Nothing needs to be durable yet.
//
// Errors: ErrSealed once Commit was called, whoever is enlisted, or a rollback is
// on its way; ErrRolledBack once the transaction was rolled back, by its timeout
// perhaps; ErrConflict for the same participant with other data; ErrNameTaken and
// participant.ErrInvalidParticipant; ErrLimit for more than 64 branches, too much
// data, or a participant with too many undelivered branches, and ErrLogFull for a log
// without room; ErrLogFailed or ErrNotOwner once the log has failed; ErrNotFound,
// ErrForgotten, ErrSafeMode, ErrClosed; ctx's error if it has ended already.
func (d *DTM) Enlist(ctx context.Context, id participant.TxID, p participant.Participant, options ...EnlistOption) error {
	var o EnlistOptions
	if len(options) > 0 {
		o = o.with(options)
	}
	_, err := d.enlist(ctx, id, p, o.Data)
	return err
}

func (d *DTM) enlist(ctx context.Context, id participant.TxID, p participant.Participant, data []byte) (participant.Branch, error) {
	if err := d.admits(ctx); err != nil {
		return participant.Branch{}, fmt.Errorf("enlist in transaction %s: %w", id, err)
	}
	if !d.enter() {
		return participant.Branch{}, fmt.Errorf("enlist in transaction %s: %w", id, ErrClosed)
	}
	defer d.leave()
	t, err := d.find(ctx, id)
	if err != nil {
		return participant.Branch{}, fmt.Errorf("enlist in transaction %s: %w", id, err)
	}
	registered, err := d.register(p)
	if err != nil {
		return participant.Branch{}, fmt.Errorf("enlist in transaction %s: %w", id, err)
	}
	b, err := d.enlistBranch(t, registered, data)
	if err != nil {
		return participant.Branch{}, fmt.Errorf("enlist participant %q in transaction %s: %w", registered.Name(), id, err)
	}
	return b, nil
}

func checkData(data []byte) error {
	if len(data) > participant.MaxData {
		return fmt.Errorf("%w: %d bytes of data are more than %d", ErrLimit, len(data), participant.MaxData)
	}
	return nil
}

func (d *DTM) enlistBranch(t *transaction, p *participant.Registered, data []byte) (participant.Branch, error) {
	if err := checkData(data); err != nil {
		return participant.Branch{}, err
	}
	name := p.Name()
	if b, found, err := d.enlisted(t, name, data); found || err != nil {
		return b, err
	}
	if err := d.endpoint(name).refuses(); err != nil {
		return participant.Branch{}, err
	}
	added := d.join(t, protocol.Enlist(name, bytes.Clone(data), p.OnePhaser != nil))
	if added != nil && !errors.Is(added, errEnlisted) {
		return participant.Branch{}, d.notEnlisted(t, added)
	}
	b, found, err := d.enlisted(t, name, data)
	switch {
	case err != nil:
		return participant.Branch{}, err
	case !found:
		return participant.Branch{}, d.notEnlisted(t, protocol.ErrSealed)
	case added == nil:
		d.config.Trace.enlisted(b)
	}
	return b, nil
}

// errEnlisted says that another Enlist of the same participant came first.
var errEnlisted = errors.New("participant is enlisted already")

// enlisted returns the participant's branch of t, if it has one.
func (d *DTM) enlisted(t *transaction, name string, data []byte) (b participant.Branch, found bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.branches {
		if t.branches[i].endpoint.name != name {
			continue
		}
		b = d.branchLocked(t, i)
		if t.machine.Phase() != protocol.Active {
			break // a finished transaction has let its data go
		}
		if !bytes.Equal(b.Data, data) {
			return participant.Branch{}, true, fmt.Errorf("%w: it is enlisted already, with other data", ErrConflict)
		}
		return b, true, nil
	}
	return participant.Branch{}, false, nil
}

// notEnlisted says why the transaction did not take the branch, or has moved on
// meanwhile.
func (d *DTM) notEnlisted(t *transaction, err error) error {
	if errors.Is(err, protocol.ErrTooManyBranches) {
		return fmt.Errorf("%w: %w", ErrLimit, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.machine.Decision() == record.DecisionRollback:
		return t.rolledBackError()
	case t.machine.Phase() == protocol.Stopped:
		return refusedForLog(t.failure)
	default:
		return err
	}
}

// hasBranch reports whether the participant is enlisted. Called with the
// transaction's mutex held.
func (t *transaction) hasBranch(name string) bool {
	return slices.ContainsFunc(t.branches, func(b branch) bool { return b.endpoint.name == name })
}

// join takes a branch into the transaction. It stands beside drive because this is
// the only event that a machine may refuse.
func (d *DTM) join(t *transaction, enlist protocol.Event) error {
	t.mu.Lock()
	batch, err := d.joinLocked(t, enlist)
	t.mu.Unlock()
	if err == nil && d.config.ForceEveryTransition {
		d.drive(t, protocol.Appended(record.KindEnlisted, d.result(t, batch)))
	}
	return err
}

// joinLocked takes a branch into the machine and the log, or leaves everything as
// it was: a branch that the log does not have would be lost in a crash. Called with
// the transaction's mutex held.
func (d *DTM) joinLocked(t *transaction, enlist protocol.Event) (*wal.Batch, error) {
	if t.machine.Phase() == protocol.Active && t.hasBranch(enlist.Participant) {
		return nil, errEnlisted
	}
	before := t.machine
	effects, err := t.machine.Step(enlist)
	if err != nil {
		return nil, err
	}
	batch, err := d.append(t, &effects.All()[0])
	if err != nil {
		t.machine = before
		return nil, err
	}
	if t.branches == nil {
		t.branches = make([]branch, 0, 2) // most transactions have no more
	}
	t.branches = append(t.branches, branch{endpoint: d.endpoint(enlist.Participant), data: enlist.Data})
	return batch, nil
}

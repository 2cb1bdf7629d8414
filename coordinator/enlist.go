package coordinator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/assent-tm/assent/coordinator/protocol"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// EnlistOption says something about a branch.
type EnlistOption func(*enlistOptions)

type enlistOptions struct{ data []byte }

// WithData gives the branch data, at most participant.MaxData bytes: what the
// participant needs to find the branch again from a fresh process.
func WithData(data []byte) EnlistOption { return func(o *enlistOptions) { o.data = data } }

// Enlist adds a branch for p to the transaction. A participant is registered when
// it is first enlisted. Enlisting it again with the same data changes nothing.
// Nothing needs to be durable yet.
//
// Errors: ErrSealed once Commit was called; ErrRolledBack once the transaction
// was rolled back, by its timeout perhaps; ErrConflict for the same participant
// with other data; ErrNameTaken; ErrLimit for more than 64 branches, too much
// data, or a participant with too many undelivered branches; ErrNotFound,
// ErrForgotten, ErrSafeMode, ErrClosed.
func (d *DTM) Enlist(ctx context.Context, id participant.TxID, p participant.Participant, options ...EnlistOption) error {
	var o enlistOptions
	for _, option := range options {
		option(&o)
	}
	_, err := d.enlist(ctx, id, p, o.data)
	return err
}

func (d *DTM) enlist(ctx context.Context, id participant.TxID, p participant.Participant, data []byte) (participant.Branch, error) {
	b, err := d.enlistBranch(ctx, id, p, data)
	if err != nil {
		name := "?"
		if p != nil {
			name = p.Name()
		}
		return participant.Branch{}, fmt.Errorf("enlist participant %s in transaction %s: %w", name, id, err)
	}
	return b, nil
}

func (d *DTM) enlistBranch(ctx context.Context, id participant.TxID, p participant.Participant, data []byte) (participant.Branch, error) {
	if err := d.admits(ctx); err != nil {
		return participant.Branch{}, err
	}
	if !d.enter() {
		return participant.Branch{}, ErrClosed
	}
	defer d.leave()
	if len(data) > participant.MaxData {
		return participant.Branch{}, fmt.Errorf("%w: %d bytes of data are more than %d", ErrLimit, len(data), participant.MaxData)
	}
	t, err := d.find(id)
	if err != nil {
		return participant.Branch{}, err
	}
	registered, err := d.register(p)
	if err != nil {
		return participant.Branch{}, err
	}
	name := registered.Name()
	if b, found, err := d.enlisted(t, name, data); found || err != nil {
		return b, err
	}
	if err := d.endpoint(name).refuses(); err != nil {
		return participant.Branch{}, err
	}
	err = d.drive(t, protocol.Enlist(name, bytes.Clone(data), registered.OnePhaser != nil))
	if err != nil && !errors.Is(err, errEnlisted) {
		return participant.Branch{}, d.notEnlisted(t, err)
	}
	b, found, err := d.enlisted(t, name, data)
	if err == nil && !found {
		err = t.unknown() // the log failed
	}
	if err == nil {
		d.config.Trace.enlisted(b)
	}
	return b, err
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

// notEnlisted says why the machine took no branch.
func (d *DTM) notEnlisted(t *transaction, err error) error {
	if errors.Is(err, protocol.ErrTooManyBranches) {
		return fmt.Errorf("%w: %w", ErrLimit, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.machine.Decision() == record.DecisionRollback {
		return t.rolledBack()
	}
	return err
}

// hasBranch reports whether the participant is enlisted. Called with the
// transaction's mutex held.
func (t *transaction) hasBranch(name string) bool {
	return slices.ContainsFunc(t.branches, func(b branch) bool { return b.endpoint.name == name })
}

// addBranch follows the machine in taking a branch. Called with the transaction's
// mutex held.
func (d *DTM) addBranch(t *transaction, ev protocol.Event) {
	t.branches = append(t.branches, branch{endpoint: d.endpoint(ev.Participant), data: ev.Data})
}

// Register adds a participant. Branches that recovery found for its name and
// could not deliver are delivered now. ErrNameTaken if another object has the
// name.
func (d *DTM) Register(p participant.Participant) error {
	if !d.enter() {
		return fmt.Errorf("register participant: %w", ErrClosed)
	}
	defer d.leave()
	_, err := d.register(p)
	return err
}

func (d *DTM) register(p participant.Participant) (*participant.Registered, error) {
	registered, added, err := d.registry.Register(p)
	if err != nil {
		return nil, err
	}
	if added {
		e := d.endpoint(registered.Name())
		e.attach(registered)
		d.goroutines.Add(1)
		go d.attend(e, registered)
	}
	return registered, nil
}

// endpoint returns the way to the named participant, registered or not.
func (d *DTM) endpoint(name string) *endpoint {
	d.endpointsMu.RLock()
	e := d.endpoints[name]
	d.endpointsMu.RUnlock()
	if e != nil {
		return e
	}
	d.endpointsMu.Lock()
	defer d.endpointsMu.Unlock()
	if e = d.endpoints[name]; e == nil {
		e = &endpoint{d: d, name: name}
		d.endpoints[name] = e
	}
	return e
}

func (d *DTM) allEndpoints() []*endpoint {
	d.endpointsMu.RLock()
	defer d.endpointsMu.RUnlock()
	all := make([]*endpoint, 0, len(d.endpoints))
	for _, e := range d.endpoints {
		all = append(all, e)
	}
	return all
}

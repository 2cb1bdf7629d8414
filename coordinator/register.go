package coordinator

import (
	"errors"
	"fmt"

	"github.com/assent-tm/assent/participant"
)

// Register adds a participant. Branches that recovery found for its name and
// could not deliver are delivered now. Nothing of it is durable.
//
// Errors: ErrNameTaken if another object has the name;
// participant.ErrInvalidParticipant; ErrLimit for MaxParticipants; ErrLogFailed or ErrNotOwner once the log has
// failed; ErrClosed.
func (d *DTM) Register(p participant.Participant) error {
	if err := d.Err(); err != nil {
		return fmt.Errorf("register participant: %w", err)
	}
	if !d.enter() {
		return fmt.Errorf("register participant: %w", ErrClosed)
	}
	defer d.leave()
	_, err := d.register(p)
	return err
}

func (d *DTM) register(p participant.Participant) (*participant.Registered, error) {
	registered, added, err := d.registry.Register(p)
	if errors.Is(err, participant.ErrTooMany) {
		return nil, fmt.Errorf("%w (Config.MaxParticipants): %w", ErrLimit, err)
	}
	if err != nil {
		return nil, err
	}
	if added {
		e := d.endpoint(registered.Name())
		e.attach(registered)
		d.goroutines.add()
		go d.serveParticipant(e, registered, func() {})
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
		e = &endpoint{d: d, name: name, crowded: make(chan struct{}, 1)}
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

package coordinator

import (
	"errors"
	"fmt"
	"slices"
	"strings"

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

// Participant returns the participant registered under this name.
func (d *DTM) Participant(name string) (p participant.Participant, registered bool) {
	if r := d.registry.Get(name); r != nil {
		return r.Participant, true
	}
	return nil, false
}

// ParticipantInfo is what is known of a participant.
type ParticipantInfo struct {
	Name string
	// Missing says that nobody has registered it, and that branches of it were found
	// in the log.
	Missing bool
	// Down says that it did not answer several times in a row when it was told a
	// decision, and gets one call at a time now, as a probe. LastError is what the last
	// of those calls returned; "" once one was answered.
	Down      bool
	LastError string
	// Undelivered is the number of its decided branches that have not acknowledged,
	// InFlight that of calls under way, of every kind but lists.
	Undelivered, InFlight int
	// Listed says that what rests on absence may be told to it: its list of prepared
	// branches was read in this run, or it has none (R10).
	Listed bool
}

// Participants returns what is known of every participant, in the order of their
// names.
func (d *DTM) Participants() []ParticipantInfo {
	endpoints := d.allEndpoints()
	infos := make([]ParticipantInfo, 0, len(endpoints))
	for _, e := range endpoints {
		infos = append(infos, e.info())
	}
	slices.SortFunc(infos, func(a, b ParticipantInfo) int { return strings.Compare(a.Name, b.Name) })
	return infos
}

func (e *endpoint) info() ParticipantInfo {
	e.mu.Lock()
	defer e.mu.Unlock()
	info := ParticipantInfo{
		Name: e.name, Missing: e.registered == nil, Down: e.down(), Undelivered: int(e.undelivered.Load()), InFlight: e.inFlight, Listed: e.listRead,
	}
	if e.lastFailure != nil {
		info.LastError = e.lastFailure.Error()
	}
	return info
}

package participant

import (
	"fmt"
	"reflect"
	"sort"
	"sync"
)

// Registered is a registered participant with the optional interfaces it
// implements. They are asserted here and nowhere else; those it lacks are nil.
type Registered struct {
	Participant
	Lister    Lister
	OnePhaser OnePhaser
	Forgetter Forgetter
	Checker   Checker
	Explainer Explainer
}

// Registry finds participants by name. The zero value is empty and ready; safe
// for concurrent use.
type Registry struct {
	// Max is the number of participants that are taken; 0 for any number. To be
	// set before the first Register.
	Max int

	mu     sync.RWMutex
	byName map[string]*Registered
}

// Register adds p under its name and returns it, and whether it is new.
// Registering the same object again changes nothing. Another object under a
// registered name is ErrNameTaken, one more than Max ErrTooMany; a nil participant, a bad name or an object
// that can't be compared is ErrInvalidParticipant.
func (r *Registry) Register(p Participant) (reg *Registered, added bool, err error) {
	name, err := validate(p)
	if err != nil {
		return nil, false, err
	}
	r.mu.RLock()
	reg = r.byName[name]
	r.mu.RUnlock()
	if reg == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if reg = r.byName[name]; reg == nil {
			if r.byName == nil {
				r.byName = make(map[string]*Registered)
			}
			if r.Max > 0 && len(r.byName) >= r.Max {
				return nil, false, fmt.Errorf("register participant %q: %w: there are %d", name, ErrTooMany, r.Max)
			}
			reg = newRegistered(p)
			r.byName[name] = reg
			return reg, true, nil
		}
	}
	if reg.Participant != p {
		return nil, false, fmt.Errorf("register participant %q: %w", name, ErrNameTaken)
	}
	return reg, false, nil
}

// Get returns the participant registered under this name, nil if there is none.
func (r *Registry) Get(name string) *Registered {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.byName[name]
}

// All returns the registered participants in the order of their names.
func (r *Registry) All() []*Registered {
	r.mu.RLock()
	all := make([]*Registered, 0, len(r.byName))
	for _, reg := range r.byName {
		all = append(all, reg)
	}
	r.mu.RUnlock()
	sort.Slice(all, func(i, j int) bool { return all[i].Name() < all[j].Name() })
	return all
}

func newRegistered(p Participant) *Registered {
	reg := &Registered{Participant: p}
	reg.Lister, _ = p.(Lister)
	reg.OnePhaser, _ = p.(OnePhaser)
	reg.Forgetter, _ = p.(Forgetter)
	reg.Checker, _ = p.(Checker)
	reg.Explainer, _ = p.(Explainer)
	return reg
}

func validate(p Participant) (name string, err error) {
	if p == nil {
		return "", fmt.Errorf("%w: nil", ErrInvalidParticipant)
	}
	// The value, not its type: a struct may hold an interface that holds a slice.
	if !reflect.ValueOf(p).Comparable() {
		return "", fmt.Errorf("%w: %T can't be told from another one; register a pointer", ErrInvalidParticipant, p)
	}
	if v := reflect.ValueOf(p); v.Kind() == reflect.Pointer && v.IsNil() {
		return "", fmt.Errorf("%w: nil %T", ErrInvalidParticipant, p)
	}
	name = p.Name()
	return name, ValidName(name)
}

// ValidName returns nil if name is 1 to MaxName bytes of [A-Za-z0-9._-], else an
// ErrInvalidParticipant.
func ValidName(name string) error {
	valid := name != "" && len(name) <= MaxName
	for i := range len(name) {
		c := name[i]
		valid = valid && (lowerAlnum(c) || 'A' <= c && c <= 'Z' || c == '.' || c == '_' || c == '-')
	}
	if !valid {
		return fmt.Errorf("%w: name %q is not 1 to %d characters of A-Z, a-z, 0-9, '.', '_' and '-'", ErrInvalidParticipant, name, MaxName)
	}
	return nil
}

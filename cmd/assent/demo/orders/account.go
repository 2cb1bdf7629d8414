package orders

import (
	"context"

	"github.com/assent-tm/assent/participant"
)

// account is what all servers say at one time.
type account struct {
	warehouses map[string]books
	messages   []message
	// prepared are the branches that a participant's server holds prepared, blocked
	// what a writer would have to wait for. Both are read for the proof alone.
	prepared map[string][]participant.Branch
	blocked  []string
}

// read reads everything of all servers.
func (s *story) read(ctx context.Context) (a account, err error) {
	a.warehouses = map[string]books{}
	for _, name := range warehouseNames {
		if a.warehouses[name], err = s.databases[name].read(ctx); err != nil {
			return account{}, err
		}
	}
	a.messages, err = s.outbox.read(ctx)
	return a, err
}

// readAll reads what the proof needs, too.
func (s *story) readAll(ctx context.Context) (account, error) {
	a, err := s.read(ctx)
	if err != nil {
		return account{}, err
	}
	a.prepared = map[string][]participant.Branch{}
	for _, name := range participantNames {
		if a.prepared[name], err = s.preparedAt(ctx, name); err != nil {
			return account{}, err
		}
	}
	for _, name := range warehouseNames {
		a.blocked = append(a.blocked, s.databases[name].blocked(ctx)...)
	}
	return a, nil
}

// inDoubt returns the transactions that are prepared somewhere, and not at the one
// server that is down.
func (s *story) inDoubt(ctx context.Context, down string) (map[participant.TxID]bool, error) {
	found := map[participant.TxID]bool{}
	for _, name := range participantNames {
		if name == down {
			continue
		}
		branches, err := s.preparedAt(ctx, name)
		if err != nil {
			return nil, err
		}
		for _, b := range branches {
			found[b.Tx] = true
		}
	}
	return found, nil
}

// preparedAt returns the branches that a participant's server holds prepared.
func (s *story) preparedAt(ctx context.Context, name string) ([]participant.Branch, error) {
	if d := s.databases[name]; d != nil {
		return d.inDoubt(ctx)
	}
	return s.outbox.inDoubt(ctx)
}

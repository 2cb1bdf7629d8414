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
	for _, name := range warehouseNames {
		if a.prepared[name], err = s.databases[name].inDoubt(ctx); err != nil {
			return account{}, err
		}
		a.blocked = append(a.blocked, s.databases[name].blocked(ctx)...)
	}
	staged, err := s.crew.nats.List(ctx, s.run.domain())
	a.prepared[natsName] = staged.Prepared
	return a, err
}

// inDoubt returns the transactions that are prepared somewhere, and not at the one
// server that is down.
func (s *story) inDoubt(ctx context.Context, down string) (map[participant.TxID]bool, error) {
	found := map[participant.TxID]bool{}
	for _, name := range warehouseNames {
		if name == down {
			continue
		}
		branches, err := s.databases[name].inDoubt(ctx)
		if err != nil {
			return nil, err
		}
		for _, b := range branches {
			found[b.Tx] = true
		}
	}
	return found, nil
}

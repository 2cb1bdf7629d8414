package demo

import (
	"context"
	"sync"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
)

// holds remembers which transactions stop at a crash point. Safe for concurrent
// use.
type holds struct {
	tell func(Event)
	mu   sync.Mutex
	byTx map[participant.TxID]held
}

type held struct {
	at       Hold
	number   int
	first    string // the participant that HoldHalf lets commit
	released chan struct{}
}

func (h *holds) set(tx participant.TxID, at Hold, number int, first string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byTx[tx] = held{at, number, first, make(chan struct{})}
}

// get returns the zero value for a transaction that stops nowhere.
func (h *holds) get(tx participant.TxID) held {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byTx[tx]
}

// release lets a deal go on, and not stop again.
func (h *holds) release(number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for tx, to := range h.byTx {
		if to.number == number {
			close(to.released)
			delete(h.byTx, tx)
		}
	}
}

// wait reports the crash point and waits for the kill, or for the release.
func (h *holds) wait(ctx context.Context, b participant.Branch, to held) error {
	h.tell(Event{Kind: EventHeld, Number: to.number, Tx: b.Tx, Participant: b.Participant})
	select {
	case <-to.released:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Participant is what a demo needs of a participant.
type Participant interface {
	participant.Participant
	participant.Lister
	participant.Forgetter
	participant.Checker
}

// holding is a participant whose calls can be held at a crash point. Everything else
// is its own.
type holding struct {
	Participant
	holds *holds
}

func (p *holding) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	v, err := p.Participant.Prepare(ctx, b)
	if to := p.holds.get(b.Tx); v == participant.VotePrepared && to.at == HoldVotes {
		if err := p.holds.wait(ctx, b, to); err != nil {
			return 0, err
		}
	}
	return v, err
}

// Commit is called only once the decision is durable (R1): held before it, the
// transaction is decided and not delivered.
func (p *holding) Commit(ctx context.Context, b participant.Branch) error {
	to := p.holds.get(b.Tx)
	if to.at == HoldHalf && to.first == p.Name() {
		if err := p.Participant.Commit(ctx, b); err != nil {
			return err
		}
	}
	if to.at == HoldHalf || to.at == HoldDecision {
		if err := p.holds.wait(ctx, b, to); err != nil {
			return err
		}
	}
	return p.Participant.Commit(ctx, b)
}

// holdingTx enlists holding participants in place of their own.
type holdingTx struct {
	*coordinator.Tx
	participants map[string]*holding
}

func (tx holdingTx) Enlist(ctx context.Context, p participant.Participant, data []byte) (participant.Branch, error) {
	return tx.Tx.Enlist(ctx, tx.participants[p.Name()], data)
}

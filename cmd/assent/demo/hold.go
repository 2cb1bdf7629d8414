package demo

import (
	"context"
	"sync"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

// holds remembers which transactions stop at a crash point. Safe for concurrent
// use.
type holds struct {
	tell func(event)
	mu   sync.Mutex
	byTx map[participant.TxID]held
}

type held struct {
	at     hold
	number int
}

func (h *holds) set(tx participant.TxID, at hold, number int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.byTx[tx] = held{at, number}
}

func (h *holds) get(tx participant.TxID) held {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.byTx[tx]
}

// wait reports the crash point and waits for the kill. Its context ends only if
// none comes.
func (h *holds) wait(ctx context.Context, b participant.Branch) error {
	h.tell(event{Kind: eventHeld, Number: h.get(b.Tx).number, Tx: b.Tx, Bank: b.Participant})
	<-ctx.Done()
	return context.Cause(ctx)
}

// holdingBank is a bank whose calls can be held at a crash point. Everything else
// is the barrier's.
type holdingBank struct {
	*barrier.Participant
	holds *holds
}

func (p *holdingBank) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	v, err := p.Participant.Prepare(ctx, b)
	if v == participant.VotePrepared && p.holds.get(b.Tx).at == holdVotes {
		return 0, p.holds.wait(ctx, b)
	}
	return v, err
}

// Commit is called only once the decision is durable (R1): held before it, the
// transaction is decided and not delivered.
func (p *holdingBank) Commit(ctx context.Context, b participant.Branch) error {
	at := p.holds.get(b.Tx).at
	if at == holdHalf {
		s, err := sideOf(b)
		if err != nil {
			return err
		}
		if s.Amount < 0 {
			if err := p.Participant.Commit(ctx, b); err != nil {
				return err
			}
		}
	}
	if at == holdHalf || at == holdDecision {
		return p.holds.wait(ctx, b)
	}
	return p.Participant.Commit(ctx, b)
}

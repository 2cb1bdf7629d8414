package nats

import (
	"context"
	"fmt"
	"sync"

	natsgo "github.com/nats-io/nats.go"

	"github.com/assent-tm/assent/participant"
)

// maxTerms bounds what is remembered of terms here; the server remembers all (R12).
const maxTerms = 10_000

// term is a coordinator's, in its domain.
type term struct {
	domain string
	number participant.Term
}

func termOf(b participant.Branch) term { return term{b.Domain, b.Tx.Term} }

// terms are the highest transactions of terms that this process was told of.
type terms struct {
	// turn is the right to write, which heeds contexts.
	turn chan struct{}

	mu sync.Mutex
	// kept are in the staging stream. wanted are to be: one write serves all who wait.
	kept, wanted map[term]participant.TxID
}

func newTerms() terms {
	return terms{turn: make(chan struct{}, 1), kept: map[term]participant.TxID{}, wanted: map[term]participant.TxID{}}
}

// want asks for tx to be kept, and returns whether it is not yet.
func (t *terms) want(at term, tx participant.TxID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tx.Compare(t.kept[at]) <= 0 {
		return false
	}
	if tx.Compare(t.wanted[at]) > 0 {
		t.wanted[at] = tx
	}
	return true
}

// find returns what is kept and what is wanted.
func (t *terms) find(at term) (kept, wanted participant.TxID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.kept[at], t.wanted[at]
}

func (t *terms) keep(at term, tx participant.TxID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.kept) >= maxTerms {
		clear(t.kept)
	}
	t.kept[at] = tx
	if t.wanted[at].Compare(tx) <= 0 {
		delete(t.wanted, at)
	}
}

// note makes the staging stream remember that the participant was told of b (R10).
func (p *Participant) note(ctx context.Context, b participant.Branch) error {
	at := termOf(b)
	if !p.terms.want(at, b.Tx) {
		return nil
	}
	select {
	case p.terms.turn <- struct{}{}:
		defer func() { <-p.terms.turn }()
	case <-ctx.Done():
		return fmt.Errorf("wait to remember term %s: %w", at.number, context.Cause(ctx))
	}
	kept, wanted := p.terms.find(at)
	if kept.IsZero() {
		m, err := p.last(ctx, p.cfg.Staging, p.cfg.term(at))
		if err == nil && m != nil {
			kept, err = highestOf(at, m)
		}
		if err != nil {
			return err
		}
	}
	if wanted.Compare(kept) > 0 {
		m := newMsg(p.cfg.term(at), []byte(wanted.String()))
		if err := p.publish(ctx, p.cfg.Staging, []*natsgo.Msg{m}); err != nil {
			return fmt.Errorf("remember term %s: %w", at.number, err)
		}
		kept = wanted
	}
	p.terms.keep(at, kept)
	return nil
}

// highestOf reads what note writes.
func highestOf(at term, m *stored) (participant.TxID, error) {
	id, err := participant.ParseTxID(string(m.Data))
	if err != nil || id.Term != at.number {
		return participant.TxID{}, fmt.Errorf("%w: highest transaction %q of term %s", errNotOurs, m.Data, at.number)
	}
	return id, nil
}

package coordinator

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/assent-tm/assent/participant"
)

// Explain returns what the services of a transaction's participants show of its
// branches that are prepared there, by branch number, and how an operator finishes each
// by hand. Branches of participants that are no participant.Explainer are left out.
// Nothing is done about any of them, and nothing is to be done by hand before the
// transaction is decided. Participants that could not be asked, or not before ctx ended,
// are in the error; what the others show is returned all the same. Other errors: those
// of Get.
func (d *DTM) Explain(ctx context.Context, id participant.TxID) (map[int]participant.Explanation, error) {
	info, err := d.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	if !d.enter() {
		return nil, fmt.Errorf("explain transaction %s: %w", id, ErrClosed)
	}
	defer d.leave()
	var able []*participant.Registered
	for _, b := range info.Branches {
		if p := d.registry.Get(b.Participant); p != nil && p.Explainer != nil {
			able = append(able, p)
		}
	}
	shown, err := askEach(ctx, d, able, func(p *participant.Registered) ([]participant.Explanation, error) { return d.explain(ctx, p) })
	found := map[int]participant.Explanation{}
	for _, b := range info.Branches {
		xid := participant.Branch{Domain: d.config.Domain, Tx: id, Number: b.Number}.XID()
		of := shown[b.Participant]
		if i := slices.IndexFunc(of, func(e participant.Explanation) bool { return e.Branch.XID() == xid }); i >= 0 {
			found[b.Number] = of[i]
		}
	}
	if err != nil {
		err = fmt.Errorf("explain transaction %s: %w", id, err)
	}
	return found, err
}

// explain asks a participant.Explainer.
func (d *DTM) explain(ctx context.Context, p *participant.Registered) (shown []participant.Explanation, err error) {
	err = d.ask(ctx, func(ctx context.Context) (err error) {
		shown, err = p.Explainer.Explain(ctx)
		return err
	})
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return nil, fmt.Errorf("ask participant %q for what is prepared: %w", p.Name(), err)
	}
	return shown, nil
}

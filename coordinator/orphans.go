package coordinator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
)

// Orphans lists the prepared branches of the domain that no live transaction has,
// by participant and XID, with what the sweep does about each and why. Of a
// participant.Explainer it also lists what others hold prepared there, and with each
// how an operator finishes it by hand: for those that the sweep leaves alone, and
// only when it is known what became of the transaction elsewhere.
// Participants that could not be read, or not before ctx ended, are in the error;
// the orphans of the others are returned all the same.
func (d *DTM) Orphans(ctx context.Context) ([]recovery.Orphan, error) {
	if !d.enter() {
		return nil, fmt.Errorf("list orphans: %w", ErrClosed)
	}
	defer d.leave()
	type result struct {
		name    string
		orphans []recovery.Orphan
		err     error
	}
	participants := slices.DeleteFunc(d.registry.All(), func(p *participant.Registered) bool { return p.Lister == nil })
	results := make(chan result, len(participants))
	waiting := make(map[string]bool, len(participants))
	for _, p := range participants {
		waiting[p.Name()] = true
		d.goroutines.add()
		go func() {
			defer d.goroutines.done()
			orphans, err := d.explainOrphans(ctx, p)
			results <- result{p.Name(), orphans, err}
		}()
	}
	var orphans []recovery.Orphan
	var failed []error
	for len(waiting) > 0 {
		select {
		case r := <-results:
			delete(waiting, r.name)
			orphans = append(orphans, r.orphans...)
			if r.err != nil {
				failed = append(failed, r.err)
			}
		case <-ctx.Done():
			for _, name := range slices.Sorted(maps.Keys(waiting)) {
				failed = append(failed, fmt.Errorf("list participant %q: %w", name, context.Cause(ctx)))
			}
			clear(waiting)
		}
	}
	slices.SortFunc(orphans, func(a, b recovery.Orphan) int {
		return cmp.Or(cmp.Compare(a.Branch.Participant, b.Branch.Participant), cmp.Compare(a.Branch.XID(), b.Branch.XID()), cmp.Compare(a.Explanation.Name, b.Explanation.Name))
	})
	return orphans, errors.Join(failed...)
}

// explainOrphans finds the orphans of a participant and adds what its service shows.
func (d *DTM) explainOrphans(ctx context.Context, p *participant.Registered) ([]recovery.Orphan, error) {
	orphans, err := d.findOrphans(ctx, p)
	if err != nil || p.Explainer == nil {
		return orphans, err
	}
	var shown []participant.Explanation
	err = d.ask(ctx, func(ctx context.Context) (err error) {
		shown, err = p.Explainer.Explain(ctx)
		return err
	})
	if err != nil {
		return orphans, fmt.Errorf("ask participant %q for what is prepared: %w", p.Name(), err)
	}
	return recovery.Explain(p.Name(), d.config.Domain, orphans, shown), nil
}

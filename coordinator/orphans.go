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
	participants := slices.DeleteFunc(d.registry.All(), func(p *participant.Registered) bool { return p.Lister == nil })
	found, err := askEach(ctx, d, participants, func(p *participant.Registered) ([]recovery.Orphan, error) { return d.explainOrphans(ctx, p) })
	var orphans []recovery.Orphan
	for _, those := range found {
		orphans = append(orphans, those...)
	}
	slices.SortFunc(orphans, func(a, b recovery.Orphan) int {
		return cmp.Or(cmp.Compare(a.Branch.Participant, b.Branch.Participant), cmp.Compare(a.Branch.XID(), b.Branch.XID()), cmp.Compare(a.Explanation.Name, b.Explanation.Name))
	})
	return orphans, err
}

// askEach asks participants at the same time, and returns the answers by name. Those
// that did not answer before ctx ended are in the error: they may ignore their context,
// and hold up nobody (R6).
func askEach[T any](ctx context.Context, d *DTM, participants []*participant.Registered, ask func(*participant.Registered) (T, error)) (map[string]T, error) {
	type result struct {
		name   string
		answer T
		err    error
	}
	results := make(chan result, len(participants))
	waiting := make(map[string]bool, len(participants))
	for _, p := range participants {
		waiting[p.Name()] = true
		d.goroutines.add()
		go func() {
			defer d.goroutines.done()
			answer, err := ask(p)
			results <- result{p.Name(), answer, err}
		}()
	}
	answers := make(map[string]T, len(participants))
	var failed []error
	for len(waiting) > 0 {
		select {
		case r := <-results:
			delete(waiting, r.name)
			answers[r.name] = r.answer
			if r.err != nil {
				failed = append(failed, r.err)
			}
		case <-ctx.Done():
			for _, name := range slices.Sorted(maps.Keys(waiting)) {
				failed = append(failed, fmt.Errorf("ask participant %q: %w", name, context.Cause(ctx)))
			}
			clear(waiting)
		}
	}
	return answers, errors.Join(failed...)
}

// explainOrphans finds the orphans of a participant and adds what its service shows.
func (d *DTM) explainOrphans(ctx context.Context, p *participant.Registered) ([]recovery.Orphan, error) {
	orphans, err := d.findOrphans(ctx, p)
	if err != nil || p.Explainer == nil {
		return orphans, err
	}
	shown, err := d.explain(ctx, p)
	if err != nil {
		return orphans, err
	}
	return recovery.Explain(p.Name(), d.config.Domain, orphans, shown), nil
}

package nats

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	natsgo "github.com/nats-io/nats.go"

	"github.com/assent-tm/assent/participant"
)

// forgetBatch bounds a batch of markers.
const forgetBatch = 256

// List returns this participant's branches in doubt, and the highest transaction of
// each term that it was told of. It clears away what is staged of branches that are
// finished, which a crash may leave, and what is kept of terms for longer than
// MaxRetention.
func (p *Participant) List(ctx context.Context, domain string) (listing participant.Listing, err error) {
	// Highest is read second, so that it is never below what is listed.
	if listing.Prepared, err = p.listPrepared(ctx, domain); err == nil {
		listing.Highest, err = p.listHighest(ctx, domain, listing.Prepared)
	}
	if err != nil {
		return participant.Listing{}, fmt.Errorf("list domain %q of participant %q: %w", domain, p.cfg.Name, err)
	}
	return listing, nil
}

func (p *Participant) listPrepared(ctx context.Context, domain string) (list []participant.Branch, err error) {
	// A domain is a token of a subject, so the filter is exact (R10).
	subjects, err := p.subjects(ctx, p.cfg.Subject+stagedSubjects+domain+".>")
	if err != nil {
		return nil, err
	}
	for _, subject := range subjects {
		b, err := p.cfg.branchAt(subject)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNotOurs, err)
		}
		switch is, err := p.outcome(ctx, b); {
		case err != nil:
			return nil, err
		case is == undecided:
			list = append(list, b)
		default:
			if err := p.unstage(ctx, b); err != nil {
				return nil, err
			}
		}
	}
	return list, nil
}

// subjects returns the subjects of the staging stream that match the filter, in order.
// The server gives them in pages of 100,000. Where there are more, one that goes
// meanwhile may hide another, which the next call finds.
func (p *Participant) subjects(ctx context.Context, filter string) ([]string, error) {
	found := map[string]uint64{}
	for offset := 0; ; {
		var page struct {
			Total int `json:"total"`
			State struct {
				Subjects map[string]uint64 `json:"subjects"`
			} `json:"state"`
		}
		request := map[string]any{"subjects_filter": filter, "offset": offset}
		if err := p.api(ctx, "STREAM.INFO."+p.cfg.Staging, request, &page); err != nil {
			return nil, fmt.Errorf("ask stream %q for its subjects %q: %w", p.cfg.Staging, filter, err)
		}
		maps.Copy(found, page.State.Subjects)
		offset += len(page.State.Subjects)
		if len(page.State.Subjects) == 0 || offset >= page.Total {
			return slices.Sorted(maps.Keys(found)), nil
		}
	}
}

func (p *Participant) listHighest(ctx context.Context, domain string, prepared []participant.Branch) (list []participant.TxID, err error) {
	prefix := p.cfg.Subject + termSubjects + domain + "."
	subjects, err := p.subjects(ctx, prefix+"*")
	if err != nil {
		return nil, err
	}
	for _, subject := range subjects {
		number, err := participant.ParseTerm(strings.TrimPrefix(subject, prefix))
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errNotOurs, err)
		}
		at := term{domain, number}
		m, err := p.last(ctx, p.cfg.Staging, subject)
		if err != nil {
			return nil, err
		}
		if m == nil {
			continue // another List has forgotten it
		}
		highest, err := highestOf(at, m)
		if err != nil {
			return nil, err
		}
		forgotten := false
		needed := slices.ContainsFunc(prepared, func(b participant.Branch) bool { return b.Tx.Term == number })
		if !needed && time.Since(m.Time) > p.cfg.MaxRetention {
			if forgotten, err = p.forgetTerm(ctx, at, m.Sequence); err != nil {
				return nil, err
			}
		}
		if !forgotten {
			list = append(list, highest)
		}
	}
	return list, nil
}

// forgetTerm removes all that is kept of a term, and reports whether it did: a branch
// that was in doubt for long may have left a marker that is young. Markers go first, so
// that what a crash leaves is found again.
func (p *Participant) forgetTerm(ctx context.Context, at term, sequence uint64) (forgotten bool, err error) {
	filter := p.cfg.Subject + branchSubjects + at.domain + "." + at.number.String() + ".>"
	newest, err := p.last(ctx, p.cfg.Stream, filter)
	if err != nil {
		return false, err
	}
	if newest != nil {
		if time.Since(newest.Time) <= p.cfg.MaxRetention {
			return false, nil
		}
		// Not what came meanwhile.
		request := map[string]any{"filter": filter, "seq": newest.Sequence + 1}
		if err := p.api(ctx, "STREAM.PURGE."+p.cfg.Stream, request, &struct{}{}); err != nil {
			return false, fmt.Errorf("purge the markers %q of stream %q: %w", filter, p.cfg.Stream, err)
		}
	}
	return true, p.remove(ctx, sequence)
}

// Forget lets the markers of these branches go after Retention: a Prepare or Commit
// that was sent before may still be on its way. Branches in doubt, and unknown ones, are
// left alone.
func (p *Participant) Forget(ctx context.Context, branches []participant.Branch) error {
	for len(branches) > 0 {
		batch := branches[:min(forgetBatch, len(branches))]
		branches = branches[len(batch):]
		if err := p.forget(ctx, batch); err != nil {
			return p.explain(fmt.Sprintf("forget %d branches from", len(batch)), batch[0], err)
		}
	}
	return nil
}

func (p *Participant) forget(ctx context.Context, branches []participant.Branch) error {
	var markers []*natsgo.Msg
	known := make(map[string]bool, len(branches))
	for _, b := range branches {
		subject := p.cfg.marker(b)
		m, err := p.last(ctx, p.cfg.Stream, subject)
		if err != nil {
			return err
		}
		if m == nil || known[subject] {
			continue
		}
		known[subject] = true
		is, err := outcomeOf(m)
		if err != nil {
			return err
		}
		if header, err := natsgo.DecodeHeadersMsg(m.Header); err == nil && header.Get(headerTTL) != "" {
			continue // it was forgotten before
		}
		markers = append(markers, expiring(newMsg(subject, []byte(is)), p.cfg.Retention))
	}
	if len(markers) == 0 {
		return nil
	}
	return p.publish(ctx, p.cfg.Stream, markers)
}

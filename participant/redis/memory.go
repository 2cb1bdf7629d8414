package redis

import (
	"context"
	"fmt"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/assent-tm/assent/participant"
)

const (
	// listPage bounds how long a list keeps others from the server.
	listPage = 1000
	// forgetBatch bounds the same of Forget.
	forgetBatch = 256
)

// List returns this participant's branches in doubt, and the highest transaction of
// each term that it was told of. A term is remembered for MaxRetention after it was
// last used.
func (p *Participant) List(ctx context.Context, domain string) (listing participant.Listing, err error) {
	// Highest is read second, so that it is never below what is listed.
	if listing.Prepared, err = p.listPrepared(ctx, domain); err == nil {
		listing.Highest, err = p.listHighest(ctx, domain)
	}
	if err != nil {
		return participant.Listing{}, fmt.Errorf("list domain %q of participant %q: %w", domain, p.cfg.Name, p.misconfigured(err))
	}
	return listing, nil
}

func (p *Participant) listPrepared(ctx context.Context, domain string) (list []participant.Branch, err error) {
	// ';' is the byte after ':': the range is exactly the prefix (R10). Each page begins
	// where the one before ended, so that whatever changes meanwhile, what is there from
	// beginning to end is listed.
	for after, end := "["+participant.XIDPrefix(domain), "("+domain+";"; ; {
		page, err := p.cfg.Client.ZRangeArgs(ctx, goredis.ZRangeArgs{
			Key: p.keys.pending, Start: after, Stop: end, ByLex: true, Count: listPage,
		}).Result()
		if err != nil {
			return nil, err
		}
		for _, xid := range page {
			b, err := participant.ParseXID(xid)
			if err != nil {
				return nil, fmt.Errorf("key %q: %w", p.keys.pending, err)
			}
			list = append(list, b)
		}
		if len(page) < listPage {
			return list, nil
		}
		after = "(" + page[len(page)-1]
	}
}

func (p *Participant) listHighest(ctx context.Context, domain string) (list []participant.TxID, err error) {
	terms, err := p.cfg.Client.HGetAll(ctx, p.keys.terms).Result()
	if err != nil {
		return nil, err
	}
	for term, value := range terms {
		name, term, _ := strings.Cut(term, ":")
		if name != domain {
			continue
		}
		_, digits, _ := strings.Cut(value, " ")
		id, err := participant.ParseTxID(term + "-" + digits)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", p.keys.terms, err)
		}
		list = append(list, id)
	}
	return list, nil
}

// Forget lets these finished branches go after Retention: a Prepare or Commit that
// was sent before may still be on its way. Branches in doubt, and unknown ones, are
// left alone.
func (p *Participant) Forget(ctx context.Context, branches []participant.Branch) error {
	for len(branches) > 0 {
		batch := branches[:min(forgetBatch, len(branches))]
		branches = branches[len(batch):]
		keys := []string{p.keys.terms, p.keys.used, p.keys.pending}
		for _, b := range batch {
			keys = append(keys, p.keys.branch(b.XID()))
		}
		err := forgetScript.Run(ctx, p.cfg.Client, keys, seconds(p.cfg.Retention), seconds(p.cfg.MaxRetention)).Err()
		if err != nil {
			return p.explain(fmt.Sprintf("forget %d branches from", len(batch)), batch[0], p.misconfigured(err))
		}
	}
	return nil
}

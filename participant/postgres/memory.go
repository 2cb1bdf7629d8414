package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tm/assent/participant"
)

const (
	// forgetBatch bounds how many rows one statement of Forget changes.
	forgetBatch = 1000
	// pruneEvery is how many branches are forgotten between two portions that prune
	// looks at. A portion is larger, so it deletes faster than rows come.
	pruneEvery = 64
	pruneLimit = 512
)

// List returns the branches in doubt in this database, whoever prepared them, and
// the highest transactions that its witness table or they tell of. A term is
// remembered as long as one of its rows is, and for MaxRetention after that expired.
func (p *Participant) List(ctx context.Context, domain string) (participant.Listing, error) {
	listing, err := onOwnPool(ctx, p, func(ctx context.Context, conn *pgx.Conn) (participant.Listing, error) {
		prefix := participant.XIDPrefix(domain)
		batch := &pgx.Batch{}
		batch.Queue(p.sql.prepared, prefix)
		batch.Queue(p.sql.highest, prefix, domain+";")
		results := conn.SendBatch(ctx, batch)
		// Highest is read second, so that it is never below what is listed.
		prepared, err := scanBranches(results.Query())
		var rows []participant.Branch
		if err == nil {
			rows, err = scanBranches(results.Query())
		}
		if closed := results.Close(); err == nil {
			err = closed
		}
		return participant.Listing{Prepared: prepared, Highest: highest(rows, prepared)}, err
	})
	if err != nil {
		return participant.Listing{}, fmt.Errorf("list domain %q of participant %q: %w", domain, p.cfg.Name, p.explainState(err))
	}
	return listing, nil
}

// scanBranches leaves out what is no XID: anybody may prepare under any name.
func scanBranches(rows pgx.Rows, err error) (list []participant.Branch, _ error) {
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		if b, err := participant.ParseXID(id); err == nil {
			list = append(list, b)
		}
	}
	return list, nil
}

// highest returns the highest transaction of each term.
func highest(branches ...[]participant.Branch) []participant.TxID {
	var all []participant.TxID
	for _, list := range branches {
		for _, b := range list {
			all = append(all, b.Tx)
		}
	}
	slices.SortFunc(all, func(a, b participant.TxID) int { return cmp.Or(cmp.Compare(a.Term, b.Term), b.Compare(a)) })
	return slices.CompactFunc(all, func(a, b participant.TxID) bool { return a.Term == b.Term })
}

// pruning is how far the table was looked through for expired rows.
type pruning struct {
	sync.Mutex
	forgotten int
	running   bool
	after     string
}

// Forget lets the rows of these finished branches expire after Retention, and
// deletes a portion of those that have expired. They stay that long since a call that
// was sent before may still be on its way, and because a log that is put back from a
// backup asks again. Branches in doubt, and unknown ones, are left alone.
func (p *Participant) Forget(ctx context.Context, branches []participant.Branch) error {
	for batch := range slices.Chunk(branches, forgetBatch) {
		if err := p.forget(ctx, batch); err != nil {
			return p.explain(fmt.Sprintf("forget %d branches from", len(batch)), batch[0], p.explainState(err))
		}
	}
	return nil
}

func (p *Participant) forget(ctx context.Context, branches []participant.Branch) error {
	ids := make([]string, len(branches))
	for i, b := range branches {
		ids[i] = string(b.XID())
	}
	_, err := onOwnPool(ctx, p, func(ctx context.Context, conn *pgx.Conn) (struct{}, error) {
		batch := &pgx.Batch{}
		// A crash may lose it: the row then stays for MaxRetention.
		batch.Queue("SELECT set_config('synchronous_commit', 'off', true)")
		batch.Queue(p.sql.forget, ids, p.cfg.Retention.Seconds())
		if err := conn.SendBatch(ctx, batch).Close(); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, p.prune(ctx, conn, len(ids))
	})
	return err
}

// prune looks at the next portions of the table and deletes what has expired. It
// goes round and round, and so needs no index on the expiry, which every branch would
// have to write.
func (p *Participant) prune(ctx context.Context, conn *pgx.Conn, forgotten int) error {
	p.pruning.Lock()
	p.pruning.forgotten += forgotten
	portions, after := p.pruning.forgotten/pruneEvery, p.pruning.after
	if portions == 0 || p.pruning.running {
		p.pruning.Unlock()
		return nil
	}
	p.pruning.forgotten %= pruneEvery
	p.pruning.running = true
	p.pruning.Unlock()
	var err error
	for range portions {
		if after, err = p.prunePortion(ctx, conn, after); err != nil {
			break
		}
	}
	p.pruning.Lock()
	defer p.pruning.Unlock()
	p.pruning.running, p.pruning.after = false, after
	return err
}

// prunePortion returns the id after which the next portion begins; "" for the table's
// beginning.
func (p *Participant) prunePortion(ctx context.Context, conn *pgx.Conn, after string) (next string, err error) {
	batch := &pgx.Batch{}
	batch.Queue("SELECT set_config('synchronous_commit', 'off', true)")
	batch.Queue(p.sql.prune, after, pruneLimit, p.cfg.MaxRetention.Seconds())
	results := conn.SendBatch(ctx, batch)
	var seen int
	if _, err = results.Exec(); err == nil {
		err = results.QueryRow().Scan(&next, &seen)
	}
	if closed := results.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return after, fmt.Errorf("prune expired rows: %w", err)
	}
	if seen < pruneLimit {
		return "", nil
	}
	return next, nil
}

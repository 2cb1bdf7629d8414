package mysql

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	// forgetBatch bounds how many rows one statement locks.
	forgetBatch = 256
	// prunePerRow is how many rows are looked at for each that is forgotten: so the
	// table is gone through several times while a row waits.
	prunePerRow     = 4
	minPrunePortion = 256
)

// List returns this participant's branches in doubt, and the highest transactions
// that any participant on the same table was told of. A branch is listed as soon as
// it is prepared, also while the session that prepared it lives: who finishes what is
// listed makes sure that its transaction does not. A term is remembered as long as
// one of its rows is.
func (p *Participant) List(ctx context.Context, domain string) (listing participant.Listing, err error) {
	if err := participant.ValidDomain(domain); err != nil {
		return listing, fmt.Errorf("list participant %q: %w", p.cfg.Name, err)
	}
	err = p.onOwn(ctx, "", func(o *own) error {
		listed, err := o.listed(ctx)
		if err != nil {
			return err
		}
		// R10: exactly this domain.
		listed = slices.DeleteFunc(listed, func(b participant.Branch) bool { return b.Domain != domain })
		// Read second, so that it is never below what is listed.
		highest, err := o.highest(ctx, domain)
		for _, b := range listed {
			if highest[b.Tx.Term].Compare(b.Tx) < 0 {
				highest[b.Tx.Term] = b.Tx
			}
		}
		listing = participant.Listing{Prepared: listed, Highest: slices.Collect(maps.Values(highest))}
		return err
	})
	if err != nil {
		return participant.Listing{}, fmt.Errorf("list domain %q of participant %q: %w", domain, p.cfg.Name, err)
	}
	p.prune(ctx, minPrunePortion)
	return listing, nil
}

// highest returns the highest transaction of each term that has a row, by one look-up
// for each: rows of a term stand together, in the order of Begin.
func (o *own) highest(ctx context.Context, domain string) (map[participant.Term]participant.TxID, error) {
	highest := make(map[participant.Term]participant.TxID)
	// ';' is the byte after ':': what is below is exactly the domain's.
	for end := domain + ";"; ; {
		ids, err := o.ids(ctx, fmt.Sprintf("SELECT id FROM %s WHERE id >= %s AND id < %s ORDER BY id DESC LIMIT 1",
			o.p.table, hexText(participant.XIDPrefix(domain)), hexText(end)))
		if err != nil {
			return nil, fmt.Errorf("read the highest transactions: %w", err)
		}
		if len(ids) == 0 {
			return highest, nil
		}
		b, err := participant.ParseXID(ids[0])
		if err != nil {
			return nil, fmt.Errorf("read the highest transactions: %w", err)
		}
		highest[b.Tx.Term] = b.Tx
		end = termPrefix(ids[0])
	}
}

// termPrefix returns how the ids of an id's domain and term begin.
func termPrefix(id string) string {
	parts := strings.SplitAfterN(id, ":", 3)
	return strings.Join(parts[:min(2, len(parts))], "")
}

// Forget lets the rows of these finished branches expire after Config.Retention. They
// stay that long, since a Prepare or Commit that was sent before may still be on its
// way. Branches in doubt, and unknown ones, are left alone.
func (p *Participant) Forget(ctx context.Context, branches []participant.Branch) error {
	for batch := range slices.Chunk(branches, forgetBatch) {
		ids := make([]string, 0, len(batch))
		for _, b := range batch {
			ids = append(ids, string(b.XID()))
		}
		err := p.onOwn(ctx, "", func(o *own) error {
			_, err := o.exec(ctx, fmt.Sprintf("UPDATE %s SET old.expires = UNIX_TIMESTAMP() + %d WHERE old.expires > UNIX_TIMESTAMP() + %[2]d",
				p.picked(ids), int64(p.cfg.Retention/time.Second)))
			return err
		})
		if err != nil {
			return p.explain(fmt.Sprintf("forget %d branches from", len(batch)), batch[0], err)
		}
		p.prune(ctx, prunePerRow*len(batch))
	}
	return nil
}

// picked returns a join that gives the rows with these ids, as "old". It looks each up
// by its key: with IN the server may read the whole table, and wait for the rows of
// branches in doubt.
func (p *Participant) picked(ids []string) string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = "SELECT " + hexText(id)
	}
	list[0] += " AS id"
	return fmt.Sprintf("(%s) AS picked STRAIGHT_JOIN %s AS old FORCE INDEX (PRIMARY) ON old.id = picked.id", strings.Join(list, " UNION ALL "), p.table)
}

// pruning is how far the latest pass through the table is.
type pruning struct {
	mu   sync.Mutex
	last string
}

// row is a row of the witness table.
type row struct {
	id      string
	expired time.Duration // since when; negative: it will
}

// prune looks at the next n rows, or a portion, and deletes those whose time is over.
// One at a time does, and what fails is done in the next pass.
func (p *Participant) prune(ctx context.Context, n int) {
	if !p.pruning.mu.TryLock() {
		return
	}
	defer p.pruning.mu.Unlock()
	n = max(n, minPrunePortion)
	err := p.onOwn(ctx, "", func(o *own) error {
		rows, err := o.rows(ctx, p.pruning.last, n+1)
		if err != nil {
			return err
		}
		p.pruning.last = ""
		if len(rows) > n {
			p.pruning.last = rows[n-1].id
		}
		for batch := range slices.Chunk(expired(rows, n, p.cfg.MaxRetention), forgetBatch) {
			if _, err := o.exec(ctx, "DELETE old FROM "+p.picked(batch)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		p.cfg.Logger.WarnContext(ctx, "expired rows of the witness table could not be deleted", "participant", p.cfg.Name, "error", err)
	}
}

// expired returns the ids of those among the first n rows that may go. The highest of
// a term remembers the term, so it stays for MaxRetention more (R10).
func expired(rows []row, n int, maxRetention time.Duration) (ids []string) {
	for i, r := range rows[:min(n, len(rows))] {
		later := i+1 < len(rows) && termPrefix(rows[i+1].id) == termPrefix(r.id)
		if r.expired >= 0 && (later || r.expired >= maxRetention) {
			ids = append(ids, r.id)
		}
	}
	return ids
}

// rows returns up to n rows that follow an id. The row that identifies the database
// comes before all.
func (o *own) rows(ctx context.Context, after string, n int) (list []row, err error) {
	query := fmt.Sprintf("SELECT id, CAST(UNIX_TIMESTAMP() AS SIGNED) - expires FROM %s WHERE id > %s ORDER BY id LIMIT %d", o.p.table, hexText(after), n)
	rows, err := o.conn.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r row
		var seconds int64
		if err := rows.Scan(&r.id, &seconds); err != nil {
			return nil, err
		}
		r.expired = time.Duration(seconds) * time.Second
		list = append(list, r)
	}
	return list, rows.Err()
}

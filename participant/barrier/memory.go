package barrier

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	// A call leaves at most one row, so this deletes faster than rows come,
	// without a goroutine and with little to do in any one local transaction.
	pruneEvery = 64
	pruneLimit = 256

	// forgetBatch bounds how long Forget keeps others from writing.
	forgetBatch = 256
)

// List returns this participant's branches in doubt, and the highest transactions
// that any participant on the same tables was told of. A term is remembered as
// long as one of its rows is, and for MaxRetention after it was last needed.
func (p *Participant) List(ctx context.Context, domain string) (listing participant.Listing, err error) {
	err = p.repeat(ctx, func() (err error) {
		// Highest is read second, so that it is never below what is listed.
		if listing.Prepared, err = p.listPrepared(ctx, domain); err != nil {
			return err
		}
		listing.Highest, err = p.listHighest(ctx, domain)
		return err
	})
	if err != nil {
		return participant.Listing{}, fmt.Errorf("list domain %q of participant %q: %w", domain, p.cfg.Name, err)
	}
	return listing, nil
}

func (p *Participant) listPrepared(ctx context.Context, domain string) ([]participant.Branch, error) {
	// ';' is the byte after ':': the range is exactly the prefix (R10).
	rows, err := p.cfg.DB.QueryContext(ctx, p.sql.prepared, participant.XIDPrefix(domain), domain+";", p.cfg.Name)
	if err != nil {
		return nil, err
	}
	return scanBranches(rows)
}

func (p *Participant) listHighest(ctx context.Context, domain string) ([]participant.TxID, error) {
	rows, err := p.cfg.DB.QueryContext(ctx, p.sql.highest, domain)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []participant.TxID
	for rows.Next() {
		var term, highest string
		var id sql.NullString
		if err := rows.Scan(&term, &highest, &id); err != nil {
			return nil, err
		}
		tx, err := higher(term, highest, id.String)
		if err != nil {
			return nil, err
		}
		if !tx.IsZero() {
			list = append(list, tx)
		}
	}
	return list, rows.Err()
}

// higher returns the later of a term's remembered transaction and that of its
// highest row; either may be empty.
func higher(term, highest, id string) (tx participant.TxID, err error) {
	if highest != "" {
		if tx, err = participant.ParseTxID(term + "-" + highest); err != nil {
			return tx, err
		}
	}
	if id == "" {
		return tx, nil
	}
	b, err := participant.ParseXID(id)
	if err != nil || tx.Compare(b.Tx) > 0 {
		return tx, err
	}
	return b.Tx, nil
}

// Forget lets these finished branches expire after Retention, and drops their
// Data. Their rows stay that long, since a Prepare or Commit that was sent before
// may still be on its way. Branches in doubt, and unknown ones, are left alone.
func (p *Participant) Forget(ctx context.Context, branches []participant.Branch) error {
	for len(branches) > 0 {
		batch := branches[:min(forgetBatch, len(branches))]
		branches = branches[len(batch):]
		err := p.transact(ctx, func(tx *sql.Tx) error {
			now := time.Now()
			for _, b := range batch {
				if _, err := tx.ExecContext(ctx, p.sql.forget, now.Add(p.cfg.Retention).Unix(), string(b.XID())); err != nil {
					return err
				}
			}
			return p.prune(ctx, tx, now)
		})
		if err != nil {
			return p.explain(fmt.Sprintf("forget %d branches from", len(batch)), batch[0], err)
		}
	}
	return nil
}

// prune deletes some of the rows that have expired. Before a row goes, its term
// remembers the transaction: while rows are there they tell the highest one
// themselves, so that no call needs to write a row that all calls share.
func (p *Participant) prune(ctx context.Context, tx *sql.Tx, now time.Time) error {
	branches, err := p.expired(ctx, tx, now)
	if err != nil {
		return fmt.Errorf("find expired branches: %w", err)
	}
	type key struct {
		domain string
		term   participant.Term
	}
	last := make(map[key]participant.Branch)
	for _, b := range branches {
		k := key{b.Domain, b.Tx.Term}
		if prev, ok := last[k]; !ok || prev.Tx.Compare(b.Tx) < 0 {
			last[k] = b
		}
		if _, err := tx.ExecContext(ctx, p.sql.remove, string(b.XID())); err != nil {
			return fmt.Errorf("delete expired branch %s: %w", b.XID(), err)
		}
	}
	for _, b := range last {
		if err := p.remember(ctx, tx, b, uuidText(b.Tx), now); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, p.sql.removeTerms, now.Add(-p.cfg.MaxRetention).Unix()); err != nil {
		return fmt.Errorf("delete unused terms: %w", err)
	}
	return nil
}

func (p *Participant) expired(ctx context.Context, tx *sql.Tx, now time.Time) ([]participant.Branch, error) {
	rows, err := tx.QueryContext(ctx, p.sql.expired, now.Unix(), pruneLimit)
	if err != nil {
		return nil, err
	}
	return scanBranches(rows)
}

// scanBranches reads ids to the end and closes rows.
func scanBranches(rows *sql.Rows) ([]participant.Branch, error) {
	defer rows.Close()
	var list []participant.Branch
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		b, err := participant.ParseXID(id)
		if err != nil {
			return nil, err
		}
		list = append(list, b)
	}
	return list, rows.Err()
}

// remember raises what is kept of b's term to at least b.Epoch and highest.
func (p *Participant) remember(ctx context.Context, tx *sql.Tx, b participant.Branch, highest string, now time.Time) error {
	_, err := tx.ExecContext(ctx, p.sql.remember, b.Domain, b.Tx.Term.String(), b.Epoch, highest, now.Unix())
	if err != nil {
		return fmt.Errorf("remember term %s of domain %q: %w", b.Tx.Term, b.Domain, err)
	}
	return nil
}

// uuidText orders as the ids of one term do.
func uuidText(tx participant.TxID) string { return hex.EncodeToString(tx.UUID[:]) }

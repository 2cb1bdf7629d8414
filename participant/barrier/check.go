package barrier

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/assent-tm/assent/participant"
)

// createTables is the remedy of every dialect where a table or a column is missing.
const createTables = "create the tables with the statements of barrier.Schema"

var errRehearsed = errors.New("rehearsed")

// Check returns an error that Is participant.ErrConfig and names what to change if
// the database would lose a commit at a crash, takes no writes, lacks the tables or
// the right to use them. It goes through the statements of a branch and undoes
// them. The settings are read on one connection: give them in the data source name
// or to the server, so that all connections have them.
func (p *Participant) Check(ctx context.Context) error {
	err := p.transact(ctx, func(tx *sql.Tx) error {
		if err := p.cfg.Dialect.check(ctx, tx, p.cfg.Table); err != nil {
			return err
		}
		if err := p.rehearse(ctx, tx); err != nil {
			return err
		}
		return errRehearsed
	})
	if errors.Is(err, errRehearsed) {
		return nil
	}
	return fmt.Errorf("check participant %q: %w", p.cfg.Name, err)
}

// rehearse uses every right that calls need. The branch is nobody's and has a term
// of its own, so it waits for no other call and keeps none waiting.
func (p *Participant) rehearse(ctx context.Context, tx *sql.Tx) error {
	b := participant.Branch{Domain: "check", Tx: participant.TxID{Term: participant.NewTerm(1, rand.Uint32()), UUID: uuid.New()}}
	l := &local{p: p, tx: tx, branch: b, id: string(b.XID()), now: time.Now()}
	if err := l.fence(ctx); err != nil {
		return err
	}
	if _, err := l.insert(ctx, prepared); err != nil {
		return err
	}
	if _, err := l.finish(ctx, rolledBack); err != nil {
		return err
	}
	if _, err := l.find(ctx); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, p.sql.remove, l.id); err != nil {
		return fmt.Errorf("delete the row: %w", err)
	}
	// No term was ever used before 1970.
	if _, err := tx.ExecContext(ctx, p.sql.removeTerms, -1); err != nil {
		return fmt.Errorf("delete unused terms: %w", err)
	}
	return nil
}

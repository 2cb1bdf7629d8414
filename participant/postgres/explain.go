package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tm/assent/participant"
)

// Explain returns what is prepared in this database, by whomever, and the statements
// for psql that finish it. Rolling a branch back by hand takes its tombstone along: a
// Commit that comes later is then told what became of it.
func (p *Participant) Explain(ctx context.Context) ([]participant.Explanation, error) {
	names, err := onOwnPool(ctx, p, func(ctx context.Context, conn *pgx.Conn) ([]string, error) {
		rows, err := conn.Query(ctx, p.sql.prepared, "")
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	})
	if err != nil {
		return nil, fmt.Errorf("explain what is prepared at participant %q: %w", p.cfg.Name, p.explainState(err))
	}
	list := make([]participant.Explanation, 0, len(names))
	for _, name := range names {
		e := participant.Explanation{Name: name, Commit: "COMMIT PREPARED " + quote(name) + ";", Rollback: "ROLLBACK PREPARED " + quote(name) + ";"}
		if b, err := participant.ParseXID(name); err == nil {
			e.Branch = b
			// A line of its own: both together would be one transaction.
			e.Rollback += fmt.Sprintf("\nINSERT INTO %s VALUES (%s, '%s', now() + interval '%d seconds') ON CONFLICT (id) DO NOTHING;",
				p.table, quote(name), rolledBack, int64(p.cfg.MaxRetention.Seconds()))
		}
		list = append(list, e)
	}
	return list, nil
}

package mysql

import (
	"context"
	"fmt"

	"github.com/assent-tm/assent/participant"
)

// Explain returns what is prepared in the server, by whomever, but for the branches of
// Assent's participants in its other databases, and the statements that finish it.
// Rolling a branch back by hand takes its tombstone along: a Commit that comes later is
// then told what became of it.
//
// The server says XAER_NOTA (1397) to those statements as long as the session that
// prepared the branch lives; and a statement that meets the end of that session may be
// lost: end the session by KILL, and wait a second.
func (p *Participant) Explain(ctx context.Context) (list []participant.Explanation, err error) {
	err = p.onOwn(ctx, "", func(o *own) error {
		recovered, err := o.recovered(ctx)
		for _, id := range recovered {
			e := participant.Explanation{Name: id.String(), Commit: "XA COMMIT " + id.String() + ";", Rollback: "XA ROLLBACK " + id.String() + ";"}
			if b, ok := id.branch(); ok {
				if id.database() != o.here.database {
					continue // the participant there knows where its tombstone belongs
				}
				e.Branch = b
				e.Rollback += "\n" + p.insert("INSERT IGNORE", id.gtrid, rolledBack, "", p.cfg.MaxRetention) + ";"
			}
			list = append(list, e)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("explain what is prepared at participant %q: %w", p.cfg.Name, err)
	}
	return list, nil
}

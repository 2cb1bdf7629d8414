package mysql

import (
	"context"
	"fmt"

	"github.com/assent-tm/assent/participant"
)

// Explain returns what is prepared in the server, by whomever, but for the branches of
// Assent's participants in its other databases, and the statements for its client that
// finish it. Rolling a branch back by hand takes its tombstone along: a Commit that
// comes later is then told what became of it.
//
// The server says XAER_NOTA (1397) to those statements as long as the session that
// prepared the branch lives, and one that meets the end of that session may be lost. So
// those for a branch end its session first, if it lives, and wait a second; and what
// shows that the branch is committed is its row.
func (p *Participant) Explain(ctx context.Context) (list []participant.Explanation, err error) {
	err = p.onOwn(ctx, "", func(o *own) error {
		recovered, err := o.recovered(ctx)
		if err != nil {
			return err
		}
		for _, id := range recovered {
			b, ok := id.branch()
			if ok && id.database() != o.here.database {
				continue // the participant there knows where its tombstone belongs
			}
			e := participant.Explanation{Name: id.String(), Branch: b}
			if ok {
				e.Commit, e.Rollback, err = o.byHand(ctx, b, id)
			} else {
				const lives = "-- 1397 says that the session which prepared it lives: end that first, by KILL, and wait a second\n"
				e.Commit, e.Rollback = lives+"XA COMMIT "+id.String()+";", lives+"XA ROLLBACK "+id.String()+";"
			}
			if err != nil {
				return err
			}
			list = append(list, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("explain what is prepared at participant %q: %w", p.cfg.Name, err)
	}
	return list, nil
}

// byHand returns the statements that finish a branch of this database.
func (o *own) byHand(ctx context.Context, b participant.Branch, id xaID) (commit, rollback string, err error) {
	at, err := o.written(ctx, b)
	if err != nil {
		return "", "", err
	}
	end := ""
	if at != (origin{}) && o.here.sameRun(at) {
		l, err := o.life(ctx, at)
		if err != nil {
			return "", "", err
		}
		if l.holder != 0 {
			end = fmt.Sprintf("KILL %d;\nDO SLEEP(1);\n", l.holder)
		}
	}
	commit = fmt.Sprintf("%sXA COMMIT %s;\nSELECT id, state FROM %s WHERE id = '%s' LOCK IN SHARE MODE;", end, id, o.p.table, id.gtrid)
	rollback = fmt.Sprintf("%sXA ROLLBACK %s;\n%s;", end, id, o.p.insert("INSERT IGNORE", id.gtrid, rolledBack, "", o.p.cfg.MaxRetention))
	return commit, rollback, nil
}

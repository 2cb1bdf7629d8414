package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/assent-tm/assent/participant"
)

// Commit commits the prepared branch, durably. The server forgets a branch that it
// has finished: of one that it does not know the witness row tells whether it has
// committed (nil) or was rolled back (a *HeuristicError of OutcomeRolledBack); with
// no row it is ErrUnknownBranch (R7). ErrConfig says that the branch is in another
// database, or another role's.
func (p *Participant) Commit(ctx context.Context, b participant.Branch) error {
	return p.explain("commit", b, p.commit(ctx, b))
}

func (p *Participant) commit(ctx context.Context, b participant.Branch) error {
	err := p.tell(ctx, "COMMIT PREPARED", b)
	if code(err) != undefinedObject {
		return err
	}
	found, err := p.look(ctx, b)
	switch {
	case err != nil:
		return err
	case found.prepared:
		return errors.New("it was prepared only while it was told to commit")
	case found.state == committed:
		return nil
	case found.state == rolledBack:
		return &participant.HeuristicError{Outcome: participant.OutcomeRolledBack}
	default:
		return participant.ErrUnknownBranch
	}
}

// Rollback undoes the branch, prepared or not, and leaves a tombstone that refuses
// a late Prepare, also one whose statements are on their way to the server: it waits
// for them, and ends a session that holds out. A committed branch is a
// *HeuristicError of OutcomeCommitted.
func (p *Participant) Rollback(ctx context.Context, b participant.Branch) error {
	return p.explain("roll back", b, p.rollBack(ctx, b))
}

func (p *Participant) rollBack(ctx context.Context, b participant.Branch) error {
	if s := p.session(b); s != nil {
		if err := s.end(ctx, ErrRolledBack); err != nil {
			return err
		}
		p.drop(s)
	}
	for {
		if err := p.tell(ctx, "ROLLBACK PREPARED", b); err != nil && code(err) != undefinedObject {
			return err
		}
		found, err := p.place(ctx, b, rolledBack)
		switch {
		case errors.Is(err, errHeld):
			// Who holds the row has just prepared the branch, or is about to.
			if ended := pause(ctx, heldPause); ended != nil {
				return errors.Join(ended, err)
			}
		case err != nil:
			return err
		case found.state == committed:
			return &participant.HeuristicError{Outcome: participant.OutcomeCommitted}
		default:
			return nil
		}
	}
}

const heldPause = 10 * time.Millisecond

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// tell runs COMMIT PREPARED or ROLLBACK PREPARED.
func (p *Participant) tell(ctx context.Context, command string, b participant.Branch) error {
	statement := command + " " + quote(string(b.XID()))
	if p.tellOnKept(ctx, b, statement) {
		return nil
	}
	// Whatever that connection's trouble was, it may be its own.
	_, err := onOwnPool(ctx, p, func(ctx context.Context, conn *pgx.Conn) (struct{}, error) {
		_, err := conn.Exec(ctx, statement)
		if code(err) == insufficientRights {
			var owner string
			if conn.QueryRow(ctx, p.sql.owner, string(b.XID())).Scan(&owner) == nil {
				err = fmt.Errorf("%w: it was prepared by role %q", err, owner)
			}
		}
		return struct{}{}, err
	})
	return p.explainFinish(err)
}

// finding is what the server says of a branch.
type finding struct {
	identity
	prepared bool
	state    string // "" for no row
}

// look asks the server what it knows of the branch, and whether it is the one that
// has it.
func (p *Participant) look(ctx context.Context, b participant.Branch) (finding, error) {
	want, err := expected(b)
	if err != nil {
		return finding{}, err
	}
	found, err := onOwnPool(ctx, p, func(ctx context.Context, conn *pgx.Conn) (finding, error) {
		return p.scan(conn.QueryRow(ctx, p.sql.look, string(b.XID())))
	})
	if err != nil {
		return finding{}, p.explainState(err)
	}
	return found, mismatch(want, found.identity)
}

func (p *Participant) scan(row pgx.Row) (f finding, err error) {
	err = row.Scan(&f.system, &f.database, &f.name, &f.prepared, &f.state)
	return f, err
}

// errHeld says that the row of the branch is being written by its own session, or
// was by a prepared one.
var errHeld = errors.New("the branch's row is held by its transaction")

// place writes the branch's row, unless it has one, and returns what is there then.
// It is durable. The row of a branch that belongs elsewhere is not written.
func (p *Participant) place(ctx context.Context, b participant.Branch, state string) (finding, error) {
	want, err := expected(b)
	if err != nil {
		return finding{}, err
	}
	found, err := onOwnPool(ctx, p, func(ctx context.Context, conn *pgx.Conn) (finding, error) {
		xid := string(b.XID())
		batch := &pgx.Batch{}
		batch.Queue(p.sql.place, xid, state, p.cfg.MaxRetention.Seconds(), want.system, want.database)
		batch.Queue(p.sql.look, xid) // its snapshot is younger than what the first waited for
		results := conn.SendBatch(ctx, batch)
		_, err := results.Exec()
		var found finding
		if err == nil {
			found, err = p.scan(results.QueryRow())
		}
		if closed := results.Close(); err == nil {
			err = closed
		}
		if code(err) == lockNotAvailable {
			err = errors.Join(fmt.Errorf("%w: %w", errHeld, err), p.terminateHolder(ctx, conn, xid))
		}
		return found, err
	})
	if err != nil {
		return finding{}, p.explainState(err)
	}
	return found, mismatch(want, found.identity)
}

// terminateHolder ends the session that holds the branch's row, if there is one: the
// client is gone perhaps, without the server having noticed.
func (p *Participant) terminateHolder(ctx context.Context, conn *pgx.Conn, xid string) error {
	_, err := conn.Exec(ctx, p.sql.terminate, xid, terminateTime.Milliseconds())
	if err != nil {
		return fmt.Errorf("end the session that holds it: %w", err)
	}
	return nil
}

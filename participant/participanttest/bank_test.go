package participanttest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	_ "modernc.org/sqlite"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
)

// bank is a participant over a SQLite file, whose state survives any process. The
// barrier makes it one, and a defect spoils it: functions that are set answer in
// place of its methods.
type bank struct {
	*barrier.Participant
	db *sql.DB
	// mine are the XIDs that this process has to do with, in a defect's sense.
	mine sync.Map
	// apart makes effects no part of the barrier's local transaction.
	apart bool

	prepare  func(context.Context, participant.Branch) (participant.Vote, error)
	commit   func(context.Context, participant.Branch) error
	rollback func(context.Context, participant.Branch) error
}

// bankSubject is what Main serves. The Where is the name of a defect, which may be
// empty, a line feed, and the file's path.
func bankSubject(where string) (Subject, error) {
	defect, path, found := strings.Cut(where, "\n")
	if !found {
		return Subject{}, fmt.Errorf("%q is nowhere", where)
	}
	spoil := func(*bank) {}
	for _, broken := range brokenByKill {
		if broken.defect == defect {
			spoil = broken.spoil
		}
	}
	return Subject{
		Where:      where,
		New:        func(ctx context.Context) (participant.Participant, error) { return openBank(ctx, path, spoil) },
		Visible:    func(ctx context.Context, b participant.Branch) (bool, error) { return paid(ctx, path, b) },
		Begin:      enlistWith("work"),
		Refuse:     enlistWith(DataRefuse),
		KeepsEpoch: true,
	}, nil
}

func enlistWith(data string) func(context.Context, participant.Participant, participant.Enlister) error {
	return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
		b, err := tx.Enlist(ctx, p, []byte(data))
		p.(*bank).mine.Store(b.XID(), true)
		return err
	}
}

func openBank(ctx context.Context, path string, spoil func(*bank)) (*bank, error) {
	db, err := barrier.OpenSQLite(path)
	if err != nil {
		return nil, err
	}
	p := &bank{db: db}
	_, err = db.ExecContext(ctx, `CREATE TABLE IF NOT EXISTS payment (id TEXT PRIMARY KEY, times INT NOT NULL)`)
	if err == nil {
		p.Participant, err = barrier.New(ctx, barrier.Config{
			Name: "bank", DB: db, Dialect: barrier.SQLite,
			Reserve: func(_ context.Context, _ *sql.Tx, b participant.Branch) error {
				if string(b.Data) == DataRefuse {
					return barrier.Refuse("no such account")
				}
				return nil
			},
			Confirm: func(ctx context.Context, tx *sql.Tx, b participant.Branch) error {
				if p.apart {
					return nil
				}
				_, err := tx.ExecContext(ctx, payment, string(b.XID()))
				return err
			},
			Cancel: func(context.Context, *sql.Tx, participant.Branch) error { return nil },
		})
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	spoil(p)
	return p, nil
}

const payment = `INSERT INTO payment VALUES (?1, 1) ON CONFLICT (id) DO UPDATE SET times = times + 1`

// pay makes the branch's effects at once.
func (p *bank) pay(ctx context.Context, b participant.Branch) error {
	_, err := p.db.ExecContext(ctx, payment, string(b.XID()))
	return err
}

// state returns what the barrier keeps of a branch; empty if nothing.
func (p *bank) state(ctx context.Context, b participant.Branch) (state string, err error) {
	err = p.db.QueryRowContext(ctx, `SELECT state FROM assent_branch WHERE id = ?1`, string(b.XID())).Scan(&state)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil
	}
	return state, err
}

// paid looks at the file with a connection of its own.
func paid(ctx context.Context, path string, b participant.Branch) (_ bool, err error) {
	db, err := barrier.OpenSQLite(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	var times int
	err = db.QueryRowContext(ctx, `SELECT times FROM payment WHERE id = ?1`, string(b.XID())).Scan(&times)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil
	case times > 1:
		return true, fmt.Errorf("they came %d times", times)
	default:
		return true, err
	}
}

func (p *bank) Close() error { return p.db.Close() }

func (p *bank) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	if p.prepare != nil {
		return p.prepare(ctx, b)
	}
	return p.Participant.Prepare(ctx, b)
}

func (p *bank) Commit(ctx context.Context, b participant.Branch) error {
	if p.commit != nil {
		return p.commit(ctx, b)
	}
	return p.Participant.Commit(ctx, b)
}

func (p *bank) Rollback(ctx context.Context, b participant.Branch) error {
	if p.rollback != nil {
		return p.rollback(ctx, b)
	}
	return p.Participant.Rollback(ctx, b)
}

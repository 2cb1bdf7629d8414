package barrier_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
	"github.com/assent-tm/assent/participant/participanttest"
)

// process is an instance with connections of its own, as a process has it.
type process struct {
	*barrier.Participant
	db *sql.DB
}

func (p *process) Close() error { return p.db.Close() }

func TestContract(t *testing.T) {
	first := newService(t)
	dbs := struct {
		sync.Mutex
		open []*sql.DB
	}{}
	enlist := func(data string) func(context.Context, participant.Participant, participant.Enlister) error {
		return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
			_, err := tx.Enlist(ctx, p, []byte(data))
			return err
		}
	}
	participanttest.Test(t, participanttest.Subject{
		New: func(ctx context.Context) (participant.Participant, error) {
			db, err := barrier.OpenSQLite(first.path)
			if err != nil {
				return nil, err
			}
			p, err := barrier.New(ctx, config(db))
			if err != nil {
				return nil, errors.Join(err, db.Close())
			}
			dbs.Lock()
			defer dbs.Unlock()
			dbs.open = append(dbs.open, db)
			return &process{p, db}, nil
		},
		Visible: func(_ context.Context, b participant.Branch) (bool, error) {
			switch e := first.effects(b); e {
			case confirmed:
				return true, nil
			case nothing, reserved, cancelled:
				return false, nil
			default:
				return false, fmt.Errorf("functions ran out of order or twice: %+v", e)
			}
		},
		Begin:  enlist("data"),
		Refuse: enlist(refuseData),
		// The service behind is the file: what a crash takes away is every
		// connection to it.
		Restart: func(context.Context) error {
			dbs.Lock()
			defer dbs.Unlock()
			for _, db := range append(dbs.open, first.db) {
				db.SetMaxIdleConns(0) // closes them
				db.SetMaxIdleConns(4)
			}
			return nil
		},
		KeepsEpoch: true,
	})
}

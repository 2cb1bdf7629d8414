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
	everywhere(t, func(t *testing.T, on *kind) {
		first := on.newService(t)
		var dbs pools
		enlist := func(data string) func(context.Context, participant.Participant, participant.Enlister) error {
			return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
				_, err := tx.Enlist(ctx, p, []byte(data))
				return err
			}
		}
		subject := participanttest.Subject{
			New: func(ctx context.Context) (participant.Participant, error) {
				db, err := on.open(first.dsn)
				if err != nil {
					return nil, err
				}
				p, err := barrier.New(ctx, on.config(db))
				if err != nil {
					return nil, errors.Join(err, db.Close())
				}
				dbs.add(db)
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
			Begin:      enlist("data"),
			Refuse:     enlist(refuseData),
			KeepsEpoch: true,
		}
		// What Visible looks through is not to meet the crash. Of SQLite, where the
		// service behind is the file, all that a crash takes away is connections.
		eyes := &pools{open: []*sql.DB{first.db}}
		subject.Restart = func(context.Context) error {
			dbs.drop()
			eyes.drop()
			return nil
		}
		if on.server != nil {
			subject.Restart = func(ctx context.Context) error {
				defer eyes.drop()
				return on.server(t).Restart(ctx)
			}
		}
		participanttest.Test(t, subject)
	})
}

// pools are what the instances are connected by.
type pools struct {
	sync.Mutex
	open []*sql.DB
}

func (p *pools) add(db *sql.DB) {
	p.Lock()
	defer p.Unlock()
	p.open = append(p.open, db)
}

// drop closes the connections, which are idle.
func (p *pools) drop() {
	p.Lock()
	defer p.Unlock()
	for _, db := range p.open {
		idle := db.Stats().MaxOpenConnections
		db.SetMaxIdleConns(0)
		db.SetMaxIdleConns(idle)
	}
}

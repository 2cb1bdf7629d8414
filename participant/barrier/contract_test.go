package barrier_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/assent-tm/assent/coordinator/coordinatortest"
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

// subject is the service at a place, which is a kind's name, a space and a data source
// name, as any process reaches it.
func subject(where string) (participanttest.Subject, error) {
	name, dsn, _ := strings.Cut(where, " ")
	i := slices.IndexFunc(kinds, func(k *kind) bool { return k.name == name })
	if i < 0 {
		return participanttest.Subject{}, fmt.Errorf("%q is nowhere", where)
	}
	on := kinds[i]
	return participanttest.Subject{
		Where: where,
		New: func(ctx context.Context) (participant.Participant, error) {
			db, err := on.open(dsn)
			if err != nil {
				return nil, err
			}
			p, err := barrier.New(ctx, on.config(db))
			if err != nil {
				return nil, errors.Join(err, db.Close())
			}
			return &process{p, db}, nil
		},
		Visible: func(ctx context.Context, b participant.Branch) (bool, error) {
			db, err := on.open(dsn) // which met no crash
			if err != nil {
				return false, err
			}
			e, err := on.effects(ctx, db, b)
			if err = errors.Join(err, db.Close()); err != nil {
				return false, err
			}
			switch e {
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
	}, nil
}

func enlist(data string) func(context.Context, participant.Participant, participant.Enlister) error {
	return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
		_, err := tx.Enlist(ctx, p, []byte(data))
		return err
	}
}

func TestContract(t *testing.T) {
	everywhere(t, func(t *testing.T, on *kind) {
		s, err := subject(on.name + " " + on.newService(t).dsn)
		if err != nil {
			t.Fatal(err)
		}
		if on.server != nil {
			s.Restart = on.server(t).Restart
		}
		participanttest.Test(t, s)
		coordinatortest.Test(t, s)
	})
}

package mysql_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/assent-tm/assent/coordinator/coordinatortest"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/mysql"
	"github.com/assent-tm/assent/participant/participanttest"
)

// The cases restart the server: they run after the tests that share it, beside those
// that have their own.
func TestContract(t *testing.T) {
	t.Parallel()
	s := newDatabase(t).subject()
	participanttest.Test(t, s)
	coordinatortest.Test(t, s)
}

func (d *database) subject() participanttest.Subject {
	s, _ := subjectAt(d.DSN(d.name))
	s.Visible = func(ctx context.Context, b participant.Branch) (bool, error) {
		n, err := d.effects(ctx, b.Tx)
		if n > 1 {
			err = fmt.Errorf("the effect is there %d times", n)
		}
		return n == 1, err
	}
	s.Restart = d.Restart
	return s
}

// subjectAt is what the processes that the kit starts need to know.
func subjectAt(dsn string) (participanttest.Subject, error) {
	return participanttest.Subject{
		Where: dsn,
		New: func(context.Context) (participant.Participant, error) {
			return mysql.New(mysql.Config{Name: "bank", DSN: dsn})
		},
		Begin: func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
			_, err := work(ctx, p.(*mysql.Participant), tx)
			return err
		},
		Refuse: func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
			s, err := work(ctx, p.(*mysql.Participant), tx)
			if err == nil {
				// The server undoes this statement alone, and would prepare the rest.
				_, _ = s.ExecContext(ctx, "INSERT INTO account VALUES ('ann', 0)")
			}
			return err
		},
	}, nil
}

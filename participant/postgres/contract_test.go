package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator/coordinatortest"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/postgres"
)

// process is an instance with connections of its own, as a process has it.
type process struct {
	*postgres.Participant
	pool *pgxpool.Pool
}

func (p *process) Close() error {
	err := p.Participant.Close()
	p.pool.Close()
	return err
}

func newProcess(ctx context.Context, url string) (*process, error) {
	pool, err := pgxpool.New(ctx, url)
	if err != nil {
		return nil, err
	}
	p, err := postgres.New(ctx, postgres.Config{Name: "pg", Pool: pool})
	if err != nil {
		pool.Close()
		return nil, err
	}
	return &process{p, pool}, nil
}

// work is what a branch of the kit does, by its transaction's id.
type work func(ctx context.Context, p *process, tx participant.Enlister) error

func insert(ctx context.Context, p *process, tx participant.Enlister) error {
	session, err := p.Join(ctx, tx)
	if err != nil {
		return err
	}
	_, err = session.Exec(ctx, "INSERT INTO effect VALUES ($1)", tx.ID().String())
	return err
}

func insertSQL(ctx context.Context, p *process, tx participant.Enlister) error {
	session, err := p.JoinSQL(ctx, tx)
	if err != nil {
		return err
	}
	_, err = session.ExecContext(ctx, "INSERT INTO effect VALUES ($1)", tx.ID().String())
	return err
}

// orphan inserts what a deferred constraint refuses at the end.
func orphan(ctx context.Context, p *process, tx participant.Enlister) error {
	session, err := p.Join(ctx, tx)
	if err != nil {
		return err
	}
	_, err = session.Exec(ctx, "INSERT INTO child VALUES ($1)", 4711)
	return err
}

func divideSQL(ctx context.Context, p *process, tx participant.Enlister) error {
	if err := insertSQL(ctx, p, tx); err != nil {
		return err
	}
	session, err := p.JoinSQL(ctx, tx)
	if err != nil {
		return err
	}
	if err := session.QueryRowContext(ctx, "SELECT 1 / $1::int", 0).Err(); err == nil {
		return errors.New("dividing by zero succeeded")
	}
	return nil
}

// works are the branches of the kit: what begins one, and one that is to be refused.
var works = map[string]struct{ begin, refuse work }{
	"pgx":          {insert, orphan},
	"database sql": {insertSQL, divideSQL},
}

// subject reaches the database from any process: where is the name of the works and
// its URL.
func subject(where string) (participanttest.Subject, error) {
	name, url, _ := strings.Cut(where, "|")
	of := func(w work) func(context.Context, participant.Participant, participant.Enlister) error {
		return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
			return w(ctx, p.(*process), tx)
		}
	}
	return participanttest.Subject{
		Where:  where,
		New:    func(ctx context.Context) (participant.Participant, error) { return newProcess(ctx, url) },
		Begin:  of(works[name].begin),
		Refuse: of(works[name].refuse),
	}, nil
}

func TestContract(t *testing.T) {
	for name := range works {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			s, err := subject(name + "|" + f.url)
			require.NoError(t, err)
			s.Visible = func(ctx context.Context, b participant.Branch) (bool, error) {
				var n int
				err := f.look.QueryRow(ctx, "SELECT count(*) FROM effect WHERE tx = $1", b.Tx.String()).Scan(&n)
				if err == nil && n > 1 {
					err = fmt.Errorf("%d effects of one branch", n)
				}
				return n > 0, err
			}
			s.Restart = func(ctx context.Context) error {
				defer f.look.Reset()
				return theServer(t).Restart(ctx)
			}
			participanttest.Test(t, s)
			if name == "pgx" {
				coordinatortest.Test(t, s)
			}
		})
	}
}

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/coordinator/coordinatortest"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/participanttest"
	"github.com/assent-tm/assent/participant/redis"
)

// process is an instance with connections of its own, as a process has it.
type process struct {
	*redis.Participant
	client *goredis.Client
}

func (p *process) Close() error { return p.client.Close() }

// subject reaches the server at addr from any process.
func subject(addr string) (participanttest.Subject, error) {
	work := func(fill func(session *redis.Session, tx string) error) func(context.Context, participant.Participant, participant.Enlister) error {
		return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
			session, err := p.(*process).Join(ctx, tx)
			if err != nil {
				return err
			}
			return fill(session, tx.ID().String())
		}
	}
	return participanttest.Subject{
		Where: addr,
		New: func(context.Context) (participant.Participant, error) {
			client := goredis.NewClient(&goredis.Options{Addr: addr, ContextTimeoutEnabled: true})
			p, err := redis.New(redis.Config{Name: "orders", Client: client})
			if err != nil {
				return nil, errors.Join(err, client.Close())
			}
			return &process{p, client}, nil
		},
		Begin: work(func(session *redis.Session, tx string) error {
			return errors.Join(session.IncrBy("count:"+tx, 1), session.XAdd("events:"+tx, "is", "paid"),
				session.Set("state:"+tx, "paid"), session.HSet("order:"+tx, "state", "paid"))
		}),
		Refuse: work(func(session *redis.Session, tx string) error {
			return errors.Join(session.IncrBy("count:"+tx, 1), session.Set("text:"+tx, "no number"), session.IncrBy("text:"+tx, 1))
		}),
		KeepsEpoch: true,
	}, nil
}

// wholeSubject has what the tests of this process need, too.
func wholeSubject(t *testing.T) participanttest.Subject {
	t.Helper()
	client := connect(t)
	require.NoError(t, client.FlushDB(t.Context()).Err())
	s, err := subject(server(t).Addr())
	require.NoError(t, err)
	s.Restart = server(t).Restart
	s.Visible = func(ctx context.Context, b participant.Branch) (bool, error) {
		tx := b.Tx.String()
		pipe := client.TxPipeline()
		count, events := pipe.Get(ctx, "count:"+tx), pipe.XLen(ctx, "events:"+tx)
		others := pipe.Exists(ctx, "state:"+tx, "order:"+tx)
		if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, goredis.Nil) {
			return false, err
		}
		switch effects := fmt.Sprintf("%s %d %d", count.Val(), events.Val(), others.Val()); effects {
		case " 0 0":
			return false, nil
		case "1 1 2":
			return true, nil
		default:
			return false, fmt.Errorf("operations were applied in part or twice: %s", effects)
		}
	}
	return s
}

func TestContract(t *testing.T) { participanttest.Test(t, wholeSubject(t)) }

func TestTransactions(t *testing.T) { coordinatortest.Test(t, wholeSubject(t)) }

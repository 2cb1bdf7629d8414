package banks

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"time"

	"github.com/assent-tm/assent/cmd/assent/demo"
	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
	"github.com/assent-tm/assent/wal/record"
)

// Coordinate is the child process of the demo: a coordinator with its log and both
// banks, over the files in dir. It pays what is requested until requests ends, or
// until it is killed.
func Coordinate(ctx context.Context, dir string, requests io.Reader, events io.Writer) (err error) {
	c := demo.Child[Transfer]{
		Started: time.Now(), Dir: dir, Domain: "demo",
		First: func(t Transfer) string { return bankOf(t.From) }, Explain: explain, Refusal: refusal,
	}
	banks := map[string]*barrier.Participant{}
	for _, name := range bankNames {
		db, err := barrier.OpenSQLite(bankFile(dir, name))
		if err != nil {
			return err
		}
		defer closeDB(db, &err)
		if banks[name], err = newBank(ctx, name, db); err != nil {
			return err
		}
		c.Participants = append(c.Participants, banks[name])
	}
	c.Work = func(ctx context.Context, tx participant.Enlister, t Transfer) error { return pay(ctx, tx, banks, t) }
	return c.Run(ctx, requests, events)
}

func closeDB(db *sql.DB, err *error) { *err = errors.Join(*err, db.Close()) }

// pay enlists both banks; their work is done when they are asked to prepare.
func pay(ctx context.Context, tx participant.Enlister, banks map[string]*barrier.Participant, t Transfer) error {
	sides := sides(t)
	for _, bank := range bankNames {
		data, err := sides[bank].data()
		if err != nil {
			return err
		}
		if _, err := tx.Enlist(ctx, banks[bank], data); err != nil {
			return err
		}
	}
	return nil
}

// explain takes a bank's refusal for the transfer's end: nothing but a lack of money
// makes one refuse.
func explain(err error) (demo.Answer, string) {
	var rolledBack *coordinator.RolledBackError
	if errors.As(err, &rolledBack) && rolledBack.Cause == record.CauseRefused {
		return demo.AnswerRefused, rolledBack.Error()
	}
	return demo.Explain(err)
}

func refusal(err error) string {
	if errors.Is(err, errInsufficientFunds) {
		return insufficientFunds
	}
	return ""
}

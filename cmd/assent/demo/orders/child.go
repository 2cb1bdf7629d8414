package orders

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/assent-tm/assent/cmd/assent/demo"
	"github.com/assent-tm/assent/participant"
)

// settings are what the parent tells the coordinator first: addresses have passwords,
// which no command line should show.
type settings struct {
	Addresses Addresses `json:"addresses"`
	Run       run       `json:"run"`
}

// Coordinate is the child process of the demo: a coordinator with its log in dir, and
// the participants at the servers that the first of the requests names. It carries
// orders out until requests ends, or until it is killed.
func Coordinate(ctx context.Context, dir string, requests io.Reader, events io.Writer) (err error) {
	started := time.Now()
	decoder := json.NewDecoder(requests)
	var to settings
	if err := decoder.Decode(&to); err != nil {
		return fmt.Errorf("read the addresses of the servers from standard input: %w", err)
	}
	crew, err := openCrew(ctx, &to.Addresses, to.Run, slog.New(slog.DiscardHandler), true)
	if crew != nil {
		//nolint:contextcheck // it is closed also when the context is over
		defer func() { err = errors.Join(err, crew.close()) }()
	}
	if err != nil {
		return err
	}
	c := &clerk{crew: crew, run: to.Run}
	return demo.Child[order]{
		Started: started, Dir: dir, Domain: to.Run.domain(), Participants: crew.all(),
		Work: c.carryOut, First: func(o order) string { return o.From }, Explain: explain, Refusal: func(error) string { return "" },
	}.Run(ctx, io.MultiReader(decoder.Buffered(), requests), events)
}

// clerk carries orders out.
type clerk struct {
	crew *crew
	run  run
}

// carryOut moves the pieces out of one warehouse's stock and into the other's, and
// publishes that. Every
// order comes to the warehouses in the same turn: two that wait for each
// other, each at another server, would be seen by neither.
func (c *clerk) carryOut(ctx context.Context, tx participant.Enlister, o order) error {
	err := c.atPostgres(ctx, tx, o)
	if err == nil {
		err = c.atMariaDB(ctx, tx, o)
	}
	if err == nil {
		err = c.publish(ctx, tx, o)
	}
	if err != nil && !errors.Is(err, errTooFew) {
		return &workError{err}
	}
	return err
}

func (c *clerk) atPostgres(ctx context.Context, tx participant.Enlister, o order) error {
	session, err := c.crew.postgres.Join(ctx, tx)
	if err != nil {
		return err
	}
	moved := o.moved(postgresName)
	tag, err := session.Exec(ctx, "UPDATE "+c.run.table("stock")+" SET pieces = pieces + $1 WHERE item = $2 AND pieces + $1 >= 0", moved, o.Item)
	if err != nil {
		return err
	}
	if tag.RowsAffected() == 0 {
		return errTooFew
	}
	_, err = session.Exec(ctx, "INSERT INTO "+c.run.table("line")+" (tx, item, pieces) VALUES ($1, $2, $3)", tx.ID().String(), o.Item, moved)
	return err
}

func (c *clerk) atMariaDB(ctx context.Context, tx participant.Enlister, o order) error {
	session, err := c.crew.mariadb.Join(ctx, tx)
	if err != nil {
		return err
	}
	moved := o.moved(mariadbName)
	result, err := session.ExecContext(ctx, "UPDATE "+c.run.table("stock")+" SET pieces = pieces + ? WHERE item = ? AND pieces + ? >= 0", moved, o.Item, moved)
	if err != nil {
		return err
	}
	switch n, err := result.RowsAffected(); {
	case err != nil:
		return err
	case n == 0:
		return errTooFew
	}
	_, err = session.ExecContext(ctx, "INSERT INTO "+c.run.table("line")+" (tx, item, pieces) VALUES (?, ?, ?)", tx.ID().String(), o.Item, moved)
	return err
}

func (c *clerk) publish(ctx context.Context, tx participant.Enlister, o order) error {
	session, err := c.crew.nats.Join(ctx, tx)
	if err != nil {
		return err
	}
	data, err := json.Marshal(message{tx.ID(), o})
	if err != nil {
		return err
	}
	return session.Publish(c.run.subject(), nil, data)
}

// errTooFew says that the warehouse has too few pieces.
var errTooFew = errors.New("too few pieces in stock")

// workError is what kept the work of a transaction from being done, at a server that was
// killed for example. The transaction is rolled back.
type workError struct{ error }

func (e *workError) Unwrap() error { return e.error }

// explain takes too few pieces for the order's end. Whatever else rolls it back, a
// server that lost a session for example, is no reason not to try again.
func explain(err error) (demo.Answer, string) {
	var failed *workError
	switch {
	case errors.Is(err, errTooFew):
		return demo.AnswerRefused, errTooFew.Error()
	case errors.As(err, &failed):
		return demo.AnswerRolledBack, failed.Error()
	default:
		return demo.Explain(err)
	}
}

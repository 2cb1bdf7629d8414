package demo

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/barrier"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

const (
	logFile     = "assent.db"       // the coordinator's recovery log
	messageFile = "coordinator.log" // what it tells an operator

	closeTimeout = 10 * time.Second
)

// Coordinate is the child process of the demo: a coordinator with its log and both
// banks, over the files in dir. It pays what is requested until requests ends, or
// until it is killed.
// anywhere: what this log holds is of no worth to anybody.
var anywhere = &bolt.Options{AllowNetworkFS: true}

func Coordinate(ctx context.Context, dir string, requests io.Reader, events io.Writer) (err error) {
	started := time.Now()
	c := &child{encoder: json.NewEncoder(events), times: map[participant.TxID]*times{}, banks: map[string]*holdingBank{}}
	c.holds = &holds{tell: c.tell, byTx: map[participant.TxID]held{}}
	logger, err := messages(dir)
	if err != nil {
		return err
	}
	var participants []participant.Participant
	for _, name := range bankNames {
		db, err := barrier.OpenSQLite(bankFile(dir, name))
		if err != nil {
			return err
		}
		defer closeDB(db, &err)
		bank, err := newBank(ctx, name, db)
		if err != nil {
			return err
		}
		c.banks[name] = &holdingBank{Participant: bank, holds: c.holds}
		participants = append(participants, c.banks[name])
	}
	store, err := bolt.Open(filepath.Join(dir, logFile), anywhere)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var left recovery.Plan
	c.dtm, err = coordinator.Open(ctx, coordinator.Config{
		Domain: "demo", Store: store, Participants: participants, Logger: logger, Trace: c.trace(&left),
	})
	if err != nil {
		return err
	}
	c.tell(event{Kind: eventReady, InDoubt: left.InDoubt(), Decided: len(left.Resend), Took: time.Since(started)})
	return c.run(ctx, requests)
}

// messages returns the logger of the coordinator. Its file is there to be read
// when the demo is kept.
func messages(dir string) (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	config.Sampling = nil
	config.OutputPaths = []string{filepath.Join(dir, messageFile)}
	config.ErrorOutputPaths = config.OutputPaths
	logger, err := config.Build()
	if err != nil {
		return nil, fmt.Errorf("open the file for the coordinator's messages: %w", err)
	}
	return logger, nil
}

func closeDB(db *sql.DB, err *error) { *err = errors.Join(*err, db.Close()) }

type child struct {
	dtm   *coordinator.DTM
	banks map[string]*holdingBank
	holds *holds

	mu      sync.Mutex
	encoder *json.Encoder               // guarded by mu
	times   map[participant.TxID]*times // guarded by mu
}

// times are those of one transaction, for its answer.
type times struct {
	begun   time.Time
	votes   []vote
	decided time.Duration
}

// trace notes the times of transactions, and in left what Open found.
func (c *child) trace(left *recovery.Plan) *coordinator.Trace {
	return &coordinator.Trace{
		Inherited: func(plan recovery.Plan) { *left = plan },
		Begun: func(tx participant.TxID) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.times[tx] = &times{begun: time.Now()}
		},
		Voted: func(b participant.Branch, v participant.Vote, err error, took time.Duration) {
			given := vote{Bank: b.Participant, Vote: v.String(), Took: took}
			if errors.Is(err, errInsufficientFunds) {
				given.Reason = insufficientFunds
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if t := c.times[b.Tx]; t != nil {
				t.votes = append(t.votes, given)
			}
		},
		Decided: func(tx participant.TxID, _ record.Decision, _ record.Cause) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if t := c.times[tx]; t != nil {
				t.decided = time.Since(t.begun)
			}
		},
	}
}

// tell writes an event before it returns. A parent that is gone ends the requests,
// too, so there is nothing to do about an error.
func (c *child) tell(e event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.encoder.Encode(e)
}

// run serves requests until they end or the log fails, and closes the coordinator.
// The parent bounds how many payments are under way.
func (c *child) run(ctx context.Context, requests io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		started := time.Now()
		if c.dtm.WaitRecovered(ctx) == nil {
			c.tell(event{Kind: eventRecovered, Took: time.Since(started)})
		}
	})
	ended := make(chan error, 1)
	go func() {
		decoder := json.NewDecoder(requests)
		for {
			var r request
			if err := decoder.Decode(&r); err != nil {
				ended <- err
				return
			}
			wg.Go(func() { c.serve(ctx, r) })
		}
	}()
	var err error
	select {
	case err = <-ended:
		if errors.Is(err, io.EOF) {
			err = nil
		}
	case <-c.dtm.Failed():
		// Reading goes on until the process has ended, which is at once.
		return c.dtm.Err()
	}
	closing, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer stop()
	err = errors.Join(err, c.dtm.Close(closing))
	cancel()
	wg.Wait()
	return err
}

// serve pays, or asks what became of a payment, and tells the answer.
func (c *child) serve(ctx context.Context, r request) {
	var err error
	if r.Transfer != nil {
		r.Tx, err = c.begin(ctx, r)
	}
	if err == nil {
		err = c.dtm.Commit(ctx, r.Tx)
	}
	e := event{Kind: eventAnswer, Number: r.Number, Tx: r.Tx}
	e.Answer, e.Reason = explain(err)
	c.mu.Lock()
	if t := c.times[r.Tx]; t != nil {
		e.Votes, e.DecidedAfter, e.DoneAfter = t.votes, t.decided, time.Since(t.begun)
		delete(c.times, r.Tx)
	}
	c.mu.Unlock()
	c.tell(e)
}

// begin begins the payment's transaction and enlists both banks. It tells the
// parent the id before anybody asks for commit: with it the parent can ask again,
// and without it knows that nothing was decided.
func (c *child) begin(ctx context.Context, r request) (participant.TxID, error) {
	tx, err := c.dtm.Begin(ctx, coordinator.WithName(r.Transfer.String()))
	if err != nil {
		return participant.TxID{}, err
	}
	if r.Hold != holdNowhere {
		c.holds.set(tx, r.Hold, r.Number)
	}
	sides := sides(*r.Transfer)
	for _, bank := range bankNames {
		data, err := sides[bank].data()
		if err != nil {
			return tx, err
		}
		if err := c.dtm.Enlist(ctx, tx, c.banks[bank], coordinator.WithData(data)); err != nil {
			return tx, err
		}
	}
	c.tell(event{Kind: eventBegun, Number: r.Number, Tx: tx})
	return tx, nil
}

func explain(err error) (answer, string) {
	var rolledBack *coordinator.RolledBackError
	switch {
	case err == nil:
		return answerCommitted, ""
	case errors.Is(err, coordinator.ErrCommitPending):
		return answerPending, ""
	case !errors.As(err, &rolledBack):
		return answerFailed, err.Error()
	case rolledBack.Cause == record.CauseRefused:
		return answerRefused, fmt.Sprintf("%s: %s", rolledBack.Participant, rolledBack.Reason)
	default:
		return answerRolledBack, rolledBack.Error()
	}
}

package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/assent-tm/assent/coordinator"
	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/recovery"
	"github.com/assent-tm/assent/wal/bolt"
	"github.com/assent-tm/assent/wal/record"
)

// Files in a child's folder.
const (
	LogFile     = "assent.db"       // the coordinator's recovery log
	MessageFile = "coordinator.log" // what it tells an operator
)

const closeTimeout = 10 * time.Second

// anywhere: what this log holds is of no worth to anybody.
var anywhere = &bolt.Options{AllowNetworkFS: true}

// Child is a demo's coordinator, in a process of its own.
type Child[T any] struct {
	// Started is when the process began to open what it needs.
	Started time.Time
	// Dir is the folder of the log and of what the coordinator tells an operator.
	Dir          string
	Domain       string
	Participants []Participant

	// Work does a deal's work in a transaction, and enlists who takes part.
	Work func(ctx context.Context, tx participant.Enlister, what T) error
	// First names the participant that commits where HoldHalf keeps the others.
	First func(what T) string
	// Explain says what the error of Work or Commit, or nil, means for the deal.
	Explain func(err error) (answer Answer, reason string)
	// Refusal gives the reason of a vote where the deal itself is why; "" else.
	Refusal func(err error) string
}

// Run serves requests until they end, or until the process is killed.
func (c Child[T]) Run(ctx context.Context, requests io.Reader, events io.Writer) (err error) {
	s := &service[T]{Child: c, encoder: json.NewEncoder(events), times: map[participant.TxID]*times{}, byName: map[string]*holding{}}
	s.holds = &holds{tell: s.tell, byTx: map[participant.TxID]held{}}
	logger, err := messages(c.Dir)
	if err != nil {
		return err
	}
	var participants []participant.Participant
	for _, p := range c.Participants {
		s.byName[p.Name()] = &holding{Participant: p, holds: s.holds}
		participants = append(participants, s.byName[p.Name()])
	}
	store, err := bolt.Open(filepath.Join(c.Dir, LogFile), anywhere)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var left recovery.Plan
	s.dtm, err = coordinator.Open(ctx, coordinator.Config{
		Domain: c.Domain, Store: store, Participants: participants, Logger: logger, Trace: s.trace(&left),
	})
	if err != nil {
		return err
	}
	s.tell(Event{Kind: EventReady, Left: idsOf(left), Decided: len(left.Resend), Took: time.Since(c.Started)})
	return s.run(ctx, requests)
}

// idsOf returns the transactions that still have branches to be told.
func idsOf(left recovery.Plan) (ids []participant.TxID) {
	for _, state := range slices.Concat(left.Resend, left.RollBack, left.Ask) {
		ids = append(ids, state.Tx)
	}
	return ids
}

// messages returns the logger of the coordinator. Its file is there to be read
// when the demo is kept.
func messages(dir string) (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	config.Sampling = nil
	config.OutputPaths = []string{filepath.Join(dir, MessageFile)}
	config.ErrorOutputPaths = config.OutputPaths
	logger, err := config.Build()
	if err != nil {
		return nil, fmt.Errorf("open the file for the coordinator's messages: %w", err)
	}
	return logger, nil
}

// service is a Child at work.
type service[T any] struct {
	Child[T]
	dtm    *coordinator.DTM
	byName map[string]*holding
	holds  *holds

	mu      sync.Mutex
	encoder *json.Encoder               // guarded by mu
	times   map[participant.TxID]*times // guarded by mu
}

// times are those of one transaction, for its answer.
type times struct {
	begun   time.Time
	votes   []Vote
	decided time.Duration
}

// trace notes the times of transactions, and in left what Open found.
func (s *service[T]) trace(left *recovery.Plan) *coordinator.Trace {
	return &coordinator.Trace{
		Inherited: func(plan recovery.Plan) { *left = plan },
		Begun: func(tx participant.TxID) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.times[tx] = &times{begun: time.Now()}
		},
		Voted: func(b participant.Branch, v participant.Vote, err error, took time.Duration) {
			given := Vote{Participant: b.Participant, Vote: "unknown", Reason: s.Refusal(err), Took: took}
			if v.Valid() {
				given.Vote = v.String()
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if t := s.times[b.Tx]; t != nil {
				t.votes = append(t.votes, given)
			}
		},
		Decided: func(tx participant.TxID, _ record.Decision, _ record.Cause) {
			s.mu.Lock()
			defer s.mu.Unlock()
			if t := s.times[tx]; t != nil {
				t.decided = time.Since(t.begun)
			}
		},
	}
}

// tell writes an event before it returns. A parent that is gone ends the requests,
// too, so there is nothing to do about an error.
func (s *service[T]) tell(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.encoder.Encode(e)
}

// run serves requests until they end or the log fails, and closes the coordinator.
// The parent bounds how many deals are under way.
func (s *service[T]) run(ctx context.Context, requests io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		started := time.Now()
		if s.dtm.WaitRecovered(ctx) == nil {
			s.tell(Event{Kind: EventRecovered, Took: time.Since(started)})
		}
	})
	ended := make(chan error, 1)
	go func() {
		decoder := json.NewDecoder(requests)
		for {
			var r Request[T]
			if err := decoder.Decode(&r); err != nil {
				ended <- err
				return
			}
			wg.Go(func() { s.serve(ctx, r) })
		}
	}()
	var err error
	select {
	case err = <-ended:
		if errors.Is(err, io.EOF) {
			err = nil
		}
	case <-s.dtm.Failed():
		// Reading goes on until the process has ended, which is at once.
		return s.dtm.Err()
	}
	closing, stop := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer stop()
	err = errors.Join(err, s.dtm.Close(closing))
	cancel()
	wg.Wait()
	return err
}

// serve does a deal, or asks what became of one, and tells the answer.
func (s *service[T]) serve(ctx context.Context, r Request[T]) {
	if r.Release {
		s.holds.release(r.Number)
		return
	}
	var err error
	if r.What != nil {
		r.Tx, err = s.begin(ctx, r)
	}
	if err == nil {
		err = s.dtm.Commit(ctx, r.Tx)
	}
	e := Event{Kind: EventAnswer, Number: r.Number, Tx: r.Tx}
	e.Answer, e.Reason = s.Explain(err)
	s.mu.Lock()
	if t := s.times[r.Tx]; t != nil {
		e.Votes, e.DecidedAfter, e.DoneAfter = t.votes, t.decided, time.Since(t.begun)
		delete(s.times, r.Tx)
	}
	s.mu.Unlock()
	s.tell(e)
}

// begin begins the deal's transaction and does its work. It tells the parent the id
// before anybody asks for commit: with it the parent can ask again, and without it
// knows that nothing was decided.
func (s *service[T]) begin(ctx context.Context, r Request[T]) (participant.TxID, error) {
	tx, err := s.dtm.Begin(ctx, coordinator.WithName(fmt.Sprint(*r.What)))
	if err != nil {
		return participant.TxID{}, err
	}
	if r.Hold != HoldNowhere {
		s.holds.set(tx, r.Hold, r.Number, s.First(*r.What))
	}
	if err := s.Work(ctx, holdingTx{s.dtm.Tx(tx), s.byName}, *r.What); err != nil {
		if rollbackErr := s.dtm.Rollback(context.WithoutCancel(ctx), tx); rollbackErr != nil {
			return tx, rollbackErr
		}
		return tx, err
	}
	s.tell(Event{Kind: EventBegun, Number: r.Number, Tx: tx})
	return tx, nil
}

// Explain says what Commit's error means. See Child.Explain.
func Explain(err error) (Answer, string) {
	var rolledBack *coordinator.RolledBackError
	switch {
	case err == nil:
		return AnswerCommitted, ""
	case errors.Is(err, coordinator.ErrCommitPending):
		return AnswerPending, ""
	case errors.As(err, &rolledBack):
		return AnswerRolledBack, rolledBack.Error()
	default:
		return AnswerFailed, err.Error()
	}
}

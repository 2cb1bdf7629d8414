package demo

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	// Window is how many deals are under way at a time.
	Window = 8
	// spare is how many deals are kept for a kill at a crash point: on a slow machine
	// the others could be done before it comes, and one may be refused.
	spare = 2
	// maxTries is how often a deal may be rolled back for no reason of its own. A
	// crash costs it one try, and a few more where connections die with a server.
	maxTries = 100
)

// Storm does many deals at a time while the coordinator, and perhaps the servers of
// participants, are killed again and again.
// It does what a careful client does: it notes the id of each transaction that it is
// told, asks again by that id after a crash, and does anew only what was certainly
// rolled back.
type Storm[T any] struct {
	// Start starts a coordinator.
	Start func(context.Context) (*Process, error)
	// Servers are those that may be killed, by the name of their participant.
	Servers map[string]Server
	// InDoubt reads from the participants which transactions are prepared. It does
	// not ask the one whose server is down, if any is.
	InDoubt func(ctx context.Context, down string) (map[participant.TxID]bool, error)
	// Holding is how many events a hold gives: each participant waits in its own call.
	Holding int
	// Progress is called whenever a deal is finished.
	Progress func(finished, kills int)

	// Deals are what was asked for.
	Deals []*Deal[T]
	Toll  Toll

	process  *Process
	anew     []*Deal[T]       // to be done again, before those that wait
	waiting  []*Deal[T]       // to be done, in this order
	underWay map[int]*Deal[T] // by number
	finished int

	holdsLeft int // kills at a crash point that are still to come
	holding   int // number of the deal that is to be held
	held      int // how many of its participants wait

	found map[participant.TxID]bool // prepared when the coordinator was dead

	down    bool // a server is
	asksNow int  // how many deals may be asked for while it is
}

// Toll is what the kills met.
type Toll struct {
	Kills      int
	Of         map[string]int            // kills by victim; one may have two
	MetInDoubt int                       // kills that left a transaction in doubt
	InDoubt    map[participant.TxID]bool // the transactions that were left so
	Recoveries []time.Duration           // from the start of a process until nothing was in doubt
	Broken     []string                  // acknowledgements that were not true
}

// Ask adds a deal to those that Run does.
func (s *Storm[T]) Ask(number int, what T) {
	s.Deals = append(s.Deals, &Deal[T]{Number: number, What: what})
}

// Run does all deals and carries out the plan. When it returns nil, every deal is
// answered and the last coordinator has closed its log.
func (s *Storm[T]) Run(ctx context.Context, plan []Kill) (err error) {
	s.waiting, s.underWay = slices.Clone(s.Deals), map[int]*Deal[T]{}
	s.Toll.Of, s.Toll.InDoubt = map[string]int{}, map[participant.TxID]bool{}
	if s.process, err = s.Start(ctx); err != nil {
		return err
	}
	defer func() { s.process.End() }()
	for _, k := range plan {
		if k.At != HoldNowhere {
			s.holdsLeft++
		}
	}
	for _, k := range plan {
		if err := s.serve(ctx, nil, func() bool { return s.finished >= k.After }); err != nil {
			return err
		}
		if err := s.await(ctx, k); err != nil {
			return err
		}
		if err := s.strike(ctx, k); err != nil {
			return err
		}
	}
	if err := s.serve(ctx, nil, func() bool { return s.finished == len(s.Deals) }); err != nil {
		return err
	}
	return s.settle(ctx)
}

// settle closes the coordinator, kills every server once more, so that only what is on
// their disks is left, and lets another coordinator deliver what may be to deliver: a
// deal is answered when it is decided, which for a rollback may be before every
// participant was told.
func (s *Storm[T]) settle(ctx context.Context) (err error) {
	if err := s.process.Close(ctx); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Servers)) {
		if err := s.Servers[name].Kill(ctx); err != nil {
			return err
		}
		if err := s.Servers[name].Start(ctx); err != nil {
			return err
		}
	}
	if s.found, err = s.look(ctx, ""); err != nil {
		return err
	}
	if s.process, err = s.Start(ctx); err != nil {
		return err
	}
	ready, err := s.process.Until(ctx, EventReady)
	if err != nil {
		return err
	}
	s.compare(ready)
	if _, err := s.process.Until(ctx, EventRecovered); err != nil {
		return err
	}
	return s.process.Close(ctx)
}

// serve asks and listens until that holds, timer fires, or everything is answered
// that may be asked by now.
func (s *Storm[T]) serve(ctx context.Context, timer <-chan time.Time, until func() bool) error {
	for !until() {
		for len(s.underWay) < Window && s.left() > spare*s.holdsLeft && s.mayAsk() {
			s.askNext(HoldNowhere)
		}
		if len(s.underWay) == 0 {
			return nil
		}
		e, ok, err := s.process.next(ctx, timer)
		if err != nil || !ok {
			return err
		}
		if err := s.note(e); err != nil {
			return err
		}
	}
	return nil
}

// mayAsk keeps deals from being asked for in vain, and in a hurry, while a server is
// down: just enough of them meet it.
func (s *Storm[T]) mayAsk() bool {
	if s.down {
		s.asksNow--
	}
	return !s.down || s.asksNow >= 0
}

// await comes to where the plan kills.
func (s *Storm[T]) await(ctx context.Context, k Kill) error {
	if k.At == HoldNowhere {
		timer := time.NewTimer(k.Delay)
		defer timer.Stop()
		return s.serve(ctx, timer.C, func() bool { return false })
	}
	s.holdsLeft--
	for s.left() > 0 {
		d := s.askNext(k.At)
		s.holding, s.held = d.Number, 0
		// A deal that is refused never comes to the crash point.
		err := s.serve(ctx, nil, func() bool { return s.held == s.Holding || s.underWay[d.Number] == nil })
		if err != nil || s.held == s.Holding {
			return err
		}
	}
	return nil
}

// strike kills, looks into the databases, and starts again what it killed.
func (s *Storm[T]) strike(ctx context.Context, k Kill) error {
	s.Toll.Kills++
	for _, name := range k.victims() {
		s.Toll.Of[name]++
	}
	if k.Coordinator {
		if err := s.killCoordinator(); err != nil {
			return err
		}
	}
	if k.Server != "" {
		if err := s.Servers[k.Server].Kill(ctx); err != nil {
			return err
		}
	}
	if k.Coordinator {
		if err := s.count(ctx, k.Server); err != nil {
			return err
		}
		if err := s.startCoordinator(ctx); err != nil {
			return err
		}
	}
	if k.Server == "" {
		return nil
	}
	if err := s.outage(ctx, k); err != nil || k.Coordinator {
		return err
	}
	if err := s.count(ctx, ""); err != nil {
		return err
	}
	s.found = nil
	// The coordinator lives, and goes on with the deal that it holds.
	s.process.Send(Request[T]{Number: s.holding, Release: true})
	return nil
}

// outage lasts until the server is there again. Until then deals meet a dead one.
func (s *Storm[T]) outage(ctx context.Context, k Kill) error {
	s.down, s.asksNow = true, Window
	defer func() { s.down = false }()
	timer := time.NewTimer(k.Outage)
	defer timer.Stop()
	if err := s.serve(ctx, timer.C, func() bool { return false }); err != nil {
		return err
	}
	return s.Servers[k.Server].Start(ctx)
}

func (s *Storm[T]) killCoordinator() error {
	said, err := s.process.Kill()
	if err != nil {
		return err
	}
	for _, e := range said {
		if err := s.note(e); err != nil {
			return err
		}
	}
	return nil
}

func (s *Storm[T]) startCoordinator(ctx context.Context) (err error) {
	if s.process, err = s.Start(ctx); err != nil {
		return err
	}
	s.askAgain()
	return nil
}

// askAgain takes up what the dead coordinator did not answer.
func (s *Storm[T]) askAgain() {
	for _, number := range slices.Sorted(maps.Keys(s.underWay)) {
		d := s.underWay[number]
		if d.begun {
			s.process.Send(Request[T]{Number: number, Tx: d.Tx()})
			continue
		}
		s.doAnew(d) // it was told before commit was asked for, so it was not
	}
}

func (s *Storm[T]) left() int { return len(s.anew) + len(s.waiting) }

func (s *Storm[T]) askNext(at Hold) *Deal[T] {
	queue := &s.waiting
	if len(s.anew) > 0 {
		queue = &s.anew
	}
	d := (*queue)[0]
	*queue = (*queue)[1:]
	s.underWay[d.Number] = d
	s.process.Send(Request[T]{Number: d.Number, What: &d.What, Hold: at})
	return d
}

func (s *Storm[T]) doAnew(d *Deal[T]) {
	d.begun = false
	delete(s.underWay, d.Number)
	s.anew = append(s.anew, d)
}

func (s *Storm[T]) note(e Event) error {
	d := s.underWay[e.Number]
	switch e.Kind {
	case EventBegun:
		d.noteTx(e.Tx)
		d.begun = true
	case EventHeld:
		if e.Number == s.holding {
			s.held++
		}
	case EventRecovered:
		if s.Toll.Kills > 0 {
			s.Toll.Recoveries = append(s.Toll.Recoveries, s.process.Up())
		}
	case EventAnswer:
		return s.answered(d, e)
	case EventReady:
		s.compare(e)
	}
	return nil
}

func (s *Storm[T]) answered(d *Deal[T], e Event) error {
	d.noteTx(e.Tx) // of which nothing was told if its work failed
	switch e.Answer {
	case AnswerPending:
		// Committed, so never to be done again; asking tells when all have it.
		s.process.Send(Request[T]{Number: d.Number, Tx: e.Tx})
	case AnswerRolledBack:
		if d.tries++; d.tries == maxTries {
			return fmt.Errorf("deal %d was rolled back %d times without need, lastly: %s", d.Number, d.tries, e.Reason)
		}
		s.doAnew(d)
	default:
		d.Answer = e.Answer
		delete(s.underWay, d.Number)
		s.finished++
		s.Progress(s.finished, s.Toll.Kills)
	}
	return nil
}

// Committed counts the deals that were.
func (s *Storm[T]) Committed() (committed int) {
	for _, d := range s.Deals {
		if d.Answer == AnswerCommitted {
			committed++
		}
	}
	return committed
}

// Anew counts how often deals were done again.
func (s *Storm[T]) Anew() (anew int) {
	for _, d := range s.Deals {
		anew += max(len(d.Txs)-1, 0)
	}
	return anew
}

// Doubtful counts the transactions left in doubt that were then committed.
func (s *Storm[T]) Doubtful() (committed int) {
	for _, d := range s.Deals {
		if d.Answer == AnswerCommitted && s.Toll.InDoubt[d.Tx()] {
			committed++
		}
	}
	return committed
}

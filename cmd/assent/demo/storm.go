package demo

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/assent-tm/assent/participant"
)

const (
	minMetInDoubt = 20 // kills

	window = 8 // payments under way at a time

	// Two kills in three wait for a crash point and so are certain to meet a
	// transaction in doubt, the others come at any time.
	minKills  = 30
	heldKills = 20 // of minKills
	// spare is how many payments are kept for a kill at a crash point: on a slow
	// machine the others could be paid before it comes, and a bank may refuse one.
	spare = 2
	// transfersPerKill is for long runs.
	transfersPerKill = 25

	maxDelay = 15 * time.Millisecond // of a kill that comes at any time
)

// kill is one of the plan: when and where to kill the coordinator.
type kill struct {
	after int           // so many payments are finished
	at    hold          // holdNowhere: at any time
	delay time.Duration // of a kill at any time
}

// planKills spreads kills over so many payments. The same seed gives the same
// plan, though not the same run: when the processes do what is not planned.
func planKills(random *rand.Rand, payments int) []kill {
	n := max(minKills, payments/transfersPerKill)
	plan := make([]kill, n)
	points := []hold{holdVotes, holdDecision, holdHalf}
	for i := range plan {
		if i < n*heldKills/minKills {
			plan[i].at = points[i%len(points)]
		} else {
			plan[i].delay = time.Duration(random.Int64N(int64(maxDelay)))
		}
	}
	random.Shuffle(n, func(i, j int) { plan[i], plan[j] = plan[j], plan[i] })
	// The last kill still finds payments that are not begun.
	span := payments - window - 1
	for i := range plan {
		plan[i].after = (i*span + random.IntN(span)) / n
	}
	return plan
}

// storm pays many transfers at a time while the coordinator is killed again and
// again. It does what a careful client does: it notes the id of each transaction
// that it is told, asks again by that id after a crash, and pays anew only what
// was certainly rolled back.
type storm struct {
	start    func(context.Context) (*process, error)
	banks    readers
	progress func(finished, kills int)

	process  *process
	payments []*payment
	anew     []*payment       // to be paid again, before those that wait
	waiting  []*payment       // to be paid, in this order
	underWay map[int]*payment // by number
	finished int

	holdsLeft int // kills at a crash point that are still to come
	holding   int // number of the payment that is to be held
	held      int // how many of its banks wait

	toll toll
}

// toll is what the kills met.
type toll struct {
	kills      int
	metInDoubt int                       // kills that left a transaction in doubt
	inDoubt    map[participant.TxID]bool // the transactions that were left so
	recoveries []time.Duration           // from the start of a process until nothing was in doubt
}

func newStorm(start func(context.Context) (*process, error), banks readers, f *feed, first, transfers int) *storm {
	s := &storm{start: start, banks: banks, underWay: map[int]*payment{}, toll: toll{inDoubt: map[participant.TxID]bool{}}}
	for i := range transfers {
		s.payments = append(s.payments, &payment{number: first + i, transfer: f.next()})
	}
	s.waiting = slices.Clone(s.payments)
	return s
}

// run pays everything and carries out the plan. When it returns nil, every payment
// is answered and the last coordinator has closed its log.
func (s *storm) run(ctx context.Context, plan []kill) (err error) {
	if s.process, err = s.start(ctx); err != nil {
		return err
	}
	defer func() { s.process.end() }()
	for _, k := range plan {
		if k.at != holdNowhere {
			s.holdsLeft++
		}
	}
	for _, k := range plan {
		if err := s.serve(ctx, nil, func() bool { return s.finished >= k.after }); err != nil {
			return err
		}
		if err := s.await(ctx, k); err != nil {
			return err
		}
		if err := s.strike(ctx); err != nil {
			return err
		}
	}
	if err := s.serve(ctx, nil, func() bool { return s.finished == len(s.payments) }); err != nil {
		return err
	}
	return s.settle(ctx)
}

// settle closes the coordinator, and lets another one deliver what may be left: a
// payment is answered when it is decided, which for a rollback may be before every
// bank was told.
func (s *storm) settle(ctx context.Context) (err error) {
	if err := s.process.close(ctx); err != nil {
		return err
	}
	if s.process, err = s.start(ctx); err != nil {
		return err
	}
	if _, err := s.process.until(ctx, eventRecovered); err != nil {
		return err
	}
	return s.process.close(ctx)
}

// serve pays and listens until that holds, timer fires, or everything is answered
// that may be paid by now.
func (s *storm) serve(ctx context.Context, timer <-chan time.Time, until func() bool) error {
	for !until() {
		for len(s.underWay) < window && s.left() > spare*s.holdsLeft {
			s.payNext(holdNowhere)
		}
		if len(s.underWay) == 0 {
			return nil
		}
		e, ok, err := s.process.next(ctx, timer)
		if err != nil || !ok {
			return err
		}
		s.note(e)
	}
	return nil
}

// await comes to where the plan kills.
func (s *storm) await(ctx context.Context, k kill) error {
	if k.at == holdNowhere {
		timer := time.NewTimer(k.delay)
		defer timer.Stop()
		return s.serve(ctx, timer.C, func() bool { return false })
	}
	s.holdsLeft--
	for s.left() > 0 {
		p := s.payNext(k.at)
		s.holding, s.held = p.number, 0
		// A payment that a bank refuses never comes to the crash point.
		err := s.serve(ctx, nil, func() bool { return s.held == heldBanks || s.underWay[p.number] == nil })
		if err != nil || s.held == heldBanks {
			return err
		}
	}
	return nil
}

// strike kills the coordinator, looks into the databases, and starts another one.
func (s *storm) strike(ctx context.Context) error {
	said, err := s.process.kill()
	if err != nil {
		return err
	}
	for _, e := range said {
		s.note(e)
	}
	s.toll.kills++
	inDoubt, err := s.banks.inDoubt(ctx)
	if err != nil {
		return err
	}
	met := false
	for _, branches := range inDoubt {
		for tx := range branches {
			s.toll.inDoubt[tx], met = true, true
		}
	}
	if met {
		s.toll.metInDoubt++
	}
	if s.process, err = s.start(ctx); err != nil {
		return err
	}
	s.askAgain()
	return nil
}

// askAgain takes up what the dead coordinator did not answer.
func (s *storm) askAgain() {
	for _, number := range slices.Sorted(maps.Keys(s.underWay)) {
		p := s.underWay[number]
		if p.begun {
			s.process.send(request{Number: number, Tx: p.tx()})
			continue
		}
		s.payAnew(p) // it was told before commit was asked for, so it was not
	}
}

func (s *storm) left() int { return len(s.anew) + len(s.waiting) }

func (s *storm) payNext(at hold) *payment {
	queue := &s.waiting
	if len(s.anew) > 0 {
		queue = &s.anew
	}
	p := (*queue)[0]
	*queue = (*queue)[1:]
	s.underWay[p.number] = p
	s.process.send(request{Number: p.number, Transfer: &p.transfer, Hold: at})
	return p
}

func (s *storm) payAnew(p *payment) {
	p.begun = false
	delete(s.underWay, p.number)
	s.anew = append(s.anew, p)
}

func (s *storm) note(e event) {
	p := s.underWay[e.Number]
	switch e.Kind {
	case eventBegun:
		p.txs, p.begun = append(p.txs, e.Tx), true
	case eventHeld:
		if e.Number == s.holding {
			s.held++
		}
	case eventRecovered:
		if s.toll.kills > 0 {
			s.toll.recoveries = append(s.toll.recoveries, time.Since(s.process.started))
		}
	case eventAnswer:
		s.answered(p, e)
	case eventReady:
	}
}

func (s *storm) answered(p *payment, e event) {
	switch e.Answer {
	case answerPending:
		// Committed, so never to be paid again; asking tells when all have it.
		s.process.send(request{Number: p.number, Tx: e.Tx})
	case answerRolledBack:
		s.payAnew(p)
	default:
		p.answer = e.Answer
		delete(s.underWay, p.number)
		s.finished++
		s.progress(s.finished, s.toll.kills)
	}
}

// prove checks what the storm was to show.
func (s *storm) prove() []claim {
	committed := 0
	for _, p := range s.payments {
		if p.answer == answerCommitted {
			committed++
		}
	}
	half := claim{text: fmt.Sprintf("at least half of %s transfers committed: %s", count(len(s.payments)), count(committed))}
	half.check(2*committed >= len(s.payments), "only %s did", count(committed))
	met := claim{text: fmt.Sprintf("at least %d kills met a transaction in doubt: %d of %d", minMetInDoubt, s.toll.metInDoubt, s.toll.kills)}
	met.check(s.toll.metInDoubt >= minMetInDoubt, "only %d did", s.toll.metInDoubt)
	return []claim{half, met}
}

package banks

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/assent-tm/assent/cmd/assent/demo"
)

// next chooses a transfer that the sender can pay, or cannot.
func (s *story) next(ctx context.Context, payable bool) (Transfer, error) {
	all, err := s.banks.read(ctx)
	if err != nil {
		return Transfer{}, err
	}
	now := balances(all)
	t, ok := s.feed.nextWhere(func(t Transfer) bool { return (t.Amount <= now[t.From]) == payable })
	switch {
	case ok:
		return t, nil
	case payable:
		return Transfer{}, errors.New("no transfer can be paid any more")
	default: // none asks for too much: make one that does
		t = s.feed.next()
		t.Amount = now[t.From] + 1
		return t, nil
	}
}

// commit is the first act.
func (s *story) commit(ctx context.Context, process *demo.Process) error {
	t, err := s.next(ctx, true)
	if err != nil {
		return err
	}
	s.Print("\n1  A transfer: %s\n", t)
	e, before, err := s.transfer(ctx, process, t)
	if err != nil {
		return err
	}
	s.Line("decision", "commit, durable %s after begin", demo.Millis(e.DecidedAfter))
	s.Line("outcome", "%s in both banks %s after begin", e.Answer, demo.Millis(e.DoneAfter))
	return s.checkMoved(ctx, t, before, e.Answer == demo.AnswerCommitted)
}

// refusal is the second act.
func (s *story) refusal(ctx context.Context, process *demo.Process) error {
	t, err := s.next(ctx, false)
	if err != nil {
		return err
	}
	s.Print("\n2  A transfer that %s cannot pay: %s\n", t.From, t)
	e, before, err := s.transfer(ctx, process, t)
	if err != nil {
		return err
	}
	s.Line("decision", "rollback %s after begin", demo.Millis(e.DecidedAfter))
	s.Line("outcome", "%s, and nothing is reserved any more %s after begin", e.Answer, demo.Millis(e.DoneAfter))
	t.Amount = 0 // is what moves
	return s.checkMoved(ctx, t, before, e.Answer == demo.AnswerRefused)
}

// transfer makes a payment in which nobody dies. It returns the books before it.
func (s *story) transfer(ctx context.Context, process *demo.Process, t Transfer) (e demo.Event, before map[string]books, err error) {
	if before, err = s.banks.read(ctx); err == nil {
		e, err = s.Do(ctx, process, t)
	}
	return e, before, err
}

// crash is the third act: the coordinator dies between the decision and its
// delivery. It returns the next coordinator.
func (s *story) crash(ctx context.Context, process *demo.Process) (*demo.Process, error) {
	t, err := s.next(ctx, true)
	if err != nil {
		return process, err
	}
	s.Print("\n3  kill -9 between the decision and its delivery: %s\n", t)
	before, err := s.banks.read(ctx)
	if err != nil {
		return process, err
	}
	p, err := s.Hold(ctx, process, t, demo.HoldDecision)
	if err != nil {
		return process, err
	}
	s.Line("decision", "commit, durable; no bank was told yet")
	killed := process.PID()
	if _, err := process.Kill(); err != nil {
		return process, err
	}
	if err := s.checkInDoubt(ctx, p, before, killed); err != nil {
		return process, err
	}
	next, err := s.Start(ctx)
	if err != nil {
		return process, err
	}
	if err := s.Recover(ctx, next, p); err != nil {
		return next, err
	}
	return next, s.checkMoved(ctx, t, before, p.Answer == demo.AnswerCommitted)
}

// checkInDoubt reads what the killed coordinator left in the databases.
func (s *story) checkInDoubt(ctx context.Context, p *payment, before map[string]books, killed int) error {
	inDoubt, err := s.banks.inDoubt(ctx)
	if err != nil {
		return err
	}
	after, err := s.banks.read(ctx)
	if err != nil {
		return err
	}
	c := demo.Claim{Text: fmt.Sprintf("process %d is gone; the transfer is prepared in both banks, made in neither: in doubt", killed)}
	for _, bank := range bankNames {
		c.Check(inDoubt[bank][p.Tx()] == prepared, "transaction %s is not prepared in %s", p.Tx(), bank)
	}
	for _, name := range []string{p.What.From, p.What.To} {
		c.Check(balances(before)[name] == balances(after)[name], "the balance of %s changed", name)
	}
	s.Claim("kill -9", c)
	return nil
}

// checkMoved compares the two accounts of a transfer with what they were.
func (s *story) checkMoved(ctx context.Context, t Transfer, before map[string]books, answered bool) error {
	after, err := s.banks.read(ctx)
	if err != nil {
		return err
	}
	was, is := balances(before), balances(after)
	c := demo.Claim{Text: fmt.Sprintf("%s had %s and has %s, %s had %s and has %s", t.From, demo.Count(was[t.From]), demo.Count(is[t.From]), t.To, demo.Count(was[t.To]), demo.Count(is[t.To]))}
	c.Check(answered, "that is not the answer it should be")
	for _, b := range after {
		for name, a := range b.accounts {
			c.Check(a.reserved == 0, "%s coins of %s are reserved", demo.Count(a.reserved), name)
		}
	}
	c.Check(is[t.From] == was[t.From]-t.Amount, "%s should have %s", t.From, demo.Count(was[t.From]-t.Amount))
	c.Check(is[t.To] == was[t.To]+t.Amount, "%s should have %s", t.To, demo.Count(was[t.To]+t.Amount))
	s.Claim("databases", c)
	return nil
}

const (
	minMetInDoubt = 20 // kills

	// Two kills in three wait for a crash point and so are certain to meet a
	// transaction in doubt, the others come at any time.
	minKills  = 30
	heldKills = 20 // of minKills
	// transfersPerKill is for long runs.
	transfersPerKill = 25

	maxDelay = 15 * time.Millisecond // of a kill that comes at any time
)

// planKills spreads kills over so many payments.
func planKills(random *rand.Rand, payments int) []demo.Kill {
	n := max(minKills, payments/transfersPerKill)
	plan := make([]demo.Kill, n)
	points := []demo.Hold{demo.HoldVotes, demo.HoldDecision, demo.HoldHalf}
	for i := range plan {
		plan[i].Coordinator = true
		if i < n*heldKills/minKills {
			plan[i].At = points[i%len(points)]
		} else {
			plan[i].Delay = time.Duration(random.Int64N(int64(maxDelay)))
		}
	}
	demo.Spread(random, plan, payments)
	return plan
}

// storm is the fourth act.
func (s *story) storm(ctx context.Context) (*demo.Storm[Transfer], error) {
	s.Print("\n4  %s more transfers, %d at a time, and kill -9 again and again (--seed %d)\n", demo.Count(s.Transfers), demo.Window, s.Seed)
	started := time.Now()
	storm := &demo.Storm[Transfer]{
		Start: s.Start, InDoubt: s.banks.allInDoubt, Holding: len(bankNames),
		Progress: func(finished, kills int) {
			s.Progress("%s of %s transfers, %d kills", demo.Count(finished), demo.Count(s.Transfers), kills)
		},
	}
	f := feed{transfers: s.Input}
	for i := range s.Transfers {
		storm.Ask(len(s.Deals)+1+i, f.next())
	}
	err := storm.Run(ctx, planKills(rand.New(rand.NewPCG(s.Seed, 0)), s.Transfers))
	s.ClearProgress()
	if err != nil {
		return nil, err
	}
	took := time.Since(started)
	s.Deals = append(s.Deals, storm.Deals...)
	committed := storm.Committed()
	s.Line("transfers", "%s committed, %s refused, in %.1f s", demo.Count(committed), demo.Count(len(storm.Deals)-committed), took.Seconds())
	s.Line("kills", "%s, of which %s left a transaction in doubt", demo.Count(storm.Toll.Kills), demo.Count(storm.Toll.MetInDoubt))
	s.TellDoubt(storm, "paid")
	return storm, nil
}

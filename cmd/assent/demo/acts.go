package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// pay begins a payment, and waits for its transaction.
func (s *story) pay(ctx context.Context, process *process, t Transfer, at hold) (*payment, error) {
	p := &payment{number: len(s.payments) + 1, transfer: t}
	s.payments = append(s.payments, p)
	process.send(request{Number: p.number, Transfer: &t, Hold: at})
	e, err := process.until(ctx, eventBegun)
	if err != nil {
		return nil, err
	}
	p.txs = append(p.txs, e.Tx)
	return p, nil
}

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
func (s *story) commit(ctx context.Context, process *process) error {
	t, err := s.next(ctx, true)
	if err != nil {
		return err
	}
	s.print("\n1  A transfer: %s\n", t)
	e, before, err := s.transfer(ctx, process, t)
	if err != nil {
		return err
	}
	s.line("decision", "commit, durable %s after begin", ms(e.DecidedAfter))
	s.line("outcome", "%s in both banks %s after begin", e.Answer, ms(e.DoneAfter))
	return s.checkMoved(ctx, t, before, e.Answer == answerCommitted)
}

// refusal is the second act.
func (s *story) refusal(ctx context.Context, process *process) error {
	t, err := s.next(ctx, false)
	if err != nil {
		return err
	}
	s.print("\n2  A transfer that %s cannot pay: %s\n", t.From, t)
	e, before, err := s.transfer(ctx, process, t)
	if err != nil {
		return err
	}
	s.line("decision", "rollback %s after begin", ms(e.DecidedAfter))
	s.line("outcome", "%s, and nothing is reserved any more %s after begin", e.Answer, ms(e.DoneAfter))
	t.Amount = 0 // is what moves
	return s.checkMoved(ctx, t, before, e.Answer == answerRefused)
}

// transfer makes a payment in which nobody dies. It returns the books before it.
func (s *story) transfer(ctx context.Context, process *process, t Transfer) (e event, before map[string]books, err error) {
	if before, err = s.banks.read(ctx); err != nil {
		return event{}, nil, err
	}
	p, err := s.pay(ctx, process, t, holdNowhere)
	if err != nil {
		return event{}, nil, err
	}
	if e, err = process.until(ctx, eventAnswer); err != nil {
		return event{}, nil, err
	}
	p.answer = e.Answer
	s.line("votes", "%s", describeVotes(e.Votes))
	return e, before, nil
}

// crash is the third act: the coordinator dies between the decision and its
// delivery. It returns the next coordinator.
func (s *story) crash(ctx context.Context, process *process) (*process, error) {
	t, err := s.next(ctx, true)
	if err != nil {
		return process, err
	}
	s.print("\n3  kill -9 between the decision and its delivery: %s\n", t)
	before, err := s.banks.read(ctx)
	if err != nil {
		return process, err
	}
	p, err := s.pay(ctx, process, t, holdDecision)
	if err != nil {
		return process, err
	}
	for range heldBanks {
		if _, err := process.until(ctx, eventHeld); err != nil {
			return process, err
		}
	}
	s.line("decision", "commit, durable; no bank was told yet")
	killed := process.pid()
	if _, err := process.kill(); err != nil {
		return process, err
	}
	if err := s.checkInDoubt(ctx, p, before, killed); err != nil {
		return process, err
	}
	next, err := s.start(ctx)
	if err != nil {
		return process, err
	}
	return next, s.recovery(ctx, next, p, before)
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
	c := claim{text: fmt.Sprintf("process %d is gone; the transfer is prepared in both banks, made in neither: in doubt", killed)}
	for _, bank := range bankNames {
		c.check(inDoubt[bank][p.tx()] == prepared, "transaction %s is not prepared in %s", p.tx(), bank)
	}
	for _, name := range []string{p.transfer.From, p.transfer.To} {
		c.check(balances(before)[name] == balances(after)[name], "the balance of %s changed", name)
	}
	s.claim("kill -9", c)
	return nil
}

// recovery lets the next coordinator finish the payment that the one before left
// in doubt.
func (s *story) recovery(ctx context.Context, process *process, p *payment, before map[string]books) error {
	ready, err := process.until(ctx, eventReady)
	if err != nil {
		return err
	}
	found := claim{text: fmt.Sprintf("process %d opens the log: %s transaction in doubt, with its decision", process.pid(), count(ready.InDoubt))}
	found.check(ready.InDoubt == 1 && ready.Decided == 1, "%d transactions and %d decisions should be 1 and 1", ready.InDoubt, ready.Decided)
	s.claim("restart", found)
	recovered, err := process.until(ctx, eventRecovered)
	if err != nil {
		return err
	}
	took := time.Since(process.started)
	// The caller's answer was lost with the coordinator. Who has the id asks again.
	process.send(request{Number: p.number, Tx: p.tx()})
	e, err := process.until(ctx, eventAnswer)
	if err != nil {
		return err
	}
	p.answer = e.Answer
	s.line("recovery", "delivered in both banks %s after the restart; the process was up after %s, log and banks were open after %s",
		ms(took), ms(took-ready.Took-recovered.Took), ms(took-recovered.Took))
	s.line("outcome", "asked again by its id: %s", e.Answer)
	return s.checkMoved(ctx, p.transfer, before, e.Answer == answerCommitted)
}

// checkMoved compares the two accounts of a transfer with what they were.
func (s *story) checkMoved(ctx context.Context, t Transfer, before map[string]books, answered bool) error {
	after, err := s.banks.read(ctx)
	if err != nil {
		return err
	}
	was, is := balances(before), balances(after)
	c := claim{text: fmt.Sprintf("%s had %s and has %s, %s had %s and has %s", t.From, count(was[t.From]), count(is[t.From]), t.To, count(was[t.To]), count(is[t.To]))}
	c.check(answered, "that is not the answer it should be")
	for _, b := range after {
		for name, a := range b.accounts {
			c.check(a.reserved == 0, "%s coins of %s are reserved", count(a.reserved), name)
		}
	}
	c.check(is[t.From] == was[t.From]-t.Amount, "%s should have %s", t.From, count(was[t.From]-t.Amount))
	c.check(is[t.To] == was[t.To]+t.Amount, "%s should have %s", t.To, count(was[t.To]+t.Amount))
	s.claim("databases", c)
	return nil
}

// storm is the fourth act.
func (s *story) storm(ctx context.Context) (*storm, error) {
	s.print("\n4  %s more transfers, %d at a time, and kill -9 again and again (--seed %d)\n", count(s.Transfers), window, s.Seed)
	started := time.Now()
	storm := newStorm(s.start, s.banks, &feed{transfers: s.Input}, len(s.payments)+1, s.Transfers)
	storm.progress = s.progress
	err := storm.run(ctx, planKills(rand.New(rand.NewPCG(s.Seed, 0)), s.Transfers))
	s.clearProgress()
	if err != nil {
		return nil, err
	}
	took := time.Since(started)
	s.payments = append(s.payments, storm.payments...)
	committed, anew, doubtful := 0, 0, 0
	for _, p := range storm.payments {
		anew += max(len(p.txs)-1, 0)
		if p.answer != answerCommitted {
			continue
		}
		committed++
		if storm.toll.inDoubt[p.tx()] {
			doubtful++
		}
	}
	s.line("transfers", "%s committed, %s refused, in %.1f s", count(committed), count(len(storm.payments)-committed), took.Seconds())
	s.line("kills", "%s, of which %s left a transaction in doubt", count(storm.toll.kills), count(storm.toll.metInDoubt))
	s.line("in doubt", "%s transactions: %s were then committed, %s rolled back", count(len(storm.toll.inDoubt)), count(doubtful), count(len(storm.toll.inDoubt)-doubtful))
	s.line("paid anew", "%s times, each after the rollback was certain", count(anew))
	if r := storm.toll.recoveries; len(r) > 0 {
		slices.Sort(r)
		s.line("recovery", "%s after a restart in the median, %s at most", ms(r[len(r)/2]), ms(r[len(r)-1]))
	}
	return storm, nil
}

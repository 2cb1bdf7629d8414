package orders

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/assent-tm/assent/cmd/assent/demo"
	"github.com/assent-tm/assent/participant"
)

// commit is the first act.
func (s *story) commit(ctx context.Context, process *demo.Process) error {
	o := order{Item: "lamp", Pieces: 3, From: postgresName, To: mariadbName}
	s.Print("\n1  An order: %s\n", o)
	before, err := s.read(ctx)
	if err != nil {
		return err
	}
	e, err := s.Do(ctx, process, o)
	if err != nil {
		return err
	}
	s.Line("decision", "commit, durable %s after begin", demo.Millis(e.DecidedAfter))
	s.Line("outcome", "%s %s %s after begin", e.Answer, s.Everywhere, demo.Millis(e.DoneAfter))
	return s.checkMoved(ctx, o, before, e.Answer == demo.AnswerCommitted)
}

// refusal is the second act.
func (s *story) refusal(ctx context.Context, process *demo.Process) error {
	o := order{Item: "rug", Pieces: tooMany, From: mariadbName, To: postgresName}
	s.Print("\n2  An order for more than there is: %s\n", o)
	before, err := s.read(ctx)
	if err != nil {
		return err
	}
	e, err := s.Do(ctx, process, o)
	if err != nil {
		return err
	}
	s.Line("work", "%s: %s; the work done at %s is undone", o.From, e.Reason, postgresName)
	s.Line("outcome", "%s %s after begin; nobody was asked to prepare", e.Answer, demo.Millis(e.DoneAfter))
	o.Pieces = 0 // is what moves
	return s.checkMoved(ctx, o, before, e.Answer == demo.AnswerRefused)
}

// crash is the third act: the coordinator dies between the decision and its
// delivery. It returns the next coordinator.
func (s *story) crash(ctx context.Context, process *demo.Process) (*demo.Process, error) {
	o := order{Item: "vase", Pieces: 2, From: postgresName, To: mariadbName}
	s.Print("\n3  kill -9 of the coordinator between the decision and its delivery: %s\n", o)
	before, err := s.read(ctx)
	if err != nil {
		return process, err
	}
	d, err := s.Hold(ctx, process, o, demo.HoldDecision)
	if err != nil {
		return process, err
	}
	s.Line("decision", "commit, durable; nobody was told yet")
	killed := process.PID()
	if _, err := process.Kill(); err != nil {
		return process, err
	}
	if err := s.checkInDoubt(ctx, d, before, fmt.Sprintf("process %d is gone", killed)); err != nil {
		return process, err
	}
	next, err := s.Start(ctx)
	if err != nil {
		return process, err
	}
	if err := s.Recover(ctx, next, d); err != nil {
		return next, err
	}
	return next, s.checkMoved(ctx, o, before, d.Answer == demo.AnswerCommitted)
}

// outage is an act for each server: it dies after its vote and before the decision.
func (s *story) outage(name string) demo.Act {
	return demo.Unharmed(func(ctx context.Context, process *demo.Process) error { return s.killServer(ctx, process, name) })
}

func (s *story) killServer(ctx context.Context, process *demo.Process, name string) error {
	o := order{Item: "clock", Pieces: 1, From: mariadbName, To: postgresName}
	s.Print("\n%d  kill -9 of %s between its vote and the decision: %s\n", len(s.Deals)+1, name, o)
	before, err := s.read(ctx)
	if err != nil {
		return err
	}
	d, err := s.Hold(ctx, process, o, demo.HoldVotes)
	if err != nil {
		return err
	}
	s.Line("votes", "all prepared; the coordinator got none yet")
	server := s.site.own[name]
	if err := server.Kill(ctx); err != nil {
		return err
	}
	started := time.Now()
	if err := server.Start(ctx); err != nil {
		return err
	}
	up := time.Since(started)
	if err := s.checkInDoubt(ctx, d, before, fmt.Sprintf("%s was gone, and is back after %s", name, demo.Millis(up))); err != nil {
		return err
	}
	e, err := s.Release(ctx, process, d)
	if err != nil {
		return err
	}
	s.Line("outcome", "%s", e.Answer)
	return s.checkMoved(ctx, o, before, e.Answer == demo.AnswerCommitted || e.Answer == demo.AnswerPending)
}

// checkInDoubt reads what the kill left in the databases.
func (s *story) checkInDoubt(ctx context.Context, d *demo.Deal[order], before account, what string) error {
	after, err := s.read(ctx)
	if err != nil {
		return err
	}
	c := demo.Claim{Text: what + "; the order is prepared at all servers, carried out nowhere: in doubt"}
	for _, name := range participantNames {
		branches, err := s.preparedAt(ctx, name)
		if err != nil {
			return err
		}
		c.Check(has(branches, d.Tx()), "transaction %s is not prepared at %s", d.Tx(), name)
	}
	for _, name := range warehouseNames {
		c.Check(before.warehouses[name].stock[d.What.Item] == after.warehouses[name].stock[d.What.Item], "the stock at %s changed", name)
	}
	c.Check(len(before.messages) == len(after.messages), "a message was published")
	s.Claim("kill -9", c)
	return nil
}

func has(branches []participant.Branch, tx participant.TxID) bool {
	return slices.ContainsFunc(branches, func(b participant.Branch) bool { return b.Tx == tx })
}

// checkMoved compares the stock of an order's item with what it was.
func (s *story) checkMoved(ctx context.Context, o order, before account, answered bool) error {
	after, err := s.read(ctx)
	if err != nil {
		return err
	}
	was := func(name string) int64 { return before.warehouses[name].stock[o.Item] }
	is := func(name string) int64 { return after.warehouses[name].stock[o.Item] }
	published := len(after.messages) - len(before.messages)
	c := demo.Claim{Text: fmt.Sprintf("%s had %d and has %d, %s had %d and has %d, messages published: %d",
		o.From, was(o.From), is(o.From), o.To, was(o.To), is(o.To), published)}
	c.Check(answered, "that is not the answer it should be")
	c.Check(published == min(1, int(o.Pieces)), "one message should be published for an order that is carried out")
	for _, name := range warehouseNames {
		c.Check(is(name) == was(name)+o.moved(name), "%s should have %d", name, was(name)+o.moved(name))
	}
	s.Claim("servers", c)
	return nil
}

package demo

import (
	"context"
	"fmt"
)

// Acts are what a demo shows one by one, before the storm.
type Acts[T any] struct {
	*Teller
	// Start starts a coordinator.
	Start func(context.Context) (*Process, error)
	// Participants are the names of those that take part in every deal.
	Participants []string
	// Places is how the story calls their databases, AllPlaces all of them.
	Places, AllPlaces string
	// Deals are those of the acts so far.
	Deals []*Deal[T]
}

// begin asks for a deal, and waits for its transaction.
func (a *Acts[T]) begin(ctx context.Context, process *Process, what T, at Hold) (*Deal[T], error) {
	d := &Deal[T]{Number: len(a.Deals) + 1, What: what}
	a.Deals = append(a.Deals, d)
	process.Send(Request[T]{Number: d.Number, What: &what, Hold: at})
	e, err := process.Until(ctx, EventBegun)
	if err != nil {
		return nil, err
	}
	d.Txs = append(d.Txs, e.Tx)
	return d, nil
}

// Do does a deal in which nobody dies, and tells the votes.
func (a *Acts[T]) Do(ctx context.Context, process *Process, what T) (Event, error) {
	d, err := a.begin(ctx, process, what, HoldNowhere)
	if err != nil {
		return Event{}, err
	}
	e, err := process.Until(ctx, EventAnswer)
	if err != nil {
		return Event{}, err
	}
	d.Answer = e.Answer
	a.Line("votes", "%s", describeVotes(a.Participants, e.Votes))
	return e, nil
}

// Hold does a deal as far as a crash point, and returns when every participant's call
// waits there.
func (a *Acts[T]) Hold(ctx context.Context, process *Process, what T, at Hold) (*Deal[T], error) {
	d, err := a.begin(ctx, process, what, at)
	if err != nil {
		return nil, err
	}
	for range a.Participants {
		if _, err := process.Until(ctx, EventHeld); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// Recover tells how a coordinator that was just started finishes the deal that the one
// before left in doubt, decided.
func (a *Acts[T]) Recover(ctx context.Context, process *Process, d *Deal[T]) error {
	ready, err := process.Until(ctx, EventReady)
	if err != nil {
		return err
	}
	found := Claim{Text: fmt.Sprintf("process %d opens the log: %s transaction in doubt, with its decision", process.PID(), Count(ready.InDoubt))}
	found.Check(ready.InDoubt == 1 && ready.Decided == 1, "%d transactions and %d decisions should be 1 and 1", ready.InDoubt, ready.Decided)
	a.Claim("restart", found)
	recovered, err := process.Until(ctx, EventRecovered)
	if err != nil {
		return err
	}
	took := process.Up()
	// The caller's answer was lost with the coordinator. Who has the id asks again.
	process.Send(Request[T]{Number: d.Number, Tx: d.Tx()})
	e, err := process.Until(ctx, EventAnswer)
	if err != nil {
		return err
	}
	d.Answer = e.Answer
	a.Line("recovery", "delivered in %s %s after the restart; the process was up after %s, log and %s were open after %s",
		a.AllPlaces, Millis(took), Millis(took-ready.Took-recovered.Took), a.Places, Millis(took-recovered.Took))
	a.Line("outcome", "asked again by its id: %s", e.Answer)
	return nil
}

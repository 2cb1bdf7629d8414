package demo

import (
	"context"
	"fmt"
	"slices"
)

// Acts are what a demo shows one by one, before the storm.
type Acts[T any] struct {
	*Teller
	// Start starts a coordinator.
	Start func(context.Context) (*Process, error)
	// Participants are the names of those that take part in every deal.
	Participants []string
	// Places is how the story calls their databases or servers, Everywhere how it says
	// that something happened in all of them.
	Places, Everywhere string
	// Deals are those of the acts so far.
	Deals []*Deal[T]
}

// Act is one of them. It returns the coordinator that goes on, which is another one if it
// killed the one it was given.
type Act func(ctx context.Context, process *Process) (*Process, error)

// Unharmed is an act after which the coordinator is the same.
func Unharmed(act func(context.Context, *Process) error) Act {
	return func(ctx context.Context, process *Process) (*Process, error) { return process, act(ctx, process) }
}

// Show starts a coordinator, shows the acts one by one, and lets the last coordinator
// end in order.
func (a *Acts[T]) Show(ctx context.Context, acts ...Act) error {
	process, err := a.Start(ctx)
	if err != nil {
		return err
	}
	defer func() { process.End() }()
	if _, err := process.Until(ctx, EventReady); err != nil {
		return err
	}
	for _, act := range acts {
		if process, err = act(ctx, process); err != nil {
			return err
		}
	}
	return process.Close(ctx)
}

// ask asks for a deal.
func (a *Acts[T]) ask(process *Process, what T, at Hold) *Deal[T] {
	d := &Deal[T]{Number: len(a.Deals) + 1, What: what}
	a.Deals = append(a.Deals, d)
	process.Send(Request[T]{Number: d.Number, What: &what, Hold: at})
	return d
}

// answer waits for a deal's answer.
func (a *Acts[T]) answer(ctx context.Context, process *Process, d *Deal[T]) (Event, error) {
	e, err := process.Until(ctx, EventAnswer)
	if err == nil {
		d.noteTx(e.Tx)
		d.Answer = e.Answer
	}
	return e, err
}

// Do does a deal in which nobody dies, and tells the votes if there were any.
func (a *Acts[T]) Do(ctx context.Context, process *Process, what T) (Event, error) {
	e, err := a.answer(ctx, process, a.ask(process, what, HoldNowhere))
	if len(e.Votes) > 0 {
		a.Line("votes", "%s", describeVotes(a.Participants, e.Votes))
	}
	return e, err
}

// Hold does a deal as far as a crash point, and returns when every participant's call
// waits there. It does it anew if it is rolled back for no reason of its own: after
// a crash the coordinator may have connections that are dead.
func (a *Acts[T]) Hold(ctx context.Context, process *Process, what T, at Hold) (*Deal[T], error) {
	d := a.ask(process, what, at)
	for held, tries := 0, 1; held < len(a.Participants); {
		e, _, err := process.next(ctx, nil)
		switch {
		case err != nil:
			return nil, err
		case e.Kind == EventHeld:
			held++
			d.noteTx(e.Tx)
		case e.Kind == EventAnswer && e.Answer == AnswerRolledBack && tries < maxTries:
			held, tries = 0, tries+1
			d.noteTx(e.Tx)
			process.Send(Request[T]{Number: d.Number, What: &what, Hold: at})
		case e.Kind == EventAnswer:
			return nil, fmt.Errorf("deal %d was to stop at a crash point (%s), but was %s: %s", d.Number, at, e.Answer, e.Reason)
		}
	}
	return d, nil
}

// Release lets a deal that is held go on, and returns its answer.
func (a *Acts[T]) Release(ctx context.Context, process *Process, d *Deal[T]) (Event, error) {
	process.Send(Request[T]{Number: d.Number, Release: true})
	return a.answer(ctx, process, d)
}

// Recover tells how a coordinator that was just started finishes the deal that the one
// before left in doubt, decided.
func (a *Acts[T]) Recover(ctx context.Context, process *Process, d *Deal[T]) error {
	ready, err := process.Until(ctx, EventReady)
	if err != nil {
		return err
	}
	found := Claim{Text: fmt.Sprintf("process %d opens the log: %s transaction in doubt, with its decision", process.PID(), Count(len(ready.Left)))}
	found.Check(len(ready.Left) == 1 && ready.Decided == 1, "%d transactions and %d decisions should be 1 and 1", len(ready.Left), ready.Decided)
	a.Claim("restart", found)
	recovered, err := process.Until(ctx, EventRecovered)
	if err != nil {
		return err
	}
	took := process.Up()
	// The caller's answer was lost with the coordinator. Who has the id asks again.
	process.Send(Request[T]{Number: d.Number, Tx: d.Tx()})
	e, err := a.answer(ctx, process, d)
	if err != nil {
		return err
	}
	a.Line("recovery", "delivered %s %s after the restart; the process was up after %s, log and %s were open after %s",
		a.Everywhere, Millis(took), Millis(took-ready.Took-recovered.Took), a.Places, Millis(took-recovered.Took))
	a.Line("outcome", "asked again by its id: %s", e.Answer)
	return nil
}

// TellDoubt tells what became of the transactions that a storm's kills left in doubt;
// done is how the story calls it that a deal is done.
func (a *Acts[T]) TellDoubt(s *Storm[T], done string) {
	all, committed := len(s.Toll.InDoubt), s.Doubtful()
	a.Line("in doubt", "%s transactions: %s were then committed, %s rolled back", Count(all), Count(committed), Count(all-committed))
	a.Line(done+" anew", "%s times, each after the rollback was certain", Count(s.Anew()))
	if r := s.Toll.Recoveries; len(r) > 0 {
		slices.Sort(r)
		a.Line("recovery", "%s after a restart in the median, %s at most", Millis(r[len(r)/2]), Millis(r[len(r)-1]))
	}
}

package history

import "github.com/anishathalye/porcupine"

func (c *checker) asked(e Event) {
	t := c.tx(e.Tx)
	if e.Op == OpRollback {
		t.pardoned = c.line
	}
	c.open[*e.Call] = openCall{t, len(t.calls)}
	t.calls = append(t.calls, clientCall{op: e.Op, asked: c.line})
}

func (c *checker) answered(e Event) {
	of := c.open[*e.Call]
	delete(c.open, *e.Call)
	call := &of.tx.calls[of.index]
	call.answered, call.outcome = c.line, e.Outcome
	if e.Outcome.decided() {
		c.told(c.tx(of.tx.id), e.Outcome)
	}
}

// told is an outcome that a client or a participant hears.
func (c *checker) told(t *transaction, o Outcome) {
	r := t.register()
	switch {
	case t.told.contradicts(o):
		c.violated(ToldHolds, t.id, "another outcome was told", t.told.line)
	case r.contradicts(o):
		c.violated(Agreement, t.id, "told otherwise than decided", r.line)
	case r.line > 0, o == Rollback && c.absent(t):
	case t.delegated == 0 && (t.lazy.outcome == o || len(t.branches) == 0):
		if t.told.line == 0 {
			t.underLazy, t.toldEra = true, c.era
		}
	case !c.seesLog && t.delegated == 0:
		c.decide(t, o, NoReversal)
	default:
		c.violated(LogBeforeTell, t.id, "told before a decision is durable", t.begun)
	}
	if t.told.line == 0 {
		t.told = said{o, c.line}
	}
}

// outcomes is the register of one transaction as its clients see it. A rollback may
// come by itself, from a deadline or from recovery; a commit takes a Commit call (R2).
var outcomes = porcupine.Model{
	Init: func() any { return Undecided },
	Step: func(state, input, output any) (bool, any) {
		now, op, answer := state.(Outcome), input.(Op), output.(Outcome)
		switch {
		case now != Undecided:
			return answer == now || answer == Unknown, now
		case answer == Unknown: // only Commit calls that nobody saw end
			return true, Commit
		case answer == Commit:
			return op == OpCommit, Commit
		case answer == Rollback:
			return true, Rollback
		default:
			return op == OpGet, Undecided
		}
	},
}

// linearize judges each transaction that has no other violation: those name the rule
// better.
func (c *checker) linearize() {
	blamed := map[string]bool{}
	for _, v := range c.violations {
		blamed[v.Tx] = true
	}
	for _, t := range c.order {
		lostLazily := t.decision.line == 0 && t.readOnly() && t.era != c.era
		if blamed[t.id] || lostLazily {
			continue
		}
		operations, lines := t.operations(c.line + 1)
		if !porcupine.CheckOperations(outcomes, operations) {
			c.line = lines[len(lines)-1]
			c.violated(Linearizable, t.id, "no order of the calls explains the answers", lines...)
		}
	}
}

// operations leaves out what explains nothing: of all Commit calls that nobody saw
// end, the first may take effect whenever a later one might.
func (t *transaction) operations(end int) (operations []porcupine.Operation, lines []int) {
	pending := false
	for i, call := range t.calls {
		op := porcupine.Operation{ClientId: i, Input: call.op, Call: int64(call.asked), Return: int64(call.answered), Output: call.outcome}
		switch {
		case call.answered > 0 && (call.outcome.decided() || call.outcome == Undecided && call.op == OpGet):
			lines = append(lines, call.asked, call.answered)
		case call.op == OpCommit && !pending:
			pending = true
			op.Output, op.Return = Unknown, int64(end)
			lines = append(lines, call.asked)
		default:
			continue
		}
		operations = append(operations, op)
	}
	return operations, lines
}

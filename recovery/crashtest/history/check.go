package history

import (
	"cmp"
	"slices"
)

// Check returns what in events breaks a promise, ordered by the last line of each
// proof: none for a history in which all are kept. What follows from a mistake may be
// reported beside it. It errs, wrapping ErrMalformed, for what Read would refuse. Safe for concurrent use.
func Check(events []Event) ([]Violation, error) {
	if err := validate(events); err != nil {
		return nil, err
	}
	c := &checker{txs: map[string]*transaction{}, open: map[int64]openCall{}, orphans: map[place]*planted{}, ended: map[string]*listing{}}
	for _, s := range events[0].Sees {
		c.seesLog = c.seesLog || s == SeesLog
		c.seesEffects = c.seesEffects || s == SeesEffects
	}
	for i, e := range events {
		c.line = i + 1
		c.step(e)
	}
	c.finish()
	slices.SortStableFunc(c.violations, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Lines[len(a.Lines)-1], b.Lines[len(b.Lines)-1]), slices.Compare(a.Lines, b.Lines))
	})
	return c.violations, nil
}

// disturbance counts failures, and tells whether one lasts.
type disturbance struct {
	count, since int
}

type checker struct {
	seesLog, seesEffects bool

	line      int
	txs       map[string]*transaction
	order     []*transaction
	open      map[int64]openCall // calls without an answer
	era       int
	disturbed disturbance
	settled   int
	sum       int64
	sumLine   int

	orphans   map[place]*planted
	plantings []*planted
	// ended is what participants listed at the end.
	ended        map[string]*listing
	participants []string

	violations []Violation
}

type openCall struct {
	tx    *transaction
	index int
}

func (c *checker) violated(rule Rule, tx, text string, lines ...int) {
	lines = slices.DeleteFunc(append(lines, c.line), func(l int) bool { return l == 0 })
	slices.Sort(lines)
	c.violations = append(c.violations, Violation{Rule: rule, Tx: tx, Lines: slices.Compact(lines), Text: text})
}

func (c *checker) tx(id string) *transaction {
	t := c.txs[id]
	if t == nil {
		t = &transaction{id: id, era: c.era, disturbed: c.disturbed, branches: map[int]*branch{}}
		c.txs[id] = t
		c.order = append(c.order, t)
	}
	if t.underLazy && t.toldEra != c.era {
		// The one outcome that a crash may take back.
		t.told, t.underLazy = said{}, false
	}
	return t
}

func (c *checker) step(e Event) {
	switch e.Kind {
	case KindHistory:
	case KindCrash, KindStart, KindFault, KindRepaired, KindSettled:
		c.stepWorld(e)
	case KindPlanted, KindFinished, KindLeft, KindListed:
		c.stepPlanted(e)
	case KindWitness, KindWitnesses, KindSum:
		c.stepSums(e)
	case KindCall:
		c.asked(e)
	case KindAnswer:
		c.answered(e)
	case KindPrepare, KindVote, KindTell, KindAck, KindHeuristic, KindEffect:
		c.stepBranch(c.tx(e.Tx), e)
	default:
		c.stepTransaction(c.tx(e.Tx), e)
	}
}

func (c *checker) stepWorld(e Event) {
	switch e.Kind {
	case KindSettled:
		c.settle()
	case KindRepaired:
		c.disturbed.since = 0
	case KindStart:
		if e.Participant == "" {
			c.era++
		}
	default:
		if e.Kind == KindCrash && e.Participant == "" {
			c.era++
		}
		c.disturbed.count++
		c.disturbed.since = c.line
	}
}

func (c *checker) stepTransaction(t *transaction, e Event) {
	switch e.Kind {
	case KindBegin:
		if t.begun > 0 {
			c.violated(UniqueIDs, t.id, "begun twice", t.begun)
			return
		}
		t.begun, t.era, t.disturbed = c.line, c.era, c.disturbed
	case KindEnlist:
		if b := t.branches[e.branch()]; b != nil && b.participant != e.Participant {
			c.violated(UniqueIDs, t.id, "one branch of two participants")
			return
		}
		if t.branches[e.branch()] == nil {
			t.branches[e.branch()] = &branch{number: e.branch(), participant: e.Participant}
		}
	case KindPreparing:
		t.preparing = c.line
	case KindDelegated:
		c.delegate(t)
	case KindDecided:
		c.decided(t, e)
	case KindRecover:
		c.recovered(t, e.Outcome)
	case KindInquiry:
		if e.Outcome.decided() {
			c.told(t, e.Outcome)
		}
	case KindOperator:
		t.pardoned = c.line
		for _, b := range t.branches {
			if e.Branch == nil || b.number == *e.Branch {
				b.excused = c.line
			}
		}
	case KindDeadline:
		t.pardoned = c.line
	case KindForget:
		c.forget(t)
	default: // of another step
	}
}

func (c *checker) stepBranch(t *transaction, e Event) {
	b := t.branches[e.branch()]
	if b == nil {
		c.violated(Untouched, t.id, "the branch was never enlisted", t.begun)
		return
	}
	switch e.Kind {
	case KindPrepare:
		if c.seesLog && t.preparing == 0 {
			c.violated(LogBeforeTell, t.id, "prepare before begun and enlisted are durable", t.begun)
		}
		b.prepare = c.line
	case KindVote:
		switch e.Vote {
		case VotePrepared:
			b.yes = c.line
		case VoteReadOnly:
			b.readOnly = c.line
		case VoteRefused:
			b.no, b.refused = c.line, c.line
		default:
			b.no = c.line
		}
	case KindTell:
		c.tell(t, b, e)
	case KindAck:
		c.acknowledged(t, b, e.Outcome)
	case KindHeuristic:
		b.excused = c.line
	case KindEffect:
		c.effect(t, b)
	default: // of another step
	}
}

package history

// What is looked at when all failures are repaired: who is still in doubt, what
// nobody but its owner may have touched, sums, and the rows that transactions left.

type place struct{ participant, xid string }

type planted struct {
	place
	owner Owner
	line  int
	// ended is the last line in which somebody ended it; left the last that still
	// lists it.
	ended, left int
}

// listing is what one participant holds, until the line that ends the list.
type listing struct {
	rows map[string]int // transaction to line
	end  int
}

func (c *checker) listing(participant string) *listing {
	l := c.ended[participant]
	if l == nil {
		l = &listing{rows: map[string]int{}}
		c.ended[participant] = l
		c.participants = append(c.participants, participant)
	}
	return l
}

func (c *checker) settle() {
	c.settled = c.line
	for _, t := range c.order {
		for _, b := range t.sorted() {
			switch {
			case b.owes():
				c.violated(Settles, t.id, "a branch is still in doubt", max(b.prepare, b.yes))
			case c.seesEffects && b.end.outcome == Commit && b.readOnly == 0 && b.excused == 0 && b.effects == 0:
				c.violated(ExactlyOnce, t.id, "committed and never applied", b.end.line)
			}
		}
		if line := c.undecided(t); line > 0 {
			c.violated(Settles, t.id, "a commit call is still undecided", line)
		}
	}
}

// undecided returns a Commit call that must have been decided by the end: its
// coordinator lived through it.
func (c *checker) undecided(t *transaction) int {
	if !c.seesLog || t.era != c.era || t.register().line > 0 || t.lazy.line > 0 || t.told.line > 0 || len(t.branches) == 0 {
		return 0
	}
	for _, call := range t.calls {
		if call.op == OpCommit && call.answered == 0 {
			return call.asked
		}
	}
	return 0
}

func (c *checker) stepPlanted(e Event) {
	at := place{e.Participant, e.XID}
	p := c.orphans[at]
	switch e.Kind {
	case KindPlanted:
		c.orphans[at] = &planted{place: at, owner: e.Owner, line: c.line}
		c.plantings = append(c.plantings, c.orphans[at])
	case KindFinished:
		switch {
		case p == nil:
		case p.owner == OwnerForeign:
			c.violated(Untouched, e.XID, "a foreign branch was ended", p.line)
		case e.Outcome == Commit:
			c.violated(Untouched, e.XID, "an orphan was committed", p.line)
		}
		if p != nil {
			p.ended = c.line
		}
	case KindLeft:
		switch {
		case p == nil:
			c.violated(Settles, e.XID, "a branch is still prepared", c.settled)
		case p.owner == OwnerOurs:
			c.violated(Settles, e.XID, "an orphan is still prepared", p.line, c.settled)
		}
		if p != nil {
			p.left = c.line
		}
	case KindListed:
		for _, p := range c.plantings {
			if p.participant == e.Participant && p.owner == OwnerForeign && p.left < p.line && p.ended == 0 {
				c.violated(Untouched, p.xid, "a foreign branch is gone", p.line)
			}
		}
	default: // of another step
	}
}

func (c *checker) stepSums(e Event) {
	switch e.Kind {
	case KindSum:
		if c.sumLine > 0 && c.sum != *e.Sum {
			c.violated(SumHolds, "", "the total has changed", c.sumLine)
			return
		}
		if c.sumLine == 0 {
			c.sum, c.sumLine = *e.Sum, c.line
		}
	case KindWitness:
		l := c.listing(e.Participant)
		if before := l.rows[e.Tx]; before > 0 {
			c.violated(ExactlyOnce, e.Tx, "two rows at one participant", before)
		}
		l.rows[e.Tx] = c.line
	case KindWitnesses:
		c.listing(e.Participant).end = c.line
	default: // of another step
	}
}

// witnesses compares the rows of each transaction at all participants that listed
// theirs to the end.
func (c *checker) witnesses() {
	for _, participant := range c.participants {
		l := c.ended[participant]
		for id, line := range l.rows {
			if c.txs[id] == nil {
				c.line = line
				c.violated(WitnessRows, id, "a row of no transaction", l.end)
			}
		}
	}
	for _, t := range c.order {
		c.witnessesOf(t)
	}
}

func (c *checker) witnessesOf(t *transaction) {
	there, missing := 0, 0
	for _, b := range t.sorted() {
		l := c.ended[b.participant]
		if l == nil || l.end == 0 || b.excused > 0 || b.readOnly > 0 && b.yes == 0 {
			continue
		}
		if line := l.rows[t.id]; line > 0 {
			there = line
		} else {
			missing = l.end
		}
	}
	r := t.register()
	c.line = max(there, missing)
	switch {
	case there > 0 && missing > 0:
		c.violated(WitnessRows, t.id, "a row at one participant and none at another", there, missing)
	case there > 0 && r.contradicts(Commit):
		c.violated(WitnessRows, t.id, "a row of a transaction that was rolled back", r.line)
	case missing > 0 && r.line > 0 && r.outcome == Commit:
		c.violated(WitnessRows, t.id, "no row of a committed transaction", r.line)
	}
}

func (c *checker) finish() {
	last := c.line
	c.witnesses()
	c.line = last
	c.linearize()
}

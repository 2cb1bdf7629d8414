package history

func (c *checker) delegate(t *transaction) {
	t.delegated = c.line
	if len(t.branches) != 1 {
		c.violated(CommitNeedsVotes, t.id, "one-phase commit needs exactly one branch", t.begun)
	}
}

func (c *checker) decided(t *transaction, e Event) {
	if !e.Lazy {
		c.decide(t, e.Outcome, NoReversal)
		return
	}
	if t.delegated == 0 && !t.readOnly() {
		c.violated(LogBeforeTell, t.id, "written lazily, though a branch needs the outcome", t.begun)
		return
	}
	if r := t.register(); r.contradicts(e.Outcome) {
		c.violated(NoReversal, t.id, "decided otherwise before", r.line)
		return
	}
	t.lazy, t.lazyEra = said{e.Outcome, c.line}, c.era
}

// decide makes o the durable decision. reversal is the rule that a different
// decision before it breaks.
func (c *checker) decide(t *transaction, o Outcome, reversal Rule) {
	if t.decision.contradicts(o) {
		c.violated(reversal, t.id, "decided otherwise before", t.decision.line)
		return
	}
	if t.decision.line > 0 {
		return
	}
	if t.presumed.contradicts(o) {
		c.violated(reversal, t.id, "its rollback was presumed before", t.presumed.line)
		return
	}
	if t.lazy.contradicts(o) && t.lazyEra == c.era {
		c.violated(reversal, t.id, "decided otherwise before", t.lazy.line)
		return
	}
	// The first decision stands, whatever is wrong with it.
	t.decision = said{o, c.line}
	if t.told.contradicts(o) {
		c.violated(ToldHolds, t.id, "another outcome was told", t.told.line)
		return
	}
	for _, b := range t.sorted() {
		if b.excused == 0 && b.end.contradicts(o) {
			c.violated(Agreement, t.id, "a branch ended otherwise", b.end.line)
			return
		}
	}
	if o == Commit && t.delegated == 0 {
		if line, why := t.without(); line > 0 {
			c.violated(CommitNeedsVotes, t.id, why, line)
		}
	}
	if o == Rollback {
		c.mayRollBack(t)
	}
}

func (c *checker) mayRollBack(t *transaction) {
	undisturbed := t.disturbed.since == 0 && t.disturbed.count == c.disturbed.count && t.era == c.era
	if !undisturbed || t.pardoned > 0 || t.delegated > 0 || len(t.branches) == 0 || t.begun == 0 {
		return
	}
	lines := []int{t.begun}
	for _, b := range t.sorted() {
		if b.no > 0 || b.excused > 0 || b.yes == 0 && b.readOnly == 0 {
			return
		}
		lines = append(lines, max(b.yes, b.readOnly))
	}
	c.violated(NoFailureCommits, t.id, "rolled back without a reason", lines...)
}

// recovered is what one replay of the log says. It acts on it, so it holds.
func (c *checker) recovered(t *transaction, o Outcome) {
	if o.decided() {
		c.decide(t, o, RecoveryIdempotent)
		return
	}
	switch {
	case t.decision.line > 0:
		c.violated(RecoveryIdempotent, t.id, "a durable decision is lost", t.decision.line)
	case t.delegated > 0:
	case t.told.contradicts(Rollback):
		c.violated(ToldHolds, t.id, "told, and not in the log", t.told.line)
	case t.presumed.line == 0:
		// No decision, no commit (R3).
		t.presumed = said{Rollback, c.line}
	}
}

// absent reports whether a rollback needs no line of the log: the transaction was
// never begun, has no branch, or its coordinator died undecided (R3).
func (c *checker) absent(t *transaction) bool {
	return t.delegated == 0 && (t.begun == 0 || t.era != c.era || len(t.branches) == 0)
}

func (c *checker) tell(t *transaction, b *branch, e Event) {
	r := t.register()
	switch {
	case e.Outcome == Commit && b.readOnly > 0 && b.yes == 0:
		c.violated(ReadOnlyLeaves, t.id, "commit for a read-only branch", b.readOnly)
	case e.OnePhase && t.delegated == 0 && c.seesLog:
		c.violated(LogBeforeTell, t.id, "one-phase commit before delegated is durable", t.begun)
	case e.OnePhase:
		t.delegated = max(t.delegated, 1)
		b.prepare = c.line // it is in doubt as if it were prepared
	case e.Outcome == Rollback && t.delegated > 0 && t.decision.line == 0:
		// After a crash the branch is asked to roll back; what it answers decides.
	case r.contradicts(e.Outcome):
		c.violated(Agreement, t.id, "told otherwise than decided", r.line)
	case r.line > 0:
	case t.told.contradicts(e.Outcome):
		c.violated(ToldHolds, t.id, "another outcome was told", t.told.line)
	case e.Outcome == Rollback && c.absent(t):
		t.presumed = said{Rollback, c.line}
	case !c.seesLog:
		c.decide(t, e.Outcome, NoReversal)
	default:
		c.violated(LogBeforeTell, t.id, "told before a decision is durable", t.begun)
	}
}

func (c *checker) acknowledged(t *transaction, b *branch, o Outcome) {
	if b.excused > 0 {
		return
	}
	if b.end.contradicts(o) {
		c.violated(NoReversal, t.id, "the branch ended otherwise before", b.end.line)
		return
	}
	first := b.end.line == 0
	r := t.register()
	if first {
		b.end = said{o, c.line}
	}
	switch {
	case r.contradicts(o):
		c.violated(Agreement, t.id, "the branch ended otherwise than decided", r.line)
	case r.line == 0 && o == Commit && t.delegated == 0:
		c.violated(Agreement, t.id, "the branch committed without a decision", b.prepare)
	}
}

func (c *checker) effect(t *transaction, b *branch) {
	b.effects++
	r := t.register()
	switch {
	case b.effects > 1:
		c.violated(ExactlyOnce, t.id, "applied twice", b.effect)
	case b.excused > 0:
	case b.end.contradicts(Commit):
		c.violated(ExactlyOnce, t.id, "applied by a branch that rolled back", b.end.line)
	case r.contradicts(Commit):
		c.violated(Agreement, t.id, "applied, though decided otherwise", r.line)
	case r.line == 0 && t.delegated == 0:
		c.violated(ExactlyOnce, t.id, "applied before the decision", b.prepare)
	}
	b.effect = c.line
}

func (c *checker) forget(t *transaction) {
	t.forgotten = c.line
	for _, b := range t.sorted() {
		if b.owes() {
			c.violated(CompletedBeforeForget, t.id, "a prepared branch has not acknowledged", max(b.prepare, b.yes))
			return
		}
	}
}

// owes reports whether the branch may be prepared and has not ended (R4: one whose
// Prepare failed may be, too; one that refused is not).
func (b *branch) owes() bool {
	mayBePrepared := b.yes > 0 || b.prepare > 0 && b.readOnly == 0 && b.refused == 0
	return mayBePrepared && b.end.line == 0 && b.excused == 0
}

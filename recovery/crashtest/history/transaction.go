package history

// said is an outcome and the line that said so; line 0 is none.
type said struct {
	outcome Outcome
	line    int
}

func (s said) contradicts(o Outcome) bool { return s.line > 0 && s.outcome != o }

// transaction is what the lines so far say of one.
type transaction struct {
	id    string
	begun int // line
	// era is how many starts and crashes of coordinators came before it.
	era       int
	disturbed disturbance

	preparing, delegated, forgotten int
	// pardoned is the deadline, rollback call or operator's word that ends the duty
	// to commit.
	pardoned int
	branches map[int]*branch

	// decision is durable. lazy is written lazily, and a crash may lose it.
	decision, lazy said
	lazyEra        int
	// presumed is a rollback that rests on absence (R3).
	presumed said
	// told is what clients and participants heard first; underLazy, if a crash may
	// take it back.
	told      said
	underLazy bool
	toldEra   int

	calls []clientCall
}

type branch struct {
	number      int
	participant string
	prepare     int
	yes         int // votes prepared
	readOnly    int
	no          int // refused or failed
	refused     int // a certain no
	end         said
	effect      int
	effects     int
	// excused is a heuristic or an operator's word: it is reported, not judged.
	excused int
}

// clientCall is a call and its answer; answered is 0 if there was none.
type clientCall struct {
	op              Op
	asked, answered int
	outcome         Outcome
}

// register is the transaction's outcome as far as it can't change any more.
func (t *transaction) register() said {
	switch {
	case t.decision.line > 0:
		return t.decision
	case t.delegated > 0:
		for _, b := range t.sorted() {
			if b.end.line > 0 {
				return b.end
			}
		}
		return said{}
	default:
		return t.presumed
	}
}

// sorted returns the branches by number, so that equal histories have equal answers.
func (t *transaction) sorted() []*branch {
	list := make([]*branch, 0, len(t.branches))
	for n := 0; n <= MaxBranch && len(list) < len(t.branches); n++ {
		if b := t.branches[n]; b != nil {
			list = append(list, b)
		}
	}
	return list
}

// readOnly reports whether there is no branch that needs the outcome.
func (t *transaction) readOnly() bool {
	for _, b := range t.branches {
		if b.readOnly == 0 || b.no > 0 {
			return false
		}
	}
	return true
}

// without returns a line that shows a branch which did not vote for commit.
func (t *transaction) without() (line int, why string) {
	for _, b := range t.sorted() {
		switch {
		case b.no > 0:
			return b.no, "a branch did not vote for it"
		case b.yes == 0 && b.readOnly == 0:
			return max(b.prepare, t.begun), "a branch has not voted"
		}
	}
	return 0, ""
}

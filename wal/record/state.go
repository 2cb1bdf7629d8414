package record

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/assent-tm/assent/participant"
)

// ErrConflict says that two records of one transaction contradict each other. It
// is never repaired by taking one of them: the log is damaged, or two
// coordinators wrote it.
var ErrConflict = errors.New("records contradict each other")

// State is what the records of one transaction say together. Merging is
// commutative, associative and idempotent: a decision once seen wins,
// acknowledgements are united, and the order of records does not matter (R9).
type State struct {
	Tx participant.TxID
	// At, Timeout and Attributes are those of Begun.
	At         time.Time
	Timeout    time.Duration
	Attributes Attributes
	// Branches are indexed by branch number. A branch without Participant was
	// named by a record whose Enlisted is not there.
	Branches []Branch
	// Preparing: Prepare may have been sent.
	Preparing bool
	// Delegated: the only branch decides (R3).
	Delegated bool
	// Decision, Presumed, Cause, Reason and By are those of Decided; By is NoBranch
	// while undecided.
	Decision Decision
	Presumed bool
	Cause    Cause
	Reason   string
	By       int
	// Completed is when every branch had acknowledged; zero before.
	Completed time.Time
	// Words are the operators', in the order in which they were said.
	Words []Operator
}

// Branch is what the records say of one branch.
type Branch struct {
	Participant string
	Data        []byte
	// Vote is the vote known at the decision; invalid if unknown.
	Vote participant.Vote
	// Outcome is how the branch is known to have ended; zero if it has not
	// acknowledged.
	Outcome participant.Outcome
	// Reason explains a heuristic outcome.
	Reason string
}

// NewState returns the state of a transaction of which no record was seen.
func NewState(tx participant.TxID) *State { return &State{Tx: tx, By: NoBranch} }

// Apply merges a record into the state. An error Is ErrConflict and leaves the
// state as it was, or in part merged; the log must not be used then.
func (s *State) Apply(r Record) error {
	if r.TxID() != s.Tx {
		return fmt.Errorf("record %s of %s applied to %s: %w", r.Kind(), r.TxID(), s.Tx, ErrConflict)
	}
	var err error
	switch r := r.(type) {
	case Begun:
		s.begun(r.At, r.Timeout, r.Attributes)
	case Enlisted:
		err = s.enlisted(r.Number, r.Participant, r.Data)
	case Preparing:
		s.Preparing = true
	case Decided:
		err = s.decided(r)
	case Delegated:
		s.Delegated = true
	case Completed:
		s.completed(r.At)
	case Heuristic:
		err = s.acknowledged(r.Number, r.Outcome, r.Reason)
	case Operator:
		s.said(r)
	case Carried:
		err = s.merge(&r.State)
	default:
		err = fmt.Errorf("%w: a %s record belongs to no transaction", ErrConflict, r.Kind())
	}
	if err != nil {
		return fmt.Errorf("record %s of transaction %s: %w", r.Kind(), s.Tx, err)
	}
	return nil
}

func (s *State) begun(at time.Time, timeout time.Duration, attributes Attributes) {
	if s.At.IsZero() {
		s.At, s.Timeout, s.Attributes = at, timeout, attributes
	}
}

func (s *State) branch(number int) *Branch {
	if number >= len(s.Branches) {
		s.Branches = append(s.Branches, make([]Branch, number+1-len(s.Branches))...)
	}
	return &s.Branches[number]
}

func (s *State) enlisted(number int, name string, data []byte) error {
	b := s.branch(number)
	if b.Participant != "" && (b.Participant != name || !slices.Equal(b.Data, data)) {
		return fmt.Errorf("branch %d is participant %q and %q: %w", number, b.Participant, name, ErrConflict)
	}
	b.Participant, b.Data = name, data
	return nil
}

func (s *State) decided(r Decided) error {
	if s.Decision.Valid() && s.Decision != r.Decision {
		return fmt.Errorf("decided %s and %s: %w", s.Decision, r.Decision, ErrConflict)
	}
	for i, v := range r.Votes {
		if v.Valid() {
			s.branch(i).Vote = v
		}
	}
	// One decision has one explanation; were there two, the choice must not depend
	// on the order of records.
	mine := Decided{Presumed: s.Presumed, Cause: s.Cause, Reason: s.Reason, By: s.By}
	if !s.Decision.Valid() || compareExplanations(r, mine) < 0 {
		s.Decision, s.Presumed = r.Decision, r.Presumed
		s.Cause, s.Reason, s.By = r.Cause, r.Reason, r.By
	}
	return nil
}

// compareExplanations puts what a coordinator saw before what recovery presumed.
func compareExplanations(a, b Decided) int {
	if a.Presumed != b.Presumed {
		if b.Presumed {
			return -1
		}
		return 1
	}
	return cmp.Or(cmp.Compare(a.Cause, b.Cause), cmp.Compare(a.By, b.By), cmp.Compare(a.Reason, b.Reason))
}

func (s *State) completed(at time.Time) {
	if s.Completed.IsZero() || at.Before(s.Completed) {
		s.Completed = at
	}
}

func (s *State) acknowledged(number int, outcome participant.Outcome, reason string) error {
	b := s.branch(number)
	if b.Outcome.Valid() && b.Outcome != outcome {
		// A hazard is a suspicion; what is learnt later settles it.
		if b.Outcome != participant.OutcomeHeuristicHazard {
			if outcome == participant.OutcomeHeuristicHazard {
				return nil
			}
			return fmt.Errorf("branch %d ended %s and %s: %w", number, b.Outcome, outcome, ErrConflict)
		}
	}
	// A participant may have said the same in other words: the first of the
	// alphabet is kept, so that the order of records does not matter.
	if b.Outcome != outcome || b.Reason == "" || reason != "" && reason < b.Reason {
		b.Outcome, b.Reason = outcome, reason
	}
	return nil
}

func (s *State) merge(o *State) error {
	if !o.At.IsZero() {
		s.begun(o.At, o.Timeout, o.Attributes)
	}
	s.Preparing = s.Preparing || o.Preparing
	s.Delegated = s.Delegated || o.Delegated
	if !o.Completed.IsZero() {
		s.completed(o.Completed)
	}
	s.said(o.Words...)
	for i, b := range o.Branches {
		mine := s.branch(i)
		if b.Participant != "" {
			if err := s.enlisted(i, b.Participant, b.Data); err != nil {
				return err
			}
		}
		if b.Vote.Valid() {
			mine.Vote = b.Vote
		}
		if b.Outcome.Valid() {
			if err := s.acknowledged(i, b.Outcome, b.Reason); err != nil {
				return err
			}
		}
	}
	if o.Decision.Valid() {
		return s.decided(Decided{Decision: o.Decision, Presumed: o.Presumed, Cause: o.Cause, Reason: o.Reason, By: o.By})
	}
	return nil
}

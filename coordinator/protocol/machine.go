package protocol

import (
	"errors"
	"fmt"
	"slices"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// Errors of Step. The machine is unchanged.
var (
	// ErrSealed says that the list of branches is complete: Commit, Rollback or a
	// timeout came first, or the log failed.
	ErrSealed = errors.New("takes no more branches: it is being committed or rolled back")
	// ErrTooManyBranches says that the transaction has MaxBranches branches.
	ErrTooManyBranches = fmt.Errorf("%d branches are the most", participant.MaxBranches)
)

// Branch is what the machine knows of one branch.
type Branch struct {
	// OnePhaser: the participant can commit in one phase.
	OnePhaser bool
	// Asked: Prepare was sent. Answered: it returned.
	Asked, Answered bool
	// Vote is the vote; invalid while not Answered and for unknown.
	Vote participant.Vote
	// Outcome is how the branch ended; zero while it has not acknowledged.
	Outcome participant.Outcome
	// Hazard: the branch did not know what it was to commit (R7).
	Hazard bool
}

// why is what asked for a rollback; zero for a commit.
type why struct {
	cause  record.Cause
	reason string
}

// Machine is the protocol for one transaction. The zero value is unusable; make
// one with New or Resume. Not safe for concurrent use.
type Machine struct {
	tx       participant.TxID
	phase    Phase
	branches []Branch
	// deciding is the Decided record on its way to the disk, later the durable
	// one.
	deciding record.Decided
	decision record.Decision
	// pending waits for an append to return.
	pending why
	// delegatedBefore is set if a former coordinator asked the only branch to commit in
	// one phase: its answer to Rollback is the decision (R3).
	delegatedBefore bool
}

// New returns the machine of a transaction that begins, and its first effects.
func New(begun record.Begun) (Machine, []Effect) {
	return Machine{tx: begun.Tx, phase: Active}, []Effect{appendLazy(begun)}
}

// Phase returns where the transaction stands.
func (m *Machine) Phase() Phase { return m.phase }

// Decision returns the decision that holds for ever, zero if there is none yet.
func (m *Machine) Decision() record.Decision { return m.decision }

// Decided returns the record of the decision; meaningful once Decision is valid.
func (m *Machine) Decided() record.Decided { return m.deciding }

// Branches returns the branches by number. Not to be modified; valid until the
// next Step.
func (m *Machine) Branches() []Branch { return m.branches }

// Clone returns a machine that shares nothing with m.
func (m *Machine) Clone() Machine {
	c := *m
	c.branches = slices.Clone(m.branches)
	return c
}

// Step takes an event in and returns what is to be done. An event that comes too
// late, or twice, changes nothing and has no effects. Only Enlist gives errors.
func (m *Machine) Step(ev Event) ([]Effect, error) {
	if m.phase == Stopped && ev.Kind != EventEnlist {
		return nil, nil // R5: only reopening the log says what happened
	}
	switch ev.Kind {
	case EventEnlist:
		return m.enlist(ev)
	case EventCommitRequested:
		return m.commitRequested(), nil
	case EventRollbackRequested, EventDeadline:
		return m.rollbackRequested(why{cause: ev.Cause, reason: ev.Reason}), nil
	case EventVote:
		return m.voted(ev), nil
	case EventAppended:
		return m.appended(ev), nil
	case EventAcknowledged:
		return m.acknowledged(ev), nil
	case EventHazard:
		return m.hazard(ev), nil
	case EventResumed:
		return m.resumed(), nil
	case EventLogFailed:
		return m.stop(), nil
	default:
		panic(fmt.Sprintf("protocol: event of kind %d", ev.Kind))
	}
}

func (m *Machine) enlist(ev Event) ([]Effect, error) {
	if m.phase != Active {
		return nil, ErrSealed
	}
	if len(m.branches) == participant.MaxBranches {
		return nil, ErrTooManyBranches
	}
	if m.branches == nil {
		m.branches = make([]Branch, 0, usualBranches)
	}
	m.branches = append(m.branches, Branch{OnePhaser: ev.OnePhaser})
	return []Effect{appendLazy(record.Enlisted{
		Tx: m.tx, Number: len(m.branches) - 1, Participant: ev.Participant, Data: ev.Data,
	})}, nil
}

func (m *Machine) commitRequested() []Effect {
	switch {
	case m.phase != Active:
		return nil
	case len(m.branches) == 0:
		return m.decideLazily(record.DecisionCommit, why{})
	case len(m.branches) == 1 && m.branches[0].OnePhaser:
		m.phase = Delegating
		return []Effect{appendForced(record.Delegated{Tx: m.tx})}
	default:
		m.phase = Sealing
		return []Effect{appendForced(record.Preparing{Tx: m.tx})} // R1: before the first Prepare
	}
}

// rollbackRequested lets a request, a timeout or a closing coordinator compete
// for the decision (R2). In Delegating and Delegated the register is the
// branch's (R3), in Deciding and later it is taken.
func (m *Machine) rollbackRequested(w why) []Effect {
	switch m.phase {
	case Active:
		if len(m.branches) == 0 {
			return m.decideLazily(record.DecisionRollback, w)
		}
		return m.decide(record.DecisionRollback, w, record.NoBranch)
	case Sealing:
		if m.pending.cause == 0 {
			m.pending = w
		}
		return nil
	case Preparing:
		return m.decide(record.DecisionRollback, w, record.NoBranch)
	default:
		return nil
	}
}

func (m *Machine) voted(ev Event) []Effect {
	b := &m.branches[ev.Branch]
	if !b.Asked || b.Answered {
		return nil
	}
	b.Answered, b.Vote = true, ev.Vote
	if !ev.Vote.Valid() {
		b.Vote = 0
	}
	switch m.phase {
	case Preparing:
		return m.judge(ev)
	case Telling:
		// R4: the vote came after the rollback was decided. Whatever it was but
		// read-only, the branch may be prepared and is told.
		return m.tell([]int{ev.Branch})
	default:
		return nil
	}
}

// judge decides as soon as the votes allow it.
func (m *Machine) judge(ev Event) []Effect {
	switch ev.Vote {
	case participant.VotePrepared, participant.VoteReadOnly:
	case participant.VoteRefused:
		return m.decide(record.DecisionRollback, why{record.CauseRefused, ev.Reason}, ev.Branch)
	default:
		return m.decide(record.DecisionRollback, why{record.CauseUnknownVote, ev.Reason}, ev.Branch) // R4
	}
	readOnly := true
	for _, b := range m.branches {
		if !b.Answered {
			return nil
		}
		readOnly = readOnly && b.Vote == participant.VoteReadOnly
	}
	if readOnly {
		return m.decideLazily(record.DecisionCommit, why{})
	}
	return m.decide(record.DecisionCommit, why{}, record.NoBranch)
}

// decide sends the decision to the log; nobody is told before it is durable (R1).
func (m *Machine) decide(d record.Decision, w why, by int) []Effect {
	cancel := m.phase == Preparing && d == record.DecisionRollback && m.outstanding()
	m.phase = Deciding
	m.deciding = record.Decided{
		Tx: m.tx, Decision: d, Presumed: w.cause == record.CausePresumed,
		Votes: m.votes(), Cause: w.cause, Reason: record.Reason(w.reason), By: by,
	}
	effects := []Effect{appendForced(m.deciding)}
	if cancel {
		effects = append([]Effect{{Kind: EffectCancelPrepare}}, effects...)
	}
	return effects
}

// decideLazily decides what no participant depends on: nothing was enlisted, or
// everyone voted read-only. If a crash loses it the answer becomes "rolled back",
// which changed as little.
func (m *Machine) decideLazily(d record.Decision, w why) []Effect {
	m.deciding = record.Decided{Tx: m.tx, Decision: d, Votes: m.votes(), Cause: w.cause, Reason: record.Reason(w.reason), By: record.NoBranch}
	m.decision = d
	for i := range m.branches {
		m.branches[i].Outcome = d.Outcome()
	}
	return m.complete(m.deciding)
}

func (m *Machine) appended(ev Event) []Effect {
	if ev.Result != Durable {
		return m.stop() // R5, R9
	}
	switch {
	case ev.Appended == record.KindPreparing && m.phase == Sealing:
		if m.pending.cause != 0 {
			return m.decide(record.DecisionRollback, m.pending, record.NoBranch)
		}
		m.phase = Preparing
		for i := range m.branches {
			m.branches[i].Asked = true
		}
		return []Effect{{Kind: EffectPrepare, Branches: m.all()}}
	case ev.Appended == record.KindDelegated && m.phase == Delegating:
		m.phase = Delegated
		return []Effect{{Kind: EffectCommitOnePhase, Branches: m.all()}}
	case ev.Appended == record.KindDecided && m.phase == Deciding:
		m.phase = Telling
		m.decision = m.deciding.Decision
		return m.tell(m.all())
	case ev.Appended == record.KindCompleted && m.phase == Completing:
		m.phase = Done
		if len(m.branches) == 0 {
			return nil
		}
		return []Effect{{Kind: EffectForget, Branches: m.all()}} // R1: completed is durable
	default:
		return nil
	}
}

// tell sends the durable decision to those of the branches that need it and can
// have it now.
func (m *Machine) tell(branches []int) []Effect {
	now := make([]int, 0, len(branches))
	for _, i := range branches {
		b := &m.branches[i]
		switch {
		case b.Outcome.Valid():
		case b.Asked && !b.Answered:
			// R4: the rollback waits until the cancelled Prepare has returned.
		case b.Vote == participant.VoteReadOnly:
			b.Outcome = m.decision.Outcome() // left after phase one
		default:
			now = append(now, i)
		}
	}
	if len(now) == 0 {
		return m.completeIfEnded()
	}
	if m.decision == record.DecisionCommit {
		return []Effect{{Kind: EffectCommit, Branches: now}}
	}
	return []Effect{{Kind: EffectRollback, Branches: now}}
}

func (m *Machine) acknowledged(ev Event) []Effect {
	b := &m.branches[ev.Branch]
	if b.Outcome.Valid() {
		return nil
	}
	switch m.phase {
	case Telling:
		b.Outcome = ev.Outcome
		var effects []Effect
		if ev.Outcome.Heuristic() || b.Hazard { // the log has the suspicion: this settles it
			effects = []Effect{appendForced(record.Heuristic{Tx: m.tx, Number: ev.Branch, Outcome: ev.Outcome, Reason: record.Reason(ev.Reason)})}
		}
		return append(effects, m.completeIfEnded()...)
	case Delegated:
		return m.answeredOnePhase(b, ev)
	default:
		return nil
	}
}

// answeredOnePhase takes the only branch's answer for the decision (R3). Nothing
// has to be forced: until Completed is durable, asking again gives the same
// answer.
func (m *Machine) answeredOnePhase(b *Branch, ev Event) []Effect {
	m.deciding = record.Decided{Tx: m.tx, Decision: record.DecisionCommit, By: record.NoBranch}
	switch ev.Outcome {
	case participant.OutcomeRolledBack, participant.OutcomeHeuristicRollback:
		m.deciding.Decision, m.deciding.Cause = record.DecisionRollback, record.CauseRefused
		m.deciding.By, m.deciding.Reason = 0, record.Reason(ev.Reason)
		if m.delegatedBefore {
			m.deciding.Cause, m.deciding.By = record.CausePresumed, record.NoBranch
		}
		b.Outcome = participant.OutcomeRolledBack
	case participant.OutcomeHeuristicMixed, participant.OutcomeHeuristicHazard:
		b.Outcome = ev.Outcome
		m.decision = m.deciding.Decision
		heuristic := record.Heuristic{Tx: m.tx, Number: ev.Branch, Outcome: ev.Outcome, Reason: record.Reason(ev.Reason)}
		return append([]Effect{appendForced(m.deciding, heuristic)}, m.complete()...)
	default:
		b.Outcome = participant.OutcomeCommitted
	}
	m.decision = m.deciding.Decision
	return m.complete(m.deciding)
}

// hazard records that a branch does not know what it is to commit. It stays
// unacknowledged: the commit is repeated (R7).
func (m *Machine) hazard(ev Event) []Effect {
	b := &m.branches[ev.Branch]
	if m.phase != Telling || m.decision != record.DecisionCommit || b.Hazard || b.Outcome.Valid() {
		return nil
	}
	b.Hazard = true
	return []Effect{appendForced(record.Heuristic{Tx: m.tx, Number: ev.Branch, Outcome: ev.Outcome, Reason: record.Reason(ev.Reason)})}
}

func (m *Machine) completeIfEnded() []Effect {
	for _, b := range m.branches {
		if !b.Outcome.Valid() {
			return nil
		}
	}
	return m.complete()
}

// complete writes, after what is still to be recorded, that every branch has
// ended.
func (m *Machine) complete(records ...record.Record) []Effect {
	m.phase = Completing
	return []Effect{
		appendLazy(append(records, record.Completed{Tx: m.tx})...),
		{Kind: EffectFinish, Outcome: m.Outcome()},
	}
}

// stop ends the machine without an outcome: the log failed (R5) or another
// coordinator has the transaction (R9). A decision that was durable before
// remains one.
func (m *Machine) stop() []Effect {
	if m.phase == Done {
		return nil
	}
	finished := m.phase == Completing
	m.phase = Stopped
	switch {
	case finished:
		return nil
	case m.outstanding():
		return []Effect{{Kind: EffectCancelPrepare}, {Kind: EffectFinish}}
	default:
		return []Effect{{Kind: EffectFinish}}
	}
}

func (m *Machine) outstanding() bool {
	return slices.ContainsFunc(m.branches, func(b Branch) bool { return b.Asked && !b.Answered })
}

func (m *Machine) votes() []participant.Vote {
	if !slices.ContainsFunc(m.branches, func(b Branch) bool { return b.Vote.Valid() }) {
		return nil
	}
	votes := make([]participant.Vote, len(m.branches))
	for i, b := range m.branches {
		votes[i] = b.Vote
	}
	return votes
}

func (m *Machine) all() []int {
	return numbers[:len(m.branches):len(m.branches)]
}

// usualBranches is the number of branches that need no second allocation.
const usualBranches = 4

// numbers are all branch numbers, shared by the effects that name branches.
var numbers = func() (n [participant.MaxBranches]int) {
	for i := range n {
		n[i] = i
	}
	return n
}()

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
	spoken          *spoken // nil if no operator said anything
}

// New returns the machine of a transaction that begins, and its first effects.
func New(begun record.Begun) (Machine, Effects) {
	return Machine{tx: begun.Tx, phase: Active}, do(appendLazy(begun))
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
	if m.spoken != nil {
		s := *m.spoken
		c.spoken = &s
	}
	return c
}

// Step takes an event in and returns what is to be done. An event that comes too
// late, or twice, changes nothing and has no effects. Only Enlist and Said give errors.
func (m *Machine) Step(ev Event) (Effects, error) {
	if m.phase == Stopped && ev.Kind != EventEnlist && ev.Kind != EventSaid {
		return Effects{}, nil // R5: only reopening the log says what happened
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
	case EventSaid:
		return m.said(ev)
	default:
		panic(fmt.Sprintf("protocol: event of kind %d", ev.Kind))
	}
}

func (m *Machine) enlist(ev Event) (Effects, error) {
	if m.phase != Active {
		return Effects{}, ErrSealed
	}
	if len(m.branches) == participant.MaxBranches {
		return Effects{}, ErrTooManyBranches
	}
	if m.branches == nil {
		m.branches = make([]Branch, 0, usualBranches)
	}
	m.branches = append(m.branches, Branch{OnePhaser: ev.OnePhaser})
	return do(appendLazy(record.Enlisted{
		Tx: m.tx, Number: len(m.branches) - 1, Participant: ev.Participant, Data: ev.Data,
	})), nil
}

func (m *Machine) commitRequested() Effects {
	switch {
	case m.phase != Active:
		return Effects{}
	case len(m.branches) == 0:
		return m.decideLazily(record.DecisionCommit, why{})
	case len(m.branches) == 1 && m.branches[0].OnePhaser:
		m.phase = Delegating
		return do(appendForced(record.Delegated{Tx: m.tx}))
	default:
		m.phase = Sealing
		return do(appendForced(record.Preparing{Tx: m.tx})) // R1: before the first Prepare
	}
}

// rollbackRequested lets a request, a timeout or a closing coordinator compete
// for the decision (R2). In Delegating and Delegated the register is the
// branch's (R3), in Deciding and later it is taken.
func (m *Machine) rollbackRequested(w why) Effects {
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
		return Effects{}
	case Preparing:
		return m.decide(record.DecisionRollback, w, record.NoBranch)
	default:
		return Effects{}
	}
}

func (m *Machine) voted(ev Event) Effects {
	b := &m.branches[ev.Branch]
	if !b.Asked || b.Answered {
		return Effects{}
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
		return m.tell(numbers[ev.Branch : ev.Branch+1 : ev.Branch+1])
	default:
		return Effects{}
	}
}

// judge decides as soon as the votes allow it.
func (m *Machine) judge(ev Event) Effects {
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
			return Effects{}
		}
		readOnly = readOnly && b.Vote == participant.VoteReadOnly
	}
	if readOnly {
		return m.decideLazily(record.DecisionCommit, why{})
	}
	return m.decide(record.DecisionCommit, why{}, record.NoBranch)
}

// decide sends the decision to the log; nobody is told before it is durable (R1).
func (m *Machine) decide(d record.Decision, w why, by int) Effects {
	cancel := m.phase == Preparing && d == record.DecisionRollback && m.outstanding()
	m.phase = Deciding
	m.deciding = record.Decided{
		Tx: m.tx, Decision: d, Presumed: w.cause == record.CausePresumed,
		Votes: m.votes(), Cause: w.cause, Reason: record.Reason(w.reason), By: by,
	}
	if cancel {
		return do(Effect{Kind: EffectCancelPrepare}, appendForced(m.deciding))
	}
	return do(appendForced(m.deciding))
}

// decideLazily decides what no participant depends on: nothing was enlisted, or
// everyone voted read-only. If a crash loses it the answer becomes "rolled back",
// which changed as little.
func (m *Machine) decideLazily(d record.Decision, w why) Effects {
	m.deciding = record.Decided{Tx: m.tx, Decision: d, Votes: m.votes(), Cause: w.cause, Reason: record.Reason(w.reason), By: record.NoBranch}
	m.decision = d
	for i := range m.branches {
		m.branches[i].Outcome = d.Outcome()
	}
	return m.complete(m.deciding)
}

func (m *Machine) appended(ev Event) Effects {
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
		return do(Effect{Kind: EffectPrepare, Branches: m.all()})
	case ev.Appended == record.KindDelegated && m.phase == Delegating:
		m.phase = Delegated
		return do(Effect{Kind: EffectCommitOnePhase, Branches: m.all()})
	case ev.Appended == record.KindDecided && m.phase == Deciding:
		m.phase = Telling
		m.decision = m.deciding.Decision
		return m.tell(m.all())
	case ev.Appended == record.KindOperator:
		return m.heard()
	case ev.Appended == record.KindCompleted && m.phase == Completing:
		m.phase = Done
		branches := m.forgettable()
		if len(branches) == 0 {
			return Effects{}
		}
		return do(Effect{Kind: EffectForget, Branches: branches}) // R1: completed is durable
	default:
		return Effects{}
	}
}

// tell sends the durable decision to those of the branches that need it and can
// have it now.
func (m *Machine) tell(branches []int) Effects {
	now, all := branches, true
	for at, i := range branches {
		switch {
		case m.waitsFor(i):
			if !all {
				now = append(now, i)
			}
		case all:
			now, all = slices.Clone(branches[:at]), false
		}
	}
	if len(now) == 0 {
		return m.completeIfEnded()
	}
	if m.decision == record.DecisionCommit {
		return do(Effect{Kind: EffectCommit, Branches: now})
	}
	return do(Effect{Kind: EffectRollback, Branches: now})
}

// waitsFor reports whether the branch is to be told now. One that voted read-only left
// after phase one.
func (m *Machine) waitsFor(i int) bool {
	b := &m.branches[i]
	switch {
	case b.Outcome.Valid() || m.awaitsWord(i):
		return false
	case b.Asked && !b.Answered:
		return false // R4: the rollback waits until the cancelled Prepare has returned
	case b.Vote == participant.VoteReadOnly:
		b.Outcome = m.decision.Outcome()
		return false
	default:
		return true
	}
}

func (m *Machine) acknowledged(ev Event) Effects {
	b := &m.branches[ev.Branch]
	if b.Outcome.Valid() || m.awaitsWord(ev.Branch) {
		return Effects{}
	}
	switch m.phase {
	case Telling:
		b.Outcome = ev.Outcome
		var settles Effects
		if ev.Outcome.Heuristic() || b.Hazard { // the log has the suspicion: this settles it
			settles = do(appendForced(record.Heuristic{Tx: m.tx, Number: ev.Branch, Outcome: ev.Outcome, Reason: record.Reason(ev.Reason)}))
		}
		return settles.then(m.completeIfEnded())
	case Delegated:
		return m.answeredOnePhase(b, ev)
	default:
		return Effects{}
	}
}

// answeredOnePhase takes the only branch's answer for the decision (R3). Nothing
// has to be forced: until Completed is durable, asking again gives the same
// answer.
func (m *Machine) answeredOnePhase(b *Branch, ev Event) Effects {
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
		return do(appendForced(m.deciding, heuristic)).then(m.complete())
	default:
		b.Outcome = participant.OutcomeCommitted
	}
	m.decision = m.deciding.Decision
	return m.complete(m.deciding)
}

// hazard records that a branch does not know what it is to commit. It stays
// unacknowledged: the commit is repeated (R7).
func (m *Machine) hazard(ev Event) Effects {
	b := &m.branches[ev.Branch]
	if m.phase != Telling || m.decision != record.DecisionCommit || b.Hazard || b.Outcome.Valid() || m.awaitsWord(ev.Branch) {
		return Effects{}
	}
	b.Hazard = true
	return do(appendForced(record.Heuristic{Tx: m.tx, Number: ev.Branch, Outcome: ev.Outcome, Reason: record.Reason(ev.Reason)}))
}

func (m *Machine) completeIfEnded() Effects {
	for _, b := range m.branches {
		if !b.Outcome.Valid() {
			return Effects{}
		}
	}
	return m.complete()
}

// complete writes, after what is still to be recorded, that every branch has
// ended.
func (m *Machine) complete(records ...record.Record) Effects {
	m.phase = Completing
	completed := appendLazy(records...)
	completed.records[len(records)] = record.Completed{Tx: m.tx}
	return do(completed, Effect{Kind: EffectFinish, Outcome: m.Outcome()})
}

// stop ends the machine without an outcome: the log failed (R5) or another
// coordinator has the transaction (R9). A decision that was durable before
// remains one.
func (m *Machine) stop() Effects {
	if m.phase == Done {
		return Effects{}
	}
	finished := m.phase == Completing
	m.phase = Stopped
	switch {
	case finished:
		return Effects{}
	case m.outstanding():
		return do(Effect{Kind: EffectCancelPrepare}, Effect{Kind: EffectFinish})
	default:
		return do(Effect{Kind: EffectFinish})
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

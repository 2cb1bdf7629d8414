package protocol

import (
	"errors"
	"fmt"
	"slices"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/wal/record"
)

// ErrUnfit says that an operator's word does not fit where the transaction stands. The
// machine is unchanged.
var ErrUnfit = errors.New("does not fit where the transaction stands")

// spoken is what operators said of a transaction. Few have any.
type spoken struct {
	// pending is on its way to the disk; without a verb there is none.
	pending record.Operator
	words   []record.Operator
	paused  bool
}

// Words returns the operators' words that are durable. Not to be modified.
func (m *Machine) Words() []record.Operator {
	if m.spoken == nil {
		return nil
	}
	return m.spoken.words
}

// Paused reports whether an operator holds the delivery back.
func (m *Machine) Paused() bool { return m.spoken != nil && m.spoken.paused }

// Fits returns what would be done about an operator's word: the branches it is about. An
// error Is ErrUnfit and says why it can't be.
func (m *Machine) Fits(word record.Operator) ([]int, error) {
	if m.spoken != nil && m.spoken.pending.Verb.Valid() {
		return nil, fmt.Errorf("%w: another word is being recorded", ErrUnfit)
	}
	delegated := m.delegated()
	switch {
	case m.phase == Stopped:
		return nil, fmt.Errorf("%w: the log failed", ErrUnfit)
	case m.phase == Completing, m.phase == Done:
		return nil, fmt.Errorf("%w: every branch has ended", ErrUnfit)
	case delegated && (word.Verb == record.VerbResolve || word.Verb == record.VerbRetry && m.phase == Delegated):
	case delegated:
		return nil, fmt.Errorf("%w: it is undecided: its only branch decides; resolve it if the branch is lost", ErrUnfit)
	case m.phase != Telling:
		return nil, fmt.Errorf("%w: it is undecided: its timeout, or recovery, decides", ErrUnfit)
	}
	if word.Verb == record.VerbForgetBranch || word.Verb == record.VerbResolve {
		return m.fitsBranch(word)
	}
	switch paused := m.Paused(); {
	case word.Verb == record.VerbResume && !paused:
		return nil, fmt.Errorf("%w: it is not paused", ErrUnfit)
	case word.Verb != record.VerbResume && paused:
		return nil, fmt.Errorf("%w: it is paused: resume it", ErrUnfit)
	}
	return m.untold(), nil
}

func (m *Machine) fitsBranch(word record.Operator) ([]int, error) {
	switch n := word.Branch; {
	case n < 0 || n >= len(m.branches):
		return nil, fmt.Errorf("%w: it has no branch %d", ErrUnfit, n)
	case m.branches[n].Outcome.Valid():
		return nil, fmt.Errorf("%w: branch %d has ended: %s", ErrUnfit, n, m.branches[n].Outcome)
	}
	return []int{word.Branch}, nil
}

// delegated reports whether the only branch has the decision, in this run or before.
func (m *Machine) delegated() bool {
	return m.phase == Delegated || m.phase == Inherited && m.delegatedBefore && !m.decision.Valid()
}

// untold returns the branches that have not ended.
func (m *Machine) untold() (branches []int) {
	for i, b := range m.branches {
		if !b.Outcome.Valid() {
			branches = append(branches, i)
		}
	}
	return branches
}

// said sends an operator's word to the log, with what it makes of a branch or of the
// decision; nothing of it holds before it is durable (R1).
func (m *Machine) said(ev Event) (Effects, error) {
	word := *ev.Word
	if _, err := m.Fits(word); err != nil {
		return Effects{}, err
	}
	if m.spoken == nil {
		m.spoken = &spoken{}
	}
	m.spoken.pending = word
	switch outcome := m.resolved(word); {
	case word.Verb == record.VerbResolve && m.delegated():
		// R3: the answer of the branch that decides. From here on it is awaited from the
		// log alone (R2).
		m.phase = Deciding
		m.deciding = record.Decided{Tx: m.tx, Decision: record.DecisionCommit, By: record.NoBranch}
		if word.Outcome == participant.OutcomeRolledBack {
			m.deciding.Decision, m.deciding.Cause, m.deciding.By = record.DecisionRollback, record.CauseRefused, word.Branch
			m.deciding.Reason = record.Reason(word.Reason)
		}
		return do(appendForced(m.deciding, word)), nil
	case outcome.Valid() && (outcome.Heuristic() || m.branches[word.Branch].Hazard):
		return do(appendForced(record.Heuristic{Tx: m.tx, Number: word.Branch, Outcome: outcome, Reason: record.Reason(word.Reason)}, word)), nil
	default:
		return do(appendForced(word)), nil
	}
}

// resolved is how a branch of a decided transaction ends by an operator's word; zero
// for a word that ends none.
func (m *Machine) resolved(word record.Operator) participant.Outcome {
	switch {
	case word.Verb == record.VerbForgetBranch:
		return participant.OutcomeHeuristicHazard
	case word.Verb == record.VerbResolve && m.decision.Valid():
		return heuristicAgainst(m.decision, word.Outcome) // R2: the decision stays
	default:
		return 0
	}
}

// awaitsWord reports whether an operator's word on how the branch ended is on its way
// to the disk: it came first (R2).
func (m *Machine) awaitsWord(branch int) bool {
	return m.spoken != nil && m.spoken.pending.Verb.Valid() && m.spoken.pending.Branch == branch
}

// heard lets the durable word take effect.
func (m *Machine) heard() Effects {
	if m.spoken == nil || !m.spoken.pending.Verb.Valid() {
		return Effects{}
	}
	word := m.spoken.pending
	m.spoken.pending = record.Operator{}
	m.keep(word)
	switch {
	case m.phase == Deciding && word.Verb == record.VerbResolve:
		m.decision = m.deciding.Decision
		m.phase = Telling
		return m.endByWord(word, m.decision.Outcome())
	case m.phase != Telling && m.phase != Delegated:
		return Effects{}
	}
	switch word.Verb {
	case record.VerbPause:
		m.spoken.paused = true
		return do(Effect{Kind: EffectPause})
	case record.VerbResume:
		m.spoken.paused = false
		return do(Effect{Kind: EffectUnpause, Branches: m.untold()})
	case record.VerbRetry:
		return do(Effect{Kind: EffectRetry, Branches: m.untold()})
	default:
		return m.endByWord(word, m.resolved(word))
	}
}

// endByWord ends a branch that is not to be told any more.
func (m *Machine) endByWord(word record.Operator, outcome participant.Outcome) Effects {
	m.branches[word.Branch].Outcome = outcome
	return do(Effect{Kind: EffectWithdraw, Branches: numbers[word.Branch : word.Branch+1 : word.Branch+1]}).then(m.completeIfEnded())
}

// forgettable returns the branches that have ended by themselves: one that an operator ended
// may still be there, and what its participant keeps of it is all that is known.
func (m *Machine) forgettable() []int {
	if m.spoken == nil {
		return m.all()
	}
	var branches []int
	for i := range m.branches {
		if !slices.ContainsFunc(m.spoken.words, func(w record.Operator) bool { return w.Branch == i }) {
			branches = append(branches, i)
		}
	}
	return branches
}

// keep adds a durable word, as a replay of the log would.
func (m *Machine) keep(word record.Operator) {
	s := record.State{Tx: m.tx, Words: slices.Clone(m.spoken.words)}
	_ = s.Apply(word) // it is this transaction's, and words never contradict each other
	m.spoken.words = s.Words
}

// resumeWords takes the operators' words over from the log.
func (m *Machine) resumeWords(s *record.State) {
	if len(s.Words) == 0 {
		return
	}
	m.spoken = &spoken{words: s.Words, paused: s.Paused()}
	for _, word := range s.Words {
		if word.Branch < 0 || word.Branch >= len(m.branches) {
			continue
		}
		b := &m.branches[word.Branch]
		if outcome := m.resolved(word); outcome.Valid() && !b.Outcome.Valid() {
			// No suspicion, though the log has a hazard: nobody is asked again.
			b.Outcome = outcome
		}
	}
}

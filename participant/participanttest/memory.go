package participanttest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/assent-tm/assent/participant"
)

// What a branch's Data makes a Memory vote. Any other Data is work that can be
// done.
const (
	DataRefuse   = "refuse"
	DataReadOnly = "read-only"
)

// State is how far a branch came at a Memory.
type State uint8

const (
	// StateUnknown: nothing is kept of the branch.
	StateUnknown State = iota
	// StatePrepared: in doubt; it can go either way.
	StatePrepared
	// StateCommitted: finished, and remembered.
	StateCommitted
	// StateRolledBack: finished, or told to roll back before it was prepared.
	StateRolledBack
)

func (s State) String() string {
	switch s {
	case StateUnknown:
		return "unknown"
	case StatePrepared:
		return "prepared"
	case StateCommitted:
		return "committed"
	case StateRolledBack:
		return "rolled back"
	default:
		return fmt.Sprintf("invalid state %d", uint8(s))
	}
}

// Store is the durable state of any number of participants: what a database is
// to an adapter. It lives as long as the process. Safe for concurrent use.
type Store struct {
	mu      sync.Mutex
	ledgers map[string]*ledger
}

// ledger is one participant's part of the store.
type ledger struct {
	branches map[participant.XID]Entry
	// effects are the business data. They outlive what is kept about a branch.
	effects map[participant.XID]int
	marks   map[mark]participant.TxID
	epochs  map[participant.Term]uint64
}

// mark is a term and the domain whose branches brought it.
type mark struct {
	domain string
	term   participant.Term
}

// Entry is what a participant keeps about a branch until it is forgotten.
type Entry struct {
	Branch participant.Branch
	State  State
}

// NewStore returns an empty store.
func NewStore() *Store { return &Store{ledgers: map[string]*ledger{}} }

// Participant returns a fresh instance of the participant with this name.
func (s *Store) Participant(name string) *Memory { return &Memory{name: name, store: s} }

// ledger returns the named participant's part. The caller holds s.mu.
func (s *Store) ledger(name string) *ledger {
	l := s.ledgers[name]
	if l == nil {
		l = &ledger{
			branches: map[participant.XID]Entry{},
			effects:  map[participant.XID]int{},
			marks:    map[mark]participant.TxID{},
			epochs:   map[participant.Term]uint64{},
		}
		s.ledgers[name] = l
	}
	return l
}

// Subject returns the subject for testing the named participant, or one built
// upon it.
func (s *Store) Subject(name string) Subject {
	p := s.Participant(name)
	enlist := func(data string) func(context.Context, participant.Participant, participant.Enlister) error {
		return func(ctx context.Context, p participant.Participant, tx participant.Enlister) error {
			_, err := tx.Enlist(ctx, p, []byte(data))
			return err
		}
	}
	return Subject{
		New: func(context.Context) (participant.Participant, error) { return s.Participant(name), nil },
		Visible: func(_ context.Context, b participant.Branch) (bool, error) {
			n := p.Effects(b)
			if n > 1 {
				return true, fmt.Errorf("they came %d times", n)
			}
			return n == 1, nil
		},
		Begin:      enlist("work"),
		Refuse:     enlist(DataRefuse),
		Restart:    func(context.Context) error { return nil }, // the store is all there is to lose
		KeepsEpoch: true,
	}
}

// Memory is the reference participant: an instance over a Store, which keeps all
// its state. It implements every optional interface. A call whose context has
// ended does nothing. It remembers finished branches until Forget and bounds them
// no further, as a participant in production has to. Safe for concurrent use.
type Memory struct {
	name  string
	store *Store
}

// State returns how far the branch came.
func (m *Memory) State(b participant.Branch) State {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	return m.store.ledger(m.name).branches[b.XID()].State
}

// Effects returns how often the branch's effects were made permanent: 0 or 1,
// also after Forget.
func (m *Memory) Effects(b participant.Branch) int {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	return m.store.ledger(m.name).effects[b.XID()]
}

// Entries returns what is kept, in the order of the XIDs.
func (m *Memory) Entries() []Entry {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	var entries []Entry
	for _, e := range m.store.ledger(m.name).branches {
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(string(a.Branch.XID()), string(b.Branch.XID())) })
	return entries
}

func (m *Memory) Name() string { return m.name }

// Prepare votes as the branch's Data says.
func (m *Memory) Prepare(ctx context.Context, b participant.Branch) (vote participant.Vote, err error) {
	err = m.change(ctx, "prepare", b, func(l *ledger, state State) error {
		if state == StatePrepared {
			vote = participant.VotePrepared
			return nil
		}
		if state == StateUnknown && string(b.Data) == DataReadOnly {
			vote = participant.VoteReadOnly // finished; nothing to remember
			return nil
		}
		if state == StateUnknown && string(b.Data) != DataRefuse {
			vote = participant.VotePrepared
			l.set(b, StatePrepared)
			return nil
		}
		// The tombstone of an earlier Rollback stands against a late Prepare.
		vote = participant.VoteRefused
		if state == StateUnknown {
			l.set(b, StateRolledBack)
		}
		return fmt.Errorf("%w: the branch is %s", participant.ErrRefused, l.branches[b.XID()].State)
	})
	return vote, err
}

// Commit applies the effects of a prepared branch.
func (m *Memory) Commit(ctx context.Context, b participant.Branch) error {
	return m.change(ctx, "commit", b, func(l *ledger, state State) error {
		switch state {
		case StatePrepared:
			l.apply(b)
			return nil
		case StateCommitted:
			return nil
		case StateRolledBack:
			return &participant.HeuristicError{Outcome: participant.OutcomeRolledBack}
		default:
			return participant.ErrUnknownBranch // never by itself a success (R7)
		}
	})
}

// Rollback leaves a tombstone, also for a branch it never heard of.
func (m *Memory) Rollback(ctx context.Context, b participant.Branch) error {
	return m.change(ctx, "roll back", b, func(l *ledger, state State) error {
		if state == StateCommitted {
			return &participant.HeuristicError{Outcome: participant.OutcomeCommitted}
		}
		l.set(b, StateRolledBack)
		return nil
	})
}

// CommitOnePhase decides alone: the branch's state is the register (R3).
func (m *Memory) CommitOnePhase(ctx context.Context, b participant.Branch) error {
	return m.change(ctx, "commit in one phase", b, func(l *ledger, state State) error {
		switch {
		case state == StateCommitted:
			return nil
		case state == StateRolledBack:
			return fmt.Errorf("%w: the branch is %s", participant.ErrRefused, state)
		case string(b.Data) == DataRefuse:
			l.set(b, StateRolledBack)
			return participant.ErrRefused
		case string(b.Data) == DataReadOnly:
			l.set(b, StateCommitted)
			return nil
		default:
			l.apply(b)
			return nil
		}
	})
}

// List returns the prepared branches of the domain and the highest TxID of each
// of its terms.
func (m *Memory) List(ctx context.Context, domain string) (participant.Listing, error) {
	if err := ctx.Err(); err != nil {
		return participant.Listing{}, fmt.Errorf("participant %q: list domain %q: %w", m.name, domain, err)
	}
	var listing participant.Listing
	for _, e := range m.Entries() {
		if e.State == StatePrepared && e.Branch.Domain == domain {
			listing.Prepared = append(listing.Prepared, e.Branch)
		}
	}
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	for mark, highest := range m.store.ledger(m.name).marks {
		if mark.domain == domain {
			listing.Highest = append(listing.Highest, highest)
		}
	}
	slices.SortFunc(listing.Highest, participant.TxID.Compare)
	return listing, nil
}

// Forget drops the entries of finished branches; their effects and marks stay. A
// prepared branch among them is left alone.
func (m *Memory) Forget(ctx context.Context, branches []participant.Branch) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("participant %q: forget: %w", m.name, err)
	}
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	l := m.store.ledger(m.name)
	for _, b := range branches {
		if l.branches[b.XID()].State != StatePrepared {
			delete(l.branches, b.XID())
		}
	}
	return nil
}

// Check returns nil: there is nothing to configure.
func (m *Memory) Check(ctx context.Context) error { return ctx.Err() }

// Explain returns the prepared branches of every domain.
func (m *Memory) Explain(ctx context.Context) ([]participant.Explanation, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("participant %q: explain: %w", m.name, err)
	}
	var prepared []participant.Explanation
	for _, e := range m.Entries() {
		if e.State == StatePrepared {
			xid := string(e.Branch.XID())
			prepared = append(prepared, participant.Explanation{Name: xid, Branch: e.Branch, Commit: "commit " + xid, Rollback: "roll back " + xid})
		}
	}
	return prepared, nil
}

// change runs step as one atomic change of the store, as a local transaction
// would, after what every call has to do first.
func (m *Memory) change(ctx context.Context, doing string, b participant.Branch, step func(*ledger, State) error) error {
	m.store.mu.Lock()
	defer m.store.mu.Unlock()
	l := m.store.ledger(m.name)
	err := ctx.Err()
	if err == nil {
		err = l.told(b)
	}
	if err == nil {
		err = step(l, l.branches[b.XID()].State)
	}
	if err != nil {
		return fmt.Errorf("participant %q: %s %s: %w", m.name, doing, b.XID(), err)
	}
	return nil
}

// told refuses a former coordinator (R9) and keeps the highest TxID, by which an
// older log is found out (R10).
func (l *ledger) told(b participant.Branch) error {
	if b.Epoch < l.epochs[b.Tx.Term] {
		return participant.ErrStaleEpoch
	}
	l.epochs[b.Tx.Term] = b.Epoch
	at := mark{b.Domain, b.Tx.Term}
	if b.Tx.Compare(l.marks[at]) > 0 {
		l.marks[at] = b.Tx
	}
	return nil
}

func (l *ledger) set(b participant.Branch, state State) {
	b.Data = slices.Clone(b.Data)
	l.branches[b.XID()] = Entry{Branch: b, State: state}
}

func (l *ledger) apply(b participant.Branch) {
	l.set(b, StateCommitted)
	l.effects[b.XID()]++
}

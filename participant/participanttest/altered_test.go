package participanttest

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// altered is a Memory with one defect: the functions that are set answer in
// place of its methods.
type altered struct {
	*Memory
	name string
	// epochless leaves rule R9 to the functions below.
	epochless bool
	prepare   func(context.Context, participant.Branch) (participant.Vote, error)
	commit    func(context.Context, participant.Branch) error
	rollback  func(context.Context, participant.Branch) error
	onePhase  func(context.Context, participant.Branch) error
	list      func(context.Context, string) (participant.Listing, error)
	forget    func(context.Context, []participant.Branch) error
	check     func(context.Context) error
	explain   func(context.Context) ([]participant.Explanation, error)
}

func (a *altered) Name() string { return a.name }

// stale keeps rule R9 whatever the defect is, unless that is the defect.
func (a *altered) stale(b participant.Branch) (err error) {
	a.edit(func(l *ledger) {
		if !a.epochless && b.Epoch < l.epochs[b.Tx.Term] {
			err = participant.ErrStaleEpoch
		}
	})
	return err
}

func (a *altered) Prepare(ctx context.Context, b participant.Branch) (participant.Vote, error) {
	if err := a.stale(b); err != nil {
		return 0, err
	}
	return a.prepare(ctx, b)
}

func (a *altered) Commit(ctx context.Context, b participant.Branch) error {
	if err := a.stale(b); err != nil {
		return err
	}
	return a.commit(ctx, b)
}

func (a *altered) Rollback(ctx context.Context, b participant.Branch) error {
	if err := a.stale(b); err != nil {
		return err
	}
	return a.rollback(ctx, b)
}

func (a *altered) CommitOnePhase(ctx context.Context, b participant.Branch) error {
	if err := a.stale(b); err != nil {
		return err
	}
	return a.onePhase(ctx, b)
}

func (a *altered) List(ctx context.Context, domain string) (participant.Listing, error) {
	return a.list(ctx, domain)
}

func (a *altered) Forget(ctx context.Context, branches []participant.Branch) error {
	return a.forget(ctx, branches)
}
func (a *altered) Check(ctx context.Context) error { return a.check(ctx) }

func (a *altered) Explain(ctx context.Context) ([]participant.Explanation, error) {
	return a.explain(ctx)
}

// breakage puts a defect into every instance that a subject makes.
type breakage func(s *Subject, store *Store) func(*altered)

// each is a breakage of instances that share nothing but the store.
func each(alter func(*altered)) breakage {
	return func(*Subject, *Store) func(*altered) { return alter }
}

func (alter breakage) subject() Subject {
	store := NewStore()
	s := store.Subject("bank_a")
	instance := alter(&s, store)
	s.New = func(context.Context) (participant.Participant, error) {
		m := store.Participant("bank_a")
		a := &altered{
			Memory: m, name: m.name, prepare: m.Prepare, commit: m.Commit, rollback: m.Rollback,
			onePhase: m.CommitOnePhase, list: m.List, forget: m.Forget, check: m.Check, explain: m.Explain,
		}
		instance(a)
		return a, nil
	}
	return s
}

// edit changes the ledger behind the participant's back.
func (a *altered) edit(change func(*ledger)) {
	a.store.mu.Lock()
	defer a.store.mu.Unlock()
	change(a.store.ledger(a.Memory.name))
}

func (a *altered) drop(b participant.Branch) {
	a.edit(func(l *ledger) { delete(l.branches, b.XID()) })
}

// moment is long enough for another call to come between, in the fake time of a
// bubble, and shorter than it takes for a call to be cut off.
const moment = onItsWay / 10

// aWhile is different for calls that overlap, so that one that ends finds others
// under way.
func aWhile() time.Duration { return moment * time.Duration(1+calls.Add(1)%rounds) }

var calls atomic.Int64

const hangTime = time.Hour

// hang is what a call does that ignores its context: it comes back, far too late.
func hang(ctx context.Context) {
	if ctx.Err() != nil {
		time.Sleep(hangTime)
	}
}

// broken is a participant with one defect, and the cases that find it: these
// and no others.
type broken struct {
	defect string
	fails  []string
	alter  breakage
}

func TestEveryBrokenParticipantIsFoundOut(t *testing.T) {
	found := map[string]bool{}
	for _, broken := range slices.Concat(brokenObligations, brokenOptions, brokenByRestart) {
		t.Run(strings.ReplaceAll(broken.defect, " ", "-"), func(t *testing.T) {
			failed := failures(t, broken.alter)
			// Where chance decides what a crash strikes, it also decides what is found.
			require.Equal(t, broken.fails, slices.DeleteFunc(failed, func(name string) bool {
				return strings.Contains(name, "-during-") && !slices.Contains(broken.fails, name)
			}))
		})
		for _, name := range broken.fails {
			found[name] = true
		}
	}
	for _, c := range Cases() {
		require.True(t, found[c.Name] || needsProcesses(c), "no broken participant fails case %q", c.Name)
	}
}

// failures returns the names of the cases that a participant with this breakage
// fails. Those with a crash look at everything again, and so are for those alone that
// no other case finds. In a bubble a call that hangs costs no time, and what overlaps does so in
// the same way every time.
func failures(t *testing.T, alter breakage) (failed []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		for _, c := range Cases() {
			if needsProcesses(c) || strings.HasSuffix(c.Name, "-restart") && len(failed) > 0 && !strings.HasSuffix(failed[0], "-restart") {
				continue
			}
			if err := c.Run(t.Context(), alter.subject()); err != nil {
				require.NotErrorIs(t, err, ErrNotApplicable, c.Name)
				t.Logf("%s: %v", c.Name, err)
				failed = append(failed, c.Name)
			}
		}
		time.Sleep(2 * hangTime) // calls that ignored their context are back
	})
	return failed
}

// needsProcesses tells whether a Memory, which lives in one process, is no subject
// of the case.
func needsProcesses(c Case) bool {
	return c.Name == "processes-overlap" || strings.HasSuffix(c.Name, "-kill")
}

package participant_test

import (
	"context"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/assent-tm/assent/participant"
)

// named is a participant that has only a name.
type named struct{ name string }

func (n *named) Name() string { return n.name }
func (n *named) Prepare(context.Context, participant.Branch) (participant.Vote, error) {
	return participant.VoteRefused, nil
}
func (n *named) Commit(context.Context, participant.Branch) error   { return nil }
func (n *named) Rollback(context.Context, participant.Branch) error { return nil }

// able adds every optional interface.
type able struct{ named }

func (*able) List(context.Context, string) (participant.Listing, error) {
	return participant.Listing{}, nil
}
func (*able) CommitOnePhase(context.Context, participant.Branch) error { return nil }
func (*able) Forget(context.Context, []participant.Branch) error       { return nil }
func (*able) Check(context.Context) error                              { return nil }
func (*able) Explain(context.Context) ([]participant.Explanation, error) {
	return nil, nil
}

// byValue can be compared as a type; as a value only if what it carries can.
type byValue struct {
	*named
	config any
}

// listed can't be compared at all.
type listed struct {
	*named
	hosts []string
}

func TestRegistryKeepsOneObjectPerName(t *testing.T) {
	var r participant.Registry
	a, other := &named{"bank_a"}, &named{"bank_a"}
	require.Empty(t, r.All())

	reg, added, err := r.Register(a)
	require.NoError(t, err)
	require.True(t, added)
	require.Same(t, a, reg.Participant)

	again, added, err := r.Register(a)
	require.NoError(t, err)
	require.False(t, added)
	require.Same(t, reg, again)

	refused, added, err := r.Register(other)
	require.ErrorIs(t, err, participant.ErrNameTaken)
	require.ErrorContains(t, err, `"bank_a"`)
	require.False(t, added)
	require.Nil(t, refused)
	require.Equal(t, []*participant.Registered{reg}, r.All(), "the first one stays")

	first, _, err := r.Register(&named{"bank-0"})
	require.NoError(t, err)
	require.Equal(t, []*participant.Registered{first, reg}, r.All(), "in the order of names")
}

func TestRegistryFindsOptionalInterfaces(t *testing.T) {
	var r participant.Registry
	bare, _, err := r.Register(&named{"bare"})
	require.NoError(t, err)
	require.Nil(t, bare.Lister)
	require.Nil(t, bare.OnePhaser)
	require.Nil(t, bare.Forgetter)
	require.Nil(t, bare.Checker)
	require.Nil(t, bare.Explainer)

	full := &able{named{"full"}}
	reg, _, err := r.Register(full)
	require.NoError(t, err)
	require.Same(t, full, reg.Lister)
	require.Same(t, full, reg.OnePhaser)
	require.Same(t, full, reg.Forgetter)
	require.Same(t, full, reg.Checker)
	require.Same(t, full, reg.Explainer)
}

func TestRegistryRefusesWhatItCouldNotFindAgain(t *testing.T) {
	var r participant.Registry
	inner := &named{"bank_a"}
	for what, p := range map[string]participant.Participant{
		"nil":                     nil,
		"nil pointer":             (*named)(nil),
		"uncomparable type":       listed{inner, nil},
		"uncomparable value":      byValue{inner, []string{"a comparable type, but == would panic"}},
		"no name":                 &named{""},
		"name too long":           &named{strings.Repeat("x", participant.MaxName+1)},
		"name with a space":       &named{"bank a"},
		"name with a slash":       &named{"bank/a"},
		"name with a colon":       &named{"bank:a"},
		"name with a line break":  &named{"bank_a\n"},
		"name in another script":  &named{"bänk"},
		"name with invalid UTF-8": &named{"bank\xff"},
	} {
		reg, added, err := r.Register(p)
		require.ErrorIs(t, err, participant.ErrInvalidParticipant, what)
		require.False(t, added, what)
		require.Nil(t, reg, what)
	}
	require.Empty(t, r.All())

	_, added, err := r.Register(byValue{inner, "comparable"})
	require.NoError(t, err)
	require.True(t, added)
	_, added, err = r.Register(byValue{inner, "comparable"})
	require.NoError(t, err)
	require.False(t, added, "an equal value is the same object")
}

func TestValidName(t *testing.T) {
	for _, name := range []string{"a", "Bank_A", "bank-a.v2", "..", "0", strings.Repeat("x", participant.MaxName)} {
		require.NoError(t, participant.ValidName(name), name)
	}
}

// Of objects racing for a name one wins, and all callers agree which.
func TestRegistryConcurrently(t *testing.T) {
	for range 10_000 {
		race(t)
	}
}

func race(t *testing.T) {
	t.Helper()
	const rivals = 2
	var (
		r     participant.Registry
		wg    sync.WaitGroup
		added [rivals]bool
		found [rivals]participant.Participant
		ready atomic.Int32
	)
	for i := range rivals {
		p := &named{"bank_a"}
		wg.Go(func() {
			// Spinning starts them closer together than a channel does: they have
			// to meet between Register's look and its change.
			for ready.Add(1); ready.Load() < rivals; {
				runtime.Gosched()
			}
			_, added[i], _ = r.Register(p)
			found[i] = r.All()[0].Participant
		})
	}
	wg.Wait()
	require.NotEqual(t, added[0], added[1], "exactly one is new")
	require.Same(t, found[0], found[1])
	require.Len(t, r.All(), 1)
}

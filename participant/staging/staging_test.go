package staging_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/assent-tm/assent/participant"
	"github.com/assent-tm/assent/participant/staging"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// transaction is an Enlister that does before it enlists what meanwhile does.
type transaction struct {
	branch    participant.Branch
	err       error
	meanwhile func()
}

func (tx *transaction) ID() participant.TxID { return tx.branch.Tx }

func (tx *transaction) Enlist(_ context.Context, _ participant.Participant, data []byte) (participant.Branch, error) {
	if tx.meanwhile != nil {
		tx.meanwhile()
	}
	b := tx.branch
	b.Data = data
	return b, tx.err
}

func begin() *transaction {
	tx := participant.TxID{Term: participant.NewTerm(1, 1), UUID: uuid.Must(uuid.NewV7())}
	return &transaction{branch: participant.Branch{Domain: "shop", Tx: tx, Deadline: time.Now().Add(time.Hour)}}
}

// empty is what a session costs.
const empty = 512

func sessions(total int) *staging.Sessions[string] {
	return staging.New[string](staging.Limits{Items: 3, Bytes: 1000, Total: total, What: "words", Name: "Config.MaxWords"})
}

func TestDefaultsAndBoundsOfLimits(t *testing.T) {
	named := staging.Limits{What: "words", Name: "Config.MaxWords"}
	defaults := named.WithDefaults(7)
	require.Equal(t, [3]int{7, staging.DefaultBytes, staging.DefaultTotal}, [3]int{defaults.Items, defaults.Bytes, defaults.Total})
	require.Empty(t, defaults.Wrong(7, staging.DefaultBytes))
	large := staging.Limits{Items: 1, Bytes: 2 * staging.DefaultTotal}.WithDefaults(7)
	require.Equal(t, [2]int{1, large.Bytes}, [2]int{large.Items, large.Total})
	for says, l := range map[string]staging.Limits{
		"Config.MaxWords 8 is not 1 to 7":                   {Items: 8},
		"Config.MaxWords -1 is not 1 to 7":                  {Items: -1},
		"Config.MaxBytes 1001 is not 1 to 1000":             {Bytes: 1001},
		"Config.MaxBytes -1 is not 1 to 1000":               {Bytes: -1},
		"Config.MaxStaged 99 must be at least MaxBytes 100": {Bytes: 100, Total: 99},
	} {
		l.Name = named.Name
		require.Equal(t, says, l.WithDefaults(7).Wrong(7, 1000))
	}
}

func join(t *testing.T, l *staging.Sessions[string], tx *transaction) *staging.Session[string] {
	t.Helper()
	s, err := l.Join(t.Context(), tx, nil, []byte("data"))
	require.NoError(t, err)
	return s
}

func TestSealedSessionTakesNothingMore(t *testing.T) {
	l, tx := sessions(1<<20), begin()
	s := join(t, l, tx)
	require.Equal(t, []byte("data"), s.Branch().Data)
	require.Equal(t, tx.ID(), s.Branch().Tx)
	require.NoError(t, s.Stage("a", 1))
	require.NoError(t, join(t, l, tx).Stage("b", 2))
	require.Equal(t, 3, s.Staged())
	for range 2 { // a repeated Prepare gets the same
		items, found := l.Seal(tx.ID())
		require.True(t, found)
		require.Equal(t, []string{"a", "b"}, items)
		require.ErrorIs(t, s.Stage("c", 1), staging.ErrFinished)
	}
	l.Finish(tx.ID())
	_, found := l.Seal(tx.ID())
	require.False(t, found)
	require.ErrorIs(t, s.Stage("c", 1), staging.ErrFinished)
}

func TestRolledBackSessionLosesWhatItStaged(t *testing.T) {
	l, open, sealed := sessions(1<<20), begin(), begin()
	for _, tx := range []*transaction{open, sealed} {
		s := join(t, l, tx)
		require.NoError(t, s.Stage("a", 1))
		if tx == sealed {
			l.Seal(tx.ID())
		}
		l.RollBack(tx.ID())
		require.ErrorIs(t, s.Stage("b", 1), staging.ErrRolledBack)
		require.Zero(t, s.Staged())
		_, found := l.Seal(tx.ID())
		require.False(t, found)
	}
	l.RollBack(begin().ID()) // one that was never here
}

// The transaction may time out between Enlist and its return.
func TestRollbackWhileJoining(t *testing.T) {
	l, tx := sessions(1<<20), begin()
	tx.meanwhile = func() { l.RollBack(tx.ID()) }
	require.ErrorIs(t, join(t, l, tx).Stage("a", 1), staging.ErrRolledBack)

	tx = begin()
	tx.err = errors.New("it is rolled back")
	tx.meanwhile = func() { l.RollBack(tx.ID()) }
	_, err := l.Join(t.Context(), tx, nil, nil)
	require.ErrorIs(t, err, tx.err)
}

func TestJoinThatIsNotEnlistedLeavesNothing(t *testing.T) {
	l, refused := sessions(empty), begin() // room for one
	refused.err = errors.New("sealed")
	_, err := l.Join(t.Context(), refused, nil, nil)
	require.ErrorIs(t, err, refused.err)
	join(t, l, begin())
	_, err = l.Join(t.Context(), begin(), nil, nil)
	require.ErrorIs(t, err, staging.ErrLimit)
	require.ErrorContains(t, err, "512 of 512 bytes (Config.MaxStaged)")
}

// One Join that fails takes nothing from another one of the same transaction.
func TestJoinThatFailsBesideOneThatDoesNot(t *testing.T) {
	l, good := sessions(1<<20), begin()
	var s *staging.Session[string]
	bad := &transaction{branch: good.branch, err: errors.New("cut off"), meanwhile: func() {
		s = join(t, l, good)
		require.NoError(t, s.Stage("a", 1))
	}}
	_, err := l.Join(t.Context(), bad, nil, nil)
	require.ErrorIs(t, err, bad.err)
	require.NoError(t, s.Stage("b", 1))
	items, _ := l.Seal(good.ID())
	require.Equal(t, []string{"a", "b"}, items)
}

// R8: a clock may cause a rollback before the decision.
func TestR8SessionsThatTimedOutMakeRoom(t *testing.T) {
	l, late := sessions(2*empty+100), begin()
	late.branch.Deadline = time.Now().Add(-time.Second)
	timedOut := join(t, l, late)
	require.NoError(t, timedOut.Stage("a", 50))
	join(t, l, begin())
	join(t, l, begin()) // there is room for two
	require.ErrorIs(t, timedOut.Stage("b", 1), staging.ErrRolledBack)
	_, found := l.Seal(late.ID())
	require.False(t, found)
	_, err := l.Join(t.Context(), begin(), nil, nil)
	require.ErrorIs(t, err, staging.ErrLimit)
}

func TestSessionThatTimedOutMakesNoRoomForItself(t *testing.T) {
	l, late := sessions(empty+10), begin()
	late.branch.Deadline = time.Now().Add(-time.Second)
	timedOut := join(t, l, late)
	require.ErrorIs(t, timedOut.Stage("a", 11), staging.ErrRolledBack)
	require.NoError(t, join(t, l, begin()).Stage("a", 10)) // all room is there again
}

// R12: what a branch and a process stage is bounded, and a refused item leaves no
// trace.
func TestR12Limits(t *testing.T) {
	l, tx := sessions(2*empty+1500), begin()
	s, other := join(t, l, tx), join(t, l, begin())
	err := s.Stage("a", 1001)
	require.ErrorIs(t, err, staging.ErrLimit)
	require.ErrorContains(t, err, "0 bytes are staged, 1001 more are over 1000 (Config.MaxBytes)")
	require.NoError(t, s.Stage("a", 1000))
	require.ErrorIs(t, other.Stage("a", 501), staging.ErrLimit)
	for range 2 {
		require.NoError(t, s.Stage("b", 0))
	}
	require.ErrorContains(t, s.Stage("c", 0), "3 words (Config.MaxWords)")
	items, _ := l.Seal(tx.ID())
	require.Equal(t, []string{"a", "b", "b"}, items)
	l.Finish(tx.ID())
	require.NoError(t, other.Stage("a", 1000))
}

func TestConcurrentUse(t *testing.T) {
	l, tx := sessions(1<<20), begin()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				own := begin()
				s, err := l.Join(t.Context(), own, nil, nil)
				shared, joined := l.Join(t.Context(), tx, nil, nil)
				if err := errors.Join(err, joined, s.Stage("a", 1)); err != nil {
					t.Error(err)
				}
				_, _ = shared.Branch(), shared.Stage("a", 0)
				l.Seal(own.ID())
				l.RollBack(own.ID())
			}
		})
	}
	wg.Wait()
	items, _ := l.Seal(tx.ID())
	require.Len(t, items, 3)
}
